//! The failure detector's driver: feeds it what the links see, and keeps its opinions at hand.

use std::{fmt, time::Duration};

use parking_lot::Mutex;
use souk_kv_core::membership::{Health, Peers as Opinions, PeersOptions, PhiOptions};
use souk_ring::NodeId;
use tokio::time::Instant;

use crate::config::FailureDetection;

/// What is known of one peer, for status pages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PeerOpinion {
    pub(crate) health: Health,
    pub(crate) phi: f64,
    pub(crate) latency: Option<Duration>,
}

/// Opinions of all peers.
pub(crate) struct HealthBoard {
    started: Instant,
    opinions: Mutex<Opinions>,
}

impl fmt::Debug for HealthBoard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("HealthBoard")
    }
}

impl HealthBoard {
    pub(crate) fn new(options: &FailureDetection) -> Self {
        let phi = PhiOptions {
            threshold: options.phi_threshold,
            pause_acceptable: options.acceptable_pause,
            interval_expected: options.heartbeat,
            ..PhiOptions::default()
        };
        let opinions = Opinions::new(PeersOptions {
            phi,
            ..PeersOptions::default()
        })
        .expect("cluster.toml was checked against narrower ranges");
        Self {
            started: Instant::now(),
            opinions: Mutex::new(opinions),
        }
    }

    pub(crate) fn of(&self, node: NodeId) -> Health {
        self.opinions.lock().health(node, self.started.elapsed())
    }

    pub(crate) fn opinion(&self, node: NodeId) -> PeerOpinion {
        let now = self.started.elapsed();
        let mut opinions = self.opinions.lock();
        let health = opinions.health(node, now);
        let peer = opinions.peer(node);
        PeerOpinion {
            health,
            phi: peer.phi(now),
            latency: peer.latency(),
        }
    }

    pub(crate) fn link_up(&self, node: NodeId) {
        self.opinions
            .lock()
            .peer(node)
            .link_up(self.started.elapsed());
    }

    pub(crate) fn link_down(&self, node: NodeId) {
        self.opinions.lock().peer(node).link_down();
    }

    pub(crate) fn heartbeat(&self, node: NodeId) {
        self.opinions
            .lock()
            .peer(node)
            .heartbeat(self.started.elapsed());
    }

    pub(crate) fn answered(&self, node: NodeId, waited: Duration) {
        self.opinions.lock().peer(node).answered(waited);
    }
}
