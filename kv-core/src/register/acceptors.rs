//! Who votes in a group, and which sets of votes decide.
//!
//! Place: pure; used by `round` and `read`.
//! Source: Lamport, Paxos Made Simple, §2.2; joint majorities as in Ongaro and Ousterhout, Raft, 2014, §6.
//! Invariants: any two quorums share a node, also across a change of owners, because a joint quorum
//! holds a majority of the old and of the new owners. A majority is counted over all of them, reachable or not.
//! Not here: which nodes these are (`souk_ring`), whether they answer (`membership`).

use std::collections::BTreeSet;

use smallvec::{SmallVec, smallvec};
use souk_ring::{Layout, NodeId, PartitionId};

/// The voters of a group: the primaries of its partition, or those of two layouts while it moves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Acceptors {
    /// One sorted, duplicate-free set of voters per layout that has a say: one, or two while moving.
    sets: SmallVec<[Vec<NodeId>; 2]>,
}

impl Acceptors {
    /// The voters of one layout: a quorum is more than half of them.
    #[must_use]
    pub fn new(nodes: impl IntoIterator<Item = NodeId>) -> Acceptors {
        Acceptors {
            sets: smallvec![distinct(nodes)],
        }
    }

    /// The voters while a partition moves: a quorum is more than half of the old *and* of the new ones.
    #[must_use]
    pub fn joint(
        old: impl IntoIterator<Item = NodeId>,
        new: impl IntoIterator<Item = NodeId>,
    ) -> Acceptors {
        Acceptors {
            sets: smallvec![distinct(old), distinct(new)],
        }
    }

    /// The voters of a partition's groups, in buckets that keep `copies` of it: the front of its list of owners; while
    /// copies move, also the front of the next list.
    #[must_use]
    pub fn of_partition(layout: &Layout, partition: PartitionId, copies: usize) -> Acceptors {
        let front = |owners: &[NodeId]| owners[..copies.min(owners.len())].to_vec();
        let owners = front(layout.owners(partition));
        match layout.next_owners(partition).map(front) {
            Some(next) if !same(&owners, &next) => Acceptors::joint(owners, next),
            _ => Acceptors::new(owners),
        }
    }

    /// The voters of what all members decide: its members; while copies move, those before and those after.
    #[must_use]
    pub fn of_members(layout: &Layout) -> Acceptors {
        match layout.electorates() {
            (before, Some(after)) if before != after => Acceptors::joint(before, after),
            (before, _) => Acceptors::new(before),
        }
    }

    /// All of these, each of which has to agree: for learners whom an operator has told whose copies count.
    #[must_use]
    pub fn every(nodes: impl IntoIterator<Item = NodeId>) -> Acceptors {
        let mut sets: SmallVec<[Vec<NodeId>; 2]> =
            distinct(nodes).into_iter().map(|node| vec![node]).collect();
        if sets.is_empty() {
            // Nobody decides nothing.
            sets.push(Vec::new());
        }
        Acceptors { sets }
    }

    /// Every voter once, in order.
    #[must_use]
    pub fn nodes(&self) -> BTreeSet<NodeId> {
        self.sets.iter().flatten().copied().collect()
    }

    /// Whether more than one set of voters has a say: the voters are about to change.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        self.sets.len() > 1
    }

    /// True when the nodes for which `voted` holds decide. Without any voter nothing ever decides.
    #[must_use]
    pub fn is_quorum(&self, voted: impl Fn(NodeId) -> bool) -> bool {
        self.sets
            .iter()
            .all(|set| set.iter().filter(|node| voted(**node)).count() > set.len() / 2)
    }
}

fn same(one: &[NodeId], other: &[NodeId]) -> bool {
    one.len() == other.len() && one.iter().all(|node| other.contains(node))
}

fn distinct(nodes: impl IntoIterator<Item = NodeId>) -> Vec<NodeId> {
    nodes
        .into_iter()
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn acceptors(old: &BTreeSet<u32>, new: Option<&BTreeSet<u32>>) -> Acceptors {
        let ids = |set: &BTreeSet<u32>| set.iter().map(|id| NodeId(*id)).collect::<Vec<_>>();
        new.map_or_else(
            || Acceptors::new(ids(old)),
            |new| Acceptors::joint(ids(old), ids(new)),
        )
    }

    proptest! {
        #[test]
        fn two_quorums_share_a_node(
            old in prop::collection::btree_set(0u32..8, 1..6),
            new in prop::collection::btree_set(0u32..8, 1..6),
            one: u8, other: u8, one_joint: bool, other_joint: bool,
        ) {
            let first = acceptors(&old, one_joint.then_some(&new));
            let second = acceptors(&old, other_joint.then_some(&new));
            if first.is_quorum(|node| one >> node.0 & 1 == 1) && second.is_quorum(|node| other >> node.0 & 1 == 1) {
                prop_assert_ne!(one & other, 0);
            }
        }
    }

    #[test]
    fn every_one_has_to_agree() {
        let all = Acceptors::every((0..3).map(NodeId));
        assert!(all.is_quorum(|_| true));
        assert!(!all.is_quorum(|node| node.0 < 2));
        assert!(!Acceptors::every([]).is_quorum(|_| true));
    }

    #[test]
    fn a_majority_counts_everyone() {
        for (nodes, votes, expected) in [
            (3, 1, false),
            (3, 2, true),
            (4, 2, false),
            (5, 3, true),
            (0, 0, false),
        ] {
            let acceptors = Acceptors::new((0..nodes).map(NodeId));
            assert_eq!(
                acceptors.is_quorum(|node| node.0 < votes),
                expected,
                "{votes} of {nodes}"
            );
        }
    }
}
