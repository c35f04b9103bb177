//! Gives hints for a node that was removed to the owners that took its place.
//!
//! Place: one task per node; looks now and then, because removals are rare.
//! Invariants: 1. a hint goes only after every present owner of its partition has it on disk.
//! Not here: removing a node, which an operator decides; hints for members, however long they are away.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::join_all;
use metrics::counter;
use souk_kv_proto::peer::{WriteRecord, peer_message::Body};
use souk_ring::NodeId;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Handoff, space::StoredHint};
use crate::{governor::Job, keys::partition_of_record, siblings::Records};

/// Pause between two looks.
const LOOK: Duration = Duration::from_secs(5);
/// Hints read from disk at once.
const PAGE: usize = 64;
/// How long an owner may take.
const OWNER_TIMEOUT: Duration = Duration::from_secs(2);

/// Reroutes hints for removed nodes, until `stop`.
pub(crate) async fn reroute_loop(handoff: Handoff, records: Arc<Records>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(LOOK) => {}
        }
        for target in removed(&handoff) {
            tokio::select! {
                () = stop.cancelled() => return,
                () = reroute(&handoff, &records, target) => {}
            }
        }
    }
}

fn removed(handoff: &Handoff) -> Vec<NodeId> {
    let layout = handoff.cluster.layout();
    let steering = handoff.hints.steering();
    let totals = handoff.hints.totals();
    totals
        .into_keys()
        .filter(|target| layout.member(*target).is_none() && !steering.is_paused(*target))
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
            if !give_to_owners(handoff, records, &hint).await {
                continue;
            }
            match handoff.hints.remove(&hint).await {
                Ok(()) => rerouted += 1,
                Err(cause) => warn!(%cause, "a rerouted hint could not be removed"),
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
            rerouted, "hints for a removed node went to the owners"
        );
    }
}

/// True when all owners have it. An owner that the bucket has no copy on, because it keeps fewer of them, gets one
/// that is never asked for: harmless, and nobody has to know the bucket here.
async fn give_to_owners(handoff: &Handoff, records: &Records, hint: &StoredHint) -> bool {
    let cluster = &handoff.cluster;
    let Some(partition) = partition_of_record(&hint.key.key) else {
        warn!("a key in the hint space is no key of a record");
        return false;
    };
    let layout = cluster.layout();
    let gifts = layout.owners(partition).iter().map(|&owner| async move {
        let (store_key, record) = (hint.key.key.clone(), hint.record.clone());
        if owner == cluster.node {
            let merged = records.merge(store_key, record).await;
            return merged.map_err(|cause| cause.to_string());
        }
        let write = Body::WriteRecord(WriteRecord { store_key, record });
        let deadline = Instant::now() + OWNER_TIMEOUT;
        match cluster.call_in_bulk(owner, write, deadline).await {
            Ok(Body::Done(_)) => Ok(()),
            Ok(_) => Err("it answered something else".to_owned()),
            Err(cause) => Err(cause.to_string()),
        }
    });
    let results = join_all(gifts).await;
    for cause in results.iter().filter_map(|result| result.as_ref().err()) {
        debug!(cause, "an owner did not take a rerouted hint");
    }
    results.iter().all(Result::is_ok)
}
