//! Which trees two nodes have in common, and one number for all of them.
//!
//! A bucket with fewer copies than the layout has is on the first owners of a partition only. So two owners
//! compare the trees of those buckets alone that both of them hold.

use std::{collections::BTreeMap, hash::Hasher};

use siphasher::sip::SipHasher24;
use souk_kv_core::merkle::Digest;
use souk_ring::{Layout, NodeId, PartitionId};

use crate::{
    cluster::{Cluster, Mode},
    keys::BucketId,
};

/// "souk vnode summar" in ASCII, as far as it fits.
const SUMMARY_KEYS: (u64, u64) = (0x736f_756b_2076_6e6f, 0x6465_2073_756d_6d61);

/// Whether both nodes hold the records of a bucket in a partition. Not when the bucket is unknown here.
fn is_shared(
    cluster: &Cluster,
    layout: &Layout,
    partition: PartitionId,
    bucket: BucketId,
    nodes: [NodeId; 2],
) -> bool {
    let Some(bucket) = cluster.catalogue.by_id(bucket) else {
        return false;
    };
    let holders = layout.receivers(partition, bucket.replicas_n.count());
    bucket.mode != Mode::Register && nodes.iter().all(|node| holders.contains(node))
}

/// Of the roots of a vnode, those of trees that both nodes hold.
pub(super) fn shared_roots(
    cluster: &Cluster,
    layout: &Layout,
    partition: PartitionId,
    roots: BTreeMap<BucketId, Digest>,
    nodes: [NodeId; 2],
) -> BTreeMap<BucketId, Digest> {
    let shared = |bucket: &BucketId| is_shared(cluster, layout, partition, *bucket, nodes);
    roots
        .into_iter()
        .filter(|(bucket, _)| shared(bucket))
        .collect()
}

/// One number for some roots, equal on every node.
pub(super) fn summary(roots: &BTreeMap<BucketId, Digest>) -> u64 {
    let mut hasher = SipHasher24::new_with_keys(SUMMARY_KEYS.0, SUMMARY_KEYS.1);
    for (bucket, root) in roots {
        hasher.write(&bucket.0.to_le_bytes());
        hasher.write(&root.to_bytes());
    }
    hasher.finish()
}
