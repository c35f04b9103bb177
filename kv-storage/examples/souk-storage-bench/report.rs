//! What was measured, and how it is shown.

use std::time::Duration;

use serde_json::json;

use crate::{Outcome, Subject};

/// One measured phase.
pub(crate) struct Phase {
    who: String,
    value_bytes: usize,
    name: &'static str,
    operations: u64,
    seconds: f64,
    cpu_us_per_operation: f64,
}

impl Phase {
    pub(crate) fn new(
        who: &str,
        subject: &Subject,
        name: &'static str,
        operations: u64,
        seconds: f64,
        cpu: Duration,
    ) -> Self {
        Self {
            who: who.to_owned(),
            value_bytes: subject.value_bytes,
            name,
            operations,
            seconds,
            cpu_us_per_operation: cpu.as_secs_f64() * 1e6 / operations.max(1) as f64,
        }
    }

    fn rate(&self) -> f64 {
        self.operations as f64 / self.seconds
    }
}

/// Many values of one thing, such as the ratio of two sides in each round.
struct Spread {
    engine: String,
    value_bytes: usize,
    name: &'static str,
    low: f64,
    median: f64,
    high: f64,
}

/// What a store weighs and how long it takes to open.
pub(crate) struct Weight {
    pub(crate) engine: String,
    pub(crate) value_bytes: usize,
    pub(crate) rows: u64,
    pub(crate) disk_bytes: u64,
    /// Most bytes of journals seen while loading, where that was watched.
    pub(crate) journal_peak_bytes: Option<u64>,
    pub(crate) memory_bytes: u64,
    pub(crate) restart: Opening,
    /// On files as a sudden end leaves them, where that was measured.
    pub(crate) restart_sudden: Option<Opening>,
}

/// What opening a store took: wall clock, and processor time, which other work disturbs less.
#[derive(Clone, Copy)]
pub(crate) struct Opening {
    pub(crate) ms: f64,
    pub(crate) cpu_ms: f64,
}

/// Everything that was measured.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) phases: Vec<Phase>,
    pub(crate) weights: Vec<Weight>,
    spreads: Vec<Spread>,
    disturbed: Vec<String>,
}

impl Report {
    /// Notes many values; shown as tenth, fiftieth and ninetieth of a hundred.
    pub(crate) fn add_spread(
        &mut self,
        subject: &Subject,
        name: &'static str,
        values: impl IntoIterator<Item = f64>,
    ) {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |share: usize| {
            values.get((values.len() * share / 100).min(values.len().saturating_sub(1)))
        };
        let at = |share| at(share).copied().unwrap_or(f64::NAN);
        self.spreads.push(Spread {
            engine: subject.engine.clone(),
            value_bytes: subject.value_bytes,
            name,
            low: at(10),
            median: at(50),
            high: at(90),
        });
    }

    /// Says at once, and again in JSON, that an engine was faster than it can be.
    pub(crate) fn disturbed(&mut self, subject: &Subject) {
        let who = format!("{} at {} bytes", subject.engine, subject.value_bytes);
        eprintln!(
            "DISTURBED: {who} wrote faster than the bare loop, which no engine can; the rates of \
             this run do not rank engines, repeat it on a quiet machine"
        );
        self.disturbed.push(who);
    }

    pub(crate) fn print(&self, as_json: bool) {
        if as_json {
            self.print_json();
        } else {
            self.print_tables();
        }
    }

    fn print_tables(&self) {
        println!("| who | value bytes | phase | operations/s | CPU µs each |");
        println!("|---|---:|---|---:|---:|");
        for phase in &self.phases {
            let Phase {
                who,
                value_bytes,
                name,
                cpu_us_per_operation: cpu,
                ..
            } = phase;
            println!(
                "| {who} | {value_bytes} | {name} | {:.0} | {cpu:.2} |",
                phase.rate()
            );
        }
        println!("\n| engine | value bytes | what | p10 | p50 | p90 |");
        println!("|---|---:|---|---:|---:|---:|");
        for spread in &self.spreads {
            let Spread {
                engine,
                value_bytes,
                name,
                low,
                median,
                high,
            } = spread;
            println!("| {engine} | {value_bytes} | {name} | {low:.2} | {median:.2} | {high:.2} |");
        }
        if self.weights.is_empty() {
            return;
        }
        println!(
            "\n| engine | value bytes | rows | disk MiB | journal peak MiB | resident MiB | restart ms (CPU) | after a sudden end |"
        );
        println!("|---|---:|---:|---:|---:|---:|---:|---:|");
        for weight in &self.weights {
            let Weight {
                engine,
                value_bytes,
                rows,
                ..
            } = weight;
            let (disk, memory) = (weight.disk_bytes >> 20, weight.memory_bytes >> 20);
            let or_dash = |text: Option<String>| text.unwrap_or("–".to_owned());
            let journal = weight
                .journal_peak_bytes
                .map(|bytes| (bytes >> 20).to_string());
            let journal = or_dash(journal);
            let opening = |opening: Opening| format!("{:.0} ({:.0})", opening.ms, opening.cpu_ms);
            let restart = opening(weight.restart);
            let sudden = weight.restart_sudden.map(opening);
            let sudden = or_dash(sudden);
            println!(
                "| {engine} | {value_bytes} | {rows} | {disk} | {journal} | {memory} | {restart} | {sudden} |"
            );
        }
    }

    fn print_json(&self) {
        let phases = self.phases.iter().map(|phase| {
            json!({
                "who": phase.who,
                "value_bytes": phase.value_bytes,
                "phase": phase.name,
                "operations": phase.operations,
                "seconds": phase.seconds,
                "operations_per_s": phase.rate(),
                "cpu_us_per_operation": phase.cpu_us_per_operation,
            })
        });
        let spreads = self.spreads.iter().map(|spread| {
            json!({
                "engine": spread.engine,
                "value_bytes": spread.value_bytes,
                "what": spread.name,
                "p10": spread.low,
                "p50": spread.median,
                "p90": spread.high,
            })
        });
        let stores = self.weights.iter().map(|weight| {
            json!({
                "engine": weight.engine,
                "value_bytes": weight.value_bytes,
                "rows": weight.rows,
                "disk_bytes": weight.disk_bytes,
                "journal_peak_bytes": weight.journal_peak_bytes,
                "resident_bytes": weight.memory_bytes,
                "restart_ms": weight.restart.ms,
                "restart_cpu_ms": weight.restart.cpu_ms,
                "restart_sudden_ms": weight.restart_sudden.map(|opening| opening.ms),
                "restart_sudden_cpu_ms": weight.restart_sudden.map(|opening| opening.cpu_ms),
            })
        });
        println!(
            "{}",
            json!({
                "phases": phases.collect::<Vec<_>>(),
                "spreads": spreads.collect::<Vec<_>>(),
                "stores": stores.collect::<Vec<_>>(),
                "disturbed": self.disturbed,
            })
        );
    }
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Memory of this process, in bytes.
pub(crate) fn resident_bytes() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap_or("0 kB");
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}
