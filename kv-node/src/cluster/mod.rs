//! Who is there, who seems up, and how to ask them.
//!
//! Place: shared by all coordinators and background jobs of a node.
//! Invariants: liveness is this node's own opinion and only steers whom it asks; it decides nothing
//! about ownership, which is the layout's.

#[cfg(test)]
pub(crate) mod bench;
mod catalogue;
mod durability;
mod health;

use std::sync::Arc;

use arc_swap::ArcSwap;
use souk_kv_core::membership::Health;
use souk_kv_proto::peer::{FetchCatalogue, peer_message::Body};
use souk_ring::{Layout, NodeId};
use tokio::time::{Duration, Instant};
use tracing::{debug, warn};

pub(crate) use catalogue::{Bucket, Catalogue, Mode};
pub(crate) use durability::Durabilities;
pub(crate) use health::{Detour, HealthBoard};

use crate::{
    clock::Environment,
    keys::tree_of_record,
    peer::{PeerError, Peers},
    tombstone::InFlight,
};

const CATALOGUE_TIMEOUT: Duration = Duration::from_secs(2);

/// What people call a node; its number when the layout has no such member.
pub(crate) fn name_of(layout: &Layout, node: NodeId) -> String {
    layout
        .member(node)
        .map_or_else(|| node.0.to_string(), |member| member.name.to_string())
}

/// The cluster as one node sees it.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) node: NodeId,
    pub(crate) environment: Environment,
    pub(crate) catalogue: Catalogue,
    pub(crate) health: HealthBoard,
    /// Work that sends records.
    pub(crate) in_flight: Arc<InFlight>,
    layout: ArcSwap<Layout>,
    peers: Peers,
}

impl Cluster {
    pub(crate) fn new(
        node: NodeId,
        environment: Environment,
        layout: Arc<Layout>,
        catalogue: Catalogue,
        health: HealthBoard,
        in_flight: Arc<InFlight>,
        peers: Peers,
    ) -> Self {
        Self {
            node,
            environment,
            catalogue,
            health,
            in_flight,
            layout: ArcSwap::new(layout),
            peers,
        }
    }

    /// The layout in force.
    pub(crate) fn layout(&self) -> Arc<Layout> {
        self.layout.load_full()
    }

    /// Changes it; `crate::members` does, once the new one is durable.
    pub(crate) fn set_layout(&self, layout: Arc<Layout>) {
        self.layout.store(layout);
    }

    /// Whether a member lost its store and is being taught what it knew: it counts in no quorum of registers,
    /// and what it lacks says nothing to a reader.
    pub(crate) fn is_learner(&self, node: NodeId) -> bool {
        self.layout.load().is_learner(node)
    }

    /// Whether a member's store was given up by an operator, and the layout names no other one yet. Nothing that such
    /// a store sends is taken, and it is asked for nothing.
    pub(crate) fn is_forgotten(&self, node: NodeId) -> bool {
        let store = self.layout.load().store_of(node);
        store.is_some_and(|store| self.catalogue.is_forgotten_store(&store.0))
    }

    pub(crate) fn peers(&self) -> &Peers {
        &self.peers
    }

    /// This node's opinion of a node; it never doubts itself.
    pub(crate) fn health_of(&self, node: NodeId) -> Health {
        if node == self.node {
            Health::Healthy
        } else if self.is_forgotten(node) {
            Health::Suspect
        } else {
            self.health.of(node)
        }
    }

    /// Whether a node seems able to answer.
    pub(crate) fn is_up(&self, node: NodeId) -> bool {
        self.health_of(node).is_up()
    }

    /// Asks a peer on the bulk lane. How long that takes says nothing about the peer: it lets background work wait.
    pub(crate) async fn call_in_bulk(
        &self,
        node: NodeId,
        body: Body,
        deadline: Instant,
    ) -> Result<Body, PeerError> {
        if self.is_forgotten(node) {
            return Err(PeerError::NotConnected);
        }
        self.peers.call_in_bulk(node, body, deadline).await
    }

    /// Asks a peer, and learns from how long it took.
    pub(crate) async fn call(
        &self,
        node: NodeId,
        body: Body,
        deadline: Instant,
    ) -> Result<Body, PeerError> {
        if self.is_forgotten(node) {
            return Err(PeerError::NotConnected);
        }
        let asked = Instant::now();
        let answer = self.peers.call(node, body, deadline).await;
        match &answer {
            Ok(_) => self.health.answered(node, asked.elapsed()),
            Err(PeerError::TimedOut) => self.health.timed_out(node, asked.elapsed()),
            Err(_) => {}
        }
        answer
    }

    /// The bucket of a stored record and who holds it; `None` when they are not known here.
    pub(crate) fn holders(&self, store_key: &[u8]) -> Option<(Arc<Bucket>, Vec<NodeId>)> {
        let tree = tree_of_record(store_key)?;
        let bucket = self.catalogue.by_id(tree.bucket)?;
        let layout = self.layout();
        if tree.partition.0 >= layout.partition_count().get() {
            return None;
        }
        let list = layout.preference_list(tree.partition);
        let primaries = list.primaries(bucket.replicas_n).to_vec();
        Some((bucket, primaries))
    }

    /// Fetches the bucket catalogue of a peer that has seen more of it. Without an answer nothing changes: the next
    /// sign of life tells of it again.
    pub(crate) async fn pull_catalogue(&self, node: NodeId) {
        let deadline = Instant::now() + CATALOGUE_TIMEOUT;
        let ask = Body::FetchCatalogue(FetchCatalogue {});
        match self.call(node, ask, deadline).await {
            Ok(Body::Catalogue(catalogue)) => {
                if let Err(cause) = self.catalogue.update(catalogue).await {
                    warn!(%cause, "a newer bucket catalogue could not be stored");
                }
            }
            Ok(_) => warn!(
                node = node.0,
                "a peer answered something else than its catalogue"
            ),
            Err(cause) => {
                debug!(node = node.0, %cause, "the catalogue of a peer could not be fetched");
            }
        }
    }
}
