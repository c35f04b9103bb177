//! Counts how long things took, from many tasks at once and without a lock.
//!
//! Place: shared by the governor (requests) and by reads (replicas); the pure side judges the counts.
//! Invariants: each duration is in exactly one of the counts taken out.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use souk_kv_core::overload::{LatencyBucket, LatencyCounts};

/// Durations since they were last taken out.
pub(crate) struct LatencyMeter([AtomicU64; LatencyBucket::COUNT]);

impl fmt::Debug for LatencyMeter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("LatencyMeter")
    }
}

impl LatencyMeter {
    /// Nothing counted yet.
    pub(crate) const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; LatencyBucket::COUNT])
    }

    /// Counts one.
    pub(crate) fn record(&self, duration: Duration) {
        self.0[LatencyBucket::of(duration).index()].fetch_add(1, Ordering::Relaxed);
    }

    /// What was counted since the last time.
    pub(crate) fn take(&self) -> LatencyCounts {
        LatencyCounts::from_buckets(std::array::from_fn(|index| {
            self.0[index].swap(0, Ordering::Relaxed)
        }))
    }
}
