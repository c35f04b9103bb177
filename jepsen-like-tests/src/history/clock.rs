//! The one clock of a history.
//!
//! Place: read by the recorder alone.
//! Invariant: never runs backwards, also not between processes of one machine.

use std::fmt::Debug;

/// Tells the time of events, in nanoseconds since an origin of its own.
pub trait Clock: Debug + Send + Sync {
    /// The time by now.
    fn now_ns(&self) -> u64;
}

/// The machine's monotonic clock, which all its processes share: histories that were recorded by several
/// processes can be merged by time. (`std::time::Instant` cannot be written down.)
#[derive(Clone, Copy, Debug, Default)]
pub struct MonotonicClock;

impl Clock for MonotonicClock {
    fn now_ns(&self) -> u64 {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_forwards() {
        let before = MonotonicClock.now_ns();
        let after = MonotonicClock.now_ns();
        assert!(before > 0 && after >= before, "{before} {after}");
    }
}
