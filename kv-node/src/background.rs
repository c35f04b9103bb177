//! What a node does by itself: signs of life, and fetching newer layouts and catalogues that they tell of.

use std::{sync::Arc, time::Duration};

use souk_kv_core::tombstone::Generation;
use souk_kv_proto::peer::{Heartbeat, Hello, HelloReply, peer_message::Body};
use souk_kv_tls::Keyring;
use souk_ring::{LayoutEpoch, NodeId};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    core::NodeCore,
    http,
    members::{Greeting, Pulse},
    peer::{Lane, LinkEvents},
};

/// A sign of life that takes longer than this counts as none.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(2);
const METRICS_UPKEEP: Duration = Duration::from_secs(5);
/// Just above the shortest time between two looks, so that each of them is one.
const CERTIFICATES_LOOK: Duration = Duration::from_millis(1_050);
/// How long a stopping node spends on telling its peers.
const FAREWELL_TIMEOUT: Duration = Duration::from_millis(300);

/// Hears from the links, before and after the node is complete.
#[derive(Debug)]
pub(crate) struct LinkWatcher {
    core: Arc<NodeCore>,
}

impl LinkWatcher {
    pub(crate) fn new(core: Arc<NodeCore>) -> Self {
        Self { core }
    }
}

impl LinkEvents for LinkWatcher {
    fn hello(&self) -> Hello {
        let core = &self.core;
        let layout = core.cluster.layout();
        Hello {
            cluster_id: layout.cluster_id().to_string(),
            genesis_hash: layout.genesis_hash(),
            node_id: core.cluster.node.0,
            node_name: core.name.clone(),
            store_id: core.members.store_id_bytes(),
            layout_epoch: layout.epoch().0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            layout_hash: layout.placement_hash(),
            bulk: false,
            process: core.members.pulse().process,
            start: core.members.pulse().start,
        }
    }

    fn connected(&self, node: NodeId, lane: Lane, reply: &HelloReply) -> Result<(), String> {
        if reply.removed {
            let core = Arc::clone(&self.core);
            tokio::spawn(async move { core.members.note_removed().await });
            return Err("this node has left the cluster".to_owned());
        }
        if reply.forgotten {
            self.core.forget_own_store();
            return Err("an operator has given this node's store up".to_owned());
        }
        let catalogue = &self.core.cluster.catalogue;
        if catalogue.is_forgotten_store(&reply.store_id) {
            return Err("an operator has given its store up".to_owned());
        }
        // Whatever this node has lost, its work is to count as later than what the peer keeps out.
        let fence = Generation(reply.fence);
        self.core.cluster.in_flight.begin(fence);
        if reply.rolled_back {
            let core = Arc::clone(&self.core);
            tokio::spawn(async move { core.start_anew().await });
            return Err("it has heard more from this node's store than the store knows: an older copy of the data directory was put back, and the store takes a new identity".to_owned());
        }
        let pulse = Pulse {
            process: reply.process,
            start: reply.start,
        };
        match self.core.members.judge(node, &reply.store_id, pulse) {
            Greeting::Member => {}
            Greeting::Stranger => {
                let layout = self.core.cluster.layout();
                return Err(format!(
                    "it came back with another store than layout {} names: until it is taken in as a learner it is asked nothing. If its old data directory is still there, give it that one back",
                    layout.epoch()
                ));
            }
            Greeting::RolledBack => {
                return Err("it stands on an older copy of its data directory: until it is taken in as a learner it is asked nothing".to_owned());
            }
        }
        if lane == Lane::Foreground {
            self.core.cluster.health.link_up(node);
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
    core.cluster.health.told(node, &reply.sightings);
    if reply.genesis_agreed {
        core.members
            .catch_up(node, LayoutEpoch(reply.layout_epoch))
            .await;
    }
    if reply.catalogue_version > core.cluster.catalogue.version() {
        core.cluster.pull_catalogue(node).await;
    }
}

fn heartbeat_of(core: &NodeCore, leaving: bool) -> Body {
    Body::Heartbeat(Heartbeat {
        layout_epoch: core.cluster.layout().epoch().0,
        catalogue_version: core.cluster.catalogue.version(),
        genesis_agreed: core.members.is_agreed(),
        leaving,
        sightings: core.cluster.health.sightings(),
        pulse: core.members.pulse_count(),
    })
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

/// Takes new certificates up, and cuts off whose certificate has expired or was revoked.
pub(crate) async fn watch_certificates(keyring: Arc<Keyring>, stop: CancellationToken) {
    let mut ticks = interval(CERTIFICATES_LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => keyring.look(),
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
