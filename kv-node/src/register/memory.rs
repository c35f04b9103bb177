//! What an acceptor remembers of the groups that it voted on lately, so that the next vote reads little or nothing
//! from disk.
//!
//! A notary keeps the open cases on the desk: their last page, and the drafts that led to it. When the desk is full,
//! everything that was not touched since it was last half full goes back to the shelf.
//!
//! Place: in memory; used by `acceptor`, which takes a group's entry for as long as it votes.
//! Shape: two halves. What is used comes into the young one; when that is full, it becomes the old one, and what was
//! left in the old one is forgotten. At most [`BYTES_MAX`] in all, and one entry beyond it.
//! Invariants: 1. an entry is true of the disk while it is here: it is taken out before anything of its group is
//! written, and put back once that is durable. 2. so forgetting is always safe: header and rows are read again, and
//! without the way back an acceptor asks for the whole group.
//! Not here: decisions (`souk_kv_core::register`), reading and writing (`acceptor`).

use std::collections::BTreeMap;

use parking_lot::Mutex;
use souk_kv_core::register::{AcceptorHeader, KnownRows, RowsChange, UndoLog};

use crate::keys::GroupKey;

/// Bytes of all entries, as [`Recollection::weight`] counts them.
const BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Rows remembered of one group; beyond it only those of the last change are kept.
const ROWS_MAX: usize = 256;
/// Bytes of rows remembered of one group; a change that is larger is not remembered.
const ROWS_BYTES_MAX: u64 = 256 * 1024;
/// What an entry takes beside its rows, in bytes.
const ENTRY_BYTES: u64 = 400;

/// What is remembered of one group.
#[derive(Debug)]
pub(super) struct Recollection {
    /// As it is on disk.
    pub(super) header: AcceptorHeader,
    /// Some of the rows that belong to it.
    pub(super) rows: KnownRows,
    /// The way back to earlier states.
    pub(super) undo: UndoLog,
}

impl Recollection {
    /// Nothing but the header is known.
    pub(super) fn of(header: AcceptorHeader) -> Self {
        Self {
            header,
            rows: KnownRows::default(),
            undo: UndoLog::default(),
        }
    }

    /// Header and rows were changed on disk.
    pub(super) fn changed(&mut self, header: AcceptorHeader, change: &RowsChange) {
        self.header = header;
        let delta = match change {
            RowsChange::Update(delta) => delta,
            RowsChange::Replace(delta) => {
                self.rows.clear();
                delta
            }
        };
        if self.rows.len() + delta.rows.len() > ROWS_MAX {
            self.rows.clear();
        }
        if delta.weight() > ROWS_BYTES_MAX {
            self.rows.clear();
            return;
        }
        self.rows.advance(delta);
    }

    fn weight(&self) -> u64 {
        ENTRY_BYTES + self.rows.weight() + self.undo.weight()
    }
}

/// The entries of all groups.
#[derive(Debug, Default)]
pub(super) struct GroupMemory {
    halves: Mutex<Halves>,
}

#[derive(Debug, Default)]
struct Halves {
    young: BTreeMap<GroupKey, Entry>,
    young_bytes: u64,
    old: BTreeMap<GroupKey, Entry>,
}

#[derive(Debug)]
struct Entry {
    recollection: Recollection,
    bytes: u64,
}

impl GroupMemory {
    /// Takes a group's entry out, for a vote or because it stops being true.
    pub(super) fn take(&self, key: &GroupKey) -> Option<Recollection> {
        let mut halves = self.halves.lock();
        let entry = match halves.young.remove(key) {
            Some(entry) => {
                halves.young_bytes -= entry.bytes;
                entry
            }
            None => halves.old.remove(key)?,
        };
        Some(entry.recollection)
    }

    /// Puts an entry in that is true of the disk. The caller holds the group's guard since it was taken.
    pub(super) fn put(&self, key: &GroupKey, recollection: Recollection) {
        let bytes = recollection.weight();
        let mut halves = self.halves.lock();
        halves.young_bytes += bytes;
        halves.young.insert(
            key.clone(),
            Entry {
                recollection,
                bytes,
            },
        );
        if halves.young_bytes > BYTES_MAX / 2 {
            halves.young_bytes = 0;
            halves.old = std::mem::take(&mut halves.young);
        }
    }

    /// The header of a group on which no vote is under way.
    pub(super) fn header(&self, key: &GroupKey) -> Option<AcceptorHeader> {
        let halves = self.halves.lock();
        let entry = halves.young.get(key).or_else(|| halves.old.get(key))?;
        Some(entry.recollection.header)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use souk_kv_core::{
        causality::ContentType,
        register::{Ballot, Cell, Delta, Row, RowKey, RowView, Version},
    };
    use souk_ring::{LayoutEpoch, PartitionId};

    use super::*;
    use crate::keys::BucketId;

    fn group(number: u32) -> GroupKey {
        GroupKey {
            partition: PartitionId(0),
            bucket: BucketId(1),
            partition_key: Bytes::copy_from_slice(&number.to_be_bytes()),
        }
    }

    fn header(counter: u64) -> AcceptorHeader {
        let accepted = Ballot {
            counter,
            proposer: 1,
        };
        AcceptorHeader {
            accepted,
            ..AcceptorHeader::empty(LayoutEpoch(1))
        }
    }

    fn change(rows: std::ops::Range<u32>, bytes: usize) -> RowsChange {
        let row = |number: u32| {
            let cell = Cell {
                content_type: ContentType::text(),
                bytes: vec![0; bytes].into(),
            };
            let row = Row {
                version: Version::new(header(1).accepted, number),
                cell: Some(cell),
                written_unix_ms: 0,
            };
            (RowKey::user(&number.to_be_bytes()), Some(row))
        };
        RowsChange::Update(Delta {
            rows: rows.map(row).collect(),
        })
    }

    #[test]
    fn what_is_used_stays_and_the_rest_goes() {
        let memory = GroupMemory::default();
        let half = (BYTES_MAX / 2 / (ENTRY_BYTES + 200_000)) as u32;
        memory.put(&group(0), Recollection::of(header(7)));
        for number in 1..half * 5 {
            let mut entry = Recollection::of(header(1));
            entry.changed(header(1), &change(0..1, 200_000));
            memory.put(&group(number), entry);
            // One group is used all the time.
            let used = memory.take(&group(0)).expect("it was just used");
            assert_eq!(used.header, header(7));
            memory.put(&group(0), used);
        }
        assert!(memory.take(&group(1)).is_none());
        let halves = memory.halves.lock();
        let bytes: u64 = halves
            .young
            .values()
            .chain(halves.old.values())
            .map(|entry| entry.bytes)
            .sum();
        assert!(bytes <= BYTES_MAX + 201_000, "{bytes}");
        assert!(halves.old.len() > 1);
    }

    #[test]
    fn an_entry_under_vote_is_not_seen() {
        let memory = GroupMemory::default();
        memory.put(&group(1), Recollection::of(header(1)));
        assert_eq!(memory.header(&group(1)), Some(header(1)));
        let taken = memory.take(&group(1)).expect("it is there");
        assert_eq!(memory.header(&group(1)), None);
        memory.put(&group(1), taken);
        assert_eq!(memory.header(&group(1)), Some(header(1)));
    }

    #[test]
    fn rows_are_bounded_and_those_of_the_last_change_are_known() {
        let mut entry = Recollection::of(header(1));
        for first in (0..10_000).step_by(100) {
            entry.changed(header(2), &change(first..first + 100, 10));
            assert!(entry.rows.len() <= ROWS_MAX);
            assert!(
                (first..first + 100)
                    .all(|number| entry.rows.knows(&RowKey::user(&number.to_be_bytes())))
            );
        }
        entry.changed(header(3), &change(0..2, ROWS_BYTES_MAX as usize));
        assert!(
            entry.rows.is_empty(),
            "it must not know the rows as they were before"
        );
        assert_eq!(entry.header, header(3));
    }
}
