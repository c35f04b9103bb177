//! The shop's clock: Unix milliseconds, taken once at the edge and passed inward.
//!
//! Not here: any decision that has to be right when clocks differ; stock judges expiry inside its own writes.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, in Unix milliseconds; 0 on a machine whose clock is before 1970.
#[must_use]
pub fn now_unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}
