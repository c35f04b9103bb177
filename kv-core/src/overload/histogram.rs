//! Counts durations by their length, coarsely and in little room.
//!
//! Place: pure; the driver counts into an array of atomics of the same shape and hands copies over.
//! Shape: 64 buckets; the first ends at 64 µs, each further one is about a fifth longer (four to a doubling), the last
//! one holds everything from about three seconds on.
//! Invariants: 1. a longer duration is never in an earlier bucket. 2. a quantile is never below the true one, and at
//! most a quarter above it.

use std::time::Duration;

/// What the first bucket ends at: 2 to this power, in microseconds.
const FIRST_POWER: u32 = 6;
/// Buckets to a doubling.
const STEPS: u32 = 4;

/// Which of the 64 buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LatencyBucket(usize);

impl LatencyBucket {
    /// How many buckets there are.
    pub const COUNT: usize = 64;

    /// The bucket of a duration.
    #[must_use]
    pub fn of(duration: Duration) -> LatencyBucket {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        if micros < 1 << FIRST_POWER {
            return LatencyBucket(0);
        }
        let power = micros.ilog2();
        // The two bits below the highest one say which quarter of the doubling it is.
        let quarter = (micros >> (power - 2)) & 3;
        let step = (power - FIRST_POWER) * STEPS + quarter as u32;
        LatencyBucket((step as usize + 1).min(Self::COUNT - 1))
    }

    /// Its place, 0 to 63.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0
    }

    /// Where it ends, exclusive; for the last one, where it would end if it were like the others.
    #[must_use]
    pub fn end(self) -> Duration {
        let step = u32::try_from(self.0).unwrap_or(u32::MAX);
        let (power, quarter) = (FIRST_POWER + step / STEPS, u64::from(step % STEPS));
        Duration::from_micros((1 << power) + (quarter << (power - 2)))
    }
}

/// How many durations fell into each bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatencyCounts([u64; LatencyBucket::COUNT]);

impl Default for LatencyCounts {
    fn default() -> LatencyCounts {
        LatencyCounts([0; LatencyBucket::COUNT])
    }
}

impl LatencyCounts {
    /// The counts, in the order of the buckets.
    #[must_use]
    pub const fn from_buckets(counts: [u64; LatencyBucket::COUNT]) -> LatencyCounts {
        LatencyCounts(counts)
    }

    /// Counts one duration.
    pub fn record(&mut self, duration: Duration) {
        self.0[LatencyBucket::of(duration).index()] += 1;
    }

    /// Adds another count to this one.
    pub fn add(&mut self, other: &LatencyCounts) {
        for (own, other) in self.0.iter_mut().zip(other.0) {
            *own += other;
        }
    }

    /// How many durations were counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// How many were longer than `limit`, give or take the width of its bucket.
    #[must_use]
    pub fn above(&self, limit: Duration) -> u64 {
        self.0[LatencyBucket::of(limit).index() + 1..].iter().sum()
    }

    /// What `percent` of 100 durations did not exceed; `None` when nothing was counted.
    #[must_use]
    pub fn percentile(&self, percent: u8) -> Option<Duration> {
        let total = self.total();
        if total == 0 {
            return None;
        }
        let rank = (total * u64::from(percent.min(100))).div_ceil(100).max(1);
        let mut seen = 0;
        let index = self.0.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(LatencyBucket(index).end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_bucket_holds_what_lies_before_its_end(micros in 0..4_000_000u64) {
            let duration = Duration::from_micros(micros);
            let bucket = LatencyBucket::of(duration);
            prop_assert!(duration < bucket.end() || bucket.index() == LatencyBucket::COUNT - 1);
            prop_assert!(micros < 64 || bucket.end() <= duration * 5 / 4 + Duration::from_micros(1));
            let longer = LatencyBucket::of(duration + Duration::from_micros(1));
            prop_assert!(longer >= bucket);
        }

        #[test]
        fn a_percentile_is_near_the_true_one(mut all in prop::collection::vec(64..2_000_000u64, 1..200)) {
            let mut counts = LatencyCounts::default();
            for &micros in &all {
                counts.record(Duration::from_micros(micros));
            }
            all.sort_unstable();
            for percent in [1, 50, 99, 100] {
                let rank = (all.len() * usize::from(percent)).div_ceil(100).max(1);
                let truth = Duration::from_micros(all[rank - 1]);
                let told = counts.percentile(percent).expect("something was counted");
                prop_assert!(told >= truth && told <= truth * 5 / 4 + Duration::from_micros(1));
            }
        }
    }

    #[test]
    fn nothing_counted_has_no_percentile() {
        assert_eq!(LatencyCounts::default().percentile(99), None);
    }

    #[test]
    fn counts_what_is_longer() {
        let mut counts = LatencyCounts::default();
        for millis in [1, 5, 40, 50, 3_000_000] {
            counts.record(Duration::from_millis(millis));
        }
        assert_eq!(counts.above(Duration::from_millis(20)), 3);
        assert_eq!(counts.above(Duration::from_secs(3600)), 0);
    }
}
