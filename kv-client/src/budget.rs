//! Keeps retries and hedges from multiplying load: each request earns a fraction of one.
//!
//! Picture a jar of coins: every request drops in a small one, every retry takes out a whole one. When
//! the store is down, the jar empties and the clients' load stays what it was.
//!
//! Place: pure; shared by all requests of one client.
//! Source: Finagle, `RetryBudget`; Google SRE book, ch. 21, "Handling Overload".
//! Invariant: retries taken <= burst + ratio x requests.

use std::sync::atomic::{AtomicU64, Ordering};

const COIN: u64 = 1000;

/// Retries that a client may still spend.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    /// In thousandths of a retry.
    saved: AtomicU64,
    per_request: u64,
    saved_max: u64,
}

impl RetryBudget {
    /// `ratio` in 0.0..=1.0 is what one request earns; `burst` retries are there at the start, and no
    /// more are saved.
    pub(crate) fn new(ratio: f64, burst: u32) -> RetryBudget {
        let saved_max = u64::from(burst) * COIN;
        // The ratio is at most 1.0, so that the product fits.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let per_request = (ratio.clamp(0.0, 1.0) * COIN as f64) as u64;
        RetryBudget {
            saved: AtomicU64::new(saved_max),
            per_request,
            saved_max,
        }
    }

    /// Counts `requests` new requests.
    pub(crate) fn earn(&self, requests: u64) {
        // A full jar is the usual case; then this is one shared read.
        if self.saved.load(Ordering::Relaxed) >= self.saved_max {
            return;
        }
        let earned = self.per_request.saturating_mul(requests);
        self.change(|saved| Some(saved.saturating_add(earned).min(self.saved_max)));
    }

    /// Takes one retry, or says that there is none.
    pub(crate) fn spend(&self) -> bool {
        self.change(|saved| saved.checked_sub(COIN))
    }

    fn change(&self, new: impl Fn(u64) -> Option<u64>) -> bool {
        self.saved
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, new)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn retries_stay_within_burst_and_ratio(
            ratio in 0.0..=1.0f64,
            burst in 0..20u32,
            steps in prop::collection::vec(any::<bool>(), 0..400),
        ) {
            let budget = RetryBudget::new(ratio, burst);
            let (mut requests, mut retries) = (0u32, 0u32);
            for is_request in steps {
                if is_request {
                    budget.earn(1);
                    requests += 1;
                } else if budget.spend() {
                    retries += 1;
                }
                prop_assert!(f64::from(retries) <= f64::from(burst) + ratio * f64::from(requests));
            }
        }
    }

    #[test]
    fn an_empty_jar_fills_again() {
        let budget = RetryBudget::new(0.5, 1);
        assert!(budget.spend());
        assert!(!budget.spend());
        budget.earn(1);
        assert!(!budget.spend());
        budget.earn(1);
        assert!(budget.spend());
    }
}
