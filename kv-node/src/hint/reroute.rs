//! Gives hints for a node that was removed, or whose store an operator gave up, to the owners that are left.
//!
//! Their target will never take them, and they may be the only copy of a write beside one. A hint also holds up the
//! collection of its key.
//!
//! Place: one task per node; looks now and then, because removals are rare.
//! Invariants: 1. a hint goes only after every present owner of its key has it on disk.
//! Not here: removing a node or giving up its store, which an operator decides; hints for members, however long
//! they are away.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::join_all;
use metrics::counter;
use souk_kv_proto::peer::{WriteRecord, peer_message::Body};
use souk_kv_storage::StorageError;
use souk_ring::NodeId;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Handoff, space::StoredHint};
use crate::{cluster::Cluster, governor::Job, keys::tree_of_record, siblings::Records};

/// Pause between two looks.
const LOOK: Duration = Duration::from_secs(5);
/// Hints read from disk at once.
const PAGE: usize = 64;
/// How long an owner may take.
const OWNER_TIMEOUT: Duration = Duration::from_secs(2);

/// Reroutes hints for nodes that are gone for good, until `stop`.
pub(crate) async fn reroute_loop(handoff: Handoff, records: Arc<Records>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(LOOK) => {}
        }
        for target in gone(&handoff) {
            tokio::select! {
                () = stop.cancelled() => return,
                () = reroute(&handoff, &records, target) => {}
            }
        }
    }
}

fn gone(handoff: &Handoff) -> Vec<NodeId> {
    let layout = handoff.cluster.layout();
    let steering = handoff.hints.steering();
    let totals = handoff.hints.totals();
    let is_gone = |target| layout.member(target).is_none() || handoff.cluster.is_forgotten(target);
    totals
        .into_keys()
        .filter(|target| is_gone(*target) && !steering.is_paused(*target))
        .collect()
}

/// One round over the hints for a target; what an owner does not take is left to the next round.
async fn reroute(handoff: &Handoff, records: &Records, target: NodeId) {
    let mut place: Option<Bytes> = None;
    let mut rerouted: u64 = 0;
    loop {
        let page = match handoff.hints.page(target, place.as_deref(), PAGE) {
            Ok(page) => page,
            Err(cause) => {
                warn!(%cause, "hints cannot be read");
                break;
            }
        };
        for hint in page.hints {
            handoff.governor.pace(Job::Handoff, 1).await;
            match give_to_owners(handoff, records, &hint).await {
                Ok(is_done) => rerouted += u64::from(is_done),
                Err(cause) => warn!(%cause, "a rerouted hint could not be read or removed"),
            }
        }
        for damaged in &page.damaged {
            if let Err(cause) = handoff.hints.discard_damaged(damaged).await {
                warn!(%cause, "a damaged hint could not be removed");
            }
        }
        place = page.next;
        if place.is_none() {
            break;
        }
    }
    if rerouted > 0 {
        counter!("souk_hints_rerouted_total").increment(rerouted);
        info!(
            target_node = target.0,
            rerouted, "hints for a node that is gone went to the owners"
        );
    }
}

/// True when all owners have it and it is gone from here. Nobody else gets it: whoever holds a record that is not his
/// holds up its collection.
async fn give_to_owners(
    handoff: &Handoff,
    records: &Records,
    hint: &StoredHint,
) -> Result<bool, StorageError> {
    let cluster = &handoff.cluster;
    let work = cluster.in_flight.enter();
    if !handoff.hints.still_holds(hint)? {
        return Ok(false);
    }
    let owners = owners_left(cluster, &hint.key.key);
    let gifts = owners.iter().map(|&owner| {
        let (store_key, record) = (hint.key.key.clone(), hint.record.clone());
        let generation = work.generation();
        async move {
            if owner == cluster.node {
                let merged = records.merge(store_key, record).await;
                return merged.map_err(|cause| cause.to_string());
            }
            let write = Body::WriteRecord(WriteRecord {
                store_key,
                record,
                generation,
                origin: None,
            });
            let deadline = Instant::now() + OWNER_TIMEOUT;
            match cluster.call_in_bulk(owner, write, deadline).await {
                Ok(Body::Done(_)) => Ok(()),
                Ok(_) => Err("it answered something else".to_owned()),
                Err(cause) => Err(cause.to_string()),
            }
        }
    });
    let results = join_all(gifts).await;
    for cause in results.iter().filter_map(|result| result.as_ref().err()) {
        debug!(cause, "an owner did not take a rerouted hint");
    }
    if results.is_empty() || results.iter().any(Result::is_err) {
        return Ok(false);
    }
    handoff.hints.remove(hint).await?;
    Ok(true)
}

/// Who holds a key, without the members whose store was given up; nobody when its bucket is not known here yet.
fn owners_left(cluster: &Cluster, store_key: &[u8]) -> Vec<NodeId> {
    let Some(tree) = tree_of_record(store_key) else {
        warn!("a key in the hint space is no key of a record");
        return Vec::new();
    };
    let layout = cluster.layout();
    let Some(bucket) = cluster.catalogue.by_id(tree.bucket) else {
        return Vec::new();
    };
    if tree.partition.0 >= layout.partition_count().get() {
        return Vec::new();
    }
    let list = layout.preference_list(tree.partition);
    let owners = list.primaries(bucket.replicas_n).iter().copied();
    owners
        .filter(|owner| !cluster.is_forgotten(*owner))
        .collect()
}
