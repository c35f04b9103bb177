//! Layouts in and out: told to others, asked of others, adopted when newer.
//!
//! Place: I/O. Whoever hears of a newer epoch, in a heartbeat or a refusal, fetches the layout from who
//! told it; whoever has adopted one tells all others at once. What is lost on the way comes with the next heartbeat.

use std::{sync::Arc, time::Duration};

use souk_kv_proto::{
    convert::layout::{layout_from_wire, layout_to_wire},
    peer::{FetchLayout, LayoutState, peer_message::Body},
};
use souk_ring::{LayoutEpoch, NodeId};
use tokio::time::Instant;
use tracing::{debug, error, warn};

use super::Members;

/// How long a peer may take to tell its layout.
const TELL_TIMEOUT: Duration = Duration::from_secs(2);

impl Members {
    /// This node's layout, as it is told.
    pub(crate) fn state(&self) -> LayoutState {
        LayoutState {
            layout: Some(layout_to_wire(&self.cluster.layout())),
            agreed: self.is_agreed(),
        }
    }

    /// Takes in what a peer told of its layout.
    pub(crate) async fn note(&self, from: NodeId, state: LayoutState) {
        let layout = match layout_from_wire(state.layout.unwrap_or_default()) {
            Ok(layout) => layout,
            Err(cause) => {
                warn!(from = from.0, %cause, "a peer told a damaged layout");
                return;
            }
        };
        if state.agreed {
            if let Err(cause) = self.adopt(&layout).await {
                error!(%cause, epoch = layout.epoch().0, "a newer layout could not be stored");
            }
        } else if layout.is_founded() && layout.epoch() == LayoutEpoch::FIRST {
            self.stored_by.lock().insert(from, layout.hash());
        }
    }

    /// Asks a peer for its layout, and adopts it if it is newer.
    pub(crate) async fn pull(&self, from: NodeId) {
        let deadline = Instant::now() + TELL_TIMEOUT;
        let asked = Body::FetchLayout(FetchLayout {});
        match self.cluster.peers().call(from, asked, deadline).await {
            Ok(Body::LayoutState(state)) => self.note(from, state).await,
            Ok(_) => warn!(
                from = from.0,
                "a peer answered something else than its layout"
            ),
            Err(cause) => {
                debug!(from = from.0, %cause, "the layout of a peer could not be fetched")
            }
        }
    }

    /// Comes up to an epoch that `from` has told of.
    pub(crate) async fn catch_up(&self, from: NodeId, epoch: LayoutEpoch) {
        if epoch > self.epoch() || !self.is_agreed() {
            self.pull(from).await;
        }
    }

    /// Comes up to an epoch that somebody has told of.
    pub(crate) async fn catch_up_somewhere(&self, epoch: LayoutEpoch) {
        let peers: Vec<NodeId> = self.cluster.peers().nodes().collect();
        for node in peers {
            self.catch_up(node, epoch).await;
        }
    }

    /// Tells all peers, without waiting for them.
    pub(crate) fn announce(&self) {
        for node in self.cluster.peers().nodes() {
            let (cluster, state) = (Arc::clone(&self.cluster), self.state());
            tokio::spawn(async move {
                let deadline = Instant::now() + TELL_TIMEOUT;
                // Who does not hear it will hear it from a heartbeat.
                let _ = cluster
                    .peers()
                    .call(node, Body::LayoutState(state), deadline)
                    .await;
            });
        }
    }
}
