//! How long a coordinator that was outrun waits, so that two of them do not outrun each other for ever.
//!
//! Place: pure; used by the driver between rounds; chance is an argument.
//! Source: Metcalfe and Boggs, Ethernet, CACM 1976, §4.5 (randomized exponential backoff).
//! Invariants: 1. bounded tries. 2. every wait lies within a window that doubles up to a cap.
//! Not here: what callers are told when tries run out (`loss`).

use std::time::Duration;

/// The bounds of waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffLimits {
    /// The first window. Should be about one round trip.
    pub first: Duration,
    /// The largest window.
    pub cap: Duration,
    /// Waits granted in all.
    pub waits_max: u32,
}

impl Default for BackoffLimits {
    /// 2 ms doubling up to 250 ms, 12 times: about 1.2 s of waiting on average.
    fn default() -> BackoffLimits {
        BackoffLimits {
            first: Duration::from_millis(2),
            cap: Duration::from_millis(250),
            waits_max: 12,
        }
    }
}

/// The waits of one group's present contention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backoff {
    limits: BackoffLimits,
    waits: u32,
}

impl Backoff {
    /// No wait taken yet.
    #[must_use]
    pub fn new(limits: BackoffLimits) -> Backoff {
        Backoff { limits, waits: 0 }
    }

    /// The next wait, anywhere in the window; `random` is 64 random bits. `None` when no try is left.
    pub fn next(&mut self, random: u64) -> Option<Duration> {
        if self.waits == self.limits.waits_max {
            return None;
        }
        let doublings = self.waits.min(20);
        self.waits += 1;
        let window = self
            .limits
            .first
            .saturating_mul(1 << doublings)
            .min(self.limits.cap);
        // The top 32 bits scale the window; its full width matters, or duellers stay in step.
        let part = (window.as_nanos().min(u128::from(u64::MAX)) * u128::from(random >> 32)) >> 32;
        Some(Duration::from_nanos(part as u64))
    }

    /// Starts over, after a ballot was chosen.
    pub fn reset(&mut self) {
        self.waits = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn waits_are_bounded_in_length_and_number(randoms in prop::collection::vec(any::<u64>(), 20)) {
            let limits = BackoffLimits::default();
            let mut backoff = Backoff::new(limits);
            let waits: Vec<_> = randoms.iter().map_while(|random| backoff.next(*random)).collect();
            prop_assert_eq!(waits.len(), limits.waits_max as usize);
            for (place, wait) in waits.iter().enumerate() {
                prop_assert!(*wait <= limits.cap && *wait < limits.first * (1 << place));
            }
            backoff.reset();
            prop_assert!(backoff.next(0).is_some());
        }
    }

    #[test]
    fn the_whole_window_is_used() {
        let mut backoff = Backoff::new(BackoffLimits::default());
        assert_eq!(backoff.next(0), Some(Duration::ZERO));
        assert!(
            backoff
                .next(u64::MAX)
                .is_some_and(|wait| wait > Duration::from_micros(3_900))
        );
    }
}
