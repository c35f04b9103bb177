//! What one record weighs in a tree, and where.
//!
//! Place: pure; the smallest words of `crate::merkle`. The hash keys are fixed for ever: leaves are on disk,
//! and every node has to agree.

use std::fmt;
use std::hash::Hasher;
use std::ops::{Add, AddAssign, Sub, SubAssign};

use siphasher::sip128::{Hasher128, SipHasher24};

/// Groups of a tree: the level below the root.
pub const TREE_GROUPS: usize = 32;
/// Leaves below one group.
pub const LEAVES_PER_GROUP: usize = 32;
/// Leaves of a tree.
pub const TREE_LEAVES: usize = TREE_GROUPS * LEAVES_PER_GROUP;

/// Bits of a key's hash that choose its leaf.
const LEAF_BITS: u32 = TREE_LEAVES.trailing_zeros();
const _: () = assert!(TREE_LEAVES == 1 << LEAF_BITS);

/// "souk merkle key " and "souk merkle leaf" in ASCII.
const KEY_HASH_KEYS: (u64, u64) = (0x736f_756b_206d_6572, 0x6b6c_6520_6b65_7920);
const STATE_HASH_KEYS: (u64, u64) = (0x736f_756b_206d_6572, 0x6b6c_6520_6c65_6166);

/// The sum of what some records weigh, modulo 2^128. Zero stands for none.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Digest(u128);

impl Digest {
    /// The digest of no records.
    pub const ZERO: Digest = Digest(0);
    /// Bytes on disk and on the wire.
    pub const BYTES: usize = 16;

    /// True when nothing was added, or all of it taken away again.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// As stored and sent, big-endian.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; Self::BYTES] {
        self.0.to_be_bytes()
    }

    /// As stored and sent, big-endian.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Digest {
        Digest(u128::from_be_bytes(bytes))
    }
}

impl Add for Digest {
    type Output = Digest;
    fn add(self, other: Digest) -> Digest {
        Digest(self.0.wrapping_add(other.0))
    }
}

impl Sub for Digest {
    type Output = Digest;
    fn sub(self, other: Digest) -> Digest {
        Digest(self.0.wrapping_sub(other.0))
    }
}

impl AddAssign for Digest {
    fn add_assign(&mut self, other: Digest) {
        *self = *self + other;
    }
}

impl SubAssign for Digest {
    fn sub_assign(&mut self, other: Digest) {
        *self = *self - other;
    }
}

impl std::iter::Sum for Digest {
    fn sum<I: Iterator<Item = Digest>>(digests: I) -> Digest {
        digests.fold(Digest::ZERO, Add::add)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}

/// A leaf of a tree, 0 to [`TREE_LEAVES`] − 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeafIndex(u16);

impl LeafIndex {
    /// The leaf of that number; `None` when there are not so many.
    #[must_use]
    pub const fn new(number: u16) -> Option<LeafIndex> {
        if (number as usize) < TREE_LEAVES {
            Some(LeafIndex(number))
        } else {
            None
        }
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The group above it.
    #[must_use]
    pub const fn group(self) -> GroupIndex {
        GroupIndex((self.0 as usize / LEAVES_PER_GROUP) as u8)
    }

    /// Its place among the leaves of its group.
    #[must_use]
    pub const fn place_in_group(self) -> usize {
        self.0 as usize % LEAVES_PER_GROUP
    }
}

/// A group of leaves, 0 to [`TREE_GROUPS`] − 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupIndex(u8);

impl GroupIndex {
    /// The group of that number; `None` when there are not so many.
    #[must_use]
    pub const fn new(number: u8) -> Option<GroupIndex> {
        if (number as usize) < TREE_GROUPS {
            Some(GroupIndex(number))
        } else {
            None
        }
    }

    /// All of them, in order.
    pub fn all() -> impl Iterator<Item = GroupIndex> {
        (0..TREE_GROUPS as u8).map(GroupIndex)
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Its place among the groups.
    #[must_use]
    pub const fn place(self) -> usize {
        self.0 as usize
    }

    /// Its leaves, in order.
    pub fn leaves(self) -> impl Iterator<Item = LeafIndex> {
        let first = u16::from(self.0) * LEAVES_PER_GROUP as u16;
        (first..first + LEAVES_PER_GROUP as u16).map(LeafIndex)
    }
}

/// A key, hashed once: where it is in its tree, and the start of its digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHash(u128);

impl KeyHash {
    /// Hashes the key under which a record is stored.
    #[must_use]
    pub fn of(store_key: &[u8]) -> KeyHash {
        let mut hasher = SipHasher24::new_with_keys(KEY_HASH_KEYS.0, KEY_HASH_KEYS.1);
        hasher.write(store_key);
        KeyHash(u128::from(hasher.finish128()))
    }

    /// The leaf that the key belongs to.
    #[must_use]
    pub const fn leaf(self) -> LeafIndex {
        LeafIndex((self.0 >> (u128::BITS - LEAF_BITS)) as u16)
    }

    /// What the key weighs with a record of this [`causal hash`](crate::causality::Record::causal_hash).
    #[must_use]
    pub fn digest(self, causal_hash: u64) -> Digest {
        let mut hasher = SipHasher24::new_with_keys(STATE_HASH_KEYS.0, STATE_HASH_KEYS.1);
        hasher.write(&self.0.to_le_bytes());
        hasher.write(&causal_hash.to_le_bytes());
        Digest(u128::from(hasher.finish128()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers were also computed by another implementation of SipHash-2-4-128.
    #[test]
    fn digests_are_the_same_for_ever() {
        let key = KeyHash::of(b"cart/7");
        assert_eq!(key.leaf().get(), 545);
        assert_eq!(
            format!("{:?}", key.digest(42)),
            "18ba889224470f1900e020657a7dd471"
        );
    }

    #[test]
    fn leaves_and_groups_fit_together() {
        let leaves: Vec<LeafIndex> = GroupIndex::all().flat_map(GroupIndex::leaves).collect();
        assert_eq!(leaves.len(), TREE_LEAVES);
        for (number, leaf) in leaves.into_iter().enumerate() {
            assert_eq!(usize::from(leaf.get()), number);
            assert_eq!(
                leaf.group().place() * LEAVES_PER_GROUP + leaf.place_in_group(),
                number
            );
        }
        assert_eq!(LeafIndex::new(TREE_LEAVES as u16), None);
        assert_eq!(GroupIndex::new(TREE_GROUPS as u8), None);
    }

    #[test]
    fn keys_spread_over_the_leaves() {
        let mut counts = [0_u32; TREE_LEAVES];
        for number in 0..64 * TREE_LEAVES as u32 {
            let leaf = KeyHash::of(&number.to_be_bytes()).leaf();
            counts[usize::from(leaf.get())] += 1;
        }
        // 64 on average; eight standard deviations either way.
        assert!(counts.iter().all(|count| (1..=128).contains(count)));
    }
}
