//! One client's own opinion of one node: whether to avoid it for a moment.
//!
//! Place: pure; time is an argument (since the client's start); shared without a lock, because every
//! request asks.
//! Invariants: 1. suspicion always ends: after `SUSPICION_MAX` the node is tried again. 2. one answer
//! clears it.
//! Not here: whether a connection is open (`crate::session`).

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

/// Suspicion after the first failure; doubles with each further one.
pub(crate) const SUSPICION_MIN: Duration = Duration::from_millis(100);
/// Longest suspicion.
pub(crate) const SUSPICION_MAX: Duration = Duration::from_secs(3);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct NodeHealth {
    /// In microseconds since the client's start; 0 means no suspicion.
    suspect_until_us: AtomicU64,
    failures_count: AtomicU32,
}

impl NodeHealth {
    /// Whether other nodes should be preferred. `now` is called only when there is some suspicion.
    pub(crate) fn is_suspect(&self, now: impl FnOnce() -> Duration) -> bool {
        let until = self.suspect_until_us.load(Ordering::Relaxed);
        until != 0 && micros(now()) < until
    }

    /// The node answered.
    pub(crate) fn succeeded(&self) {
        if self.suspect_until_us.load(Ordering::Relaxed) != 0 {
            self.suspect_until_us.store(0, Ordering::Relaxed);
            self.failures_count.store(0, Ordering::Relaxed);
        }
    }

    /// The node broke off, kept silent, or says that it is not ready.
    pub(crate) fn failed(&self, now: Duration) {
        // Many requests fail at the same moment when one node stops; they are one failure.
        if self.is_suspect(|| now) {
            return;
        }
        let earlier = self.failures_count.fetch_add(1, Ordering::Relaxed).min(10);
        let suspicion = SUSPICION_MIN
            .saturating_mul(1 << earlier)
            .min(SUSPICION_MAX);
        self.suspect_until_us
            .store(micros(now + suspicion), Ordering::Relaxed);
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suspicion_grows_is_bounded_and_ends() {
        let health = NodeHealth::default();
        let mut now = Duration::from_secs(1);
        assert!(!health.is_suspect(|| now));
        let mut longest = Duration::ZERO;
        for _ in 0..20 {
            health.failed(now);
            let mut waited = Duration::ZERO;
            while health.is_suspect(|| now) {
                // A second failure at the same moment changes nothing.
                health.failed(now);
                now += Duration::from_millis(50);
                waited += Duration::from_millis(50);
            }
            assert!(
                waited >= longest,
                "suspicion fell from {longest:?} to {waited:?}"
            );
            longest = waited;
        }
        assert_eq!(longest, SUSPICION_MAX);
    }

    #[test]
    fn one_answer_clears_it() {
        let health = NodeHealth::default();
        for second in 1..5 {
            health.failed(Duration::from_secs(10 * second));
        }
        let now = Duration::from_secs(40);
        assert!(health.is_suspect(|| now));
        health.succeeded();
        assert!(!health.is_suspect(|| now));
        health.failed(now);
        assert!(!health.is_suspect(|| now + SUSPICION_MIN));
    }
}
