//! What a caller may believe about a request once its answer, or its silence, is in.
//!
//! Place: pure; every write path ends here, and the wire carries it beside the error code.
//! Invariants: 1. `NotApplied` is said only when no replica stored anything and none can any more.
//! 2. when in doubt, `Unknown`.
//! Not here: why it happened (the error enums of each operation), gRPC codes (`souk_kv_proto`).

use std::fmt;

/// The three answers a mutation can have. There is deliberately no fourth, and no default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// The change is stored as promised; it will not be undone by a crash the promise covers.
    Applied,
    /// The change is not stored anywhere and never will be; the caller may retry as if it had not asked.
    NotApplied,
    /// The change may or may not be stored, now or later: read before retrying,
    /// or retry under the same request id.
    Unknown,
}

impl Outcome {
    /// The outcome of two parts of one request: certainty survives only where both parts agree.
    ///
    /// ```
    /// use souk_kv_core::outcome::Outcome::{Applied, NotApplied, Unknown};
    /// assert_eq!(Applied.and(Applied), Applied);
    /// assert_eq!(Applied.and(NotApplied), Unknown);
    /// ```
    #[must_use]
    pub fn and(self, other: Outcome) -> Outcome {
        if self == other {
            self
        } else {
            Outcome::Unknown
        }
    }

    /// True when a caller may run the request again under a *new* request id without risking it twice.
    #[must_use]
    pub fn is_safe_to_repeat(self) -> bool {
        match self {
            Outcome::NotApplied => true,
            Outcome::Applied | Outcome::Unknown => false,
        }
    }

    /// The stable lower-case name used in logs, metrics and histories.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Applied => "applied",
            Outcome::NotApplied => "not applied",
            Outcome::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
