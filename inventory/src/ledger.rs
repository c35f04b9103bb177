//! The book of a stock: every movement, once, in the order in which it happened.
//!
//! Place: pure; written by `crate::plan`, read by auditors and checkers.
//! Shape: one page for each write that moved units, numbered from 0 without gaps; a page is never changed. The oldest
//! pages are torn out once there are many, and a checkpoint keeps what they add up to.
//! Invariants: 1. the checkpoint and the movements of all pages together add up to the counts of the summary.
//! Not here: which pages are torn out, and when (`crate::plan`).

use serde::{Deserialize, Serialize};

use crate::counts::Movement;
use crate::ids::{CommandId, ReservationId, ReturnId, TransferId};

/// Pages that every stock keeps, at least.
pub const LEDGER_PAGES_KEPT: u64 = 1_000;

/// Pages that one write tears out, at most.
pub const SHORTEN_MAX: usize = 32;

/// What moved units, and under which id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LedgerCause {
    /// New units came in.
    Receive(CommandId),
    /// A reservation took available units.
    Reserve(ReservationId),
    /// A hold became an allocation.
    Confirm(ReservationId),
    /// A hold was given up.
    Release(ReservationId),
    /// A hold ran out.
    Expire(ReservationId),
    /// An order was called off.
    Cancel(ReservationId),
    /// An allocation left for the customer.
    Ship(ReservationId),
    /// Units came back and wait for inspection.
    Return(ReturnId),
    /// Returned units were found fit for sale.
    Inspect(ReturnId),
    /// Available units were found damaged.
    Damage(CommandId),
    /// Damaged units were thrown away.
    Discard(CommandId),
    /// Available units were counted again.
    Adjust(CommandId),
    /// Units left for another centre.
    TransferOut(TransferId),
    /// Units came from another centre.
    TransferIn(TransferId),
    /// The other centre has the units.
    TransferArrived(TransferId),
}

/// One movement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerEntry {
    /// What caused it.
    pub cause: LedgerCause,
    /// What it changed.
    pub units: Movement,
}

/// The movements of one write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerPage {
    /// The stock's time at the write, in Unix milliseconds.
    pub time_unix_ms: u64,
    /// In the order in which they were applied; never empty.
    pub entries: Vec<LedgerEntry>,
}

/// What the pages add up to that were torn out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerCheckpoint {
    /// The first page that is still there; all before it are summed up here.
    pub pages: u64,
    /// The movements on them.
    pub entries: u64,
    /// The time of the last of them, in Unix milliseconds.
    pub time_unix_ms: u64,
    /// Their sum.
    pub units: Movement,
}

impl LedgerCheckpoint {
    /// Takes in the next page.
    pub(crate) fn add(&mut self, page: &LedgerPage) {
        self.pages += 1;
        self.entries += page.entries.len() as u64;
        self.time_unix_ms = page.time_unix_ms;
        for entry in &page.entries {
            self.units = self.units.plus(&entry.units);
        }
    }
}
