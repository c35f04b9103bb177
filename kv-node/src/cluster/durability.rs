//! Which buckets acknowledge before their writes are on disk, and how long before.
//!
//! A bucket is `synced` unless it says otherwise: acknowledged means on disk. An `interval` bucket says
//! that losing its last moments to a power cut is no harm, and saves the sync.
//!
//! Place: filled by the catalogue, asked by `crate::siblings` for every write.
//! Invariants: a bucket that is not known yet is synced.
//! Not here: the syncing (`souk_kv_storage`); registers, which are always synced.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use souk_kv_storage::{Durability, INTERVAL_MAX};

use crate::keys::{self, BucketId};

/// Longest interval that a bucket may name, in milliseconds; the shortest is 1.
pub(crate) const INTERVAL_MS_MAX: u32 = INTERVAL_MAX.as_millis() as u32;

/// The intervals of the buckets that have one. Clones see the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Durabilities(Arc<ArcSwap<BTreeMap<BucketId, Duration>>>);

impl Durabilities {
    /// Takes what a newer catalogue says.
    pub(crate) fn replace(&self, intervals: BTreeMap<BucketId, Duration>) {
        self.0.store(Arc::new(intervals));
    }

    /// What a batch over these records has to wait for: as much as the strictest of them.
    pub(crate) fn of_records<'a>(
        &self,
        store_keys: impl IntoIterator<Item = &'a [u8]>,
    ) -> Durability {
        let intervals = self.0.load();
        if intervals.is_empty() {
            return Durability::Synced;
        }
        let interval = |store_key| {
            let bucket = keys::bucket_of_record(store_key)?;
            intervals.get(&bucket).copied()
        };
        let shortest = store_keys
            .into_iter()
            .map(interval)
            .reduce(|a, b| Some(a?.min(b?)));
        shortest
            .flatten()
            .map_or(Durability::Synced, Durability::Interval)
    }
}

/// The interval in a bucket's configuration; 0 is none.
pub(super) fn interval(durability_interval_ms: u32) -> Option<Duration> {
    (durability_interval_ms > 0).then(|| Duration::from_millis(durability_interval_ms.into()))
}

#[cfg(test)]
mod tests {
    use souk_ring::PartitionId;

    use super::*;
    use crate::keys::GroupKey;

    fn record(bucket: u32) -> Vec<u8> {
        let key = GroupKey {
            partition: PartitionId(3),
            bucket: BucketId(bucket),
            partition_key: "customer-1".into(),
        };
        key.record(b"sort").to_vec()
    }

    #[test]
    fn a_batch_is_as_durable_as_its_strictest_bucket() {
        fn check(buckets: &[u32], expected: Durability) {
            let durabilities = Durabilities::default();
            let ms = Duration::from_millis;
            durabilities.replace([(BucketId(2), ms(20)), (BucketId(5), ms(50))].into());
            let keys: Vec<_> = buckets.iter().copied().map(record).collect();
            let found = durabilities.of_records(keys.iter().map(Vec::as_slice));
            assert_eq!(found, expected, "{buckets:?}");
        }
        let interval = |ms| Durability::Interval(Duration::from_millis(ms));
        check(&[], Durability::Synced);
        check(&[1], Durability::Synced);
        check(&[2], interval(20));
        check(&[5], interval(50));
        check(&[5, 2, 5], interval(20));
        check(&[5, 1, 2], Durability::Synced);
        check(&[1, 2], Durability::Synced);
    }

    #[test]
    fn what_is_no_record_key_is_synced() {
        let durabilities = Durabilities::default();
        durabilities.replace([(BucketId(0), Duration::from_millis(1))].into());
        assert_eq!(durabilities.of_records([&b"short"[..]]), Durability::Synced);
    }
}
