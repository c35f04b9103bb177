//! What a node does by itself: signs of life, agreeing on the first layout, pulling newer catalogues.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use parking_lot::Mutex;
use souk_kv_proto::peer::{FetchCatalogue, Heartbeat, HelloReply, peer_message::Body};
use souk_ring::NodeId;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, error, info, warn};

use crate::{
    answer::KnownStores,
    core::NodeCore,
    http,
    peer::{Lane, LinkEvents},
};

/// A sign of life that takes longer than this counts as none.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(2);
const METRICS_UPKEEP: Duration = Duration::from_secs(5);
const FETCH_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a stopping node spends on telling its peers.
const FAREWELL_TIMEOUT: Duration = Duration::from_millis(300);

/// Hears from the links, before and after the node is complete.
#[derive(Debug)]
pub(crate) struct LinkWatcher {
    core: Arc<NodeCore>,
    stores: Arc<KnownStores>,
    /// Initial members that have not greeted back yet.
    awaited: Mutex<BTreeSet<NodeId>>,
}

impl LinkWatcher {
    pub(crate) fn new(core: Arc<NodeCore>, stores: Arc<KnownStores>) -> Self {
        let own = core.cluster.node;
        let awaited: BTreeSet<NodeId> = core
            .cluster
            .layout()
            .members()
            .keys()
            .copied()
            .filter(|node| *node != own)
            .collect();
        Self {
            core,
            stores,
            awaited: Mutex::new(awaited),
        }
    }
}

impl LinkEvents for LinkWatcher {
    fn connected(&self, node: NodeId, lane: Lane, reply: &HelloReply) -> Result<(), String> {
        let layout = self.core.cluster.layout();
        let name = layout
            .member(node)
            .map_or("", |member| member.name.as_str());
        self.stores.check(node, name, &reply.store_id)?;
        if lane == Lane::Bulk {
            return Ok(());
        }
        self.core.cluster.health.link_up(node);
        let all_greeted = {
            let mut awaited = self.awaited.lock();
            if reply.genesis_stored {
                awaited.remove(&node);
            }
            awaited.is_empty()
        };
        if all_greeted {
            agree(&self.core.agreed);
        }
        Ok(())
    }

    fn disconnected(&self, node: NodeId, lane: Lane) {
        // Without the bulk lane it can still be asked; background work waits for the lane by itself.
        if lane == Lane::Foreground {
            self.core.cluster.health.link_down(node);
        }
    }
}

fn agree(agreed: &watch::Sender<bool>) {
    agreed.send_if_modified(|agreed| !std::mem::replace(agreed, true));
}

/// Writes the agreement down once it is reached.
pub(crate) async fn write_down_agreement(core: Arc<NodeCore>) {
    if core.identity.genesis_agreed {
        return;
    }
    let mut agreed = core.agreed.subscribe();
    if agreed.wait_for(|agreed| *agreed).await.is_err() {
        return;
    }
    match core.identity.agree(&core.store).await {
        Ok(()) => info!("all initial members have stored the same first layout"),
        Err(cause) => error!(%cause, "the agreement on the first layout could not be written down"),
    }
}

/// Sends a peer signs of life until `stop`, and learns from its answers.
pub(crate) async fn heartbeat_loop(
    core: Arc<NodeCore>,
    node: NodeId,
    period: Duration,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if !core.cluster.peers().is_connected(node) {
            continue;
        }
        let core = Arc::clone(&core);
        // Not awaited here: a slow answer must not delay the next sign of life.
        tasks.spawn(async move { heartbeat(&core, node).await });
    }
}

async fn heartbeat(core: &NodeCore, node: NodeId) {
    let sign = heartbeat_of(core, false);
    let deadline = Instant::now() + HEARTBEAT_TIMEOUT;
    let Ok(Body::HeartbeatReply(reply)) = core.cluster.peers().call(node, sign, deadline).await
    else {
        return;
    };
    core.cluster.health.heartbeat(node);
    if reply.genesis_agreed {
        agree(&core.agreed);
    }
    if reply.catalogue_version > core.cluster.catalogue.version() {
        pull_catalogue(core, node).await;
    }
}

fn heartbeat_of(core: &NodeCore, leaving: bool) -> Body {
    Body::Heartbeat(Heartbeat {
        layout_epoch: core.cluster.layout().epoch().0,
        catalogue_version: core.cluster.catalogue.version(),
        genesis_agreed: *core.agreed.borrow(),
        leaving,
    })
}

async fn pull_catalogue(core: &NodeCore, node: NodeId) {
    let deadline = Instant::now() + FETCH_TIMEOUT;
    match core
        .cluster
        .call(node, Body::FetchCatalogue(FetchCatalogue {}), deadline)
        .await
    {
        Ok(Body::Catalogue(catalogue)) => {
            if let Err(cause) = core.cluster.catalogue.update(catalogue).await {
                warn!(%cause, "a newer bucket catalogue could not be stored");
            }
        }
        Ok(_) => warn!(
            node = node.0,
            "a peer answered something else than its catalogue"
        ),
        Err(cause) => debug!(node = node.0, %cause, "the catalogue of a peer could not be fetched"),
    }
}

/// Lets the histograms forget what is older than their window; without it they grow until they are read.
pub(crate) async fn keep_metrics_small(stop: CancellationToken) {
    let mut ticks = interval(METRICS_UPKEEP);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => if let Some(metrics) = http::start_counting() {
                metrics.run_upkeep();
            }
        }
    }
}

/// Tells all peers that this node stops, so that they need not find out.
pub(crate) async fn say_farewell(core: &NodeCore) {
    let deadline = Instant::now() + FAREWELL_TIMEOUT;
    let told = core.cluster.peers().nodes().map(|node| {
        core.cluster
            .peers()
            .call(node, heartbeat_of(core, true), deadline)
    });
    // Best effort: a peer that does not hear it will notice the broken link.
    let _ = timeout(FAREWELL_TIMEOUT, futures::future::join_all(told)).await;
}
