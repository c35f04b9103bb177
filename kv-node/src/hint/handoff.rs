//! Delivers hints to a primary that is back, gently: a node that just came up is easily knocked over again.
//!
//! When this node is cut off from the target and another one says that it is not, the hints go through that one.
//!
//! Shape: goes round the hints of its target in key order. A hint that is not taken costs a rest, and the
//! round goes on behind it, so that one that can never be taken holds up nobody else.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream::FuturesUnordered};
use metrics::counter;
use souk_kv_core::hint::{HandoffPacer, PacerBounds};
use souk_kv_proto::{
    mutant,
    peer::{Relay, WriteRecord, peer_message::Body},
};
use souk_ring::NodeId;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{HintSpace, space::StoredHint};
use crate::{
    cluster::{Cluster, Detour},
    governor::{Governor, Job},
};

/// How long one delivery may take before the pace is lowered.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(2);
/// Hints read from disk at once.
const PAGE: usize = 256;
/// How often an idle handoff looks again.
const IDLE: Duration = Duration::from_millis(500);
/// Rest after a delivery failed.
const REST: Duration = Duration::from_millis(250);

/// What a handoff needs.
#[derive(Debug, Clone)]
pub(crate) struct Handoff {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) hints: Arc<HintSpace>,
    pub(crate) governor: Arc<Governor>,
}

/// Delivers the hints for one target whenever it is up, until `stop`.
pub(crate) async fn handoff_loop(handoff: Handoff, target: NodeId, stop: CancellationToken) {
    let mut pacer =
        HandoffPacer::new(PacerBounds::default()).expect("the default bounds are valid");
    let mut place = None;
    while !stop.is_cancelled() {
        let has_hints = handoff.hints.totals().contains_key(&target);
        let steering = handoff.hints.steering();
        let is_wanted_now = steering.take_deliver_now(target);
        if is_wanted_now {
            place = None;
        }
        let way = match way_to(&handoff.cluster, target) {
            None if is_wanted_now => Some(Way::Direct),
            way => way.filter(|_| is_wanted_now || !steering.is_paused(target)),
        };
        if let (true, Some(way)) = (has_hints, way) {
            let goes_on = || is_wanted_now || !steering.is_paused(target);
            let deliver = |hint| deliver(&handoff, target, way, hint);
            tokio::select! {
                () = stop.cancelled() => return,
                () = deliver_some(&handoff.hints, target, &mut place, &mut pacer, goes_on, deliver) => {}
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = handoff.hints.kept.notified(), if !has_hints => {}
            () = steering.changed.notified() => {}
            () = sleep(IDLE) => {}
        }
    }
}

/// Delivers from `place` on until one is not taken, it is not to go on, or the end is reached, and leaves in `place`
/// the key behind which to go on; `None` is the start.
async fn deliver_some<F: Future<Output = bool>>(
    hints: &HintSpace,
    target: NodeId,
    place: &mut Option<Bytes>,
    pacer: &mut HandoffPacer,
    goes_on: impl Fn() -> bool,
    deliver: impl Fn(StoredHint) -> F,
) {
    let mut delivered: u64 = 0;
    while goes_on() {
        let page = match hints.page(target, place.as_deref(), PAGE) {
            Ok(page) => page,
            Err(cause) => {
                warn!(%cause, "hints cannot be read");
                return;
            }
        };
        for damaged in &page.damaged {
            if let Err(cause) = hints.discard_damaged(damaged).await {
                warn!(%cause, "a damaged hint could not be removed");
            }
        }
        let sent = deliver_page(page.hints, pacer, &deliver).await;
        delivered += sent.delivered;
        if let Some(stopped_at) = sent.stopped_at {
            *place = Some(stopped_at);
            sleep(REST).await;
            break;
        }
        *place = page.next;
        if place.is_none() {
            break;
        }
    }
    if delivered > 0 {
        counter!("souk_hints_delivered_total").increment(delivered);
        info!(target_node = target.0, delivered, "hints delivered");
    }
}

/// What became of a page.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sent {
    delivered: u64,
    /// The last hint that was tried, if any was not taken.
    stopped_at: Option<Bytes>,
}

/// Sends hints in order, as many at once as the pace allows; after a failure no further ones.
async fn deliver_page<F: Future<Output = bool>>(
    page: Vec<StoredHint>,
    pacer: &mut HandoffPacer,
    deliver: impl Fn(StoredHint) -> F,
) -> Sent {
    let mut waiting = page.into_iter().peekable();
    let mut on_the_way = FuturesUnordered::new();
    let mut sent = Sent::default();
    let mut last_tried = None;
    loop {
        while sent.stopped_at.is_none() && waiting.peek().is_some() && pacer.try_send() {
            if let Some(hint) = waiting.next() {
                last_tried = Some(hint.key.encode());
                on_the_way.push(deliver(hint));
            }
        }
        match on_the_way.next().await {
            Some(true) => {
                pacer.on_delivered();
                sent.delivered += 1;
            }
            Some(false) => {
                pacer.on_timeout();
                sent.stopped_at.clone_from(&last_tried);
            }
            None => return sent,
        }
    }
}

/// How a hint travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Direct,
    /// This node is cut off from the target, and that one is not.
    Through(NodeId),
}

fn way_to(cluster: &Cluster, target: NodeId) -> Option<Way> {
    if cluster.is_up(target) {
        return Some(Way::Direct);
    }
    match cluster.health.detour(target)? {
        Detour::Through(witness) => Some(Way::Through(witness)),
        Detour::OneWay => None,
    }
}

async fn deliver(handoff: &Handoff, target: NodeId, way: Way, hint: StoredHint) -> bool {
    handoff.governor.pace(Job::Handoff, 1).await;
    let work = handoff.cluster.in_flight.enter();
    match handoff.hints.still_holds(&hint) {
        Ok(true) => {}
        // It was delivered, or has become more, since the page was read.
        Ok(false) => return true,
        Err(cause) => {
            warn!(%cause, "a hint cannot be read");
            return false;
        }
    }
    let write = WriteRecord {
        store_key: hint.key.key.clone(),
        record: hint.record.clone(),
        generation: work.generation(),
        origin: None,
        layout_epoch: 0,
    };
    let deadline = Instant::now() + DELIVERY_TIMEOUT;
    let (asked, body) = match way {
        Way::Direct => (target, Body::WriteRecord(write)),
        Way::Through(witness) => {
            counter!("souk_hints_relayed_total").increment(1);
            let relay = Relay {
                target: target.0,
                write: Some(write),
            };
            (witness, Body::Relay(relay))
        }
    };
    match handoff.cluster.call_in_bulk(asked, body, deadline).await {
        Ok(Body::Done(_)) => match handoff.hints.remove(&hint).await {
            Ok(()) => true,
            Err(cause) => {
                // It will be delivered again, which changes nothing there.
                warn!(%cause, "a delivered hint could not be removed");
                false
            }
        },
        Ok(_) => false,
        Err(cause) => {
            debug!(target_node = target.0, %cause, "a hint was not taken");
            mutant!("hint-dropped-untaken") && handoff.hints.remove(&hint).await.is_ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use futures::FutureExt;
    use parking_lot::Mutex;
    use souk_kv_core::{
        causality::{MergeMode, Record},
        hint::HintKey,
        tombstone::Generation,
    };
    use souk_kv_proto::{convert::causality::encode_record, peer::Done};
    use souk_kv_storage::{MemoryDisk, Store, StoreOptions};

    use super::*;
    use crate::{
        clock::Environment,
        cluster::bench::{cluster, layout},
        guard::KeyGuards,
        peer::{Lane, stub::linked},
    };

    const TARGET: NodeId = NodeId(2);

    async fn hints(count: u8) -> HintSpace {
        let store =
            Store::open(StoreOptions::memory(MemoryDisk::new())).expect("an empty store opens");
        let guards = Arc::new(KeyGuards::new());
        let hints = HintSpace::open(
            store,
            guards,
            1 << 20,
            Environment::system(),
            [TARGET].into_iter(),
        )
        .expect("nothing to count");
        for number in 0..count {
            let record = encode_record(&Record::default(), MergeMode::Siblings);
            hints
                .keep(TARGET, vec![number].into(), record)
                .await
                .expect("there is room");
        }
        hints
    }

    #[tokio::test]
    async fn a_hint_travels_in_bulk_and_only_while_it_is_kept() {
        let (peers, stub, _stop) = linked(TARGET, |_| Body::Done(Done {})).await;
        let store = Store::open(StoreOptions::memory(MemoryDisk::new())).expect("it opens");
        let environment = Environment::system();
        let cluster = cluster(NodeId(1), &Arc::new(layout()), store, environment, peers);
        let handoff = Handoff {
            cluster: Arc::new(cluster),
            hints: Arc::new(hints(1).await),
            governor: Arc::new(Governor::new(Duration::from_millis(25))),
        };
        let in_flight = &handoff.cluster.in_flight;
        let began = in_flight.begin_next(Generation(5));
        let page = handoff.hints.page(TARGET, None, PAGE);
        let hint = page.expect("it can be read").hints.remove(0);
        let collecting = async {
            stub.arrived(1).await;
            let next = in_flight.begin_next(Generation(0));
            let ended = in_flight.ended_before(next).now_or_never();
            assert!(ended.is_none(), "the record is in its hands");
            stub.gate.add_permits(1);
        };
        let delivering = deliver(&handoff, TARGET, Way::Direct, hint.clone());
        let (is_delivered, ()) = tokio::join!(delivering, collecting);
        assert!(is_delivered && handoff.hints.totals().is_empty());
        // A page of hints that was read before: this one is kept no longer.
        assert!(deliver(&handoff, TARGET, Way::Direct, hint).await);
        let asked = stub.asked.lock();
        let [(Lane::Bulk, Body::WriteRecord(write))] = &asked[..] else {
            panic!("one write in bulk: {asked:?}");
        };
        assert_eq!(write.generation, began.0);
    }

    #[tokio::test(start_paused = true)]
    async fn hints_that_are_never_taken_hold_up_nobody() {
        async fn check(refused: &[u8]) {
            let hints = hints(9).await;
            let mut pacer = HandoffPacer::new(PacerBounds::default()).expect("valid");
            let mut place = None;
            let tried = Mutex::new(BTreeSet::new());
            for _ in 0..=2 * refused.len() {
                deliver_some(
                    &hints,
                    TARGET,
                    &mut place,
                    &mut pacer,
                    || true,
                    |hint| {
                        tried.lock().insert(hint.key.clone());
                        let hints = &hints;
                        async move {
                            let taken = !refused.contains(&hint.key.key[0]);
                            if taken {
                                hints.remove(&hint).await.expect("it can be removed");
                            }
                            taken
                        }
                    },
                )
                .await;
            }
            let left = hints.page(TARGET, None, PAGE).expect("it can be read");
            let left: Vec<u8> = left.hints.iter().map(|hint| hint.key.key[0]).collect();
            assert_eq!(left, refused);
            let all = (0..9).map(|number| HintKey {
                target: TARGET,
                key: vec![number].into(),
            });
            assert_eq!(tried.into_inner(), all.collect());
        }
        check(&[]).await;
        check(&[0]).await;
        check(&[0, 1, 4]).await;
        check(&[8]).await;
    }
}
