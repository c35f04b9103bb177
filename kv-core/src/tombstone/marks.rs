//! What a primary has promised to settle in the round of somebody: as it was marked, or not at all.
//!
//! Marks live in memory on purpose. A primary that restarts forgets them and refuses to settle: the round is then
//! simply tried again. What matters across a restart, the record itself, is on disk when it is compared.
//!
//! Place: pure; one per node.
//! Invariants: 1. one round per coordinator: a new one ends the one before. 2. at most [`ROUND_ITEMS_MAX`] per round.

use std::collections::BTreeMap;

use bytes::Bytes;
use souk_ring::NodeId;

use super::ROUND_ITEMS_MAX;

/// Names a round of one coordinator; greater is later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoundId(pub u64);

/// What is marked here, per coordinator.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    by_coordinator: BTreeMap<NodeId, RoundMarks>,
}

#[derive(Clone, Debug)]
struct RoundMarks {
    round: RoundId,
    digests: BTreeMap<Bytes, u64>,
}

impl Marks {
    /// Begins a round of that coordinator, unless a later one has begun.
    pub fn begin(&mut self, coordinator: NodeId, round: RoundId) -> bool {
        match self.by_coordinator.get(&coordinator) {
            Some(held) if held.round > round => false,
            Some(held) if held.round == round => true,
            _ => {
                let marks = RoundMarks {
                    round,
                    digests: BTreeMap::new(),
                };
                self.by_coordinator.insert(coordinator, marks);
                true
            }
        }
    }

    /// Marks a record of that state. False when the round is over, or full.
    pub fn mark(&mut self, coordinator: NodeId, round: RoundId, key: Bytes, digest: u64) -> bool {
        let Some(held) = self.round_mut(coordinator, round) else {
            return false;
        };
        if held.digests.len() >= ROUND_ITEMS_MAX && !held.digests.contains_key(&key) {
            return false;
        }
        held.digests.insert(key, digest);
        true
    }

    /// Takes a mark off, and says whether it was there for this state.
    pub fn take(&mut self, coordinator: NodeId, round: RoundId, key: &[u8], digest: u64) -> bool {
        self.round_mut(coordinator, round)
            .and_then(|held| held.digests.remove(key))
            == Some(digest)
    }

    /// Whether a record of that state is marked in anybody's round: such a record is better not given to a peer
    /// that lacks it, for the peer may just have erased it.
    #[must_use]
    pub fn holds(&self, key: &[u8], digest: u64) -> bool {
        self.by_coordinator
            .values()
            .any(|held| held.digests.get(key) == Some(&digest))
    }

    /// The round is over; what is still marked stays as it is.
    pub fn end(&mut self, coordinator: NodeId, round: RoundId) {
        if self.round_mut(coordinator, round).is_some() {
            self.by_coordinator.remove(&coordinator);
        }
    }

    fn round_mut(&mut self, coordinator: NodeId, round: RoundId) -> Option<&mut RoundMarks> {
        self.by_coordinator
            .get_mut(&coordinator)
            .filter(|held| held.round == round)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_good_for_its_round_and_state_once() {
        let mut marks = Marks::default();
        let (node, key) = (NodeId(1), Bytes::from_static(b"k"));
        assert!(!marks.mark(node, RoundId(1), key.clone(), 7), "not begun");
        assert!(marks.begin(node, RoundId(1)));
        assert!(marks.mark(node, RoundId(1), key.clone(), 7));
        assert!(marks.holds(&key, 7) && !marks.holds(&key, 8));
        assert!(!marks.take(node, RoundId(1), &key, 8), "another state");
        assert!(!marks.take(node, RoundId(1), &key, 7), "it was taken off");
        assert!(marks.mark(node, RoundId(1), key.clone(), 7));
        assert!(!marks.take(NodeId(2), RoundId(1), &key, 7));
        assert!(marks.begin(node, RoundId(2)), "ends the first");
        assert!(!marks.take(node, RoundId(1), &key, 7));
        assert!(!marks.begin(node, RoundId(1)), "it is over");
        marks.end(node, RoundId(2));
        assert!(!marks.holds(&key, 7));
    }

    #[test]
    fn a_round_has_a_bound() {
        let mut marks = Marks::default();
        marks.begin(NodeId(1), RoundId(1));
        for number in 0..ROUND_ITEMS_MAX as u64 {
            let key = Bytes::copy_from_slice(&number.to_be_bytes());
            assert!(marks.mark(NodeId(1), RoundId(1), key, 0));
        }
        assert!(!marks.mark(NodeId(1), RoundId(1), Bytes::from_static(b"more"), 0));
    }
}
