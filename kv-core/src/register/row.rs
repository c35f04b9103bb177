//! Rows of a register group: their keys, their contents, and the changes between two states.
//!
//! Think of a group as a ledger page. A state is the whole page; a delta is the list of lines that change;
//! a view is the part of the page that somebody has in front of them.
//!
//! Place: pure; used by everything in `register`, encoded by the driver.
//! Invariants: 1. the key's first byte is its kind, so request memory lies beside the rows it protects
//! and travels in the same delta. 2. applying a delta to equal states gives equal states.
//! Not here: how rows lie on disk (`souk_kv_storage`), what request memory rows say (`memory`).

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Version;
use crate::causality::ContentType;

const KIND_USER: u8 = 0x00;
const KIND_MEMORY: u8 = 0x01;
const CLIENT_LEN: usize = 16;

/// The key of a row within its group; ordered by bytes, so that user rows come in sort-key order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey(Bytes);

/// What a row is for, told by the first byte of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowKind {
    /// `0x00`, then the sort key: a row of the user.
    User,
    /// `0x01`, then a client id of 16 bytes: the answers remembered for that client.
    Memory,
    /// `0x01` alone: up to which issue time memory was erased.
    MemoryFloor,
}

impl RowKey {
    /// The key of a user's row.
    #[must_use]
    pub fn user(sort_key: &[u8]) -> RowKey {
        RowKey::prefixed(KIND_USER, sort_key)
    }

    /// The key of the row that remembers answers to `client`.
    #[must_use]
    pub fn memory(client: &[u8; CLIENT_LEN]) -> RowKey {
        RowKey::prefixed(KIND_MEMORY, client)
    }

    /// The key of the row that says up to which issue time answers were erased.
    #[must_use]
    pub fn memory_floor() -> RowKey {
        RowKey(Bytes::from_static(&[KIND_MEMORY]))
    }

    /// Reads a key from disk or wire.
    ///
    /// # Errors
    /// [`RowKeyError`] when the first byte names no kind, or a memory key has another length than 1 or 17.
    pub fn from_bytes(bytes: Bytes) -> Result<RowKey, RowKeyError> {
        let kind = *bytes.first().ok_or(RowKeyError::Empty)?;
        match (kind, bytes.len() - 1) {
            (KIND_USER, _) | (KIND_MEMORY, 0 | CLIENT_LEN) => Ok(RowKey(bytes)),
            (KIND_MEMORY, length) => Err(RowKeyError::MemoryLength { length }),
            _ => Err(RowKeyError::UnknownKind { kind }),
        }
    }

    /// The key's bytes, kind byte first.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// What the row is for.
    #[must_use]
    pub fn kind(&self) -> RowKind {
        match (self.0.first(), self.0.len()) {
            (Some(&KIND_MEMORY), 1) => RowKind::MemoryFloor,
            (Some(&KIND_MEMORY), _) => RowKind::Memory,
            _ => RowKind::User,
        }
    }

    /// The sort key of a user's row, `None` for the other kinds.
    #[must_use]
    pub fn sort_key(&self) -> Option<Bytes> {
        (self.kind() == RowKind::User).then(|| self.0.slice(1..))
    }

    fn prefixed(kind: u8, rest: &[u8]) -> RowKey {
        let mut bytes = Vec::with_capacity(1 + rest.len());
        bytes.push(kind);
        bytes.extend_from_slice(rest);
        RowKey(bytes.into())
    }
}

/// What: bytes given as a row key are not one. Why: stored or sent by a newer or damaged node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowKeyError {
    /// No bytes at all, not even a kind.
    #[error("a row key needs at least its kind byte; the sender or the stored record is damaged")]
    Empty,
    /// The first byte is none of the known kinds.
    #[error("row kind {kind:#04x} is unknown; a newer node wrote it, upgrade this one")]
    UnknownKind {
        /// The byte found.
        kind: u8,
    },
    /// A request memory key whose client id has another length than 16 bytes.
    #[error("a request memory key holds a client id of 16 bytes, got {length}")]
    MemoryLength {
        /// The length found.
        length: usize,
    },
}

/// What a row holds while it lives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cell {
    /// Media type of the bytes, as the writer named it.
    pub content_type: ContentType,
    /// The value.
    pub bytes: Bytes,
}

/// One row of a group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row {
    /// The write that made this row.
    pub version: Version,
    /// The value, or `None` for a chosen tombstone.
    pub cell: Option<Cell>,
    /// When the proposer wrote it, never before an earlier write of the same row.
    /// Milliseconds since the Unix epoch.
    pub written_unix_ms: u64,
}

impl Row {
    /// True when the row holds a value, false when it is a tombstone.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.cell.is_some()
    }

    /// The bytes that the row counts against [`super::limits::GROUP_BYTES_MAX`]: key, value and fixed parts.
    #[must_use]
    pub fn weight(&self, key: &RowKey) -> u64 {
        let cell = self.cell.as_ref().map_or(0, |cell| {
            cell.content_type.as_str().len() + cell.bytes.len()
        });
        (key.0.len() + cell + Version::ENCODED_LEN + 8) as u64
    }
}

/// Rows of a group by key; as a whole state, every row of it.
pub type Rows = BTreeMap<RowKey, Row>;

/// How large a group's state is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupSize {
    /// Rows, tombstones and request memory included.
    pub rows: u64,
    /// Bytes, as [`Row::weight`] counts them.
    pub bytes: u64,
}

impl GroupSize {
    /// The size of a whole state.
    #[must_use]
    pub fn of(rows: &Rows) -> GroupSize {
        rows.iter().fold(GroupSize::default(), |size, (key, row)| {
            size.replaced(key, None, Some(row))
        })
    }

    /// The size after `before` became `after` under `key`.
    #[must_use]
    pub fn replaced(self, key: &RowKey, before: Option<&Row>, after: Option<&Row>) -> GroupSize {
        let weigh = |row: Option<&Row>| row.map_or((0, 0), |row| (1, row.weight(key)));
        let ((rows_before, bytes_before), (rows_after, bytes_after)) =
            (weigh(before), weigh(after));
        GroupSize {
            rows: (self.rows + rows_after).saturating_sub(rows_before),
            bytes: (self.bytes + bytes_after).saturating_sub(bytes_before),
        }
    }

    /// The size after `delta`, where `view` shows the rows before it.
    #[must_use]
    pub fn after(self, delta: &Delta, view: &impl RowView) -> GroupSize {
        delta.rows.iter().fold(self, |size, (key, after)| {
            size.replaced(key, view.row(key), after.as_ref())
        })
    }
}

/// The rows that change from one state to the next. An empty delta is an identity: it changes nothing,
/// and choosing it proves that the state it stands on is the newest.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Delta {
    /// `Some` replaces the row, `None` erases it without a trace (only sweeps and rollbacks do).
    pub rows: BTreeMap<RowKey, Option<Row>>,
}

impl Delta {
    /// True for an identity.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The delta that builds a whole state from an empty group.
    #[must_use]
    pub fn whole(rows: Rows) -> Delta {
        Delta {
            rows: rows
                .into_iter()
                .map(|(key, row)| (key, Some(row)))
                .collect(),
        }
    }

    /// Changes `rows` in place.
    pub fn apply_to(&self, rows: &mut Rows) {
        for (key, row) in &self.rows {
            match row {
                Some(row) => rows.insert(key.clone(), row.clone()),
                None => rows.remove(key),
            };
        }
    }

    /// Bytes of keys and rows, as [`Row::weight`] counts them.
    #[must_use]
    pub fn weight(&self) -> u64 {
        weight_of(&self.rows)
    }
}

fn weight_of(rows: &BTreeMap<RowKey, Option<Row>>) -> u64 {
    let weigh = |(key, row): (&RowKey, &Option<Row>)| {
        row.as_ref()
            .map_or(key.as_bytes().len() as u64, |row| row.weight(key))
    };
    rows.iter().map(weigh).sum()
}

/// Somewhere rows can be looked up.
pub trait RowView {
    /// The row under `key`, tombstones included, or `None` when there is none.
    fn row(&self, key: &RowKey) -> Option<&Row>;

    /// True when this view can tell whether there is a row under `key`.
    fn knows(&self, key: &RowKey) -> bool;
}

impl RowView for Rows {
    fn row(&self, key: &RowKey) -> Option<&Row> {
        self.get(key)
    }

    fn knows(&self, _key: &RowKey) -> bool {
        true
    }
}

/// A part of a state: rows known to be there, and keys known to be free.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KnownRows {
    rows: BTreeMap<RowKey, Option<Row>>,
}

impl KnownRows {
    /// What a reply tells: the rows found, and that the remaining `asked` keys are free.
    #[must_use]
    pub fn from_reply<'a>(asked: impl IntoIterator<Item = &'a RowKey>, found: Rows) -> KnownRows {
        let mut known = KnownRows::default();
        known.learn(asked, found);
        known
    }

    /// Adds what a reply tells about the same state.
    pub fn learn<'a>(&mut self, asked: impl IntoIterator<Item = &'a RowKey>, found: Rows) {
        self.rows
            .extend(found.into_iter().map(|(key, row)| (key, Some(row))));
        for key in asked {
            if !self.rows.contains_key(key) {
                self.rows.insert(key.clone(), None);
            }
        }
    }

    /// Moves on to the state after `delta`; what was known stays known.
    pub fn advance(&mut self, delta: &Delta) {
        self.rows.extend(
            delta
                .rows
                .iter()
                .map(|(key, row)| (key.clone(), row.clone())),
        );
    }

    /// The keys among `wanted` that this part says nothing about.
    #[must_use]
    pub fn missing<'a>(&self, wanted: impl IntoIterator<Item = &'a RowKey>) -> Vec<RowKey> {
        wanted
            .into_iter()
            .filter(|key| !self.rows.contains_key(*key))
            .cloned()
            .collect()
    }

    /// The rows known to be there, in key order.
    pub fn iter(&self) -> impl Iterator<Item = (&RowKey, &Row)> {
        self.rows
            .iter()
            .filter_map(|(key, row)| row.as_ref().map(|row| (key, row)))
    }

    /// How many keys are known, with or without a row.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Bytes of keys and rows, as [`Row::weight`] counts them.
    #[must_use]
    pub fn weight(&self) -> u64 {
        weight_of(&self.rows)
    }

    /// True when nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Forgets everything, which is always safe: it can be read again.
    pub fn clear(&mut self) {
        self.rows.clear();
    }
}

impl RowView for KnownRows {
    fn row(&self, key: &RowKey) -> Option<&Row> {
        self.rows.get(key)?.as_ref()
    }

    fn knows(&self, key: &RowKey) -> bool {
        self.rows.contains_key(key)
    }
}
