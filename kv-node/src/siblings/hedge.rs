//! When the reads of this node ask one replica more than they need.
//!
//! Place: one per coordinator; the rules are `souk_kv_core::quorum`'s.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use metrics::{counter, gauge};
use souk_kv_core::{
    overload::LatencyCounts,
    quorum::{HedgeBudget, hedge_delay},
};

use crate::meter::LatencyMeter;

/// The delay is found anew after so many answers.
const ANSWERS_PER_JUDGEMENT: u64 = 256;

/// The budget of hedges, and the delay before one.
#[derive(Debug)]
pub(super) struct Hedging {
    budget: HedgeBudget,
    answers: LatencyMeter,
    counted: AtomicU64,
    delay_us: AtomicU64,
}

impl Hedging {
    pub(super) fn new(percent: u8) -> Self {
        let first = hedge_delay(&LatencyCounts::default());
        Self {
            budget: HedgeBudget::new(percent),
            answers: LatencyMeter::new(),
            counted: AtomicU64::new(0),
            delay_us: AtomicU64::new(micros(first)),
        }
    }

    /// Counts a read, and says how long it waits before it asks one more.
    pub(super) fn delay(&self) -> Duration {
        self.budget.earn();
        Duration::from_micros(self.delay_us.load(Ordering::Relaxed))
    }

    /// Whether a read that has waited long enough may ask one more.
    pub(super) fn spend(&self) -> bool {
        let granted = self.budget.spend();
        if granted {
            counter!("souk_hedged_reads_total").increment(1);
        } else {
            counter!("souk_hedged_reads_refused_total").increment(1);
        }
        granted
    }

    /// Another node answered a read after `waited`.
    pub(super) fn answered(&self, waited: Duration) {
        self.answers.record(waited);
        let counted = self.counted.fetch_add(1, Ordering::Relaxed) + 1;
        if counted.is_multiple_of(ANSWERS_PER_JUDGEMENT) {
            let delay = hedge_delay(&self.answers.take());
            self.delay_us.store(micros(delay), Ordering::Relaxed);
            gauge!("souk_hedge_delay_seconds").set(delay.as_secs_f64());
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_follows_the_answers() {
        let hedging = Hedging::new(10);
        let first = hedging.delay();
        for _ in 0..ANSWERS_PER_JUDGEMENT {
            hedging.answered(Duration::from_micros(300));
        }
        assert!(hedging.delay() < first);
        for _ in 0..ANSWERS_PER_JUDGEMENT {
            hedging.answered(Duration::from_millis(60));
        }
        assert!(
            hedging.delay() >= Duration::from_millis(60),
            "the past is forgotten"
        );
    }
}
