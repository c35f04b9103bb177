//! Shows what was measured.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::Workload;
use super::tally::Tally;
use crate::show;

/// The result of one run.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    workload: Workload,
    clients: u32,
    seconds: f64,
    tally: &'a Tally,
}

impl<'a> Report<'a> {
    /// Of a window of that length.
    pub(crate) fn new(
        workload: Workload,
        clients: u32,
        window: Duration,
        tally: &'a Tally,
    ) -> Self {
        Self {
            workload,
            clients,
            seconds: window.as_secs_f64(),
            tally,
        }
    }

    /// Prints a table, or one JSON document.
    pub(crate) fn show(&self, as_json: bool) {
        if as_json {
            show::json(&self.json());
            return;
        }
        let number = |value: f64| format!("{value:.2}");
        let latencies = [0.5, 0.99, 0.999].map(|quantile| number(self.tally.latency_ms(quantile)));
        let [p50, p99, p999] = latencies;
        let (ops, rate) = (self.tally.operations(), format!("{:.0}", self.ops_per_s()));
        let (errors, unknown) = (sum(self.tally.errors()), sum(self.tally.unknown()));
        show::table(
            [
                "workload", "clients", "seconds", "ops", "ops/s", "p50 ms", "p99 ms", "p99.9 ms",
                "errors", "unknown",
            ],
            [[
                self.workload.name().to_owned(),
                self.clients.to_string(),
                self.seconds.to_string(),
                ops.to_string(),
                rate,
                p50,
                p99,
                p999,
                errors.to_string(),
                unknown.to_string(),
            ]],
        );
        self.show_kinds();
    }

    fn show_kinds(&self) {
        for (what, kinds) in [
            ("error", self.tally.errors()),
            ("unknown", self.tally.unknown()),
        ] {
            for (kind, count) in kinds {
                show::line(format_args!("{what} {kind}: {count}"));
            }
        }
        if self.tally.conflicts() > 0 {
            show::line(format_args!(
                "tried again after a conflict, or with the next stock: {}",
                self.tally.conflicts()
            ));
        }
    }

    fn ops_per_s(&self) -> f64 {
        self.tally.operations() as f64 / self.seconds
    }

    fn json(&self) -> Json {
        json!({
            "workload": self.workload.name(),
            "clients": self.clients,
            "seconds": self.seconds,
            "ops": self.tally.operations(),
            "ops_per_s": (self.ops_per_s() * 10.0).round() / 10.0,
            "p50_ms": self.tally.latency_ms(0.5),
            "p99_ms": self.tally.latency_ms(0.99),
            "p999_ms": self.tally.latency_ms(0.999),
            "errors": sum(self.tally.errors()),
            "unknown": sum(self.tally.unknown()),
        })
    }
}

fn sum(kinds: &BTreeMap<String, u64>) -> u64 {
    kinds.values().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_exactly_the_promised_keys() {
        let tally = Tally::new();
        let json = Report::new(Workload::CasHot, 8, Duration::from_secs(10), &tally).json();
        let mut keys: Vec<&str> = json
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        keys.sort_unstable();
        let promised =
            "clients errors ops ops_per_s p50_ms p999_ms p99_ms seconds unknown workload";
        assert_eq!(keys.join(" "), promised);
        assert_eq!(json["workload"], "cas-hot");
    }
}
