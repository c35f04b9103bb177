//! Looks at the disks of all nodes one by one: does each key have its copies, and are they the same?
//!
//! Like going through the shops of a chain at night and counting shelves: no customer asks for anything, so nothing is
//! fetched from the next shop because somebody asked. What reads would have mended is seen as it is.
//!
//! Place: between healing and the last looks of [`super::run`]; reads disks from outside, through no protocol of the store.
//! Shape: the state of a record is its causal hash; what a node remembers of requests differs lawfully.
//! Not here: register groups, which are brought up by their next ballot.

use std::collections::BTreeMap;
use std::fmt;

use souk_kv_proto::convert::causality::decode_record;
use souk_kv_storage::{Keyspace, MemoryDisk};

/// What lies under a key on one disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copy {
    /// A record with this causal hash.
    Record(u64),
    /// Something that cannot be read.
    Damaged,
}

/// A key whose copies are not what they should be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Difference {
    key: Vec<u8>,
    copies: BTreeMap<String, Copy>,
    wanted: usize,
}

/// The keys that not exactly `wanted` nodes hold, or not all in the same state. A key that nobody holds is fine: it was
/// never written, or erased everywhere.
pub(super) fn differences<'disk>(
    disks: impl Iterator<Item = (&'disk str, MemoryDisk)>,
    wanted: usize,
) -> Vec<Difference> {
    let mut keys: BTreeMap<Vec<u8>, BTreeMap<String, Copy>> = BTreeMap::new();
    for (node, disk) in disks {
        for (key, value) in disk.rows(Keyspace::Records) {
            let record = value.and_then(|value| decode_record(value).ok());
            let copy = match record {
                Some((record, _)) if record.is_empty() => continue,
                Some((record, _)) => Copy::Record(record.causal_hash()),
                None => Copy::Damaged,
            };
            let copies = keys.entry(key.to_vec()).or_default();
            copies.insert(node.to_owned(), copy);
        }
    }
    let differing = keys.into_iter().filter_map(|(key, copies)| {
        let mut states = copies.values();
        let first = states.next().copied();
        let are_equal =
            matches!(first, Some(Copy::Record(_))) && states.all(|copy| Some(*copy) == first);
        (copies.len() != wanted || !are_equal).then_some(Difference {
            key,
            copies,
            wanted,
        })
    });
    differing.collect()
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.key.escape_ascii();
        write!(formatter, "of `{key}` {} copies are wanted:", self.wanted)?;
        for (node, copy) in &self.copies {
            match copy {
                Copy::Record(hash) => write!(formatter, " {node} has {hash:016x}")?,
                Copy::Damaged => write!(formatter, " {node} has a damaged one")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use souk_kv_core::causality::{
        ActorId, Dot, MergeMode, Mint, NewWrite, Observed, Record, RequestId, Stamp,
    };
    use souk_kv_proto::convert::causality::encode_record;
    use souk_kv_storage::{Store, StoreOptions, WriteBatch};

    use super::*;

    /// A record that was deleted by the write of this counter.
    fn record(counter: u64) -> Bytes {
        let mut record = Record::default();
        let dot = Dot {
            actor: ActorId::from_bytes([1; 16]),
            counter,
        };
        let write = NewWrite {
            request: RequestId {
                client: [2; 16],
                sequence: counter,
            },
            stamp: Stamp::next(counter, None),
            expires_unix_ms: None,
            value: None,
        };
        let observed = Observed::default();
        record
            .put(
                MergeMode::Siblings,
                &observed,
                dot,
                Mint::Vector,
                write,
                counter,
            )
            .unwrap();
        encode_record(&record, MergeMode::Siblings)
    }

    async fn disk(rows: &[(&'static str, u64)]) -> MemoryDisk {
        let disk = MemoryDisk::new();
        let store = Store::open(StoreOptions::memory(disk.clone())).unwrap();
        let mut batch = WriteBatch::new();
        for (key, counter) in rows {
            batch.put(Keyspace::Records, *key, record(*counter));
        }
        store.commit(batch).await.unwrap();
        disk
    }

    #[tokio::test]
    async fn every_key_needs_its_copies_in_one_state() {
        let one = disk(&[("a", 1), ("b", 1), ("c", 1)]).await;
        let two = disk(&[("a", 1), ("b", 2), ("d", 1)]).await;
        let three = disk(&[("a", 1), ("b", 1), ("c", 1), ("d", 1)]).await;
        let all = [("n1", one), ("n2", two), ("n3", three.clone())];
        let look = || {
            let found = differences(all.iter().map(|(name, disk)| (*name, disk.clone())), 3);
            let keys = found.iter().map(|difference| difference.key.clone());
            keys.map(|key| String::from_utf8(key).unwrap())
                .collect::<String>()
        };
        assert_eq!(look(), "bcd");
        three.damage_row(Keyspace::Records, b"a");
        assert_eq!(look(), "abcd");
    }

    #[tokio::test]
    async fn a_difference_names_who_has_what() {
        let disks = [("n1", disk(&[("k", 1)]).await), ("n2", disk(&[]).await)];
        let found = differences(disks.into_iter(), 2);
        let told = found.first().unwrap().to_string();
        assert!(
            told.starts_with("of `k` 2 copies are wanted: n1 has "),
            "{told}"
        );
    }
}
