//! Keeps out what a peer sent before it said that all of that was over.
//!
//! Waiting until every earlier message has arrived would need links that keep their order over lanes, priorities and
//! reconnections, and could still not cover the last words of a process that has died. Refusing late messages by the
//! generation that they carry needs nothing of the kind.
//!
//! Place: pure; one per node, asked for every record that a peer sends.
//! Invariants: 1. a fence only rises. 2. it is enough to keep fences in memory: a node that restarts has no
//! connection through which an earlier message could still come.

use std::collections::BTreeMap;

use souk_ring::NodeId;

use super::Generation;

/// The lowest generation that is still taken, per peer.
#[derive(Clone, Debug, Default)]
pub struct Fences {
    lowest: BTreeMap<NodeId, Generation>,
}

impl Fences {
    /// From now on refuses what a peer began before that generation.
    pub fn raise(&mut self, peer: NodeId, lowest: Generation) {
        let held = self.lowest.entry(peer).or_default();
        *held = (*held).max(lowest);
    }

    /// Whether a message of that generation is taken. Enter the ledger of arrivals first, then ask: a fence that rises
    /// between the two is sure to wait.
    #[must_use]
    pub fn admits(&self, peer: NodeId, generation: Generation) -> bool {
        generation >= self.lowest_of(peer)
    }

    /// What the peer is told in the greeting, so that it goes on above it, whatever it has lost.
    #[must_use]
    pub fn lowest_of(&self, peer: NodeId) -> Generation {
        self.lowest.get(&peer).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_keeps_out_earlier_work_of_its_peer_only() {
        let mut fences = Fences::default();
        let (one, other) = (NodeId(1), NodeId(2));
        assert!(fences.admits(one, Generation(0)));
        fences.raise(one, Generation(7));
        fences.raise(one, Generation(3));
        assert!(!fences.admits(one, Generation(6)));
        assert!(fences.admits(one, Generation(7)));
        assert!(fences.admits(other, Generation(0)));
    }
}
