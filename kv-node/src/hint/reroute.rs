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
use crate::{cluster::Cluster, governor::Job, siblings::Records};

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
                layout_epoch: 0,
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
    let holders = cluster.holders(store_key);
    let mut owners = holders.map_or_else(Vec::new, |(_, owners)| owners);
    owners.retain(|owner| !cluster.is_forgotten(*owner));
    owners
}

#[cfg(test)]
mod tests {
    use souk_kv_core::causality::{MergeMode, Record};
    use souk_kv_proto::{
        convert::causality::encode_record,
        kv::{BucketConfig, BucketMode},
        peer::Done,
        store::Catalogue,
    };
    use souk_kv_storage::{MemoryDisk, Store, StoreOptions};

    use super::*;
    use crate::{
        clock::Environment,
        cluster::bench::{cluster, layout, records},
        governor::Governor,
        guard::KeyGuards,
        hint::HintSpace,
        keys::{BucketId, GroupKey},
        peer::{Lane, stub::linked},
    };

    const NODE: NodeId = NodeId(1);
    const PEER: NodeId = NodeId(2);
    /// No member of the layout.
    const GONE: NodeId = NodeId(9);

    #[tokio::test]
    async fn a_hint_for_a_node_that_is_gone_goes_to_the_owners_and_nobody_else() {
        let (peers, stub, _stop) = linked(PEER, |_| Body::Done(Done {})).await;
        let store = Store::open(StoreOptions::memory(MemoryDisk::new())).expect("it opens");
        let (environment, layout) = (Environment::system(), Arc::new(layout()));
        let (records, _) = records(NODE, &layout, store.clone(), environment.clone()).await;
        let cluster = cluster(NODE, &layout, store.clone(), environment.clone(), peers);
        let guards = Arc::new(KeyGuards::new());
        let targets = [GONE].into_iter();
        let hints = HintSpace::open(store, guards, 1 << 20, environment, targets);
        let handoff = Handoff {
            cluster: Arc::new(cluster),
            hints: Arc::new(hints.expect("nothing to count")),
            governor: Arc::new(Governor::new(Duration::from_millis(25))),
        };
        // A bucket with two copies, in a partition where the third member, to whom there is no link, has none.
        let carts = BucketConfig {
            id: 1,
            name: "carts".to_owned(),
            mode: BucketMode::Siblings.into(),
            replicas_n: 2,
            ..Default::default()
        };
        let copies = souk_ring::ReplicasN::new(2).expect("two");
        let is_ours = |partition: &souk_ring::PartitionId| {
            let list = layout.preference_list(*partition);
            let primaries = list.primaries(copies);
            primaries.contains(&NODE) && primaries.contains(&PEER)
        };
        let mut partitions = layout.partition_count().partitions();
        let group = GroupKey {
            partition: partitions.find(is_ours).expect("some partition"),
            bucket: BucketId(1),
            partition_key: Bytes::from_static(b"customer-1"),
        };
        let (key, record) = (
            group.record(b""),
            encode_record(&Record::default(), MergeMode::Siblings),
        );
        let kept = handoff.hints.keep(GONE, key.clone(), record.clone()).await;
        kept.expect("there is room");
        assert_eq!(gone(&handoff), [GONE]);
        let page = handoff.hints.page(GONE, None, PAGE);
        let hint = page.expect("it can be read").hints.remove(0);

        let given = give_to_owners(&handoff, &records, &hint).await;
        assert!(!given.expect("it is read"), "the bucket is not known here");
        let catalogue = Catalogue {
            version: 1,
            buckets: vec![carts],
            forgotten: Vec::new(),
            tokens: Vec::new(),
        };
        let updated = handoff.cluster.catalogue.update(catalogue).await;
        updated.expect("the disk takes it");
        stub.gate.add_permits(1);
        let given = give_to_owners(&handoff, &records, &hint).await;
        assert!(given.expect("it is removed"));
        assert!(handoff.hints.totals().is_empty());
        assert_eq!(records.read(&key).expect("it is sound"), record);
        let asked = stub.asked.lock();
        let [(Lane::Bulk, Body::WriteRecord(write))] = &asked[..] else {
            panic!("one write in bulk: {asked:?}");
        };
        assert_eq!((&write.store_key, &write.record), (&key, &record));
    }
}
