//! What this node does in a round of collection, its own or another node's.
//!
//! Place: asked by `crate::answer` for peers, and by `super::round` for this node itself.
//! Invariants: 1. a stage that is answered is done: what it looked at is on the disk. 2. whoever has not seen the
//! asker's layout and list of forgotten stores refuses.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, future::join_all, stream};
use souk_kv_core::{
    outcome::Outcome,
    tombstone::{Generation, Judgement, ROUND_ITEMS_MAX, Refusal, Ripeness, RoundId, judge},
};
use souk_kv_proto::{
    convert::causality::encode_record,
    peer::{Collect, CollectItem, CollectReply, CollectStage, Fence, peer_message::Body},
};
use souk_kv_storage::{Keyspace, WriteBatch};
use souk_ring::NodeId;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use crate::{
    anti_entropy::Held,
    core::NodeCore,
    error::RequestError,
    keys,
    siblings::{RecordChange, Space},
};

/// Records settled at once; they share syncs.
const SETTLING_MAX: usize = 64;

/// Answers one stage.
pub(crate) async fn answer(
    core: &Arc<NodeCore>,
    from: NodeId,
    ask: Collect,
    deadline: Instant,
) -> Result<CollectReply, RequestError> {
    if ask.layout_epoch != core.cluster.layout().epoch().0
        || ask.catalogue_version > core.cluster.catalogue.version()
        || ask.items.len() > ROUND_ITEMS_MAX
    {
        return Err(RequestError::NotReady(
            "the round was begun under another layout or catalogue than this node has seen"
                .to_owned(),
        ));
    }
    let round = RoundId(ask.round);
    match ask.stage() {
        CollectStage::Mark => mark_all(core, from, round, ask.items).await,
        CollectStage::Quiesce => quiesce(core, deadline).await,
        CollectStage::Check => {
            let hinted = hinted(core, &ask.items)?;
            // A delivered hint may be gone for readers before it is gone from the disk.
            sync(core, round).await?;
            let reply = quiesce(core, deadline).await?;
            Ok(CollectReply { hinted, ..reply })
        }
        CollectStage::Settle => settle_all(core, from, round, ask.items).await,
        CollectStage::Unspecified => Err(RequestError::Invalid(
            "a peer asked for a stage of collection that this node does not know".to_owned(),
        )),
    }
}

/// A peer declares earlier work over.
pub(crate) async fn fence(
    core: &NodeCore,
    from: NodeId,
    generation: u64,
    deadline: Instant,
) -> Result<(), RequestError> {
    timeout_at(deadline, core.gate.fence(from, generation))
        .await
        .map_err(|_| busy("records that it sent are still being stored"))
}

/// How long records have to lie still at this node.
pub(super) fn ripeness(core: &NodeCore) -> Ripeness {
    let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis());
    Ripeness {
        request_memory_ms: millis(core.limits.request_memory).unwrap_or(u64::MAX),
        clock_skew_max_ms: millis(core.limits.clock_skew_max).unwrap_or(u64::MAX),
    }
}

/// The members that take part: all but those whose store was forgotten.
pub(super) fn members(core: &NodeCore) -> Vec<NodeId> {
    let layout = core.cluster.layout();
    let is_in = |node: &NodeId| !core.cluster.is_forgotten(*node);
    layout.members().keys().copied().filter(is_in).collect()
}

async fn mark_all(
    core: &NodeCore,
    from: NodeId,
    round: RoundId,
    items: Vec<CollectItem>,
) -> Result<CollectReply, RequestError> {
    let mut reply = CollectReply::default();
    if !core.tombstones.marks.lock().begin(from, round) {
        return Err(RequestError::NotReady(
            "a later round of that node has begun".to_owned(),
        ));
    }
    for (place, item) in (0..).zip(items) {
        match mark(core, from, round, item).await? {
            None => {}
            Some(Refusal::Different) => reply.different.push(place),
            Some(Refusal::Unripe) => reply.unripe.push(place),
        }
    }
    // In a bucket that syncs at intervals what was compared may not be on the disk yet, and a power cut would
    // bring back what was there before.
    sync(core, round).await?;
    Ok(reply)
}

/// Has everything that was written before on the disk.
async fn sync(core: &NodeCore, round: RoundId) -> Result<(), RequestError> {
    let mut batch = WriteBatch::new();
    let number = round.0.to_be_bytes().to_vec();
    batch.put(Keyspace::Meta, keys::META_COLLECTED, number);
    Ok(core.store.commit(batch.using_reserve()).await?)
}

async fn mark(
    core: &NodeCore,
    from: NodeId,
    round: RoundId,
    item: CollectItem,
) -> Result<Option<Refusal>, RequestError> {
    let _guard = core.records.lock(&item.store_key).await;
    let local = core.records.read_for_change(&item.store_key)?;
    if local.is_damaged || local.record.causal_hash() != item.digest {
        return Ok(Some(Refusal::Different));
    }
    let now_ms = core.cluster.environment.unix_ms();
    let is_agreed = match judge(&local.record, ripeness(core), now_ms) {
        Judgement::Erasable => !item.fold,
        Judgement::Foldable => item.fold,
        _ => false,
    };
    if !is_agreed {
        return Ok(Some(Refusal::Unripe));
    }
    // A copy: the message that it came in is larger.
    let key = Bytes::copy_from_slice(&item.store_key);
    let mut marks = core.tombstones.marks.lock();
    let is_marked = marks.mark(from, round, key, item.digest);
    Ok((!is_marked).then_some(Refusal::Different))
}

/// Ends what began before, here and, by fences, at everybody else.
async fn quiesce(core: &Arc<NodeCore>, deadline: Instant) -> Result<CollectReply, RequestError> {
    let drawn = Generation(core.mint.counter().await?);
    let generation = core.cluster.in_flight.begin_next(drawn);
    timeout_at(deadline, core.cluster.in_flight.ended_before(generation))
        .await
        .map_err(|_| busy("reads or writes that began before are still running"))?;
    let others = members(core)
        .into_iter()
        .filter(|node| *node != core.cluster.node);
    let fenced = others.map(|node| {
        let fence = Fence {
            generation: generation.0,
        };
        async move {
            let answer = core.cluster.call(node, Body::Fence(fence), deadline).await;
            match answer {
                Ok(Body::Done(_)) => None,
                Ok(_) => Some(node.0),
                Err(cause) => {
                    debug!(node = node.0, %cause, "a peer did not confirm a fence");
                    Some(node.0)
                }
            }
        }
    });
    Ok(CollectReply {
        unfenced: join_all(fenced).await.into_iter().flatten().collect(),
        ..Default::default()
    })
}

/// Of which items this node keeps hints, or a copy that it should not have.
fn hinted(core: &NodeCore, items: &[CollectItem]) -> Result<Vec<u32>, RequestError> {
    let mut hinted = Vec::new();
    for (place, item) in (0..).zip(items) {
        let holders = core.cluster.holders(&item.store_key);
        let is_owner = holders.is_some_and(|(_, holders)| holders.contains(&core.cluster.node));
        let is_stray = !is_owner && !core.records.read(&item.store_key)?.is_empty();
        if is_stray || core.hints.holds_any(&item.store_key)? {
            hinted.push(place);
        }
    }
    Ok(hinted)
}

async fn settle_all(
    core: &NodeCore,
    from: NodeId,
    round: RoundId,
    items: Vec<CollectItem>,
) -> Result<CollectReply, RequestError> {
    let settled = (0..).zip(items).map(|(place, item)| async move {
        let is_settled = settle(core, from, round, item).await?;
        Ok::<_, RequestError>((!is_settled).then_some(place))
    });
    let changed: Vec<_> = stream::iter(settled)
        .buffer_unordered(SETTLING_MAX)
        .collect()
        .await;
    core.tombstones.marks.lock().end(from, round);
    let mut reply = CollectReply::default();
    for place in changed {
        reply.changed.extend(place?);
    }
    Ok(reply)
}

/// Erases or folds one record, if it is as it was marked.
async fn settle(
    core: &NodeCore,
    from: NodeId,
    round: RoundId,
    item: CollectItem,
) -> Result<bool, RequestError> {
    let Some(partition) = keys::partition_of_record(&item.store_key) else {
        return Ok(false);
    };
    let _guard = core.records.lock(&item.store_key).await;
    let is_marked = core
        .tombstones
        .marks
        .lock()
        .take(from, round, &item.store_key, item.digest);
    let mut local = core.records.read_for_change(&item.store_key)?;
    if !is_marked || local.is_damaged || local.record.causal_hash() != item.digest {
        return Ok(false);
    }
    let before = local.held();
    let key = Bytes::copy_from_slice(&item.store_key);
    if item.fold {
        let bucket =
            keys::bucket_of_record(&key).and_then(|bucket| core.cluster.catalogue.by_id(bucket));
        let Some(bucket) = bucket else {
            return Ok(false);
        };
        local.record.fold_loose();
        let folded = encode_record(&local.record, bucket.merge_mode());
        let change = RecordChange {
            store_key: key,
            record: folded,
            before,
            after: Held::of(&local.record),
        };
        core.records.write_all([change], Space::Ordinary).await?;
    } else {
        let commit = core.mint.note_erased(partition, &local.record, |floor| {
            core.records.erase(key, before, floor)
        });
        commit.await?;
    }
    Ok(true)
}

fn busy(why: &'static str) -> RequestError {
    RequestError::Timeout {
        answered: 0,
        needed: 1,
        waited_ms: 0,
        mend: why,
        outcome: Outcome::NotApplied,
    }
}
