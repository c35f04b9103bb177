//! The summary row of a stock: its counts, its time, and where to look for what is due.
//!
//! Every write of a stock writes this row too. So a writer that read it first and names its version in the condition
//! needs no condition on any other row that it read afterwards.
//!
//! Place: pure; used by `crate::plan`.
//! Invariants: 1. `time_unix_ms` never falls. 2. `next_expiry_unix_ms` is not later than any live hold's expiry, and
//! `next_prune_unix_ms` not later than any ended hold's; either may be too early, which costs a look and nothing else.
//! Not here: the holds themselves (`crate::hold`).

use serde::{Deserialize, Serialize};

use crate::counts::StockCounts;
use crate::error::RowError;
use crate::rows::RowKey;

/// The newest format of a stock's rows that this release reads, and the one that it writes. The summary's number speaks
/// for all rows of its stock: every write includes it and every reader starts with it.
pub const STOCK_FORMAT: u32 = 1;

/// The summary of one stock. `Summary::default()` is a stock that was never written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    format: u32,
    /// The units, by compartment.
    pub counts: StockCounts,
    /// The latest time that any write was judged by, in Unix milliseconds.
    pub time_unix_ms: u64,
    /// Live holds: those with units in `reserved`.
    pub holds_count: u64,
    /// The number of the next ledger page.
    pub ledger_next: u64,
    /// No live hold expires earlier, in Unix milliseconds; none when there is no live hold.
    pub next_expiry_unix_ms: Option<u64>,
    /// No ended hold may be forgotten earlier, in Unix milliseconds; none when there is nothing to forget.
    pub next_prune_unix_ms: Option<u64>,
}

impl Default for Summary {
    fn default() -> Self {
        Self {
            format: STOCK_FORMAT,
            counts: StockCounts::default(),
            time_unix_ms: 0,
            holds_count: 0,
            ledger_next: 0,
            next_expiry_unix_ms: None,
            next_prune_unix_ms: None,
        }
    }
}

/// The one field that every format has.
#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

impl Summary {
    /// Reads the summary row.
    ///
    /// # Errors
    /// [`RowError::NewerFormat`] when a newer release wrote it, [`RowError::Unreadable`] otherwise.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RowError> {
        let refused = |source| RowError::Unreadable {
            key: RowKey::Summary,
            source,
        };
        let FormatOnly { format } = serde_json::from_slice(bytes).map_err(refused)?;
        if format > STOCK_FORMAT {
            return Err(RowError::NewerFormat { found: format });
        }
        serde_json::from_slice(bytes).map_err(refused)
    }

    /// The time that a write at `clock_unix_ms` is judged by: never earlier than any before it.
    pub fn now(&self, clock_unix_ms: u64) -> u64 {
        self.time_unix_ms.max(clock_unix_ms)
    }
}
