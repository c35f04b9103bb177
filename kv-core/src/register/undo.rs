//! How to walk back from the accepted state to an earlier one, without asking anybody.
//!
//! When two proposers duel, an acceptor may hold the loser's change while the winner builds on the state
//! before it. Like a typist with correction tape, the acceptor keeps what it overwrote, takes the losing
//! change back and types the winning one; without the tape it would have to be sent the whole page.
//!
//! Place: pure; used by `acceptor`; kept by the driver in memory, one per group.
//! Shape: at most [`UNDO_ENTRIES_MAX`] entries and [`UNDO_BYTES_MAX`] bytes, oldest first.
//! Invariants: 1. an entry says "state(base) is state(ballot) with these rows put back". States are functions
//! of their ballots, so an entry never becomes false: not by a crash, a failed write or a newer ballot.
//! 2. only a chain that ends at the accepted ballot is ever followed.
//! 3. so losing the log is always safe: the acceptor then answers `NeedFull`. That is why it needs no disk.
//! Not here: when to roll back (`acceptor`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::limits::{UNDO_BYTES_MAX, UNDO_ENTRIES_MAX};
use super::{Ballot, Delta, GroupSize, RowKey};

/// The before-images of one accepted change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UndoEntry {
    /// The ballot that made the change.
    pub ballot: Ballot,
    /// The ballot that it changed.
    pub base: Ballot,
    /// The size of the group at the base.
    pub base_size: GroupSize,
    /// The changed rows as they are at the base.
    pub before: Delta,
}

/// Before-images of the last accepted changes of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UndoLog {
    /// A chain: each entry's base is the ballot of the one before it.
    entries: VecDeque<UndoEntry>,
    bytes: u64,
}

impl UndoLog {
    /// The way back from `accepted` to `base`: the group's size there and the rows to put back.
    /// `None` when the log does not know it.
    #[must_use]
    pub fn way_back(&self, accepted: Ballot, base: Ballot) -> Option<(GroupSize, Delta)> {
        let steps = self.steps_back(accepted, base)?;
        let mut back = BTreeMap::new();
        let mut base_size = GroupSize::default();
        for entry in self.chain(accepted).take(steps) {
            let before = entry.before.rows.iter();
            back.extend(before.map(|(key, row)| (key.clone(), row.clone())));
            base_size = entry.base_size;
        }
        Some((base_size, Delta { rows: back }))
    }

    /// The rows in which `accepted` may differ from `base`: what to send to somebody who has `base`.
    /// `None` when the log does not reach back so far.
    #[must_use]
    pub fn changed_since(&self, accepted: Ballot, base: Ballot) -> Option<BTreeSet<RowKey>> {
        if accepted == base {
            return Some(BTreeSet::new());
        }
        let steps = self.steps_back(accepted, base)?;
        let entries = self.chain(accepted).take(steps);
        Some(
            entries
                .flat_map(|entry| entry.before.rows.keys().cloned())
                .collect(),
        )
    }

    /// Bytes of the before-images kept, at most [`UNDO_BYTES_MAX`].
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.bytes
    }

    /// Notes a change that was just accepted. What does not lead to its base is forgotten.
    pub(super) fn push(&mut self, entry: UndoEntry) {
        while self
            .entries
            .back()
            .is_some_and(|last| last.ballot != entry.base)
        {
            self.drop_newest();
        }
        self.bytes += entry.before.weight();
        self.entries.push_back(entry);
        while self.entries.len() > UNDO_ENTRIES_MAX || self.bytes > UNDO_BYTES_MAX as u64 {
            let Some(oldest) = self.entries.pop_front() else {
                break;
            };
            self.bytes -= oldest.before.weight();
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }

    /// How many entries lead from `accepted` to `base`, one at least.
    fn steps_back(&self, accepted: Ballot, base: Ballot) -> Option<usize> {
        let place = self.chain(accepted).position(|entry| entry.base == base);
        Some(place? + 1)
    }

    fn chain(&self, accepted: Ballot) -> impl Iterator<Item = &UndoEntry> {
        let ends_here = self
            .entries
            .back()
            .is_some_and(|last| last.ballot == accepted);
        self.entries
            .iter()
            .rev()
            .take(if ends_here { usize::MAX } else { 0 })
    }

    fn drop_newest(&mut self) {
        if let Some(newest) = self.entries.pop_back() {
            self.bytes -= newest.before.weight();
        }
    }
}
