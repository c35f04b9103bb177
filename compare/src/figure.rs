//! One measured figure, and the median of several.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Longest latency that is told apart, in microseconds; longer ones count as this.
const LATENCY_US_MAX: u64 = 120_000_000;

/// What one measure gave in one round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Figure {
    /// Successful operations in a second.
    pub(crate) ops_per_s: f64,
    /// Half of them took at most this long, in milliseconds; none where the load generator does not tell.
    pub(crate) p50_ms: Option<f64>,
    /// 99 of 100 took at most this long, in milliseconds.
    pub(crate) p99_ms: Option<f64>,
    /// Operations that failed, or whose outcome is unknown.
    pub(crate) failed: u64,
}

/// The round with the median rate; of an even number the lower one in the middle.
pub(crate) fn median(figures: &[Figure]) -> Option<Figure> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(|a, b| a.ops_per_s.total_cmp(&b.ops_per_s));
    sorted.get(sorted.len().checked_sub(1)? / 2).copied()
}

/// Counts successes and their latencies.
#[derive(Debug)]
pub(crate) struct Counter {
    latencies_us: Histogram<u64>,
    failed: u64,
}

impl Counter {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        let latencies_us = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3);
        Self {
            latencies_us: latencies_us.expect("the bounds and the precision are in range"),
            failed: 0,
        }
    }

    /// One operation succeeded.
    pub(crate) fn succeed(&mut self, took: Duration) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(LATENCY_US_MAX);
        self.latencies_us.saturating_record(took_us);
    }

    /// One operation failed.
    pub(crate) fn fail(&mut self) {
        self.failed += 1;
    }

    /// Adds what another client counted.
    pub(crate) fn add(&mut self, other: &Self) {
        let added = self.latencies_us.add(&other.latencies_us);
        added.expect("all histograms have the same bounds");
        self.failed += other.failed;
    }

    /// The figure of a window of that length.
    pub(crate) fn figure(&self, window: Duration) -> Figure {
        let latency_ms =
            |quantile| Some(self.latencies_us.value_at_quantile(quantile) as f64 / 1000.0);
        Figure {
            ops_per_s: self.latencies_us.len() as f64 / window.as_secs_f64(),
            p50_ms: latency_ms(0.5),
            p99_ms: latency_ms(0.99),
            failed: self.failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(ops_per_s: f64) -> Figure {
        Figure {
            ops_per_s,
            p50_ms: None,
            p99_ms: None,
            failed: 0,
        }
    }

    #[test]
    fn the_median_is_a_round_that_happened() {
        let check = |rates: &[f64], expected: Option<f64>| {
            let figures: Vec<Figure> = rates.iter().copied().map(figure).collect();
            assert_eq!(median(&figures).map(|figure| figure.ops_per_s), expected);
        };
        check(&[], None);
        check(&[5.0], Some(5.0));
        check(&[9.0, 1.0, 5.0], Some(5.0));
        check(&[9.0, 1.0, 5.0, 6.0], Some(5.0));
    }

    #[test]
    fn a_counter_gives_rates_and_quantiles() {
        let mut sum = Counter::new();
        let mut one = Counter::new();
        (1..=100).for_each(|ms| one.succeed(Duration::from_millis(ms)));
        one.fail();
        sum.add(&one);
        let figure = sum.figure(Duration::from_secs(2));
        assert_eq!((figure.ops_per_s, figure.failed), (50.0, 1));
        assert!(
            (49.0..=51.0).contains(&figure.p50_ms.unwrap()),
            "{figure:?}"
        );
        assert!(
            (98.0..=100.0).contains(&figure.p99_ms.unwrap()),
            "{figure:?}"
        );
    }
}
