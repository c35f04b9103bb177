//! Decides who stands first, second, third in each list of owners.
//!
//! The first of a list is the natural coordinator and works hardest, so every node should be
//! first for its fair part of the lists it is in; the same holds for each later place. Changing
//! the order moves no data, so previous places are kept only as far as fairness allows.
//!
//! Place: pure; the last step of [`super`].
//! Source: Ahuja, Magnanti, Orlin, Network Flows, 1993, §6.5 (augmenting paths).
//! Shape: place by place, each an assignment of partitions to one of their remaining owners.
//! Invariants: 1. each list keeps its nodes. 2. a node in `r` lists with `c` places still open
//!   gets the next place in `r / c` of them, rounded down or up. The fraction `1 / c` for every
//!   remaining owner is a flow with just these loads, so a whole one exists.
//! Not here: which nodes own a partition ([`super::flow`]).

use std::collections::VecDeque;

use super::{Plan, Problem};

/// Orders the lists of `plan`; nodes keep their order in `previous` where that is fair.
pub(super) fn order(problem: &Problem, mut plan: Plan, previous: &Plan) -> Plan {
    for (owners, before) in plan.iter_mut().zip(previous) {
        let place = |node: &usize| before.iter().position(|other| other == node);
        owners.sort_by_key(|node| (place(node).unwrap_or(usize::MAX), *node));
    }
    let places_count = problem.copies_count.saturating_sub(1);
    for place in 0..places_count {
        Place::new(problem, &mut plan, place).settle();
    }
    plan
}

/// The filling of one place in all lists; whoever now stands at `place` has been chosen so far.
struct Place<'a> {
    problem: &'a Problem,
    plan: &'a mut Plan,
    place: usize,
    /// In how many lists each node is chosen.
    chosen: Vec<usize>,
    min: Vec<usize>,
    max: Vec<usize>,
}

impl<'a> Place<'a> {
    fn new(problem: &'a Problem, plan: &'a mut Plan, place: usize) -> Self {
        let mut chosen = vec![0; problem.nodes.len()];
        let mut remaining = vec![0_usize; problem.nodes.len()];
        for owners in plan.iter() {
            chosen[owners[place]] += 1;
            owners[place..]
                .iter()
                .for_each(|node| remaining[*node] += 1);
        }
        let open = problem.copies_count - place;
        let min = remaining.iter().map(|lists| lists / open).collect();
        let max = remaining.iter().map(|lists| lists.div_ceil(open)).collect();
        Place {
            problem,
            plan,
            place,
            chosen,
            min,
            max,
        }
    }

    fn settle(&mut self) {
        self.swap_directly();
        while let Some(start) = self.node_where(|place, node| place.chosen[node] > place.max[node])
        {
            let moved = self.shift(&[start], |place, node| place.chosen[node] < place.max[node]);
            assert!(
                moved,
                "fair places exist, so an overburdened node can give one away"
            );
        }
        while let Some(end) = self.node_where(|place, node| place.chosen[node] < place.min[node]) {
            let nodes = 0..self.problem.nodes.len();
            let givers: Vec<usize> = nodes.filter(|n| self.chosen[*n] > self.min[*n]).collect();
            let moved = self.shift(&givers, |_, node| node == end);
            assert!(
                moved,
                "fair places exist, so a neglected node can be given one"
            );
        }
    }

    /// Settles most of the lists in one pass, so that few searches remain.
    fn swap_directly(&mut self) {
        for partition in self.problem.scattered_partitions() {
            let owners = &self.plan[partition];
            let first = owners[self.place];
            if self.chosen[first] <= self.min[first] {
                continue;
            }
            let burdened = self.chosen[first] > self.max[first];
            let takes = |node: &usize| {
                self.chosen[*node] < self.min[*node]
                    || (burdened && self.chosen[*node] < self.max[*node])
            };
            if let Some(taker) = owners[self.place + 1..].iter().copied().find(takes) {
                self.choose(partition, taker);
            }
        }
    }

    /// Moves one list from one of `starts` along a shortest chain to a node that `takes` it.
    fn shift(&mut self, starts: &[usize], takes: impl Fn(&Self, usize) -> bool) -> bool {
        let mut lists_of: Vec<Vec<usize>> = vec![Vec::new(); self.problem.nodes.len()];
        for (partition, owners) in self.plan.iter().enumerate() {
            lists_of[owners[self.place]].push(partition);
        }
        // For each node reached: the list through which, and the node it is taken from.
        let mut reached_by: Vec<Option<(usize, usize)>> = vec![None; self.problem.nodes.len()];
        let mut queue: VecDeque<usize> = starts.iter().copied().collect();
        while let Some(node) = queue.pop_front() {
            for &partition in &lists_of[node] {
                for place in self.place + 1..self.problem.copies_count {
                    let taker = self.plan[partition][place];
                    if reached_by[taker].is_some() || starts.contains(&taker) {
                        continue;
                    }
                    reached_by[taker] = Some((partition, node));
                    if takes(self, taker) {
                        self.hand_over(taker, &reached_by);
                        return true;
                    }
                    queue.push_back(taker);
                }
            }
        }
        false
    }

    fn hand_over(&mut self, end: usize, reached_by: &[Option<(usize, usize)>]) {
        let mut taker = end;
        while let Some((partition, giver)) = reached_by[taker] {
            self.choose(partition, taker);
            taker = giver;
        }
    }

    /// Puts `taker` at this place of `partition`; the nodes before it move back by one.
    fn choose(&mut self, partition: usize, taker: usize) {
        let open = &mut self.plan[partition][self.place..];
        let found = open.iter().position(|node| *node == taker);
        let found = found.expect("only owners of a partition are chosen for it");
        self.chosen[open[0]] -= 1;
        self.chosen[taker] += 1;
        open[..=found].rotate_right(1);
    }

    fn node_where(&self, test: impl Fn(&Self, usize) -> bool) -> Option<usize> {
        (0..self.problem.nodes.len()).find(|node| test(self, *node))
    }
}
