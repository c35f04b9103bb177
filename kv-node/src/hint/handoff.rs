//! Delivers hints to a primary that is back, gently: a node that just came up is easily knocked over again.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use metrics::counter;
use souk_kv_core::hint::{HandoffPacer, PacerBounds};
use souk_kv_proto::peer::{WriteRecord, peer_message::Body};
use souk_ring::NodeId;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{HintSpace, space::StoredHint};
use crate::cluster::Cluster;

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
}

/// Delivers the hints for one target whenever it is up, until `stop`.
pub(crate) async fn handoff_loop(handoff: Handoff, target: NodeId, stop: CancellationToken) {
    let mut pacer =
        HandoffPacer::new(PacerBounds::default()).expect("the default bounds are valid");
    while !stop.is_cancelled() {
        let has_hints = handoff.hints.totals().contains_key(&target);
        if has_hints && handoff.cluster.is_up(target) {
            tokio::select! {
                () = stop.cancelled() => return,
                () = deliver_all(&handoff, target, &mut pacer) => {}
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = handoff.hints.kept.notified(), if !has_hints => {}
            () = sleep(IDLE) => {}
        }
    }
}

async fn deliver_all(handoff: &Handoff, target: NodeId, pacer: &mut HandoffPacer) {
    let mut delivered: u64 = 0;
    let mut after = None;
    loop {
        let page = match handoff.hints.page(target, after.as_deref(), PAGE) {
            Ok(page) if page.is_empty() => break,
            Ok(page) => page,
            Err(cause) => {
                warn!(%cause, "hints cannot be read");
                return;
            }
        };
        after = page.last().map(|hint| hint.key.encode());
        let (arrived, all_arrived) = deliver_page(handoff, target, page, pacer).await;
        delivered += arrived;
        if !all_arrived {
            sleep(REST).await;
            break;
        }
    }
    if delivered > 0 {
        counter!("souk_hints_delivered_total").increment(delivered);
        info!(target = target.0, delivered, "hints delivered");
    }
}

/// How many of a page arrived, and whether all did.
async fn deliver_page(
    handoff: &Handoff,
    target: NodeId,
    page: Vec<StoredHint>,
    pacer: &mut HandoffPacer,
) -> (u64, bool) {
    let mut waiting = page.into_iter().peekable();
    let mut on_the_way = FuturesUnordered::new();
    let mut delivered = 0;
    let mut failed = false;
    loop {
        while !failed && waiting.peek().is_some() && pacer.try_send() {
            if let Some(hint) = waiting.next() {
                on_the_way.push(deliver(handoff, target, hint));
            }
        }
        match on_the_way.next().await {
            Some(true) => {
                pacer.on_delivered();
                delivered += 1;
            }
            Some(false) => {
                pacer.on_timeout();
                failed = true;
            }
            None => return (delivered, !failed),
        }
    }
}

async fn deliver(handoff: &Handoff, target: NodeId, hint: StoredHint) -> bool {
    let write = WriteRecord {
        store_key: hint.key.key.clone(),
        record: hint.record.clone(),
    };
    let deadline = Instant::now() + DELIVERY_TIMEOUT;
    match handoff
        .cluster
        .call(target, Body::WriteRecord(write), deadline)
        .await
    {
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
            debug!(target = target.0, %cause, "a hint was not taken");
            false
        }
    }
}
