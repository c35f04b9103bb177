//! What proposers, readers and acceptors say to each other.
//!
//! Place: pure; made and taken by `round`, `read` and `acceptor`; `souk_kv_proto` gives them bytes.
//! Shape: every request carries the layout epoch; every reply carries the ballot it answers, so that a
//! late or repeated reply can never be taken for another.
//! Invariants: requests are safe to lose, repeat, reorder and forward.
//! Not here: group and partition names, which the driver adds around them.

use std::collections::BTreeSet;
use std::sync::Arc;

use souk_ring::LayoutEpoch;

use super::{Ballot, Delta, GroupSize, RowKey, Rows};

/// Which rows a promise or a read brings along.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowSelection {
    /// These rows, where they exist.
    pub keys: BTreeSet<RowKey>,
    /// And a slice in key order.
    pub range: Option<RowRange>,
}

impl RowSelection {
    /// Single rows.
    #[must_use]
    pub fn keys(keys: impl IntoIterator<Item = RowKey>) -> RowSelection {
        RowSelection {
            keys: keys.into_iter().collect(),
            range: None,
        }
    }

    /// A slice in key order.
    #[must_use]
    pub fn range(range: RowRange) -> RowSelection {
        RowSelection {
            keys: BTreeSet::new(),
            range: Some(range),
        }
    }

    /// Takes the selected rows out of a whole state; a driver does the same against its store.
    #[must_use]
    pub fn select(&self, rows: &Rows) -> Rows {
        let mut selected: Rows = self
            .keys
            .iter()
            .filter_map(|key| Some((key.clone(), rows.get(key)?.clone())))
            .collect();
        if let Some(range) = &self.range {
            let inside = rows
                .range(range.from.clone()..)
                .take_while(|(key, _)| range.to.as_ref().is_none_or(|to| *key < to))
                .map(|(key, row)| (key.clone(), row.clone()));
            if range.reverse {
                let mut inside: Vec<_> = inside.collect();
                inside.reverse();
                selected.extend(inside.into_iter().take(range.rows_max as usize));
            } else {
                selected.extend(inside.take(range.rows_max as usize));
            }
        }
        selected
    }
}

/// A slice of a group in key order. Tombstones in it count and are returned.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowRange {
    /// First key, included.
    pub from: RowKey,
    /// Last key, excluded; `None` is the end of the group.
    pub to: Option<RowKey>,
    /// Rows returned, at most.
    pub rows_max: u32,
    /// Counts from the end.
    pub reverse: bool,
}

/// "Promise me to refuse everything below `ballot`, and tell me what you have accepted."
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PrepareRequest {
    /// The layout epoch of the proposer.
    pub epoch: LayoutEpoch,
    /// The ballot to promise.
    pub ballot: Ballot,
    /// The rows wanted, as they are at the accepted ballot.
    pub rows: Arc<RowSelection>,
}

/// What an acceptor has accepted, as it tells a proposer or a reader. All of it at one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Report {
    /// The accepted ballot; [`Ballot::ZERO`] for an empty group.
    pub accepted: Ballot,
    /// The newest ballot that the acceptor knows to be chosen, at most `accepted`.
    pub chosen: Ballot,
    /// The size of the group at the accepted ballot.
    pub size: GroupSize,
    /// The rows asked for, at the accepted ballot.
    pub rows: Rows,
}

/// The answer to a [`PrepareRequest`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PromiseReply {
    /// Promised.
    Promised {
        /// The ballot promised.
        ballot: Ballot,
        /// What was accepted before.
        report: Report,
    },
    /// A higher ballot was promised before.
    Refused {
        /// The ballot refused.
        ballot: Ballot,
        /// The higher one.
        promised: Ballot,
    },
    /// The acceptor lives in another epoch.
    WrongEpoch {
        /// The acceptor's.
        current: LayoutEpoch,
    },
}

/// What the rows of an accept stand on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Base {
    /// They change the state accepted at this ballot.
    On(Ballot),
    /// They are the whole state, whatever was there before.
    Whole,
}

/// "Accept the state of `ballot`, which is `delta` on top of `base`."
///
/// A ballot has one state only, but it may be told in several ways: as a change on its proposer's base,
/// as a longer change on an older state, or whole. Anyone may forward the state of a ballot that
/// some acceptor has accepted: it only repeats what the ballot's own proposer has already asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AcceptRequest {
    /// The layout epoch of the sender.
    pub epoch: LayoutEpoch,
    /// The ballot whose state this is.
    pub ballot: Ballot,
    /// What the delta stands on.
    pub base: Base,
    /// The change.
    pub delta: Arc<Delta>,
    /// Keys of the delta under which there is nothing at the base: nobody needs to look there. It may name fewer.
    pub fresh: Arc<BTreeSet<RowKey>>,
    /// A promise wanted in the same durable step; only the ballot's own proposer asks for one.
    pub next_promise: Option<Ballot>,
    /// The newest ballot that the sender knows to be chosen.
    pub chosen: Ballot,
}

impl AcceptRequest {
    /// The keys whose stored rows an acceptor has to see before it can decide.
    pub fn looked_up(&self) -> impl Iterator<Item = &RowKey> {
        self.delta
            .rows
            .keys()
            .filter(|key| !self.fresh.contains(*key))
    }
}

/// The answer to an [`AcceptRequest`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AcceptReply {
    /// Accepted, now or by an earlier copy of the request.
    Accepted {
        /// The ballot accepted.
        ballot: Ballot,
        /// What is promised now: the promise asked for exactly when it equals it.
        promised: Ballot,
    },
    /// The acceptor does not have the base and needs an older base or the whole state.
    NeedFull {
        /// The ballot that could not be applied.
        ballot: Ballot,
        /// What the acceptor has.
        accepted: Ballot,
    },
    /// A higher ballot was promised before.
    Refused {
        /// The ballot refused.
        ballot: Ballot,
        /// The higher one.
        promised: Ballot,
    },
    /// The acceptor lives in another epoch.
    WrongEpoch {
        /// The acceptor's.
        current: LayoutEpoch,
    },
}

/// The state of an acceptor, to bring another one up to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupImage {
    /// The ballot whose state this is.
    pub accepted: Ballot,
    /// What the delta stands on: the state asked for where the acceptor still knows the way, else whole.
    pub base: Base,
    /// The change.
    pub delta: Delta,
}

/// "What have you accepted?", without asking for a promise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadRequest {
    /// The layout epoch of the reader.
    pub epoch: LayoutEpoch,
    /// The rows wanted. May be empty: a reader needs rows from one replier only.
    pub rows: Arc<RowSelection>,
}

/// The answer to a [`ReadRequest`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReadReply {
    /// What is accepted.
    Report(Report),
    /// The acceptor lives in another epoch.
    WrongEpoch {
        /// The acceptor's.
        current: LayoutEpoch,
    },
}
