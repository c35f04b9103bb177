//! Shows the figures: a table and the goals, or one JSON document.

use std::collections::BTreeMap;

use comfy_table::{Table, presets};
use serde_json::{Value as Json, json};

use crate::figure::Figure;
use crate::goals::{GOALS, Judged};
use crate::measure::{Measure, System};

/// All that came of a run.
#[derive(Debug)]
pub(crate) struct Report {
    rounds: u32,
    seconds: u64,
    figures: BTreeMap<Measure, Figure>,
    judged: Vec<Judged>,
    skipped: Vec<(System, String)>,
}

impl Report {
    /// Of the medians of so many rounds, each measure of so many seconds.
    pub(crate) fn new(
        rounds: u32,
        seconds: u64,
        clients: u32,
        figures: BTreeMap<Measure, Figure>,
        skipped: Vec<(System, String)>,
    ) -> Self {
        let judge = |goal: &crate::goals::Goal| {
            goal.judge(clients, |measure| figures.get(&measure).copied())
        };
        let judged = GOALS.iter().filter_map(judge).collect();
        Self {
            rounds,
            seconds,
            figures,
            judged,
            skipped,
        }
    }

    /// Prints it.
    pub(crate) fn show(&self, as_json: bool) {
        if as_json {
            println!("{}", self.json());
            return;
        }
        println!(
            "medians of {} interleaved round(s) of {} s each\n",
            self.rounds, self.seconds
        );
        self.show_figures();
        println!();
        self.show_goals();
        for (system, why) in &self.skipped {
            println!("skipped {system}: {why}");
        }
    }

    fn show_figures(&self) {
        let ms = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.2}"));
        let rows = self.figures.iter().map(|(measure, figure)| {
            [
                measure.system.name().to_owned(),
                measure.work.name().to_owned(),
                measure.clients.to_string(),
                format!("{:.0}", figure.ops_per_s),
                ms(figure.p50_ms),
                ms(figure.p99_ms),
                figure.failed.to_string(),
            ]
        });
        let heading = [
            "system", "work", "clients", "ops/s", "p50 ms", "p99 ms", "failed",
        ];
        show_table(&heading, rows);
    }

    fn show_goals(&self) {
        let rows = self.judged.iter().map(|judged| {
            [
                judged.goal.clone(),
                judged.wanted.to_string(),
                format!("{:.1}", judged.found),
                if judged.is_met { "met" } else { "missed" }.to_owned(),
            ]
        });
        show_table(&["goal", "wanted", "found", ""], rows);
    }

    fn json(&self) -> Json {
        let figures = self.figures.iter().map(|(measure, figure)| {
            json!({
                "system": measure.system.name(),
                "work": measure.work.name(),
                "clients": measure.clients,
                "ops_per_s": rounded(figure.ops_per_s),
                "p50_ms": figure.p50_ms,
                "p99_ms": figure.p99_ms,
                "failed": figure.failed,
            })
        });
        let goals = self.judged.iter().map(|judged| {
            json!({
                "goal": judged.goal,
                "wanted": judged.wanted,
                "found": rounded(judged.found),
                "is_met": judged.is_met,
            })
        });
        let skipped = self
            .skipped
            .iter()
            .map(|(system, why)| json!({"system": system.name(), "why": why}));
        json!({
            "rounds": self.rounds,
            "seconds": self.seconds,
            "figures": figures.collect::<Vec<_>>(),
            "goals": goals.collect::<Vec<_>>(),
            "skipped": skipped.collect::<Vec<_>>(),
        })
    }
}

fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn show_table<const COLUMNS: usize>(
    heading: &[&str; COLUMNS],
    rows: impl Iterator<Item = [String; COLUMNS]>,
) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(heading);
    for row in rows {
        table.add_row(row);
    }
    println!("{}", table.trim_fmt());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Work;

    #[test]
    fn json_names_figures_goals_and_what_was_skipped() {
        let measure = Measure {
            system: System::Souk,
            work: Work::ReserveHot,
            clients: 64,
        };
        let figure = Figure {
            ops_per_s: 30_000.04,
            p50_ms: Some(2.0),
            p99_ms: Some(9.0),
            failed: 0,
        };
        let skipped = vec![(System::Etcd, "there is no etcd".to_owned())];
        let json = Report::new(3, 4, 64, BTreeMap::from([(measure, figure)]), skipped).json();
        assert_eq!(json["figures"][0]["ops_per_s"], 30_000.0);
        assert_eq!(json["skipped"][0]["system"], "etcd");
        let goals = json["goals"].as_array().unwrap();
        assert_eq!(goals.len(), 2, "only those that can be judged: {goals:?}");
        assert!(goals.iter().all(|goal| goal["is_met"] == true), "{goals:?}");
    }
}
