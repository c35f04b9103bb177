//! Judges: each reads a whole history and says valid, invalid or unknown.
//!
//! | Checker | Promise | Source |
//! |---|---|---|
//! | [`Linearizable`] | each key behaved like one machine doing one thing at a time | Herlihy and Wing, 1990 |
//! | [`SetChecker`] | nothing acknowledged was lost, nothing appeared from nowhere | Jepsen `set-full` |
//! | [`CartChecker`] | what was added stays, what was removed stays away | ours |
//! | [`CausalChecker`] | a value goes only when something that saw it replaces it | Dotted Version Vectors |
//! | [`LatestChecker`] | of two puts one after the other, the later one wins | Kulkarni et al., 2014 |
//! | [`LedgerChecker`] | the sum of all balances never changes | Jepsen `bank` |
//! | [`StockChecker`] | granted exactly as much as existed; the ledger adds up | ours |
//! | [`OrdersChecker`] | one order and one charge for one idempotency key | ours |
//!
//! Place: pure; sees histories only.
//! Invariants: 1. a doubtful operation may have happened, or not, or may happen later; no verdict rests on
//! guessing. 2. a history without evidence is unknown. 3. a violation names the operations involved.
//! Not here: recording (`crate::history`), running (`crate::workload`).

mod cart;
mod causal;
mod latest;
mod ledger;
pub mod linear;
mod malformed;
mod orders;
mod set;
mod stock;
mod verdict;

pub use cart::CartChecker;
pub use causal::CausalChecker;
pub use latest::LatestChecker;
pub use ledger::LedgerChecker;
pub use linear::Linearizable;
pub use malformed::Malformed;
pub use orders::{Books, Charge, ListedOrder, OrdersChecker};
pub use set::{ReadPromise, SetChecker};
pub use stock::{HeldUnits, StockChecker, StockState};
pub use verdict::{Report, Verdict, Violation};

use crate::history::History;

/// Reads a history and judges it.
pub trait Checker {
    /// For reports.
    fn name(&self) -> &'static str;

    /// Judges.
    fn check(&self, history: &History) -> Report;
}
