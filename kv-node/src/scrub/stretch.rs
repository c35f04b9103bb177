//! Mends a stretch of keys that the engine cannot read: nobody here knows which keys were in it, so the other
//! replicas are asked.
//!
//! Writing a key anew makes it readable again, although the damaged block stays until the engine drops it: later
//! passes meet the stretch again and find every key in it sound.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use souk_kv_core::merkle::TREE_LEAVES;
use souk_kv_proto::peer::{ListTreeKeys, ListTreeKeysReply, peer_message::Body};
use souk_kv_storage::Gap;
use souk_ring::{NodeId, PartitionId};
use tokio::time::Instant;
use tracing::debug;

use super::{Mended, Mender};
use crate::{
    cluster::{Bucket, Cluster, Mode},
    governor::{Governor, Job},
    keys::TreeId,
};

const LIST_TIMEOUT: Duration = Duration::from_secs(20);
const PAGE_UNITS: u32 = 128;

/// What became of a stretch.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct StretchReport {
    /// Keys that other replicas hold within it, and that could not be read here.
    pub(super) damaged: u64,
    /// Of these, replaced.
    pub(super) mended: u64,
    /// Replicas that could not say what they hold.
    pub(super) silent: u64,
}

/// Asks the other replicas for the keys of a stretch within a vnode, and mends each.
pub(super) async fn mend_stretch(
    cluster: &Cluster,
    mender: &Mender,
    governor: &Governor,
    partition: PartitionId,
    gap: &Gap,
) -> StretchReport {
    let mut report = StretchReport::default();
    let layout = cluster.layout();
    for bucket in buckets(cluster) {
        let tree = TreeId {
            partition,
            bucket: bucket.id,
        };
        let holders = layout
            .preference_list(partition)
            .primaries(bucket.replicas_n);
        let mut keys = BTreeSet::new();
        for peer in holders.iter().filter(|node| **node != cluster.node) {
            let listed = list(cluster, governor, *peer, tree, gap, &mut keys).await;
            report.silent += u64::from(listed.is_none());
        }
        for key in keys {
            match mender.mend(&key).await {
                Ok(Mended::Sound) => {}
                Ok(Mended::Replaced) => {
                    report.damaged += 1;
                    report.mended += 1;
                }
                Ok(_) | Err(_) => report.damaged += 1,
            }
        }
    }
    report
}

fn buckets(cluster: &Cluster) -> Vec<Arc<Bucket>> {
    let known = cluster.catalogue.to_wire().buckets;
    known
        .iter()
        .filter_map(|bucket| cluster.catalogue.get(&bucket.name))
        .filter(|bucket| bucket.mode != Mode::Register)
        .collect()
}

/// Adds the keys that a peer holds within the stretch; `None` when it does not say.
async fn list(
    cluster: &Cluster,
    governor: &Governor,
    peer: NodeId,
    tree: TreeId,
    gap: &Gap,
    keys: &mut BTreeSet<Bytes>,
) -> Option<()> {
    let prefix = tree.prefix();
    let is_behind = |key: &Bytes| gap.before.as_ref().is_some_and(|before| key >= before);
    let mut after = gap
        .after
        .clone()
        .filter(|after| *after > prefix)
        .unwrap_or_default();
    if (!after.is_empty() && !after.starts_with(&prefix)) || is_behind(&prefix) {
        // The stretch lies behind or before this bucket.
        return Some(());
    }
    loop {
        governor.pace(Job::Scrub, PAGE_UNITS).await;
        let ask = ListTreeKeys {
            partition: tree.partition.0,
            bucket_id: tree.bucket.0,
            leaves: (0..TREE_LEAVES as u32).collect(),
            after: after.clone(),
        };
        let deadline = Instant::now() + LIST_TIMEOUT;
        let answer = cluster
            .call_in_bulk(peer, Body::ListTreeKeys(ask), deadline)
            .await;
        let ListTreeKeysReply { keys: page, next } = match answer {
            Ok(Body::ListTreeKeysReply(reply)) => reply,
            Ok(_) => return None,
            Err(cause) => {
                debug!(peer = peer.0, %cause, "a replica did not list its keys");
                return None;
            }
        };
        for key in page {
            if is_behind(&key.store_key) {
                return Some(());
            }
            // A copy: the message that it came in is larger.
            keys.insert(Bytes::copy_from_slice(&key.store_key));
        }
        if next.is_empty() || next <= after || is_behind(&next) {
            return Some(());
        }
        after = next;
    }
}
