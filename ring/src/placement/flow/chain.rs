//! Walks chains of shifts at current prices and carries them out, until none is left.
//!
//! A depth-first walk along edges that cost exactly the difference of their ends' prices. A place
//! from which no chain leads on is not entered again in the same sweep; a sweep that finds no
//! chain at all proves that there is none.
//!
//! Place: pure; the working step of [`super::fewest_moves`].
//! Source: Dinitz, Algorithm for solution of a problem of maximum flow, 1970 (blocking flows).
//! Invariants: 1. a chain passes each vertex once, so its shifts do not disturb each other and
//!   may be checked against the plan as it was before the chain. 2. every chain places one
//!   missing copy for good.
//! Not here: the prices ([`super::price`]).

use std::collections::BTreeMap;

use super::State;
use super::price::{Prices, UNREACHED, Vertex, holders};
use crate::placement::seed::mix;

/// Carries out chains until none at `prices` is left; answers how many there were.
pub(super) fn shift_all(state: &mut State<'_>, prices: &Prices) -> usize {
    let mut total = 0;
    loop {
        let found = Sweep::new(state, prices).run();
        total += found;
        if found == 0 {
            return total;
        }
    }
}

/// One change of the plan under construction.
#[derive(Clone, Copy, Debug)]
enum Edit {
    Gain { partition: usize, node: usize },
    Drop { partition: usize, node: usize },
}

/// One edge of a chain: at most a drop and a gain, and where it leads.
struct Step {
    edits: [Option<Edit>; 2],
    to: Vertex,
}

struct Sweep<'a, 'p> {
    state: &'a mut State<'p>,
    prices: &'a Prices,
    /// As of the start of the sweep; entries may have been dropped since.
    holders: Vec<Vec<usize>>,
    /// How far into its list of partitions each node has looked without success.
    looked: Vec<usize>,
    /// Nodes by zone and price that may still lead somewhere.
    open_nodes: BTreeMap<(usize, i32), Vec<usize>>,
    /// Nodes below their share, where chains end.
    ends: Vec<usize>,
    /// On the present chain, or known to lead nowhere.
    free_entered: Vec<bool>,
    node_entered: Vec<bool>,
    pool_entered: bool,
}

impl<'a, 'p> Sweep<'a, 'p> {
    fn new(state: &'a mut State<'p>, prices: &'a Prices) -> Self {
        let mut open_nodes: BTreeMap<(usize, i32), Vec<usize>> = BTreeMap::new();
        for (node, price) in prices
            .node
            .iter()
            .enumerate()
            .filter(|(_, p)| **p != UNREACHED)
        {
            open_nodes
                .entry((state.zone_of(node), *price))
                .or_default()
                .push(node);
        }
        Sweep {
            prices,
            holders: holders(state),
            looked: vec![0; state.problem.nodes.len()],
            open_nodes,
            ends: (0..state.problem.nodes.len())
                .filter(|n| state.is_below_share(*n))
                .collect(),
            free_entered: vec![false; state.problem.partitions_count],
            node_entered: vec![false; state.problem.nodes.len()],
            pool_entered: false,
            state,
        }
    }

    fn run(mut self) -> usize {
        let mut found = 0;
        for partition in 0..self.state.problem.partitions_count {
            found += self.place_all_owed(partition);
            while self.state.free[partition] > 0 && self.place_free(partition) {
                self.state.free[partition] -= 1;
                found += 1;
            }
        }
        found
    }

    /// Places the first copies that `partition` owes to zones, as far as chains for them exist.
    fn place_all_owed(&mut self, partition: usize) -> usize {
        let owed = self.state.owed[partition];
        let zones = (0..u8::BITS as usize).filter(|zone| owed & (1 << zone) != 0);
        let placed = zones.filter(|zone| {
            let placed = self.place_owed(partition, *zone);
            self.state.owed[partition] &= !(u8::from(placed) << zone);
            placed
        });
        placed.count()
    }

    /// Places the copy that `partition` owes to `zone`: there, or anywhere else once another
    /// chain has brought the zone its first copy.
    fn place_owed(&mut self, partition: usize, zone: usize) -> bool {
        while let Some(node) = self.find_gain(partition, zone, 0) {
            let gain = Edit::Gain { partition, node };
            if self.walk(Step {
                edits: [None, Some(gain)],
                to: Vertex::Node(node),
            }) {
                return true;
            }
        }
        self.state.zone_can_lose(partition, zone) && self.place_free(partition)
    }

    /// Places one more copy of `partition` in any zone with room.
    fn place_free(&mut self, partition: usize) -> bool {
        self.prices.free[partition] == 0
            && self.walk(Step {
                edits: [None, None],
                to: Vertex::Free(partition),
            })
    }

    /// Looks for a chain that begins with `first`, and carries it out if there is one.
    fn walk(&mut self, first: Step) -> bool {
        if self.is_entered(first.to) {
            return false;
        }
        self.set_entered(first.to, true);
        let mut chain = vec![first];
        while let Some(last) = chain.last() {
            let vertex = last.to;
            if self.is_end(vertex) {
                self.carry_out(&chain);
                return true;
            }
            match self.step_from(vertex) {
                Some(step) => {
                    self.set_entered(step.to, true);
                    chain.push(step);
                }
                None => {
                    self.close(vertex);
                    chain.pop();
                }
            }
        }
        false
    }

    fn carry_out(&mut self, chain: &[Step]) {
        for step in chain {
            self.set_entered(step.to, false);
            for edit in step.edits.into_iter().flatten() {
                self.apply(edit);
            }
        }
        match chain.last().map(|step| step.to) {
            Some(Vertex::Pool) => self.state.pool -= 1,
            Some(Vertex::Node(node)) if !self.state.is_below_share(node) => {
                self.ends.retain(|other| *other != node);
            }
            _ => {}
        }
    }

    fn apply(&mut self, edit: Edit) {
        match edit {
            Edit::Gain { partition, node } => {
                self.state.held[partition].push(node);
                self.state.loads[node] += 1;
            }
            Edit::Drop { partition, node } => {
                self.state.held[partition].retain(|owner| *owner != node);
                self.state.loads[node] -= 1;
            }
        }
    }

    /// Whether one copy more is welcome at `vertex`.
    fn is_end(&self, vertex: Vertex) -> bool {
        match vertex {
            Vertex::Free(_) => false,
            Vertex::Node(node) => self.state.is_below_share(node),
            Vertex::Pool => self.state.pool > 0,
        }
    }

    fn step_from(&mut self, vertex: Vertex) -> Option<Step> {
        match vertex {
            Vertex::Free(partition) => self.step_from_free(partition),
            Vertex::Node(node) => self.step_from_node(node),
            Vertex::Pool => self.step_from_pool(),
        }
    }

    fn step_from_free(&mut self, partition: usize) -> Option<Step> {
        let price = self.prices.free[partition];
        let node = self.find_end(partition, price).or_else(|| {
            let zones_count = self.state.problem.zones_count;
            let start = scattered_start(partition, zones_count, zones_count);
            (start..zones_count)
                .chain(0..start)
                .filter(|zone| self.state.zone_can_gain(partition, *zone))
                .find_map(|zone| self.find_gain(partition, zone, price))
        })?;
        let gain = Edit::Gain { partition, node };
        Some(Step {
            edits: [None, Some(gain)],
            to: Vertex::Node(node),
        })
    }

    fn step_from_node(&mut self, node: usize) -> Option<Step> {
        let price = self.prices.node[node];
        if !self.pool_entered && self.prices.pool == price && self.state.can_round_up(node) {
            return Some(Step {
                edits: [None, None],
                to: Vertex::Pool,
            });
        }
        let zone = self.state.zone_of(node);
        while let Some(&partition) = self.holders[node].get(self.looked[node]) {
            if self.state.holds(partition, node) {
                let dropped = price - self.state.cost(partition, node);
                let drop = Some(Edit::Drop { partition, node });
                if let Some(other) = self.find_gain(partition, zone, dropped) {
                    let gain = Some(Edit::Gain {
                        partition,
                        node: other,
                    });
                    return Some(Step {
                        edits: [drop, gain],
                        to: Vertex::Node(other),
                    });
                }
                if !self.free_entered[partition]
                    && self.prices.free[partition] == dropped
                    && self.state.zone_can_lose(partition, zone)
                {
                    return Some(Step {
                        edits: [drop, None],
                        to: Vertex::Free(partition),
                    });
                }
            }
            self.looked[node] += 1;
        }
        None
    }

    fn step_from_pool(&self) -> Option<Step> {
        let node = (0..self.state.problem.nodes.len()).find(|&node| {
            !self.node_entered[node]
                && self.prices.node[node] == self.prices.pool
                && self.state.can_round_down(node)
        })?;
        Some(Step {
            edits: [None, None],
            to: Vertex::Node(node),
        })
    }

    /// A node below its share that may take a copy of `partition`, had for `price`, at once. Looked
    /// for first, because longer chains at the same price uproot partitions that could stay.
    fn find_end(&self, partition: usize, price: i32) -> Option<usize> {
        let state = &*self.state;
        // Each further copy starts elsewhere again, lest neighbours in the list always pair up.
        let copies = state.held[partition].len();
        let start = scattered_start(partition, copies, self.ends.len());
        let (later, sooner) = self.ends.split_at(start);
        sooner.iter().chain(later).copied().find(|node| {
            self.prices.node[*node] == price + state.cost(partition, *node)
                && self.can_gain(partition, *node)
                && state.zone_can_gain(partition, state.zone_of(*node))
        })
    }

    /// A node of `zone` that may take a copy of `partition`, had for `price`, at its own price.
    fn find_gain(&self, partition: usize, zone: usize, price: i32) -> Option<usize> {
        let state = &*self.state;
        let mut before = state.previous[partition].iter().copied();
        let regains = |node: &usize| {
            state.zone_of(*node) == zone
                && self.prices.node[*node] == price
                && self.can_gain(partition, *node)
        };
        before.find(regains).or_else(|| {
            let nodes = self.open_nodes.get(&(zone, price + 1))?;
            let (later, sooner) = nodes.split_at(scattered_start(partition, zone, nodes.len()));
            let mut takers = sooner.iter().chain(later).copied();
            takers.find(|node| self.can_gain(partition, *node) && state.cost(partition, *node) == 1)
        })
    }

    fn can_gain(&self, partition: usize, node: usize) -> bool {
        !self.node_entered[node] && !self.state.holds(partition, node)
    }

    fn is_entered(&self, vertex: Vertex) -> bool {
        match vertex {
            Vertex::Free(partition) => self.free_entered[partition],
            Vertex::Node(node) => self.node_entered[node],
            Vertex::Pool => self.pool_entered,
        }
    }

    fn set_entered(&mut self, vertex: Vertex, entered: bool) {
        match vertex {
            Vertex::Free(partition) => self.free_entered[partition] = entered,
            Vertex::Node(node) => self.node_entered[node] = entered,
            Vertex::Pool => self.pool_entered = entered,
        }
    }

    /// Notes that `vertex` leads nowhere in this sweep: it stays entered, and out of the lists.
    fn close(&mut self, vertex: Vertex) {
        if let Vertex::Node(node) = vertex {
            let place = (self.state.zone_of(node), self.prices.node[node]);
            if let Some(nodes) = self.open_nodes.get_mut(&place) {
                nodes.retain(|other| *other != node);
            }
        }
    }
}

/// Where to begin looking through `count` takers. Partitions begin at different ones, so that
/// copies on the move scatter instead of travelling as a group.
fn scattered_start(partition: usize, salt: usize, count: usize) -> usize {
    (mix(partition, salt) % count.max(1) as u64) as usize
}
