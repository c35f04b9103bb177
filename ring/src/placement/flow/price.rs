//! What it costs to get one more copy to each place, by the cheapest chain of shifts.
//!
//! Place: pure; computed anew by [`super::fewest_moves`] whenever no chain at current prices is left.
//! Source: Bellman, On a routing problem, 1958; lowest price first, as in Dijkstra, with a second
//!   look where undoing an earlier shift (price -1) turns out cheaper.
//! Shape: a price per vertex in moved copies; [`UNREACHED`] where no chain leads.
//! Invariants: 1. no edge leads to a place for less than the place's price.
//! Not here: walking the chains ([`super::chain`]).

use std::collections::BTreeMap;

use super::State;

/// The price of a place to which no chain leads.
pub(super) const UNREACHED: i32 = i32::MAX;

/// A place that a chain of shifts passes; see [`super`] for the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vertex {
    /// A partition has a copy to place in any zone with room.
    Free(usize),
    /// A node has a copy too many.
    Node(usize),
    /// One more node rounds up.
    Pool,
}

/// The lowest price of every vertex.
pub(super) struct Prices {
    pub(super) free: Vec<i32>,
    pub(super) node: Vec<i32>,
    pub(super) pool: i32,
}

impl Prices {
    pub(super) fn of(state: &State<'_>) -> Prices {
        let mut search = Search {
            state,
            holders: holders(state),
            prices: Prices {
                free: vec![UNREACHED; state.problem.partitions_count],
                node: vec![UNREACHED; state.problem.nodes.len()],
                pool: UNREACHED,
            },
            zone_highest: vec![UNREACHED; state.problem.zones_count],
            agenda: BTreeMap::new(),
        };
        search.start();
        while let Some((price, vertex)) = search.pop_cheapest() {
            search.expand(vertex, price);
        }
        search.prices
    }

    pub(super) fn get(&self, vertex: Vertex) -> i32 {
        match vertex {
            Vertex::Free(partition) => self.free[partition],
            Vertex::Node(node) => self.node[node],
            Vertex::Pool => self.pool,
        }
    }
}

/// For each node the partitions it holds.
pub(super) fn holders(state: &State<'_>) -> Vec<Vec<usize>> {
    let mut holders = vec![Vec::new(); state.problem.nodes.len()];
    for (partition, owners) in state.held.iter().enumerate() {
        owners
            .iter()
            .for_each(|node| holders[*node].push(partition));
    }
    holders
}

struct Search<'a> {
    state: &'a State<'a>,
    holders: Vec<Vec<usize>>,
    prices: Prices,
    /// No node of the zone is dearer than this: lets most scans of a zone end before they start.
    zone_highest: Vec<i32>,
    /// Vertices to expand by price; entries whose price has fallen since are skipped.
    agenda: BTreeMap<i32, Vec<Vertex>>,
}

impl Search<'_> {
    fn start(&mut self) {
        for partition in 0..self.state.problem.partitions_count {
            if self.state.free[partition] > 0 {
                self.offer(Vertex::Free(partition), 0);
            }
            if self.state.owed[partition] != 0 {
                for zone in 0..self.state.problem.zones_count {
                    if self.state.owes(partition, zone) {
                        self.offer_zone(partition, zone, 0);
                        if self.state.zone_can_lose(partition, zone) {
                            self.offer(Vertex::Free(partition), 0);
                        }
                    }
                }
            }
        }
    }

    fn pop_cheapest(&mut self) -> Option<(i32, Vertex)> {
        loop {
            let mut entry = self.agenda.first_entry()?;
            let price = *entry.key();
            match entry.get_mut().pop() {
                Some(vertex) if self.prices.get(vertex) == price => return Some((price, vertex)),
                Some(_) => {}
                None => drop(entry.remove()),
            }
        }
    }

    fn expand(&mut self, vertex: Vertex, price: i32) {
        let state = self.state;
        match vertex {
            Vertex::Free(partition) => {
                for zone in 0..state.problem.zones_count {
                    if self.zone_highest[zone] > price && state.zone_can_gain(partition, zone) {
                        self.offer_zone(partition, zone, price);
                    }
                }
            }
            Vertex::Node(node) => {
                if state.can_round_up(node) {
                    self.offer(Vertex::Pool, price);
                }
                let zone = state.zone_of(node);
                for held in 0..self.holders[node].len() {
                    let partition = self.holders[node][held];
                    let dropped = price - state.cost(partition, node);
                    self.offer_zone(partition, zone, dropped);
                    if state.zone_can_lose(partition, zone) {
                        self.offer(Vertex::Free(partition), dropped);
                    }
                }
            }
            Vertex::Pool => {
                for node in 0..state.problem.nodes.len() {
                    if state.can_round_down(node) {
                        self.offer(Vertex::Node(node), price);
                    }
                }
            }
        }
    }

    /// Offers a copy of `partition`, had for `price`, to all nodes of `zone` that lack one.
    fn offer_zone(&mut self, partition: usize, zone: usize, price: i32) {
        let state = self.state;
        for &node in &state.previous[partition] {
            if state.zone_of(node) == zone && !state.holds(partition, node) {
                self.offer(Vertex::Node(node), price);
            }
        }
        if self.zone_highest[zone] <= price + 1 {
            return;
        }
        for &node in &state.nodes_by_zone[zone] {
            if self.prices.node[node] > price + 1 && !state.holds(partition, node) {
                self.offer(Vertex::Node(node), price + 1);
            }
        }
        let nodes = state.nodes_by_zone[zone].iter();
        self.zone_highest[zone] = nodes
            .map(|node| self.prices.node[*node])
            .max()
            .expect("a zone has nodes");
    }

    fn offer(&mut self, vertex: Vertex, price: i32) {
        let known = match vertex {
            Vertex::Free(partition) => &mut self.prices.free[partition],
            Vertex::Node(node) => &mut self.prices.node[node],
            Vertex::Pool => &mut self.prices.pool,
        };
        if price < *known {
            *known = price;
            self.agenda.entry(price).or_default().push(vertex);
        }
    }
}
