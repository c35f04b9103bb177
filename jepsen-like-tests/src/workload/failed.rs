//! What is written down of a request that failed.
//!
//! Invariant: only a request that had no effect, and never will have one, is a failure; all others are in doubt.

use souk_kv_client::Outcome;

use crate::history::Pending;

/// Writes down that a request was not answered as it should be, by what is known of its effect.
pub(super) fn not_answered(pending: Pending<'_>, outcome: Outcome, problem: String) {
    match outcome {
        Outcome::NotApplied => pending.fail(problem),
        Outcome::Unknown | Outcome::Applied => pending.info(problem),
    }
}
