//! When rounds happen: without end with each other replica in turn, and at once when an operator asks.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use metrics::{counter, gauge};
use parking_lot::Mutex;
use souk_ring::{NodeId, PartitionId};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Forest, RoundError, Tally, Walker, exchange::Round};
use crate::{
    cluster::Cluster,
    governor::{Governor, Job},
    keys::BucketId,
    scrub::Mender,
    siblings::Records,
};

/// What comparing with other replicas needs.
#[derive(Debug)]
pub(crate) struct AntiEntropy {
    pub(super) cluster: Arc<Cluster>,
    pub(super) records: Arc<Records>,
    pub(super) forest: Arc<Forest>,
    pub(super) walker: Arc<Walker>,
    pub(super) governor: Arc<Governor>,
    pub(super) mender: Arc<Mender>,
    /// How long a difference has to last before anything is moved for it.
    pub(super) recheck: Duration,
    /// Whole rounds since the start, by peer.
    rounds: Mutex<BTreeMap<NodeId, u64>>,
}

impl AntiEntropy {
    pub(crate) fn new(
        cluster: Arc<Cluster>,
        records: Arc<Records>,
        forest: Arc<Forest>,
        walker: Arc<Walker>,
        governor: Arc<Governor>,
        mender: Arc<Mender>,
        recheck: Duration,
    ) -> Self {
        Self {
            cluster,
            records,
            forest,
            walker,
            governor,
            mender,
            recheck,
            rounds: Mutex::default(),
        }
    }

    /// The nodes that hold copies of what this node holds, in order.
    pub(crate) fn peers(&self) -> Vec<NodeId> {
        let layout = self.cluster.layout();
        let node = self.cluster.node;
        let shares = |peer: &NodeId| {
            layout
                .kept_by(node)
                .any(|partition| layout.receivers(partition, usize::MAX).contains(peer))
        };
        let members = layout.members().keys().copied();
        members
            .filter(|peer| *peer != node && shares(peer))
            .collect()
    }

    /// Vnodes that this node and a peer both hold.
    pub(crate) fn vnodes_shared(&self, peer: NodeId) -> u64 {
        let layout = self.cluster.layout();
        let shared = layout
            .kept_by(self.cluster.node)
            .filter(|partition| layout.receivers(*partition, usize::MAX).contains(&peer));
        shared.count() as u64
    }

    /// One round with one peer; also what was done until it failed.
    pub(crate) async fn round(
        &self,
        peer: NodeId,
        only: Option<BucketId>,
        told: &mut (dyn FnMut(&Tally) + Send),
    ) -> (Tally, Result<(), RoundError>) {
        let mut round = Round {
            parts: self,
            peer,
            only,
            only_vnode: None,
            tally: Tally::default(),
        };
        let result = round.run(told).await;
        round.tally.publish();
        if result.is_ok() && only.is_none() && round.tally.vnodes_unready == 0 {
            *self.rounds.lock().entry(peer).or_default() += 1;
        }
        (round.tally, result)
    }

    /// Compares one vnode with one peer, and brings together what differs.
    pub(crate) async fn compare_vnode(
        &self,
        peer: NodeId,
        partition: PartitionId,
    ) -> (Tally, Result<(), RoundError>) {
        let mut round = Round {
            parts: self,
            peer,
            only: None,
            only_vnode: Some(partition),
            tally: Tally::default(),
        };
        let result = round.run(&mut |_| {}).await;
        round.tally.publish();
        (round.tally, result)
    }

    /// Whether every vnode was compared with that peer since this node started.
    pub(crate) fn has_compared_with(&self, peer: NodeId) -> bool {
        self.rounds.lock().contains_key(&peer)
    }

    /// Judges the leaves that seem wrong.
    pub(crate) async fn check_suspects(&self) {
        for partition in self.forest.suspects() {
            match self.walker.check(partition, Job::AntiEntropy).await {
                Ok(report) => report
                    .damaged
                    .into_iter()
                    .for_each(|key| self.mender.note(key)),
                Err(cause) => {
                    debug!(%cause, "a tree cannot be checked now");
                    return;
                }
            }
        }
    }
}

/// Compares with each other replica in turn, until `stop`.
pub(crate) async fn anti_entropy_loop(
    parts: Arc<AntiEntropy>,
    pause: Duration,
    stop: CancellationToken,
) {
    let work = async {
        loop {
            parts.check_suspects().await;
            // First, so that a cluster which has just started is left alone.
            sleep(pause).await;
            let mut uncompared = 0;
            for peer in parts.peers() {
                if parts.cluster.is_up(peer) {
                    run_round(&parts, peer).await;
                }
                uncompared += u32::from(!parts.has_compared_with(peer));
            }
            gauge!("souk_anti_entropy_peers_uncompared").set(f64::from(uncompared));
            parts.mender.mend_noted().await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}

async fn run_round(parts: &AntiEntropy, peer: NodeId) {
    let (tally, result) = parts.round(peer, None, &mut |_| {}).await;
    if tally.keys_fetched + tally.keys_pushed > 0 {
        info!(
            peer = peer.0,
            keys_fetched = tally.keys_fetched,
            keys_pushed = tally.keys_pushed,
            bytes_sent = tally.bytes_sent,
            bytes_received = tally.bytes_received,
            "replicas differed and were brought together"
        );
    }
    match result {
        Ok(()) => {}
        Err(RoundError::Peer(cause)) => {
            counter!("souk_anti_entropy_rounds_failed_total").increment(1);
            debug!(peer = peer.0, %cause, "a comparison ended early");
        }
        Err(cause) => {
            counter!("souk_anti_entropy_rounds_failed_total").increment(1);
            warn!(peer = peer.0, %cause, "a comparison ended early");
        }
    }
}
