//! Decides when a slow read asks one replica more, and how often that may happen.
//!
//! Asking twice shortens the tail only while it stays rare: when everybody is slow, doubling the load makes it worse.
//! So a read waits until its replicas are slower than nearly all lately, and each read earns only a fraction of a hedge.
//!
//! Place: pure; one budget per coordinating node, shared by its reads. The driver measures and sleeps.
//! Source: Dean and Barroso, The Tail at Scale, CACM 56 (2013), "hedged requests".
//! Invariants: 1. hedges taken ≤ burst + percent of the reads. 2. the delay stays within its bounds.
//! Not here: whom the hedge asks ([`super::GetCoordinator::hedge`]).

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::overload::LatencyCounts;

/// Hedges there are at the start, and the most that are saved up.
const BURST: u64 = 10;
/// A hedge, in the hundredths that one percent of a read earns.
const COIN: u64 = 100;

/// Before anything is known of the replicas.
const DELAY_FIRST: Duration = Duration::from_millis(30);
const DELAY_LEAST: Duration = Duration::from_millis(5);
const DELAY_MOST: Duration = Duration::from_millis(100);
/// A read whose replicas are slower than this share of all answers is hedged, in percent.
const SLOWER_THAN_PERCENT: u8 = 95;

/// How many hedges the reads of a node may still take.
#[derive(Debug)]
pub struct HedgeBudget {
    saved: AtomicU64,
    per_read: u64,
    saved_max: u64,
}

impl HedgeBudget {
    /// `percent` of the reads may be hedged, 0 to 100; with 0 none ever is.
    #[must_use]
    pub fn new(percent: u8) -> HedgeBudget {
        let saved_max = if percent == 0 { 0 } else { BURST * COIN };
        HedgeBudget {
            saved: AtomicU64::new(saved_max),
            per_read: u64::from(percent.min(100)),
            saved_max,
        }
    }

    /// Counts one read.
    pub fn earn(&self) {
        // A full purse is the usual case; then this is one shared read.
        if self.saved.load(Ordering::Relaxed) < self.saved_max {
            self.change(|saved| Some((saved + self.per_read).min(self.saved_max)));
        }
    }

    /// Takes one hedge, or says that there is none.
    pub fn spend(&self) -> bool {
        self.change(|saved| saved.checked_sub(COIN))
    }

    fn change(&self, new: impl Fn(u64) -> Option<u64>) -> bool {
        self.saved
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, new)
            .is_ok()
    }
}

/// How long a read waits for its replicas before it asks one more, given how long replicas took lately.
#[must_use]
pub fn hedge_delay(answers: &LatencyCounts) -> Duration {
    answers
        .percentile(SLOWER_THAN_PERCENT)
        .map_or(DELAY_FIRST, |usual| usual.clamp(DELAY_LEAST, DELAY_MOST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn hedges_stay_within_burst_and_percent(
            percent in 0..=100u8,
            steps in prop::collection::vec(any::<bool>(), 0..400),
        ) {
            let budget = HedgeBudget::new(percent);
            let (mut reads, mut hedges) = (0u64, 0u64);
            for is_read in steps {
                if is_read {
                    budget.earn();
                    reads += 1;
                } else if budget.spend() {
                    hedges += 1;
                }
                prop_assert!(hedges * 100 <= BURST * 100 + u64::from(percent) * reads);
                prop_assert!(percent > 0 || hedges == 0);
            }
        }
    }

    #[test]
    fn an_empty_purse_fills_again() {
        let budget = HedgeBudget::new(50);
        (0..BURST).for_each(|_| assert!(budget.spend()));
        assert!(!budget.spend());
        budget.earn();
        assert!(!budget.spend(), "half a hedge is none");
        budget.earn();
        assert!(budget.spend());
    }

    #[test]
    fn the_delay_follows_the_replicas_within_bounds() {
        let answers = |fast: u64, slow: u64| {
            let mut counts = LatencyCounts::default();
            (0..90).for_each(|_| counts.record(Duration::from_millis(fast)));
            (0..10).for_each(|_| counts.record(Duration::from_millis(slow)));
            counts
        };
        assert_eq!(hedge_delay(&LatencyCounts::default()), DELAY_FIRST);
        assert_eq!(hedge_delay(&answers(0, 1)), DELAY_LEAST);
        assert_eq!(hedge_delay(&answers(500, 900)), DELAY_MOST);
        let between = hedge_delay(&answers(2, 40));
        assert!(between >= Duration::from_millis(40) && between <= Duration::from_millis(50));
    }
}
