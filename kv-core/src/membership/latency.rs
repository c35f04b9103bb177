//! A peer's usual answer time, with the past fading out.
//!
//! Place: pure; part of [`super::PeerHealth`].
//! Shape: an exponentially weighted moving average; each sample weighs one eighth, as in TCP's smoothed round trip.
//! Invariants: 1. the average lies between the smallest and the greatest sample.

use std::time::Duration;

/// The weight of history: seven eighths.
const HISTORY_WEIGHT: u32 = 7;

/// The moving average of answer times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LatencyAverage {
    average: Option<Duration>,
}

impl LatencyAverage {
    /// Takes one answer time into account; for a timeout, pass the time waited.
    pub fn record(&mut self, sample: Duration) {
        self.average = Some(match self.average {
            None => sample,
            Some(average) => (average * HISTORY_WEIGHT + sample) / (HISTORY_WEIGHT + 1),
        });
    }

    /// The average, once there is a sample.
    #[must_use]
    pub const fn get(&self) -> Option<Duration> {
        self.average
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn stays_among_its_samples_and_follows_a_change(
            before in prop::collection::vec(1..1_000u64, 1..50),
            after in 1..1_000u64,
        ) {
            let mut average = LatencyAverage::default();
            for &sample in &before {
                average.record(Duration::from_millis(sample));
            }
            let (least, most) = (before.iter().min(), before.iter().max());
            let now = average.get().expect("has samples");
            prop_assert!(now >= Duration::from_millis(*least.expect("not empty")) - Duration::from_micros(1));
            prop_assert!(now <= Duration::from_millis(*most.expect("not empty")));
            for _ in 0..100 {
                average.record(Duration::from_millis(after));
            }
            let distance = average.get().expect("has samples").abs_diff(Duration::from_millis(after));
            prop_assert!(distance < Duration::from_millis(1));
        }
    }
}
