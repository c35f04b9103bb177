//! The rows of a stock: what each sort key means, and the part of them that one plan works on.
//!
//! ```text
//! s                                 summary            one
//! h/{reservation}                   hold               until it ended and is forgotten
//! x/{earliest expiry, 20 digits}/{page, 20 digits}   the holds that one write made: the box sorted by time
//! e/{prune, 20 digits}/{reservation}     its end       from its end until it is forgotten
//! l/{number, 20 digits}             ledger page        until it is torn out
//! k                                 what torn-out pages add up to    one, once there are any
//! o/{number, 20 digits}             outbox row         until it is cleared away
//! c/{command}                       receipt, damage, discard, adjustment   for ever
//! r/{return}, t/{transfer}          return, transfer   for ever
//! ```
//!
//! Numbers have leading zeros, so that the order of the keys is the order of time.
//!
//! Place: pure; filled by `crate::store`, read by `crate::plan`.
//! Shape: values are JSON, so that an operator can read a stored row as it is.
//! Invariants: 1. a live hold is listed in one `x` row, not later than it expires; ended ones may be listed still. A hold
//! is ended exactly if its `e` row is there.
//! 2. a key reads back to the row that it was made for.
//! Not here: reading and writing them (`crate::store`).

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::command::StockCommand;
use crate::error::RowError;
use crate::hold::HoldRow;
use crate::ids::{CommandId, OrderId, ReservationId, ReturnId, TransferId};
use crate::ledger::{LEDGER_PAGES_KEPT, LedgerCheckpoint, LedgerPage, SHORTEN_MAX};
use crate::names::{Centre, Quantity};
use crate::outbox::OutboxRow;
use crate::plan::SWEEP_MAX;
use crate::summary::Summary;

/// Most rows of the expiry index that one plan looks at.
pub const EXPIRY_ROWS_MAX: usize = 16;

/// The content type under which the rows of a stock are stored.
pub const STOCK_CONTENT_TYPE: &str = "application/vnd.souk.stock+json";

/// The sort key of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowKey {
    /// `s`
    Summary,
    /// `h/…`
    Hold(ReservationId),
    /// `x/…`: the earliest expiry of the holds listed, in Unix milliseconds, and the ledger page of the write that made
    /// them.
    Expiry(u64, u64),
    /// `e/…`: when the hold may be forgotten in Unix milliseconds, and its id.
    Ended(u64, ReservationId),
    /// `l/…`
    Ledger(u64),
    /// `k`
    Checkpoint,
    /// `o/…`
    Outbox(u64),
    /// `c/…`
    Command(CommandId),
    /// `r/…`
    Return(ReturnId),
    /// `t/…`
    Transfer(TransferId),
}

impl RowKey {
    /// What the keys of all holds begin with.
    pub const HOLD_PREFIX: &str = "h/";
    /// What the keys of all expiry rows begin with.
    pub const EXPIRY_PREFIX: &str = "x/";
    /// What the keys of all rows of ended holds begin with.
    pub const ENDED_PREFIX: &str = "e/";
    /// What the keys of all ledger pages begin with.
    pub const LEDGER_PREFIX: &str = "l/";
    /// What the keys of all transfers begin with.
    pub const TRANSFER_PREFIX: &str = "t/";
    /// What the keys of all outbox rows begin with.
    pub const OUTBOX_PREFIX: &str = "o/";

    /// The sort key as stored.
    pub fn to_bytes(&self) -> Bytes {
        self.to_string().into()
    }

    /// Reads a stored sort key.
    ///
    /// # Errors
    /// [`RowError::UnknownKey`] for anything that [`RowKey::to_bytes`] does not write.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RowError> {
        let unknown = || RowError::UnknownKey {
            text: String::from_utf8_lossy(bytes).into_owned(),
        };
        let text = std::str::from_utf8(bytes).map_err(|_| unknown())?;
        let key = Self::parse(text).ok_or_else(unknown)?;
        // One spelling each: `x/5/…` must not pass for `x/00…05/…`, which sorts elsewhere.
        if key.to_string() == text {
            Ok(key)
        } else {
            Err(unknown())
        }
    }

    fn parse(text: &str) -> Option<Self> {
        match text {
            "s" => return Some(Self::Summary),
            "k" => return Some(Self::Checkpoint),
            _ => {}
        }
        let (kind, rest) = text.split_once('/')?;
        let timed = || {
            let (time, id) = rest.split_once('/')?;
            Some((time.parse().ok()?, id))
        };
        match kind {
            "h" => Some(Self::Hold(rest.parse().ok()?)),
            "x" => timed().and_then(|(time, page)| Some(Self::Expiry(time, page.parse().ok()?))),
            "e" => timed().and_then(|(time, id)| Some(Self::Ended(time, id.parse().ok()?))),
            "l" => Some(Self::Ledger(rest.parse().ok()?)),
            "o" => Some(Self::Outbox(rest.parse().ok()?)),
            "c" => Some(Self::Command(rest.parse().ok()?)),
            "r" => Some(Self::Return(rest.parse().ok()?)),
            "t" => Some(Self::Transfer(rest.parse().ok()?)),
            _ => None,
        }
    }
}

impl fmt::Display for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Summary => f.write_str("s"),
            Self::Hold(id) => write!(f, "h/{id}"),
            Self::Expiry(time, page) => write!(f, "x/{time:020}/{page:020}"),
            Self::Ended(time, id) => write!(f, "e/{time:020}/{id}"),
            Self::Ledger(number) => write!(f, "l/{number:020}"),
            Self::Checkpoint => f.write_str("k"),
            Self::Outbox(number) => write!(f, "o/{number:020}"),
            Self::Command(id) => write!(f, "c/{id}"),
            Self::Return(id) => write!(f, "r/{id}"),
            Self::Transfer(id) => write!(f, "t/{id}"),
        }
    }
}

/// The value of an `x` row: holds of which none expires before the time in the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpiryRow {
    /// Their ids; never empty, at most [`crate::COMMANDS_MAX`].
    pub holds: Vec<ReservationId>,
}

/// The value of an `e` row. The key says everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndedRow {}

/// A command that moved units at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandRecord {
    /// The command, to tell it from another one under the same id.
    pub command: StockCommand,
    /// The ledger page that shows it.
    pub page: u64,
}

/// A return.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReturnRow {
    /// The order that the units belonged to.
    pub order_id: OrderId,
    /// The units.
    pub quantity: Quantity,
    /// The ledger page that shows the arrival.
    pub page: u64,
    /// Units found fit for sale, and the ledger page that shows the inspection.
    pub inspected: Option<(u32, u64)>,
}

/// Which end of a transfer a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferDirection {
    /// The units left here.
    Out,
    /// The units came here.
    In,
}

/// One end of a transfer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransferRow {
    /// Which end.
    pub direction: TransferDirection,
    /// The centre at the other end.
    pub other: Centre,
    /// The units.
    pub quantity: Quantity,
    /// The ledger page that shows the departure or the arrival.
    pub page: u64,
    /// At the sending end: the ledger page from which on the units are no longer in transit.
    pub arrived_page: Option<u64>,
}

/// The value of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// Under [`RowKey::Summary`].
    Summary(Summary),
    /// Under [`RowKey::Hold`].
    Hold(HoldRow),
    /// Under [`RowKey::Expiry`].
    Expiry(ExpiryRow),
    /// Under [`RowKey::Ended`].
    Ended(EndedRow),
    /// Under [`RowKey::Ledger`].
    Ledger(LedgerPage),
    /// Under [`RowKey::Checkpoint`].
    Checkpoint(LedgerCheckpoint),
    /// Under [`RowKey::Outbox`].
    Outbox(OutboxRow),
    /// Under [`RowKey::Command`].
    Command(CommandRecord),
    /// Under [`RowKey::Return`].
    Return(ReturnRow),
    /// Under [`RowKey::Transfer`].
    Transfer(TransferRow),
}

impl Row {
    /// The stored value.
    pub fn to_bytes(&self) -> Bytes {
        let bytes = match self {
            Self::Summary(row) => serde_json::to_vec(row),
            Self::Hold(row) => serde_json::to_vec(row),
            Self::Expiry(row) => serde_json::to_vec(row),
            Self::Ended(row) => serde_json::to_vec(row),
            Self::Ledger(row) => serde_json::to_vec(row),
            Self::Checkpoint(row) => serde_json::to_vec(row),
            Self::Outbox(row) => serde_json::to_vec(row),
            Self::Command(row) => serde_json::to_vec(row),
            Self::Return(row) => serde_json::to_vec(row),
            Self::Transfer(row) => serde_json::to_vec(row),
        };
        bytes
            .expect("structs with text keys always have a JSON form")
            .into()
    }

    /// Reads the value stored under `key`.
    ///
    /// # Errors
    /// [`RowError::Unreadable`], and [`RowError::NewerFormat`] for the summary of a newer release.
    pub fn from_bytes(key: RowKey, bytes: &[u8]) -> Result<Self, RowError> {
        let row = match key {
            RowKey::Summary => return Summary::from_bytes(bytes).map(Self::Summary),
            RowKey::Hold(_) => serde_json::from_slice(bytes).map(Self::Hold),
            RowKey::Expiry(..) => serde_json::from_slice(bytes).map(Self::Expiry),
            RowKey::Ended(..) => serde_json::from_slice(bytes).map(Self::Ended),
            RowKey::Ledger(_) => serde_json::from_slice(bytes).map(Self::Ledger),
            RowKey::Checkpoint => serde_json::from_slice(bytes).map(Self::Checkpoint),
            RowKey::Outbox(_) => serde_json::from_slice(bytes).map(Self::Outbox),
            RowKey::Command(_) => serde_json::from_slice(bytes).map(Self::Command),
            RowKey::Return(_) => serde_json::from_slice(bytes).map(Self::Return),
            RowKey::Transfer(_) => serde_json::from_slice(bytes).map(Self::Transfer),
        };
        row.map_err(|source| RowError::Unreadable { key, source })
    }
}

/// The front of an index, in the order of its keys.
#[derive(Debug, Clone)]
pub(crate) struct Window<T> {
    pub(crate) rows: Vec<T>,
    /// Whether the index has no rows behind these.
    pub(crate) complete: bool,
}

/// One row of the expiry index.
#[derive(Debug, Clone)]
pub(crate) struct Expiring {
    pub(crate) earliest_unix_ms: u64,
    pub(crate) page: u64,
    pub(crate) holds: Vec<ReservationId>,
}

/// One row of the index of ended holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) prune_unix_ms: u64,
    pub(crate) id: ReservationId,
}

/// The ledger pages that may be torn out, and the sum of those before them.
#[derive(Debug, Clone)]
pub(crate) struct OldestPages {
    pub(crate) checkpoint: LedgerCheckpoint,
    pub(crate) pages: Vec<LedgerPage>,
}

/// The rows of one stock that were read for a plan.
///
/// Read the summary first, and make the write depend on the version that this read returned: all rows read later are
/// then as new as the summary, or the write is refused.
#[derive(Debug, Clone)]
pub struct StockRows {
    summary: Summary,
    read: BTreeMap<RowKey, Option<Row>>,
    pub(crate) expiring: Option<Window<Expiring>>,
    pub(crate) ended: Option<Window<Ended>>,
    pub(crate) oldest: Option<OldestPages>,
}

impl StockRows {
    /// Starts with the summary; none for a stock that was never written.
    pub fn new(summary: Option<Summary>) -> Self {
        Self {
            summary: summary.unwrap_or_default(),
            read: BTreeMap::new(),
            expiring: None,
            ended: None,
            oldest: None,
        }
    }

    /// The summary.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Takes in a row that was read by its key; `None` when there is none.
    ///
    /// # Errors
    /// [`RowError`] when the value cannot be read.
    pub fn insert(&mut self, key: RowKey, value: Option<&[u8]>) -> Result<(), RowError> {
        let row = value.map(|bytes| Row::from_bytes(key, bytes)).transpose()?;
        self.read.insert(key, row);
        Ok(())
    }

    /// Whether a plan at `clock_unix_ms` wants the first [`EXPIRY_ROWS_MAX`] rows of [`RowKey::EXPIRY_PREFIX`], and then
    /// [`StockRows::wants_holds`].
    pub fn wants_expiring(&self, clock_unix_ms: u64) -> bool {
        is_due(
            self.summary.next_expiry_unix_ms,
            self.summary.now(clock_unix_ms),
        )
    }

    /// Whether a plan at `clock_unix_ms` wants the first [`crate::PRUNE_MAX`] + 1 rows of [`RowKey::ENDED_PREFIX`].
    pub fn wants_ended(&self, clock_unix_ms: u64) -> bool {
        is_due(
            self.summary.next_prune_unix_ms,
            self.summary.now(clock_unix_ms),
        )
    }

    /// Takes in the front of the expiry index; `complete` when the scan met the end of the index.
    ///
    /// # Errors
    /// [`RowError`] when a key or value cannot be read.
    pub fn insert_expiring<'a>(
        &mut self,
        rows: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
        complete: bool,
    ) -> Result<(), RowError> {
        let read = |(key, value)| {
            let key = RowKey::from_bytes(key)?;
            let RowKey::Expiry(earliest_unix_ms, page) = key else {
                return Err(RowError::Contradiction { key });
            };
            let Row::Expiry(ExpiryRow { holds }) = Row::from_bytes(key, value)? else {
                return Err(RowError::Contradiction { key });
            };
            Ok(Expiring {
                earliest_unix_ms,
                page,
                holds,
            })
        };
        let rows = rows
            .into_iter()
            .map(read)
            .collect::<Result<_, RowError>>()?;
        self.expiring = Some(Window { rows, complete });
        Ok(())
    }

    /// The holds that a plan at `clock_unix_ms` looks through for those that ran out: their rows are wanted, too, with
    /// [`StockRows::insert`], once the front of the expiry index is there.
    pub fn wants_holds(&self, clock_unix_ms: u64) -> Vec<RowKey> {
        let due = self.due(self.summary.now(clock_unix_ms));
        let ids = due.iter().flat_map(|row| &row.holds);
        ids.map(|id| RowKey::Hold(*id)).collect()
    }

    /// The rows at the front of the expiry index that one write works through: as many as name at most
    /// [`crate::SWEEP_MAX`] holds, and the first in any case.
    pub(crate) fn due(&self, now_unix_ms: u64) -> &[Expiring] {
        let rows = self
            .expiring
            .as_ref()
            .map_or(&[][..], |window| &window.rows);
        let mut named = 0;
        let count = rows
            .iter()
            .take_while(|row| {
                let is_first = named == 0;
                named += row.holds.len();
                row.earliest_unix_ms <= now_unix_ms && (is_first || named <= SWEEP_MAX)
            })
            .count();
        &rows[..count]
    }

    /// Takes in the front of the index of ended holds; `complete` when the scan met the end of the index.
    ///
    /// # Errors
    /// [`RowError`] when a key cannot be read.
    pub fn insert_ended<'a>(
        &mut self,
        keys: impl IntoIterator<Item = &'a [u8]>,
        complete: bool,
    ) -> Result<(), RowError> {
        let read = |key| match RowKey::from_bytes(key)? {
            RowKey::Ended(prune_unix_ms, id) => Ok(Ended { prune_unix_ms, id }),
            key => Err(RowError::Contradiction { key }),
        };
        let rows = keys
            .into_iter()
            .map(read)
            .collect::<Result<_, RowError>>()?;
        self.ended = Some(Window { rows, complete });
        Ok(())
    }

    /// Whether a plan wants the checkpoint and the first [`SHORTEN_MAX`] ledger pages from
    /// [`Summary::ledger_first`] on.
    pub fn wants_oldest(&self) -> bool {
        let kept =
            self.summary.ledger_next - self.summary.ledger_first.min(self.summary.ledger_next);
        kept >= LEDGER_PAGES_KEPT + SHORTEN_MAX as u64
    }

    /// Takes in the checkpoint, if there is one, and ledger pages as they were scanned.
    ///
    /// # Errors
    /// [`RowError`] when one cannot be read, or they do not follow each other.
    pub fn insert_oldest<'a>(
        &mut self,
        checkpoint: Option<&[u8]>,
        pages: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<(), RowError> {
        let key = RowKey::Checkpoint;
        let checkpoint = match checkpoint
            .map(|bytes| Row::from_bytes(key, bytes))
            .transpose()?
        {
            None => LedgerCheckpoint::default(),
            Some(Row::Checkpoint(checkpoint)) => checkpoint,
            Some(_) => return Err(RowError::Contradiction { key }),
        };
        if checkpoint.pages != self.summary.ledger_first {
            return Err(RowError::Contradiction { key });
        }
        let mut read = Vec::with_capacity(SHORTEN_MAX);
        for (number, (key, value)) in (checkpoint.pages..).zip(pages).take(SHORTEN_MAX) {
            let key = RowKey::from_bytes(key)?;
            match Row::from_bytes(key, value)? {
                Row::Ledger(page) if key == RowKey::Ledger(number) => read.push(page),
                _ => return Err(RowError::Contradiction { key }),
            }
        }
        self.oldest = Some(OldestPages {
            checkpoint,
            pages: read,
        });
        Ok(())
    }

    /// A row as it was read; an error when it was not.
    pub(crate) fn get(&self, key: RowKey) -> Result<Option<&Row>, RowError> {
        self.read
            .get(&key)
            .map(Option::as_ref)
            .ok_or(RowError::NotRead { key })
    }
}

fn is_due(next_unix_ms: Option<u64>, now_unix_ms: u64) -> bool {
    next_unix_ms.is_some_and(|next| next <= now_unix_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_key(key: RowKey, text: &str) {
        assert_eq!(key.to_string(), text);
        assert_eq!(RowKey::from_bytes(text.as_bytes()).ok(), Some(key));
    }

    #[test]
    fn keys_read_back() {
        let id = ReservationId::from_bytes([0xab; 16]);
        let hex = "abababababababababababababababab";
        check_key(RowKey::Summary, "s");
        check_key(RowKey::Hold(id), &format!("h/{hex}"));
        check_key(
            RowKey::Expiry(5, 7),
            "x/00000000000000000005/00000000000000000007",
        );
        check_key(
            RowKey::Ended(u64::MAX, id),
            &format!("e/18446744073709551615/{hex}"),
        );
        check_key(RowKey::Ledger(7), "l/00000000000000000007");
        check_key(RowKey::Checkpoint, "k");
        check_key(RowKey::Outbox(7), "o/00000000000000000007");
        check_key(
            RowKey::Command(CommandId::from_bytes([0xab; 16])),
            &format!("c/{hex}"),
        );
        check_key(
            RowKey::Return(ReturnId::from_bytes([0xab; 16])),
            &format!("r/{hex}"),
        );
        check_key(
            RowKey::Transfer(TransferId::from_bytes([0xab; 16])),
            &format!("t/{hex}"),
        );
    }

    #[test]
    fn other_spellings_are_refused() {
        for text in [
            "",
            "s/",
            "h/",
            "l/7",
            "x/5/00000000000000000007",
            "x/00000000000000000005/7",
            "z/1",
            "h/AB",
        ] {
            assert!(RowKey::from_bytes(text.as_bytes()).is_err(), "{text}");
        }
        assert!(RowKey::from_bytes(b"h/ABABABABABABABABABABABABABABABAB").is_err());
        assert!(RowKey::from_bytes(&[0xff]).is_err());
    }

    #[test]
    fn prefixes_match_their_keys() {
        let id = ReservationId::from_bytes([1; 16]);
        assert!(
            RowKey::Hold(id)
                .to_string()
                .starts_with(RowKey::HOLD_PREFIX)
        );
        assert!(
            RowKey::Expiry(1, 1)
                .to_string()
                .starts_with(RowKey::EXPIRY_PREFIX)
        );
        assert!(
            RowKey::Ended(1, id)
                .to_string()
                .starts_with(RowKey::ENDED_PREFIX)
        );
        assert!(
            RowKey::Ledger(1)
                .to_string()
                .starts_with(RowKey::LEDGER_PREFIX)
        );
    }

    #[test]
    fn a_newer_format_is_named() {
        let refusal = Row::from_bytes(RowKey::Summary, br#"{"format":99,"shelves":[]}"#);
        assert!(
            matches!(refusal, Err(RowError::NewerFormat { found: 99 })),
            "{refusal:?}"
        );
    }
}
