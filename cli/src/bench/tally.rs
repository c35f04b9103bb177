//! Counts what happened: latencies of successes, failures by kind, outcomes that nobody knows.
//!
//! Invariants: 1. every measured request is in exactly one of `operations`, `errors` and `unknown`.
//! 2. adding tallies loses nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use souk_inventory::store::StockStoreError;
use souk_kv_client::{Outcome, RequestError};

/// Longest latency that is told apart, in microseconds; longer ones count as this.
const LATENCY_US_MAX: u64 = 120_000_000;

/// One operation that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Miss {
    /// What may be believed of it.
    pub(crate) outcome: Outcome,
    /// A short name of what went wrong.
    pub(crate) kind: String,
}

impl From<RequestError> for Miss {
    fn from(error: RequestError) -> Self {
        let kind = error.code.as_str_name().trim_start_matches("ERROR_CODE_");
        Self {
            outcome: error.outcome(),
            kind: kind.to_lowercase(),
        }
    }
}

impl From<StockStoreError> for Miss {
    fn from(error: StockStoreError) -> Self {
        let outcome = error.outcome();
        match error {
            StockStoreError::Request { source, .. } => Self {
                outcome,
                ..Self::from(source)
            },
            other => Self {
                outcome,
                kind: other.code().to_owned(),
            },
        }
    }
}

/// What one client, or all of them, saw.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    latencies_us: Histogram<u64>,
    operations: u64,
    errors: BTreeMap<String, u64>,
    unknown: BTreeMap<String, u64>,
    conflicts: u64,
    /// Successes and unknown outcomes of the whole run, also before and after the window.
    pub(crate) all_applied: u64,
    /// See [`Tally::all_applied`].
    pub(crate) all_unknown: u64,
}

impl Tally {
    /// Nothing happened yet.
    pub(crate) fn new() -> Self {
        let latencies_us = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3);
        Self {
            latencies_us: latencies_us.expect("the bounds and the precision are in range"),
            operations: 0,
            errors: BTreeMap::new(),
            unknown: BTreeMap::new(),
            conflicts: 0,
            all_applied: 0,
            all_unknown: 0,
        }
    }

    /// So many operations succeeded together.
    pub(crate) fn succeed(&mut self, operations: u64, took: Duration) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(LATENCY_US_MAX);
        self.latencies_us.saturating_record(took_us);
        self.operations += operations;
    }

    /// One operation failed.
    pub(crate) fn fail(&mut self, miss: Miss) {
        let kinds = match miss.outcome {
            Outcome::Unknown => &mut self.unknown,
            Outcome::Applied | Outcome::NotApplied => &mut self.errors,
        };
        *kinds.entry(miss.kind).or_default() += 1;
    }

    /// A compare-and-set met another version, or a stock was sold out, and the operation was tried again.
    pub(crate) fn conflict(&mut self) {
        self.conflicts += 1;
    }

    /// Adds what another client saw.
    pub(crate) fn add(&mut self, other: &Self) {
        let sums = self.latencies_us.add(&other.latencies_us);
        sums.expect("all histograms have the same bounds");
        self.operations += other.operations;
        self.conflicts += other.conflicts;
        self.all_applied += other.all_applied;
        self.all_unknown += other.all_unknown;
        for (mine, theirs) in [
            (&mut self.errors, &other.errors),
            (&mut self.unknown, &other.unknown),
        ] {
            for (kind, count) in theirs {
                *mine.entry(kind.clone()).or_default() += count;
            }
        }
    }

    /// Whether a row that every success adds one to can have grown so much: by all that were applied, and
    /// by some of those that nobody knows of.
    pub(crate) fn explains(&self, grown: u64) -> bool {
        (self.all_applied..=self.all_applied + self.all_unknown).contains(&grown)
    }

    /// Operations that succeeded in the window.
    pub(crate) fn operations(&self) -> u64 {
        self.operations
    }

    /// How often an operation had to be tried again; see [`Tally::conflict`].
    pub(crate) fn conflicts(&self) -> u64 {
        self.conflicts
    }

    /// Failures that changed nothing, by kind.
    pub(crate) fn errors(&self) -> &BTreeMap<String, u64> {
        &self.errors
    }

    /// Failures that may have changed something, by kind.
    pub(crate) fn unknown(&self) -> &BTreeMap<String, u64> {
        &self.unknown
    }

    /// The latency below which so many of 1 are, in milliseconds; 0 when nothing succeeded.
    pub(crate) fn latency_ms(&self, quantile: f64) -> f64 {
        self.latencies_us.value_at_quantile(quantile) as f64 / 1000.0
    }
}

#[cfg(test)]
mod tests {
    use souk_kv_client::ErrorCode;

    use super::*;

    fn error(code: ErrorCode, outcome: Outcome) -> Miss {
        let message = String::new();
        Miss::from(RequestError {
            code,
            outcome,
            message,
            retry_after: None,
            node: None,
            retryable: false,
        })
    }

    #[test]
    fn every_failure_is_counted_by_kind_and_outcome() {
        let mut tally = Tally::new();
        tally.fail(error(ErrorCode::Unavailable, Outcome::NotApplied));
        tally.fail(error(ErrorCode::Timeout, Outcome::Unknown));
        tally.fail(error(ErrorCode::Timeout, Outcome::NotApplied));
        let mut sum = tally.clone();
        sum.add(&tally);
        let shown = |kinds: &BTreeMap<String, u64>| format!("{kinds:?}");
        assert_eq!(shown(sum.errors()), r#"{"timeout": 2, "unavailable": 2}"#);
        assert_eq!(shown(sum.unknown()), r#"{"timeout": 2}"#);
        assert_eq!(sum.operations(), 0);
    }

    #[test]
    fn a_lost_or_doubled_increment_is_not_explained() {
        let tally = Tally {
            all_applied: 10,
            all_unknown: 2,
            ..Tally::new()
        };
        let explained: Vec<u64> = (0..20).filter(|grown| tally.explains(*grown)).collect();
        assert_eq!(explained, [10, 11, 12]);
    }

    #[test]
    fn latencies_are_quantiles_in_milliseconds() {
        let mut tally = Tally::new();
        (1..=1000).for_each(|ms| tally.succeed(1, Duration::from_millis(ms)));
        assert_eq!(tally.operations(), 1000);
        assert!(
            (499.0..=501.0).contains(&tally.latency_ms(0.5)),
            "{}",
            tally.latency_ms(0.5)
        );
        assert!(
            (989.0..=991.0).contains(&tally.latency_ms(0.99)),
            "{}",
            tally.latency_ms(0.99)
        );
        assert_eq!(Tally::new().latency_ms(0.5), 0.0);
    }
}
