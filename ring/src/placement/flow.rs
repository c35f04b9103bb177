//! Finds the owners that meet spread and shares and keep the most copies where they are.
//!
//! It is a minimum-cost flow from partitions to nodes: a copy costs nothing where the previous
//! layout had one and 1 elsewhere. The search starts from the copies that can stay as they are,
//! sees which partitions still lack some, and finds for each the cheapest chain of shifts that
//! ends at a node with room: "p1 goes to A, which gives p2 to B, which was below its share".
//!
//! ```text
//!   Free(p) --gain--> Node(n) --(drop p', gain p')--> Node(m) --drop p''--> Free(p'') --> ..
//!                        |                               |
//!                        +------------ Pool -------------+     the choice of who rounds up
//! ```
//!
//! `Free(p)`: partition `p` has a copy to place in any zone that has room for it. `Node(n)`: node
//! `n` has one copy too many. `Pool`: some node may round its share up. The edges follow from the
//! plan and are never stored; there would be one for every pair of partition and node.
//!
//! Place: pure; the third question of [`super`].
//! Source: Ahuja, Magnanti, Orlin, Network Flows, 1993, §9.7 (successive shortest paths), §9.8
//!   (primal-dual: all chains of the current cheapest kind before prices are looked at again).
//! Invariants: 1. no sequence of shifts makes the plan cheaper at any time, which is what makes
//!   the result a cheapest one. 2. nodes never exceed their share rounded up, zones never theirs.
//! Not here: the start ([`keep`]), prices ([`price`]), chains ([`chain`]).

mod chain;
mod keep;
mod price;

use super::share::Share;
use super::spread::Spread;
use super::{Plan, Problem};

/// A plan within `spread` and `shares` that differs from `previous` in the fewest copies.
/// `previous` may be any sets of distinct nodes, one per partition, of any length.
pub(super) fn fewest_moves(
    problem: &Problem,
    spread: &Spread,
    shares: &[Share],
    previous: &Plan,
) -> Plan {
    let mut state = State::keeping(problem, spread, shares, previous);
    while state.is_unfinished() {
        let prices = price::Prices::of(&state);
        let shifted = chain::shift_all(&mut state, &prices);
        assert!(
            shifted > 0,
            "a plan within spread and shares exists, so a chain leads to it"
        );
    }
    state.held
}

/// A plan under construction.
struct State<'a> {
    problem: &'a Problem,
    spread: &'a Spread,
    shares: &'a [Share],
    previous: &'a Plan,
    nodes_by_zone: Vec<Vec<usize>>,
    held: Plan,
    loads: Vec<u64>,
    /// Per partition: copies that still need a place, in any zone with room.
    free: Vec<usize>,
    /// Per partition: zones that still need their first copy, one bit each. There are such zones
    /// only where zones are no more than copies, hence at most seven.
    owed: Vec<u8>,
    /// How many nodes may still round up.
    pool: u64,
}

impl State<'_> {
    fn is_unfinished(&self) -> bool {
        self.free.iter().any(|copies| *copies > 0) || self.owed.iter().any(|zones| *zones != 0)
    }

    fn holds(&self, partition: usize, node: usize) -> bool {
        self.held[partition].contains(&node)
    }

    /// What it costs that `node` holds `partition`.
    fn cost(&self, partition: usize, node: usize) -> i32 {
        i32::from(!self.previous[partition].contains(&node))
    }

    fn zone_of(&self, node: usize) -> usize {
        self.problem.nodes[node].zone
    }

    fn owes(&self, partition: usize, zone: usize) -> bool {
        self.spread.zone_copies_min > 0 && self.owed[partition] & (1 << zone) != 0
    }

    /// Copies that `partition` has or owes to `zone`.
    fn zone_copies(&self, partition: usize, zone: usize) -> usize {
        let placed = self.problem.copies_in_zone(&self.held[partition], zone);
        placed + usize::from(self.owes(partition, zone))
    }

    fn zone_can_gain(&self, partition: usize, zone: usize) -> bool {
        self.zone_copies(partition, zone) < self.spread.zone_copies_max
    }

    fn zone_can_lose(&self, partition: usize, zone: usize) -> bool {
        self.zone_copies(partition, zone) > self.spread.zone_copies_min
    }

    fn is_below_share(&self, node: usize) -> bool {
        self.loads[node] < self.shares[node].min
    }

    /// Whether `node` may use a rounding up that the pool can spare.
    fn can_round_up(&self, node: usize) -> bool {
        self.loads[node].max(self.shares[node].min) < self.shares[node].max
    }

    /// Whether `node` may return its rounding up to the pool by shedding a copy.
    fn can_round_down(&self, node: usize) -> bool {
        self.loads[node] > self.shares[node].min
    }
}
