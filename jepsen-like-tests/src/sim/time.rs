//! Time in a simulation: one that nobody can doubt, and what each machine's wall clock makes of it.
//!
//! Shape: the run tells [`SimTime`] where it is before each tick, so that all machines agree within a tick;
//! a [`SkewedClock`] bends that for one machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use souk_kv_node::WallClock;

use crate::history::Clock;

/// 2026-01-01 00:00 UTC, where every simulation begins.
pub(super) const EPOCH_UNIX_MS: u64 = 1_767_225_600_000;
const PACE_USUAL: i64 = 1_000;

/// Nanoseconds since the simulation began. Clones are the same time.
#[derive(Clone, Debug, Default)]
pub(super) struct SimTime(Arc<AtomicU64>);

impl SimTime {
    /// It is now so late.
    pub(super) fn set_ns(&self, now_ns: u64) {
        self.0.store(now_ns, Ordering::Relaxed);
    }

    /// The true time of day.
    pub(super) fn unix_ms(&self) -> u64 {
        EPOCH_UNIX_MS + self.now_ns() / 1_000_000
    }
}

impl Clock for SimTime {
    fn now_ns(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The wall clock of one machine.
#[derive(Debug)]
pub(super) struct SkewedClock {
    time: SimTime,
    skew: Mutex<Skew>,
    reads: AtomicU64,
}

/// What the clock shows: `shown_ms` at `since_ms`, and on from there at its pace.
#[derive(Debug)]
struct Skew {
    since_ms: u64,
    shown_ms: i64,
    pace: i64,
}

impl Skew {
    fn shown(&self, now_ms: u64) -> i64 {
        let passed = i64::try_from(now_ms.saturating_sub(self.since_ms)).unwrap_or(i64::MAX);
        self.shown_ms + passed.saturating_mul(self.pace) / PACE_USUAL
    }
}

impl SkewedClock {
    /// A clock that is right.
    pub(super) fn new(time: SimTime) -> SkewedClock {
        let skew = Mutex::new(right(&time));
        SkewedClock {
            time,
            skew,
            reads: AtomicU64::new(0),
        }
    }

    /// Jumps by so many milliseconds.
    pub(super) fn jump(&self, by_ms: i64) {
        self.skew.lock().shown_ms += by_ms;
    }

    /// Runs on from here at so many thousandths of its pace.
    pub(super) fn bend(&self, pace: i64) {
        let now_ms = self.time.unix_ms();
        let mut skew = self.skew.lock();
        *skew = Skew {
            since_ms: now_ms,
            shown_ms: skew.shown(now_ms),
            pace,
        };
    }

    /// Is right again.
    pub(super) fn mend(&self) {
        *self.skew.lock() = right(&self.time);
    }

    /// How far it is off, in milliseconds.
    pub(super) fn error_ms(&self) -> i64 {
        let now_ms = self.time.unix_ms();
        self.skew.lock().shown(now_ms) - i64::try_from(now_ms).unwrap_or(i64::MAX)
    }

    /// How often anybody asked it.
    pub(super) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }
}

fn right(time: &SimTime) -> Skew {
    let now_ms = time.unix_ms();
    Skew {
        since_ms: now_ms,
        shown_ms: i64::try_from(now_ms).unwrap_or(i64::MAX),
        pace: PACE_USUAL,
    }
}

impl WallClock for SkewedClock {
    fn unix_ms(&self) -> u64 {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let shown = self.skew.lock().shown(self.time.unix_ms());
        u64::try_from(shown).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_jump_bend_and_mend() {
        let time = SimTime::default();
        let clock = SkewedClock::new(time.clone());
        let at_s = |seconds: u64| time.set_ns(seconds * 1_000_000_000);
        assert_eq!(clock.unix_ms(), EPOCH_UNIX_MS);
        clock.jump(-500);
        assert_eq!(
            (clock.unix_ms(), clock.error_ms()),
            (EPOCH_UNIX_MS - 500, -500)
        );
        at_s(10);
        clock.bend(2_000);
        at_s(11);
        assert_eq!(clock.error_ms(), 500);
        clock.bend(500);
        at_s(12);
        assert_eq!(clock.error_ms(), 0);
        at_s(13);
        clock.mend();
        at_s(14);
        assert_eq!(
            (clock.unix_ms(), clock.reads()),
            (EPOCH_UNIX_MS + 14_000, 3)
        );
    }
}
