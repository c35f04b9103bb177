//! Collects deletes by proof: this node's part in the rounds of `souk_kv_core::tombstone`, and rounds of its own.
//!
//! | file | idea |
//! |---|---|
//! | `in_flight` | work of this node that may send records |
//! | `gate` | refuses records of work that its sender has declared over |
//! | `member` | what this node does in a round of anybody's: mark, quiesce, check, settle |
//! | `round` | drives a round of this node's |
//! | `walk` | looks for tombstones, expired values and loose dots, and begins rounds |
//!
//! Place: I/O; `in_flight` is entered by whatever sends records, `gate` is asked for every record that arrives,
//! `walk` runs in the background at the governor's pace.
//! Source: `docs/adr/0015-tombstones-go-by-proof.md`.
//! Invariants: 1. a record is judged, marked and settled under its guard. 2. a round is begun by the first primary of
//! its keys, which keeps rounds apart but is no part of the proof.
//! Not here: the argument (`souk_kv_core::tombstone`).

mod gate;
mod in_flight;
mod member;
mod round;
mod walk;

use std::collections::BTreeMap;

use parking_lot::Mutex;
use souk_kv_core::tombstone::Marks;
use souk_ring::NodeId;
use tokio::sync::Notify;

pub(crate) use gate::Gate;
pub(crate) use in_flight::{InFlight, Work};
pub(crate) use member::{answer, fence};
pub(crate) use walk::collect_loop;

/// What a node keeps of collection: its part in rounds, and what came of its own.
#[derive(Debug, Default)]
pub(crate) struct Tombstones {
    marks: Mutex<Marks>,
    state: Mutex<CollectionState>,
    /// Told when somebody wants a walk now.
    wanted: Notify,
}

/// What came of collection so far, at this node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CollectionState {
    /// Walks over all records that have ended, early or not.
    pub(crate) walks: u64,
    /// Why the last one ended early or could not begin.
    pub(crate) walk_failure: Option<String>,
    /// Records without a value for which this node is responsible, at the last walk.
    pub(crate) tombstones: u64,
    /// Of these, the ones whose requests are still remembered.
    pub(crate) ripening: u64,
    /// Of these, the ones that some primary held otherwise in the rounds of that walk.
    pub(crate) different: u64,
    /// Erased by rounds of this node.
    pub(crate) erased: u64,
    /// Records whose loose dots were folded by rounds of this node.
    pub(crate) folded: u64,
    /// Expired values that this node deleted.
    pub(crate) expired: u64,
    /// Whom collection waits for, and why.
    pub(crate) waiting_for: BTreeMap<NodeId, String>,
}

impl Tombstones {
    /// A walk ended before its end.
    fn note_failure(&self, why: String) {
        let mut state = self.state.lock();
        state.walks += 1;
        state.walk_failure = Some(why);
    }

    /// What came of collection so far.
    pub(crate) fn state(&self) -> CollectionState {
        self.state.lock().clone()
    }

    /// Whether a record is on its way out in anybody's round, as it is.
    pub(crate) fn is_marked(&self, store_key: &[u8], causal_hash: u64) -> bool {
        self.marks.lock().holds(store_key, causal_hash)
    }

    /// Begins the next walk now.
    pub(crate) fn want_walk(&self) {
        self.wanted.notify_one();
    }
}
