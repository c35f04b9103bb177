//! The order in which nodes are asked for a partition: primaries first, then fallbacks.
//!
//! Primaries are the planned owners. Fallbacks are everybody else, ready to stand in for an
//! absent primary; they come zone by zone, so that the first stand-ins restore the spread over
//! zones, and in an order of their own for each partition, so that one dead node's work scatters
//! over all survivors instead of landing on a single neighbour.
//!
//! Place: pure; made by [`crate::Layout::preference_list`]; used by `kv_core::quorum`, `kv_client`.
//! Source: DeCandia et al., Dynamo, SOSP 2007, §4.3, §4.6; Thaler, Ravishankar, Using name-based
//!   mappings to increase hit rates, 1998 (rendezvous hashing).
//! Invariants: 1. every member exactly once. 2. equal layout and partition give an equal list.
//! Not here: skipping nodes that seem down (`kv_core::membership` does).

use std::collections::BTreeMap;
use std::hash::Hasher;

use siphasher::sip::SipHasher24;

use crate::layout::ReplicasN;
use crate::member::{Member, NodeId};
use crate::name::Name;
use crate::partition::PartitionId;

const FALLBACK_KEY_0: u64 = u64::from_be_bytes(*b"souk-rin");
const FALLBACK_KEY_1: u64 = u64::from_be_bytes(*b"g-fallb1");

/// All members in the order to ask them for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreferenceList {
    nodes: Box<[NodeId]>,
    owners_count: usize,
}

impl PreferenceList {
    /// The list of `partition`: its `owners` in the planned order, then all other members.
    pub(crate) fn new(
        partition: PartitionId,
        owners: &[NodeId],
        members: &BTreeMap<NodeId, Member>,
    ) -> PreferenceList {
        let mut zone_uses: BTreeMap<&Name, u32> = BTreeMap::new();
        for owner in owners {
            *zone_uses.entry(&members[owner].zone).or_default() += 1;
        }
        let mut others: Vec<(u64, &Member)> = members
            .values()
            .filter(|member| !owners.contains(&member.id))
            .map(|member| (rendezvous_score(partition, member.id), member))
            .collect();
        others.sort_unstable_by_key(|(score, member)| (*score, member.id));

        // Each zone deals out its nodes in score order; a node's round is how many nodes of its
        // zone come before it in the whole list. Least-used zones are thus always asked first.
        let mut ranked: Vec<(u32, u64, NodeId)> = others
            .into_iter()
            .map(|(score, member)| {
                let round = zone_uses.entry(&member.zone).or_default();
                *round += 1;
                (*round, score, member.id)
            })
            .collect();
        ranked.sort_unstable();

        let fallbacks = ranked.into_iter().map(|(_, _, id)| id);
        let nodes = owners.iter().copied().chain(fallbacks).collect();
        PreferenceList {
            nodes,
            owners_count: owners.len(),
        }
    }

    /// The nodes meant to hold a key of a bucket with `replicas_n` copies, natural coordinator
    /// first. Shorter than `replicas_n` when the layout plans fewer copies or has fewer members.
    pub fn primaries(&self, replicas_n: ReplicasN) -> &[NodeId] {
        &self.nodes[..self.primaries_count(replicas_n)]
    }

    /// The nodes that may stand in for an absent primary, in order: planned owners beyond
    /// `replicas_n` first, then every other member.
    pub fn fallbacks(&self, replicas_n: ReplicasN) -> &[NodeId] {
        &self.nodes[self.primaries_count(replicas_n)..]
    }

    /// Every member once: primaries, then fallbacks.
    pub fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }

    fn primaries_count(&self, replicas_n: ReplicasN) -> usize {
        replicas_n.count().min(self.owners_count)
    }
}

/// How eagerly `node` stands in for `partition`: lower comes first, and no two partitions agree.
fn rendezvous_score(partition: PartitionId, node: NodeId) -> u64 {
    let mut hasher = SipHasher24::new_with_keys(FALLBACK_KEY_0, FALLBACK_KEY_1);
    hasher.write(&partition.0.to_le_bytes());
    hasher.write(&node.0.to_le_bytes());
    hasher.finish()
}

#[cfg(test)]
#[path = "preference_test.rs"]
mod tests;
