//! What waiting transactions do to a state: all of them in order, as one delta, with one verdict each.
//!
//! A clerk takes the whole pile from the tray, works it through in order on one copy of the page, and
//! writes an answer on each slip. The slips go out only when the new page is signed by a quorum.
//!
//! Place: pure; called by the driver between `Action::Evaluate` and `Round::propose`.
//! Shape: reads a [`Basis`], gives an [`Evaluation`]; linear in the queue, whatever the size of the group.
//! Invariants: 1. a transaction changes all its rows or none. 2. a remembered request is answered, not run.
//! 3. verdicts are locked inside the [`Evaluation`] until a [`Chosen`] of the same ballot opens it, so
//! "not applied" cannot be told from a state that nobody chose. 4. "not applied" for a transaction of which
//! a copy may be under way is recorded in the same delta.
//! Not here: fetching the rows (`round`, `lead`), what callers are told of a lost ballot (`loss`).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::limits::{GROUP_BYTES_MAX, GROUP_ROWS_MAX};
use super::memory::{
    Answer, ClientMemory, MemoryError, MemoryFloor, REMEMBERED_FAILURES_MAX, RememberedFailure,
    WrittenVersions,
};
use super::{
    Ballot, Basis, Cell, Chosen, Condition, Delta, GroupSize, Row, RowKey, RowKind, RowOperation,
    RowView, Transaction, Version, Write,
};
use crate::causality::ContentType;
use crate::outcome::Outcome;

/// Time and its bounds, as the proposer sees them. Milliseconds; `now_unix_ms` since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EvaluationTime {
    /// The proposer's clock.
    pub now_unix_ms: u64,
    /// Requests issued longer ago than this are refused; answers are remembered at least as long.
    pub request_memory_ms: u64,
    /// Requests issued further ahead of the proposer's clock than this are refused.
    pub clock_skew_max_ms: u64,
}

/// A condition that did not hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FailedCondition {
    /// The operation, from 0.
    pub index: u32,
    /// The live row as it is, `None` when there is none.
    pub current: Option<Row>,
}

/// Why a transaction was neither run nor judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Refusal {
    /// Its answer may have been forgotten already.
    #[error(
        "the request is older than the request memory; read the rows, then ask again under a new request id"
    )]
    TooOld,
    /// Its issue time lies in the future.
    #[error(
        "the request was issued {ahead_ms} ms ahead of this node's clock; set the client's clock"
    )]
    IssuedAhead {
        /// How far ahead, in milliseconds.
        ahead_ms: u64,
    },
    /// The group has no room for more rows.
    #[error("the group is full with {} rows and {} bytes; delete rows or spread them over partition keys", size.rows, size.bytes)]
    GroupFull {
        /// Its size.
        size: GroupSize,
    },
    /// The client's memory cannot be read.
    #[error("the answers remembered for this client cannot be read")]
    MemoryUnreadable(#[source] MemoryError),
}

/// What became of one transaction.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// All its writes are in the chosen state.
    Applied(WrittenVersions),
    /// None of them is, because conditions failed.
    NotApplied {
        /// Every condition that failed, in the order of the operations.
        failed: Vec<FailedCondition>,
    },
    /// It had been answered before; this is that answer.
    Replayed(Answer),
    /// It was not run this time.
    Refused(Refusal),
}

impl Verdict {
    /// What the caller may believe. A refusal says nothing about copies of the request that came earlier.
    #[must_use]
    pub fn outcome(&self, transaction: &Transaction) -> Outcome {
        match self {
            Verdict::Applied(_) | Verdict::Replayed(Answer::Applied(_)) => Outcome::Applied,
            Verdict::NotApplied { .. } | Verdict::Replayed(Answer::NotApplied { .. }) => {
                Outcome::NotApplied
            }
            Verdict::Refused(_) if transaction.is_exposed() => Outcome::Unknown,
            Verdict::Refused(_) => Outcome::NotApplied,
        }
    }
}

/// One ballot's change, and its verdicts under seal.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(test, derive(Clone))]
pub struct Evaluation {
    pub(super) ballot: Ballot,
    pub(super) delta: Arc<Delta>,
    pub(super) verdicts: Vec<Verdict>,
}

impl Evaluation {
    /// Changes nothing. Choosing it settles which state is the newest.
    #[must_use]
    pub fn identity(basis: &Basis) -> Evaluation {
        Evaluation {
            ballot: basis.ballot,
            delta: Arc::new(Delta::default()),
            verdicts: Vec::new(),
        }
    }

    /// True when no row changes.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        self.delta.is_empty()
    }

    /// Opens the verdicts, one per transaction in queue order.
    /// `None` when `chosen` is another ballot's, which a driver never lets happen.
    #[must_use]
    pub fn open(self, chosen: &Chosen) -> Option<Vec<Verdict>> {
        (chosen.proposed == self.ballot).then_some(self.verdicts)
    }
}

/// What: a transaction names a row that the basis does not know. Why: it joined the queue after the rows
/// were fetched. Mend: leave it for the next ballot; nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("transaction {transaction} of the queue names a row that was not fetched for this ballot")]
pub struct RowNotFetched {
    /// Its place in the queue, from 0.
    pub transaction: usize,
}

/// Runs `queue` in order on top of `basis`.
///
/// # Errors
/// [`RowNotFetched`] when a transaction's [`Transaction::keys`] are not all known.
pub fn evaluate<'a>(
    basis: &Basis,
    time: &EvaluationTime,
    queue: impl IntoIterator<Item = &'a Transaction>,
) -> Result<Evaluation, RowNotFetched> {
    let mut desk = Desk::new(basis, time);
    let mut verdicts = Vec::new();
    for (place, transaction) in queue.into_iter().enumerate() {
        if !transaction.keys().all(|key| basis.rows.knows(&key)) {
            return Err(RowNotFetched { transaction: place });
        }
        verdicts.push(desk.judge(transaction));
    }
    Ok(Evaluation {
        ballot: basis.ballot,
        delta: Arc::new(desk.finish()),
        verdicts,
    })
}

/// The state being worked on: the basis, overlaid by what earlier transactions of the queue changed.
struct Desk<'a> {
    basis: &'a Basis,
    time: &'a EvaluationTime,
    delta: Delta,
    size: GroupSize,
    next_index: u32,
    /// Memories as they were read, each read once; only the changed ones are written.
    memories: BTreeMap<RowKey, Recollection>,
}

/// One client's memory on the desk.
#[derive(Default)]
struct Recollection {
    memory: Option<ClientMemory>,
    changed: bool,
}

impl<'a> Desk<'a> {
    fn new(basis: &'a Basis, time: &'a EvaluationTime) -> Desk<'a> {
        Desk {
            basis,
            time,
            delta: Delta::default(),
            size: basis.size,
            next_index: 0,
            memories: BTreeMap::new(),
        }
    }

    fn judge(&mut self, transaction: &Transaction) -> Verdict {
        match self.recall(transaction) {
            Ok(None) => {}
            Ok(Some(answer)) => return Verdict::Replayed(answer),
            Err(refusal) => return Verdict::Refused(refusal),
        }
        let failed = self.failed_conditions(transaction.operations());
        if !failed.is_empty() {
            if transaction.is_exposed() {
                self.remember(transaction, || Answer::NotApplied {
                    failed: remembered(&failed),
                });
            }
            return Verdict::NotApplied { failed };
        }
        if let Err(refusal) = self.has_room(transaction.operations()) {
            return Verdict::Refused(refusal);
        }
        let written = self.write(transaction.operations());
        self.remember(transaction, || Answer::Applied(written));
        Verdict::Applied(written)
    }

    /// The answer given before, or why the request may not be run.
    fn recall(&mut self, transaction: &Transaction) -> Result<Option<Answer>, Refusal> {
        if !transaction.wants_memory() {
            return Ok(None);
        }
        let stamp = transaction.stamp();
        let floor = stored_floor(&self.basis.rows).map_err(Refusal::MemoryUnreadable)?;
        let memory = self.memory(&RowKey::memory(&stamp.request.client));
        let memory = &memory.map_err(Refusal::MemoryUnreadable)?.memory;
        let sequence = stamp.request.sequence;
        if let Some(answer) = memory
            .as_ref()
            .and_then(|memory| memory.answers.get(&sequence))
        {
            return Ok(Some(answer.clone()));
        }
        let lowest = memory.as_ref().map_or(0, |memory| memory.lowest_unanswered);
        let age_ms = self.time.now_unix_ms.saturating_sub(stamp.issued_unix_ms);
        // The floor counts even beside a memory row: it may be a new one, made after the client's was erased.
        if sequence < lowest.max(stamp.lowest_unanswered)
            || floor.covers(stamp.issued_unix_ms)
            || age_ms > self.time.request_memory_ms
        {
            return Err(Refusal::TooOld);
        }
        let ahead_ms = stamp.issued_unix_ms.saturating_sub(self.time.now_unix_ms);
        if ahead_ms > self.time.clock_skew_max_ms {
            return Err(Refusal::IssuedAhead { ahead_ms });
        }
        Ok(None)
    }

    fn memory(&mut self, key: &RowKey) -> Result<&mut Recollection, MemoryError> {
        if !self.memories.contains_key(key) {
            let cell = self.basis.rows.row(key).and_then(|row| row.cell.as_ref());
            let memory = cell
                .map(|cell| ClientMemory::from_bytes(&cell.bytes))
                .transpose()?;
            self.memories.insert(
                key.clone(),
                Recollection {
                    memory,
                    changed: false,
                },
            );
        }
        Ok(self.memories.entry(key.clone()).or_default())
    }

    fn failed_conditions(&self, operations: &[RowOperation]) -> Vec<FailedCondition> {
        let failed = |(index, operation): (usize, &RowOperation)| {
            let live = self.row(&operation.key).filter(|row| row.is_live());
            let holds = match operation.condition {
                Condition::Any => true,
                Condition::Absent => live.is_none(),
                Condition::Exists => live.is_some(),
                Condition::Version(version) => live.is_some_and(|row| row.version == version),
            };
            (!holds).then(|| FailedCondition {
                index: index as u32,
                current: live.cloned(),
            })
        };
        operations.iter().enumerate().filter_map(failed).collect()
    }

    /// Refuses what would make a full group fuller; shrinking it and changing rows always works.
    fn has_room(&self, operations: &[RowOperation]) -> Result<(), Refusal> {
        let after = operations.iter().fold(self.size, |size, operation| {
            let before = self.row(&operation.key);
            match &operation.write {
                None => size,
                Some(write) => size.replaced(
                    &operation.key,
                    before,
                    Some(&self.written(write, before, 0)),
                ),
            }
        });
        let grows = |after, before, bound| after > before && after > bound;
        if grows(after.rows, self.size.rows, GROUP_ROWS_MAX)
            || grows(after.bytes, self.size.bytes, GROUP_BYTES_MAX)
        {
            return Err(Refusal::GroupFull { size: self.size });
        }
        Ok(())
    }

    fn write(&mut self, operations: &[RowOperation]) -> WrittenVersions {
        let first = Version::new(self.basis.ballot, self.next_index);
        for operation in operations {
            if let Some(write) = &operation.write {
                let row = self.written(write, self.row(&operation.key), self.next_index);
                self.next_index += 1;
                self.put(operation.key.clone(), row);
            }
        }
        WrittenVersions {
            first,
            count: self.next_index - first.index,
        }
    }

    /// The row that `write` makes of `before`.
    fn written(&self, write: &Write, before: Option<&Row>, index: u32) -> Row {
        let cell = match write {
            Write::Put(cell) => Some(cell.clone()),
            Write::Delete => None,
        };
        let written_unix_ms = self
            .time
            .now_unix_ms
            .max(before.map_or(0, |row| row.written_unix_ms));
        Row {
            version: Version::new(self.basis.ballot, index),
            cell,
            written_unix_ms,
        }
    }

    fn remember(&mut self, transaction: &Transaction, answer: impl FnOnce() -> Answer) {
        if !transaction.wants_memory() {
            return;
        }
        let stamp = transaction.stamp();
        let key = RowKey::memory(&stamp.request.client);
        let recollection = self
            .memory(&key)
            .expect("unreadable memory was refused by recall");
        recollection.changed = true;
        recollection.memory.get_or_insert_default().remember(
            stamp.request.sequence,
            stamp.lowest_unanswered,
            stamp.issued_unix_ms,
            answer(),
        );
    }

    /// The delta with each changed memory written once.
    fn finish(mut self) -> Delta {
        for (key, recollection) in std::mem::take(&mut self.memories) {
            let Some(memory) = recollection.memory.filter(|_| recollection.changed) else {
                continue;
            };
            let bytes = internal(memory.to_bytes());
            let row = self.written(&bytes, self.row(&key), self.next_index);
            self.next_index += 1;
            self.put(key, row);
        }
        self.delta
    }

    fn put(&mut self, key: RowKey, row: Row) {
        self.size = self.size.replaced(&key, self.row(&key), Some(&row));
        self.delta.rows.insert(key, Some(row));
    }

    fn row(&self, key: &RowKey) -> Option<&Row> {
        match self.delta.rows.get(key) {
            Some(changed) => changed.as_ref(),
            None => self.basis.rows.row(key),
        }
    }
}

/// Erases what nobody can ask for any more among the known rows: tombstones and clients' memories whose
/// last write is older than the request memory. The floor row has to be among the known rows.
///
/// Inside a group this is a chosen change like any other, so a quorum suffices: an acceptor that missed
/// it is brought up to date by the next change. Versions never repeat, so a row may be made anew at once.
/// Nothing to erase gives an identity.
///
/// # Errors
/// [`MemoryError`] when a memory row cannot be read; nothing is erased then.
pub fn sweep(basis: &Basis, time: &EvaluationTime) -> Result<Evaluation, MemoryError> {
    let floor_key = RowKey::memory_floor();
    let stored = stored_floor(&basis.rows)?;
    let mut floor = stored;
    let mut delta = Delta::default();
    let old =
        |row: &Row| row.written_unix_ms.saturating_add(time.request_memory_ms) < time.now_unix_ms;
    for (key, row) in basis.rows.iter().filter(|(_, row)| old(row)) {
        match (key.kind(), &row.cell) {
            (RowKind::User, None) | (RowKind::Memory, None) => {}
            (RowKind::Memory, Some(cell)) if basis.rows.knows(&floor_key) => {
                let memory = ClientMemory::from_bytes(&cell.bytes)?;
                floor.issued_unix_ms = floor.issued_unix_ms.max(memory.newest_issued_unix_ms);
            }
            _ => continue,
        }
        delta.rows.insert(key.clone(), None);
    }
    if floor != stored {
        let before = basis.rows.row(&floor_key);
        let desk = Desk::new(basis, time);
        delta.rows.insert(
            floor_key,
            Some(desk.written(&internal(floor.to_bytes()), before, 0)),
        );
    }
    Ok(Evaluation {
        ballot: basis.ballot,
        delta: Arc::new(delta),
        verdicts: Vec::new(),
    })
}

fn stored_floor(rows: &impl RowView) -> Result<MemoryFloor, MemoryError> {
    let cell = rows
        .row(&RowKey::memory_floor())
        .and_then(|row| row.cell.as_ref());
    cell.map_or(Ok(MemoryFloor::default()), |cell| {
        MemoryFloor::from_bytes(&cell.bytes)
    })
}

fn internal(bytes: bytes::Bytes) -> Write {
    Write::Put(Cell {
        content_type: ContentType::default(),
        bytes,
    })
}

fn remembered(failed: &[FailedCondition]) -> Vec<RememberedFailure> {
    let version = |failure: &FailedCondition| failure.current.as_ref().map(|row| row.version);
    let kept = failed.iter().take(REMEMBERED_FAILURES_MAX);
    kept.map(|failure| RememberedFailure {
        index: failure.index,
        version: version(failure),
    })
    .collect()
}
