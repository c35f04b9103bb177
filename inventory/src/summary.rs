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
///
/// 2 added the shortened ledger, the outbox and shards.
pub const STOCK_FORMAT: u32 = 2;

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
    /// The number of the oldest ledger page that was not torn out.
    #[serde(default)]
    pub ledger_first: u64,
    /// The number of the next outbox row.
    #[serde(default)]
    pub outbox_next: u64,
    /// The number of the oldest outbox row that is still there.
    #[serde(default)]
    pub outbox_first: u64,
    /// How many shards the stock has, itself included; 1 unless it was split. Only shard 0 knows.
    #[serde(default = "undivided")]
    pub shards: u8,
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
            ledger_first: 0,
            outbox_next: 0,
            outbox_first: 0,
            shards: undivided(),
            next_expiry_unix_ms: None,
            next_prune_unix_ms: None,
        }
    }
}

fn undivided() -> u8 {
    1
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
        let read: Self = serde_json::from_slice(bytes).map_err(refused)?;
        // Whatever it was stored as, it is written in this release's format from now on.
        Ok(Self {
            format: STOCK_FORMAT,
            ..read
        })
    }

    /// The time that a write at `clock_unix_ms` is judged by: never earlier than any before it.
    pub fn now(&self, clock_unix_ms: u64) -> u64 {
        self.time_unix_ms.max(clock_unix_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_format_is_read_and_written_anew() {
        let stored = br#"{"format":1,"counts":{"available":3,"reserved":0,"allocated":0,"damaged":0,"in_transit":0},
            "time_unix_ms":7,"holds_count":0,"ledger_next":2,"next_expiry_unix_ms":null,"next_prune_unix_ms":9}"#;
        let summary = Summary::from_bytes(stored).unwrap();
        assert_eq!((summary.ledger_next, summary.ledger_first), (2, 0));
        assert_eq!(summary.format, STOCK_FORMAT);
    }
}
