//! Chooses the owners of every partition: fair, far apart, and with the fewest moves.
//!
//! Three questions, answered one after the other, each within what the earlier ones left open:
//!
//! 1. *How far apart?* ([`spread`]) No zone holds more copies of a partition than it has to.
//! 2. *How much for each node?* ([`share`]) Under that rule every node has one fair share, a
//!    fraction; a plan gives it that number of copies rounded down or up.
//! 3. *Which copies exactly?* ([`flow`]) Of all plans that keep to 1 and 2, one that keeps the
//!    most copies where they are, found as a minimum-cost flow.
//!
//! The first layout has no copies to keep; there a well-mixed deal ([`seed`]) plays the previous
//! layout. At last [`order`] decides who comes first in each list, so that coordination is fair too.
//!
//! Place: pure; called by [`crate::Layout::initial`] and [`crate::Layout::next`].
//! Source: Ahuja, Magnanti, Orlin, Network Flows, 1993, §9.7; the question is Garage's, whose
//!   answer (Auvolat, Optimal partition assignment in Garage, 2022) scales one size instead.
//! Invariants: 1. distinct nodes per partition. 2. `min(copies, zones)` distinct zones per
//!   partition. 3. equal input, equal plan.
//! Cost: with 1,000 nodes in ten zones and 65,536 partitions of three copies, on one core: a first layout in
//!   10 s, and 0.1 to 0.3 s for a node that joins or leaves, a zone of 100 nodes that leaves, or 100 nodes that
//!   double their weight (`cargo test --release -p souk-ring --test large -- --ignored --nocapture`).
//! Not here: who the members are, and carrying the plan out.

mod flow;
mod order;
mod seed;
mod share;
mod spread;

use std::collections::BTreeMap;

use crate::layout::{Layout, ReplicasN};
use crate::member::{Member, NodeId};
use crate::name::Name;
use crate::partition::PartitionCount;

/// A placement question with nodes and zones numbered from 0, members in ascending node id.
#[derive(Clone, Debug)]
struct Problem {
    partitions_count: usize,
    /// Copies of each partition, at most the number of nodes.
    copies_count: usize,
    nodes: Vec<Node>,
    zones_count: usize,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    zone: usize,
    weight: u64,
}

/// For each partition the nodes that hold it.
type Plan = Vec<Vec<usize>>;

/// The owners of all partitions end to end, `min(replicas_n, members)` for each partition.
/// `previous` is the layout to move away from; it has the same partition count.
pub(crate) fn plan(
    partition_count: PartitionCount,
    replicas_n: ReplicasN,
    members: &BTreeMap<NodeId, Member>,
    previous: Option<&Layout>,
) -> Vec<NodeId> {
    let problem = Problem::new(partition_count, replicas_n, members);
    let ids: Vec<NodeId> = members.keys().copied().collect();
    let previous = previous.map(|layout| surviving_owners(layout, &ids));
    let plan = solve(&problem, previous);
    plan.into_iter().flatten().map(|node| ids[node]).collect()
}

/// Answers `problem`; `previous` names the owners to keep where possible, in their order.
fn solve(problem: &Problem, previous: Option<Plan>) -> Plan {
    let spread = spread::Spread::of(problem);
    let shares = share::fair_shares(problem, &spread);
    let previous = previous.unwrap_or_else(|| seed::deal(problem, &spread, &shares));
    let chosen = flow::fewest_moves(problem, &spread, &shares, &previous);
    order::order(problem, chosen, &previous)
}

impl Problem {
    fn new(
        partition_count: PartitionCount,
        replicas_n: ReplicasN,
        members: &BTreeMap<NodeId, Member>,
    ) -> Problem {
        let mut zones: BTreeMap<&Name, usize> = BTreeMap::new();
        for member in members.values() {
            let zones_count = zones.len();
            zones.entry(&member.zone).or_insert(zones_count);
        }
        let node = |member: &Member| Node {
            zone: zones[&member.zone],
            weight: u64::from(member.weight.get()),
        };
        Problem {
            partitions_count: partition_count.get() as usize,
            copies_count: replicas_n.count().min(members.len()),
            nodes: members.values().map(node).collect(),
            zones_count: zones.len(),
        }
    }

    /// The nodes of each zone, in ascending order.
    fn nodes_by_zone(&self) -> Vec<Vec<usize>> {
        let mut zones = vec![Vec::new(); self.zones_count];
        for (index, node) in self.nodes.iter().enumerate() {
            zones[node.zone].push(index);
        }
        zones
    }

    /// How many of `owners` stand in `zone`.
    fn copies_in_zone(&self, owners: &[usize], zone: usize) -> usize {
        owners
            .iter()
            .filter(|owner| self.nodes[**owner].zone == zone)
            .count()
    }

    /// All partitions in a fixed order that jumps about, so that what is done to the first few
    /// of them does not hit neighbours.
    fn scattered_partitions(&self) -> impl Iterator<Item = usize> + use<> {
        // Odd, hence it reaches every residue of a power of two; the golden ratio scatters well.
        const STRIDE: usize = 0x9e37_79b1;
        let mask = self.partitions_count - 1;
        (0..self.partitions_count).map(move |step| step.wrapping_mul(STRIDE) & mask)
    }
}

/// The owners in `layout` that are still among `ids`, as indices into `ids`.
fn surviving_owners(layout: &Layout, ids: &[NodeId]) -> Plan {
    layout
        .partition_count()
        .partitions()
        .map(|partition| {
            let owners = layout.owners(partition).iter();
            owners
                .filter_map(|owner| ids.binary_search(owner).ok())
                .collect()
        })
        .collect()
}

#[cfg(test)]
#[path = "../placement_test.rs"]
mod tests;
