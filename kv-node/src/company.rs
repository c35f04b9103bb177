//! Keeps company with the other members, whoever they are: links, signs of life and the delivery of hints for each,
//! and a name for each vnode that this node keeps.
//!
//! Place: one task per node; it looks whenever the layout has changed, and now and then besides.
//! Invariants: 1. there is one set of tasks for each other member, and none for anybody else. 2. all of them end when
//! the node stops.
//! Not here: what goes over the links, and which layout is in force (`crate::members`).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use souk_ring::{NodeId, PartitionId};
use tokio::{task::JoinSet, time::sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use crate::{
    background::{LinkWatcher, heartbeat_loop},
    core::NodeCore,
    hint::{Handoff, handoff_loop},
    peer::LinkOptions,
};

/// How often the layout is looked at although nobody said that it has changed.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What the tasks of a peer are started with.
#[derive(Debug)]
pub(crate) struct CompanyOptions {
    pub(crate) link: LinkOptions,
    /// Between two signs of life.
    pub(crate) heartbeat: Duration,
    pub(crate) tasks: TaskTracker,
    /// Ends signs of life and deliveries.
    pub(crate) draining: CancellationToken,
    /// Ends the links.
    pub(crate) stop: CancellationToken,
}

struct Company {
    core: Arc<NodeCore>,
    options: CompanyOptions,
    watcher: Arc<LinkWatcher>,
    handoff: Handoff,
    /// What ends the tasks of each peer.
    known: BTreeMap<NodeId, CancellationToken>,
    running: JoinSet<()>,
}

/// Keeps company until the node has stopped.
pub(crate) async fn keep_company(core: Arc<NodeCore>, options: CompanyOptions) {
    let mut company = Company {
        watcher: Arc::new(LinkWatcher::new(Arc::clone(&core))),
        handoff: Handoff {
            cluster: Arc::clone(&core.cluster),
            hints: Arc::clone(&core.hints),
            governor: Arc::clone(&core.governor),
        },
        core,
        options,
        known: BTreeMap::new(),
        running: JoinSet::new(),
    };
    let stop = company.options.stop.clone();
    while !stop.is_cancelled() {
        company.follow().await;
        tokio::select! {
            () = stop.cancelled() => {}
            () = sleep(LOOK_EVERY) => {}
            () = company.core.members.changed() => {}
        }
    }
    while company.running.join_next().await.is_some() {}
}

impl Company {
    async fn follow(&mut self) {
        while self.running.try_join_next().is_some() {}
        let layout = self.core.cluster.layout();
        let own = self.core.cluster.node;
        let gone: Vec<NodeId> = self
            .known
            .keys()
            .copied()
            .filter(|node| layout.member(*node).is_none())
            .collect();
        for node in gone {
            self.part(node);
        }
        for member in layout.members().values() {
            if member.id != own && !self.known.contains_key(&member.id) {
                let (name, address) = (member.name.as_str(), &member.grpc_address);
                self.core.cluster.peers().meet(member.id, name, address);
                self.start(member.id);
            }
        }
        let kept: Vec<PartitionId> = layout.kept_by(own).collect();
        if let Err(cause) = self.core.mint.follow(&kept).await {
            warn!(%cause, "the names of new vnodes could not be stored; writes of them are named as a visitor's");
        }
    }

    fn start(&mut self, node: NodeId) {
        let Some(lanes) = self.core.cluster.peers().lanes(node) else {
            return;
        };
        let ended = self.options.stop.child_token();
        for link in lanes.links() {
            let run = Arc::clone(link).run(
                self.options.link.clone(),
                Arc::clone(&self.watcher),
                ended.clone(),
            );
            self.running.spawn(run);
        }
        // These end with the draining of the node, or with the peer.
        let quiet = ended.clone();
        let heartbeats = heartbeat_loop(
            Arc::clone(&self.core),
            node,
            self.options.heartbeat,
            self.options.tasks.clone(),
            self.options.draining.clone(),
        );
        self.running.spawn(async move {
            tokio::select! {
                () = quiet.cancelled() => {}
                () = heartbeats => {}
            }
        });
        let quiet = ended.clone();
        let deliveries = handoff_loop(self.handoff.clone(), node, self.options.draining.clone());
        self.running.spawn(async move {
            tokio::select! {
                () = quiet.cancelled() => {}
                () = deliveries => {}
            }
        });
        self.known.insert(node, ended);
    }

    fn part(&mut self, node: NodeId) {
        info!(peer = node.0, "a node is no member any more");
        if let Some(ended) = self.known.remove(&node) {
            ended.cancel();
        }
        self.core.cluster.peers().part(node);
        self.core.cluster.health.forget(node);
    }
}
