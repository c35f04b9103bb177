//! All peers side by side: slowness is relative, so nobody can be judged slow alone.
//!
//! Place: pure; one per node, fed and asked by its driver.
//! Invariants: 1. an unknown peer is suspect. 2. a peer is demoted only against the median of the available others,
//! so when all are slow nobody is. 3. iteration is in node order.

use std::collections::BTreeMap;
use std::time::Duration;

use souk_ring::NodeId;

use super::{Health, PeerHealth, PhiOptions, PhiOptionsError};

/// How to judge peers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PeersOptions {
    /// How to judge silence.
    pub phi: PhiOptions,
    /// A peer is demoted when its latency exceeds the median of the others this many times, from 1.
    pub demote_factor: u32,
    /// And only when it is at least this much above that median: below it, the difference does not matter to anybody.
    pub demote_margin: Duration,
}

impl Default for PeersOptions {
    fn default() -> PeersOptions {
        PeersOptions {
            phi: PhiOptions::default(),
            demote_factor: 3,
            demote_margin: Duration::from_millis(10),
        }
    }
}

/// This node's opinions of all its peers.
#[derive(Clone, Debug)]
pub struct Peers {
    options: PeersOptions,
    peers: BTreeMap<NodeId, PeerHealth>,
}

impl Peers {
    /// Nobody known yet.
    ///
    /// # Errors
    /// [`PhiOptionsError`] when an option is out of its range.
    pub fn new(options: PeersOptions) -> Result<Peers, PhiOptionsError> {
        options.phi.validated()?;
        Ok(Peers {
            options,
            peers: BTreeMap::new(),
        })
    }

    /// The evidence about `node`, to add to; begins with a peer that has no link.
    pub fn peer(&mut self, node: NodeId) -> &mut PeerHealth {
        self.peers.entry(node).or_insert_with(|| {
            PeerHealth::new(self.options.phi).expect("the options were checked by Peers::new")
        })
    }

    /// Forgets a node that left the layout.
    pub fn remove(&mut self, node: NodeId) {
        self.peers.remove(&node);
    }

    /// The opinion of `node` at `now`.
    #[must_use]
    pub fn health(&self, node: NodeId, now: Duration) -> Health {
        match self.peers.get(&node) {
            Some(peer) if peer.is_available(now) => {
                if self.is_slow(node, peer, now) {
                    Health::Demoted
                } else {
                    Health::Healthy
                }
            }
            Some(_) | None => Health::Suspect,
        }
    }

    /// The evidence about every known peer, in node order, for status pages and metrics.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &PeerHealth)> {
        self.peers.iter().map(|(&node, peer)| (node, peer))
    }

    fn is_slow(&self, node: NodeId, peer: &PeerHealth, now: Duration) -> bool {
        let Some(latency) = peer.latency() else {
            return false;
        };
        let others = self
            .peers
            .iter()
            .filter(|&(&other, health)| other != node && health.is_available(now));
        let mut others: Vec<Duration> = others.filter_map(|(_, health)| health.latency()).collect();
        if others.is_empty() {
            return false;
        }
        others.sort_unstable();
        // The lower median: with two others, the faster one is the measure.
        let typical = others[(others.len() - 1) / 2];
        latency > typical * self.options.demote_factor
            && latency > typical + self.options.demote_margin
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Duration = Duration::from_secs(100);

    fn peers_with(latencies_ms: &[u64]) -> Peers {
        let mut peers = Peers::new(PeersOptions::default()).expect("the defaults are valid");
        for (index, &latency) in latencies_ms.iter().enumerate() {
            let peer = peers.peer(NodeId(index as u32 + 1));
            peer.link_up(NOW);
            peer.heartbeat(NOW);
            peer.answered(Duration::from_millis(latency));
        }
        peers
    }

    fn check(latencies_ms: &[u64], expected: &[Health]) {
        let peers = peers_with(latencies_ms);
        let seen: Vec<Health> = peers
            .iter()
            .map(|(node, _)| peers.health(node, NOW))
            .collect();
        assert_eq!(seen, expected, "{latencies_ms:?}");
    }

    use Health::{Demoted, Healthy, Suspect};

    #[test]
    fn only_the_outlier_is_demoted() {
        check(&[5, 5, 200], &[Healthy, Healthy, Demoted]);
        check(&[200, 200, 200], &[Healthy; 3]);
        check(&[1, 1, 8], &[Healthy; 3]);
        check(&[500], &[Healthy]);
        check(&[5, 500], &[Healthy, Demoted]);
    }

    #[test]
    fn a_closed_link_is_suspect_at_once_and_an_open_one_recovers() {
        let mut peers = peers_with(&[5, 5]);
        let node = NodeId(1);
        peers.peer(node).link_down();
        assert_eq!(peers.health(node, NOW), Suspect);
        peers.peer(node).heartbeat(NOW);
        assert_eq!(
            peers.health(node, NOW),
            Suspect,
            "a late heartbeat does not open a link"
        );
        let later = NOW + Duration::from_secs(60);
        peers.peer(node).link_up(later);
        assert_eq!(peers.health(node, later), Healthy);
    }

    #[test]
    fn silence_on_an_open_link_becomes_suspect_and_a_stranger_always_is() {
        let mut peers = peers_with(&[5]);
        assert_eq!(
            peers.health(NodeId(1), NOW + Duration::from_secs(5)),
            Suspect
        );
        assert_eq!(peers.health(NodeId(9), NOW), Suspect);
        peers.remove(NodeId(1));
        assert_eq!(peers.health(NodeId(1), NOW), Suspect);
    }

    #[test]
    fn a_dead_peer_is_no_measure_of_speed() {
        // The fast one is dead: the other two, equally slow, are what there is.
        let mut peers = peers_with(&[1, 300, 300]);
        peers.peer(NodeId(1)).link_down();
        assert_eq!(peers.health(NodeId(2), NOW), Healthy);
    }

    proptest! {
        #[test]
        fn somebody_available_is_always_healthy(latencies in prop::collection::vec(0..10_000u64, 1..9)) {
            let peers = peers_with(&latencies);
            prop_assert!(peers.iter().any(|(node, _)| peers.health(node, NOW) == Healthy));
        }
    }
}
