//! How records and register groups are named inside the storage engine.
//!
//! A store key begins with the partition, so that one partition is one range of the engine: what
//! transfers and tree scans walk. The partition key carries its length, so that the rows of one
//! partition key are one range too, in sort-key order.
//!
//! ```text
//! record   partition u16 | bucket u32 | length u16 | partition key | sort key
//! header   partition u16 | bucket u32 | length u16 | partition key | 0x00
//! row      partition u16 | bucket u32 | length u16 | partition key | 0x01 | row key
//! leaf     partition u16 | bucket u32 | leaf u16
//! ```
//!
//! All numbers are big-endian. Place: pure. Not here: the framing of values (`kv_storage`), hints (`kv_core::hint`).

use bytes::{BufMut, Bytes, BytesMut};
use souk_kv_core::merkle::LeafIndex;
use souk_ring::{NodeId, PartitionId};

/// Most bytes of a partition key.
pub(crate) const PARTITION_KEY_BYTES_MAX: usize = 1024;
/// Most bytes of a sort key.
pub(crate) const SORT_KEY_BYTES_MAX: usize = 1024;

/// Who this node is.
pub(crate) const META_IDENTITY: &[u8] = b"identity";
/// The newest layout seen.
pub(crate) const META_LAYOUT: &[u8] = b"layout";
/// The newest bucket catalogue seen.
pub(crate) const META_CATALOGUE: &[u8] = b"catalogue";
/// Present when this store may have lost votes; its text says why.
pub(crate) const META_VOTES_LOST: &[u8] = b"votes-lost";
/// This member's vote on the next layout.
pub(crate) const META_LAYOUT_VOTE: &[u8] = b"layout-vote";
/// What the notes of damaged register groups begin with.
pub(crate) const META_BROKEN: &[u8] = b"broken/";
/// What the notes of partitions begin with that a learner has been taught.
pub(crate) const META_TAUGHT: &[u8] = b"taught/";
/// How often this store was started, and has counted since.
pub(crate) const META_PULSE: &[u8] = b"pulse";
/// What the notes of other stores' counts begin with.
pub(crate) const META_PULSES: &[u8] = b"pulse-of/";
/// The last round of collection that this node took part in; written to have all before it synced.
pub(crate) const META_COLLECTED: &[u8] = b"collected";
/// What the keys of all erased floors begin with.
pub(crate) const META_ERASED: &[u8] = b"erased/";
/// Present when an operator has given this store up.
pub(crate) const META_FORGOTTEN: &[u8] = b"forgotten";
/// What the keys of all actors begin with.
pub(crate) const META_ACTORS: &[u8] = b"actor/";
/// Present once the Merkle trees stand for all records; the number of their format.
pub(crate) const META_TREES: &[u8] = b"trees";
/// What the notes of partitions begin with that were gained in a move.
pub(crate) const META_GAINED: &[u8] = b"gained/";
/// What the lines of the layout's history begin with.
pub(crate) const META_LAYOUT_DEEDS: &[u8] = b"layout-deed/";
/// The end of the counter lease.
pub(crate) const META_LEASE: &[u8] = b"lease";

const PARTITION_BYTES: usize = 2;
const BUCKET_BYTES: usize = 4;
const LENGTH_BYTES: usize = 2;
const LEAF_BYTES: usize = 2;
const FIXED_BYTES: usize = PARTITION_BYTES + BUCKET_BYTES + LENGTH_BYTES;

const HEADER_MARK: u8 = 0x00;
const ROW_MARK: u8 = 0x01;

/// The number of a bucket, given by the cluster when it was created. 0 is the system bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BucketId(pub(crate) u32);

/// All rows of one partition key: a register group, or the range of a scan.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct GroupKey {
    /// The partition that the partition key hashes to.
    pub partition: PartitionId,
    /// Its bucket.
    pub bucket: BucketId,
    /// 1 to [`PARTITION_KEY_BYTES_MAX`] bytes.
    pub partition_key: Bytes,
}

impl GroupKey {
    fn begin(&self, extra: usize) -> BytesMut {
        let mut key = BytesMut::with_capacity(FIXED_BYTES + self.partition_key.len() + extra);
        let partition =
            u16::try_from(self.partition.0).expect("a layout has at most 65536 partitions");
        let length = u16::try_from(self.partition_key.len())
            .expect("the request was checked against the limit");
        key.put_u16(partition);
        key.put_u32(self.bucket.0);
        key.put_u16(length);
        key.put_slice(&self.partition_key);
        key
    }

    /// What every record key of this partition key begins with.
    pub(crate) fn record_prefix(&self) -> Bytes {
        self.begin(0).freeze()
    }

    /// The group whose [`GroupKey::record_prefix`] a store key begins with; `None` when it is damaged.
    pub(crate) fn from_record_prefix(store_key: &[u8]) -> Option<Self> {
        let (prefix, _) = split_record(store_key)?;
        let partition = u16::from_be_bytes([prefix[0], prefix[1]]);
        let bucket = u32::from_be_bytes([prefix[2], prefix[3], prefix[4], prefix[5]]);
        Some(Self {
            partition: PartitionId(partition.into()),
            bucket: BucketId(bucket),
            partition_key: Bytes::copy_from_slice(&prefix[FIXED_BYTES..]),
        })
    }

    /// The store key of one record.
    pub(crate) fn record(&self, sort_key: &[u8]) -> Bytes {
        let mut key = self.begin(sort_key.len());
        key.put_slice(sort_key);
        key.freeze()
    }

    /// The store key of the group's acceptor header.
    pub(crate) fn header(&self) -> Bytes {
        let mut key = self.begin(1);
        key.put_u8(HEADER_MARK);
        key.freeze()
    }

    /// What every row key of this group begins with.
    pub(crate) fn row_prefix(&self) -> Bytes {
        let mut key = self.begin(1);
        key.put_u8(ROW_MARK);
        key.freeze()
    }

    /// The store key of one row of the group.
    pub(crate) fn row(&self, row_key: &[u8]) -> Bytes {
        let mut key = self.begin(1 + row_key.len());
        key.put_u8(ROW_MARK);
        key.put_slice(row_key);
        key.freeze()
    }
}

/// Under which key the actor of a partition's vnode stands in `Meta`.
pub(crate) fn meta_actor(partition: PartitionId) -> Bytes {
    let mut key = BytesMut::from(META_ACTORS);
    key.put_u32(partition.0);
    key.freeze()
}

/// Under which key it stands in `Meta` that a group is damaged here.
pub(crate) fn meta_broken(group: &GroupKey) -> Bytes {
    [META_BROKEN, &group.record_prefix()].concat().into()
}

/// Under which key the count of a member's store stands in `Meta`.
pub(crate) fn meta_pulse_of(member: NodeId) -> Bytes {
    let mut key = BytesMut::from(META_PULSES);
    key.put_u32(member.0);
    key.freeze()
}

/// Under which key the floor of what a partition's vnode has erased stands in `Meta`.
pub(crate) fn meta_erased(partition: PartitionId) -> Bytes {
    let mut key = BytesMut::from(META_ERASED);
    key.put_u32(partition.0);
    key.freeze()
}

/// Under which key it stands in `Meta` that a partition was taught to this store.
pub(crate) fn meta_taught(partition: PartitionId) -> Bytes {
    let mut key = BytesMut::from(META_TAUGHT);
    key.put_u32(partition.0);
    key.freeze()
}

/// Under which key it stands in `Meta` that a partition was gained.
pub(crate) fn meta_gained(partition: PartitionId) -> Bytes {
    let mut key = BytesMut::from(META_GAINED);
    key.put_u32(partition.0);
    key.freeze()
}

/// Under which key the line of an epoch stands in the layout's history.
pub(crate) fn meta_layout_deed(epoch: u64) -> Bytes {
    let mut key = BytesMut::from(META_LAYOUT_DEEDS);
    key.put_u64(epoch);
    key.freeze()
}

/// Under which key stands in `Meta` since when hints for a member are waiting.
pub(crate) fn meta_hints_since(target: NodeId) -> Bytes {
    let mut key = BytesMut::from(&b"hints-since/"[..]);
    key.put_u32(target.0);
    key.freeze()
}

/// Under which key stands in `Meta` that hints for a member are not to be delivered.
pub(crate) fn meta_hints_paused(target: NodeId) -> Bytes {
    let mut key = BytesMut::from(&b"hints-paused/"[..]);
    key.put_u32(target.0);
    key.freeze()
}

/// What every key of a partition begins with.
pub(crate) fn partition_prefix(partition: PartitionId) -> Bytes {
    let number = u16::try_from(partition.0).expect("a layout has at most 65536 partitions");
    Bytes::copy_from_slice(&number.to_be_bytes())
}

/// Splits a record key into its prefix (up to and with the partition key) and its sort key.
pub(crate) fn split_record(store_key: &[u8]) -> Option<(&[u8], &[u8])> {
    let fixed = store_key.get(..FIXED_BYTES)?;
    let length = usize::from(u16::from_be_bytes([fixed[6], fixed[7]]));
    let end = FIXED_BYTES + length;
    (length > 0 && length <= PARTITION_KEY_BYTES_MAX && store_key.len() >= end)
        .then(|| store_key.split_at(end))
}

/// The partition of a record key; `None` when it is none.
pub(crate) fn partition_of_record(store_key: &[u8]) -> Option<PartitionId> {
    let (prefix, _) = split_record(store_key)?;
    let partition = prefix.first_chunk::<PARTITION_BYTES>()?;
    Some(PartitionId(u16::from_be_bytes(*partition).into()))
}

/// The bucket of a record key; `None` when it is none.
pub(crate) fn bucket_of_record(store_key: &[u8]) -> Option<BucketId> {
    let (prefix, _) = split_record(store_key)?;
    let bucket = prefix[PARTITION_BYTES..].first_chunk::<BUCKET_BYTES>()?;
    Some(BucketId(u32::from_be_bytes(*bucket)))
}

/// The vnode and the bucket of a record key; `None` when it is none.
pub(crate) fn tree_of_record(store_key: &[u8]) -> Option<TreeId> {
    let (prefix, _) = split_record(store_key)?;
    TreeId::decode(prefix.first_chunk()?)
}

/// The records of one bucket in one vnode, and the Merkle tree over them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TreeId {
    pub(crate) partition: PartitionId,
    pub(crate) bucket: BucketId,
}

impl TreeId {
    /// What the keys of all its records begin with.
    pub(crate) fn prefix(self) -> Bytes {
        let mut prefix = BytesMut::with_capacity(PARTITION_BYTES + BUCKET_BYTES + LEAF_BYTES);
        self.encode(&mut prefix);
        prefix.freeze()
    }

    /// The store key of one of its leaves.
    pub(crate) fn leaf(self, leaf: LeafIndex) -> Bytes {
        let mut key = BytesMut::with_capacity(PARTITION_BYTES + BUCKET_BYTES + LEAF_BYTES);
        self.encode(&mut key);
        key.put_u16(leaf.get());
        key.freeze()
    }

    fn encode(self, into: &mut BytesMut) {
        let partition =
            u16::try_from(self.partition.0).expect("a layout has at most 65536 partitions");
        into.put_u16(partition);
        into.put_u32(self.bucket.0);
    }

    fn decode(bytes: &[u8; PARTITION_BYTES + BUCKET_BYTES]) -> Option<Self> {
        let (partition, bucket) = bytes.split_first_chunk::<PARTITION_BYTES>()?;
        Some(Self {
            partition: PartitionId(u16::from_be_bytes(*partition).into()),
            bucket: BucketId(u32::from_be_bytes(*bucket.first_chunk()?)),
        })
    }
}

/// Splits the store key of a leaf; `None` when it is none.
pub(crate) fn split_leaf(store_key: &[u8]) -> Option<(TreeId, LeafIndex)> {
    let (tree, leaf) = store_key.split_first_chunk()?;
    let leaf = u16::from_be_bytes(leaf.try_into().ok()?);
    Some((TreeId::decode(tree)?, LeafIndex::new(leaf)?))
}

/// The first key behind every key that begins with `prefix`; `None` when there is none.
pub(crate) fn prefix_end(prefix: &[u8]) -> Option<Bytes> {
    let keep = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix[..=keep].to_vec();
    end[keep] += 1;
    Some(end.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(partition_key: &str) -> GroupKey {
        GroupKey {
            partition: PartitionId(513),
            bucket: BucketId(7),
            partition_key: Bytes::copy_from_slice(partition_key.as_bytes()),
        }
    }

    #[test]
    fn record_keys_split_again() {
        let key = group("cart-9").record(b"row");
        let (prefix, sort_key) = split_record(&key).expect("it is a record key");
        assert_eq!(prefix, group("cart-9").record_prefix());
        assert_eq!(sort_key, b"row");
        assert_eq!(partition_of_record(&key), Some(PartitionId(513)));
        assert!(key.starts_with(&partition_prefix(PartitionId(513))));
        assert_eq!(GroupKey::from_record_prefix(&key), Some(group("cart-9")));
        assert_eq!(bucket_of_record(&key), Some(BucketId(7)));
    }

    #[test]
    fn one_partition_key_is_one_range() {
        // "a" with sort key "b" must not fall among the rows of "ab".
        let inside = group("a").record(b"b");
        assert!(!inside.starts_with(&group("ab").record_prefix()));
        assert!(
            !group("ab")
                .record(b"")
                .starts_with(&group("a").record_prefix())
        );
    }

    #[test]
    fn damaged_keys_are_refused() {
        let key = group("cart-9").record(b"");
        for length in 0..key.len() {
            assert_eq!(split_record(&key[..length]), None, "cut to {length} bytes");
        }
    }

    #[test]
    fn header_and_rows_do_not_meet() {
        let group = group("sku");
        assert!(!group.header().starts_with(&group.row_prefix()));
        assert!(group.row(b"\x00s").starts_with(&group.row_prefix()));
    }

    #[test]
    fn a_tree_is_one_range_of_records() {
        let key = group("cart-9").record(b"row");
        let tree = tree_of_record(&key).expect("it is a record key");
        assert_eq!(tree.partition, PartitionId(513));
        assert_eq!(tree.bucket, BucketId(7));
        assert!(key.starts_with(&tree.prefix()));
        assert!(key.starts_with(&partition_prefix(tree.partition)));
        let leaf = LeafIndex::new(1023).expect("it is one");
        assert_eq!(split_leaf(&tree.leaf(leaf)), Some((tree, leaf)));
        assert_eq!(split_leaf(&key), None);
    }

    #[test]
    fn prefix_end_is_the_next_key() {
        assert_eq!(prefix_end(b"ab").as_deref(), Some(b"ac".as_slice()));
        assert_eq!(prefix_end(b"a\xff").as_deref(), Some(b"b".as_slice()));
        assert_eq!(prefix_end(b"\xff\xff"), None);
    }
}
