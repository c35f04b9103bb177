//! Spreads the rows of one kind over a fixed number of partition keys, so that they can be listed.
//!
//! Place: pure; used by `super::store` and by the list of unfinished checkouts.
//! Shape: a store can list the rows of one partition key only. With one partition key for all products,
//! three nodes would carry everything; with one for each product, nothing could be listed.
//! A few dozen shards are the middle: `shard-07` holds the products whose id hashes to 7.
//! Invariants: 1. equal ids and counts give equal shards, on every machine and for ever.
//! Not here: where a shard lives (`souk_ring` places it like any other partition key).

use crate::ids::digest;

/// Shards of the catalogue. Fixed: another number would look for products in the wrong place.
pub const CATALOG_SHARDS: u8 = 64;

/// One of a fixed number of partition keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(u8);

impl Shard {
    /// The shard of `id` among `shards_count` of them.
    ///
    /// # Panics
    /// Never for the counts used here; `shards_count` has to be above 0.
    #[must_use]
    pub fn of(id: &str, shards_count: u8) -> Self {
        let first = digest(id.as_bytes()).as_bytes()[0];
        Self(first % shards_count)
    }

    /// Every shard, in order.
    pub fn all(shards_count: u8) -> impl Iterator<Item = Shard> {
        (0..shards_count).map(Shard)
    }

    /// Its number, from 0.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// Its partition key.
    #[must_use]
    pub fn partition_key(self) -> String {
        format!("shard-{:02}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_where_it_was() {
        // Golden values: data written by earlier versions is looked up by them.
        assert_eq!(
            Shard::of("P01018539", CATALOG_SHARDS).partition_key(),
            "shard-00"
        );
        assert_eq!(
            Shard::of("85123A", CATALOG_SHARDS).partition_key(),
            "shard-14"
        );
    }

    #[test]
    fn spreads_ids_evenly() {
        let mut counts = [0_u32; CATALOG_SHARDS as usize];
        for number in 0..6_400 {
            counts[Shard::of(&format!("p-{number}"), CATALOG_SHARDS).index()] += 1;
        }
        assert!(
            counts.iter().all(|count| (50..200).contains(count)),
            "{counts:?}"
        );
    }
}
