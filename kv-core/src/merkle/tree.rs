//! The sums over the records of one bucket in one vnode.
//!
//! Place: pure; kept in memory by `souk_kv_node::anti_entropy`, which also stores its leaves.
//! Shape: 32 groups of 32 leaves. A group without records takes no room, so that a bucket of few keys
//! costs little: an empty tree 0.8 KiB, a full one 17 KiB.
//! Invariants: 1. a group is the sum of its leaves, the root the sum of its groups.

use super::{Digest, GroupIndex, LEAVES_PER_GROUP, LeafIndex, TREE_GROUPS};

type Leaves = [Digest; LEAVES_PER_GROUP];

/// The digests of one set of records.
#[derive(Clone, Debug)]
pub struct MerkleTree {
    root: Digest,
    groups: [Digest; TREE_GROUPS],
    leaves: [Option<Box<Leaves>>; TREE_GROUPS],
}

impl Default for MerkleTree {
    fn default() -> MerkleTree {
        MerkleTree {
            root: Digest::ZERO,
            groups: [Digest::ZERO; TREE_GROUPS],
            leaves: std::array::from_fn(|_| None),
        }
    }
}

impl MerkleTree {
    /// The sum over all records.
    #[must_use]
    pub const fn root(&self) -> Digest {
        self.root
    }

    /// The sums of all groups, in order.
    #[must_use]
    pub const fn groups(&self) -> &[Digest; TREE_GROUPS] {
        &self.groups
    }

    /// The leaves of one group, in order.
    #[must_use]
    pub fn leaves(&self, group: GroupIndex) -> Leaves {
        let leaves = self.leaves[group.place()].as_deref();
        leaves.copied().unwrap_or([Digest::ZERO; LEAVES_PER_GROUP])
    }

    /// One leaf.
    #[must_use]
    pub fn leaf(&self, leaf: LeafIndex) -> Digest {
        let leaves = self.leaves[leaf.group().place()].as_deref();
        leaves.map_or(Digest::ZERO, |leaves| leaves[leaf.place_in_group()])
    }

    /// Adds to a leaf: for a changed record, its new digest less its old one. Returns the leaf's new value.
    pub fn add(&mut self, leaf: LeafIndex, change: Digest) -> Digest {
        let group = leaf.group().place();
        self.root += change;
        self.groups[group] += change;
        let leaves =
            self.leaves[group].get_or_insert_with(|| Box::new([Digest::ZERO; LEAVES_PER_GROUP]));
        let value = &mut leaves[leaf.place_in_group()];
        *value += change;
        *value
    }

    /// Replaces a leaf by what it ought to be; true when it was something else.
    pub fn set(&mut self, leaf: LeafIndex, value: Digest) -> bool {
        let change = value - self.leaf(leaf);
        if !change.is_zero() {
            self.add(leaf, change);
        }
        !change.is_zero()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::merkle::KeyHash;

    /// Writes of (key, new state), where 0 removes the key.
    fn build(changes: &[(u8, u64)]) -> (MerkleTree, std::collections::BTreeMap<u8, u64>) {
        let mut tree = MerkleTree::default();
        let mut records = std::collections::BTreeMap::new();
        for &(key, state) in changes {
            let hash = KeyHash::of(&[key]);
            let weight =
                |state: Option<u64>| state.map_or(Digest::ZERO, |state| hash.digest(state));
            let before = records.remove(&key);
            let after = (state > 0).then_some(state);
            records.extend(after.map(|state| (key, state)));
            tree.add(hash.leaf(), weight(after) - weight(before));
        }
        (tree, records)
    }

    proptest! {
        #[test]
        fn a_tree_depends_on_what_is_there_alone(
            changes in prop::collection::vec((any::<u8>(), 0..4u64), 0..200),
        ) {
            let (tree, records) = build(&changes);
            let afresh: Vec<(u8, u64)> = records.into_iter().rev().collect();
            let (again, _) = build(&afresh);
            prop_assert_eq!(tree.root(), again.root());
            prop_assert_eq!(tree.groups(), again.groups());
            for group in GroupIndex::all() {
                prop_assert_eq!(tree.leaves(group), again.leaves(group));
                prop_assert_eq!(tree.leaves(group).into_iter().sum::<Digest>(), tree.groups()[group.place()]);
            }
            prop_assert_eq!(tree.groups().iter().copied().sum::<Digest>(), tree.root());
        }

        #[test]
        fn one_changed_record_shows_at_every_level(
            changes in prop::collection::vec((any::<u8>(), 1..4u64), 1..50),
            other in 4..9u64,
        ) {
            let (tree, _) = build(&changes);
            let key = changes[0].0;
            let mut changed = changes.clone();
            changed.push((key, other));
            let (after, _) = build(&changed);
            let leaf = KeyHash::of(&[key]).leaf();
            prop_assert_ne!(tree.root(), after.root());
            for group in GroupIndex::all() {
                let same = tree.groups()[group.place()] == after.groups()[group.place()];
                prop_assert_eq!(same, group != leaf.group());
            }
            prop_assert_ne!(tree.leaf(leaf), after.leaf(leaf));
        }
    }

    #[test]
    fn a_leaf_can_be_put_right() {
        let (mut tree, _) = build(&[(1, 1), (2, 2)]);
        let leaf = KeyHash::of(&[1]).leaf();
        let right = tree.leaf(leaf);
        let root = tree.root();
        tree.add(leaf, KeyHash::of(&[9]).digest(9));
        assert!(tree.set(leaf, right));
        assert!(!tree.set(leaf, right));
        assert_eq!(tree.root(), root);
    }
}
