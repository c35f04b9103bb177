//! The drawers of a node's cabinet: what is kept apart so that each kind can be walked by itself.
//!
//! Place: pure; named by every batch, read and scan.
//! Invariants: names and tags are stable on disk; a tag is never used again for another keyspace.
//! Not here: what the bytes inside mean (`souk_kv_core`, `souk_kv_node`).

use std::fmt;

/// One ordered map of keys to values. A batch may touch several, atomically.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Keyspace {
    /// The store's own bookkeeping. Readable by all, written only by the store itself.
    Store,
    /// Identity, leases, layouts, buckets: little, precious, read at start.
    Meta,
    /// Sibling and last-write-wins records.
    Records,
    /// Register groups: promises, accepted ballots, rows.
    Registers,
    /// Writes kept for absent primaries.
    Hints,
    /// Leaf buckets of the Merkle trees.
    Merkle,
    /// The ordered log of changed keys.
    Feed,
}

impl Keyspace {
    /// Every keyspace, in tag order.
    pub const ALL: [Self; 7] = [
        Self::Store,
        Self::Meta,
        Self::Records,
        Self::Registers,
        Self::Hints,
        Self::Merkle,
        Self::Feed,
    ];

    /// The name on disk and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Meta => "meta",
            Self::Records => "records",
            Self::Registers => "registers",
            Self::Hints => "hints",
            Self::Merkle => "merkle",
            Self::Feed => "feed",
        }
    }

    /// The byte that stands for this keyspace on disk.
    pub const fn tag(self) -> u8 {
        match self {
            Self::Store => 0,
            Self::Meta => 1,
            Self::Records => 2,
            Self::Registers => 3,
            Self::Hints => 4,
            Self::Merkle => 5,
            Self::Feed => 6,
        }
    }

    /// The keyspace of a tag, or `None` for a byte that names none.
    pub fn from_tag(tag: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|keyspace| keyspace.tag() == tag)
    }

    /// The position in [`Keyspace::ALL`].
    pub(crate) const fn index(self) -> usize {
        self.tag() as usize
    }
}

impl fmt::Display for Keyspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_positions_and_names_are_distinct() {
        for (position, keyspace) in Keyspace::ALL.into_iter().enumerate() {
            assert_eq!(keyspace.index(), position);
            assert_eq!(Keyspace::from_tag(keyspace.tag()), Some(keyspace));
        }
        let names: std::collections::BTreeSet<_> = Keyspace::ALL.map(Keyspace::name).into();
        assert_eq!(names.len(), Keyspace::ALL.len());
        assert_eq!(Keyspace::from_tag(7), None);
    }
}
