//! What becomes of a transaction whose ballot was lost.
//!
//! Place: pure; asked by the driver for each waiting transaction after `Action::Lost`.
//! Invariants: 1. once an accept left, "not applied" is never said without a chosen record of it.
//! 2. a transaction without memory is not run again after that, because nobody could tell the second run
//! from the first. 3. running out of tries is unknown, unless nothing ever left.
//! Not here: how long to wait (`backoff`); telling a replay from a first run (`evaluate`).

use super::{Lost, Transaction};

/// What to do with a transaction after a lost ballot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AfterLoss {
    /// Evaluate it again in a later ballot.
    TryAgain,
    /// Tell the caller that it was not applied and never will be.
    NotApplied,
    /// Tell the caller that nobody knows.
    Unknown,
}

/// Decides for one transaction that was proposed in the lost ballot, and marks it if it left this node.
pub fn after_loss(transaction: &mut Transaction, lost: &Lost, tries_left: bool) -> AfterLoss {
    if lost.accepts_sent {
        transaction.expose();
    }
    let may_repeat =
        !transaction.is_exposed() || transaction.wants_memory() || !transaction.writes();
    match (
        tries_left && may_repeat,
        transaction.is_exposed() && transaction.writes(),
    ) {
        (true, _) => AfterLoss::TryAgain,
        (false, false) => AfterLoss::NotApplied,
        (false, true) => AfterLoss::Unknown,
    }
}
