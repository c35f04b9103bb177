//! Starts from the previous copies, less those that plainly cannot stay.
//!
//! Place: pure; first step of [`super::fewest_moves`].
//! Invariants: 1. every kept copy is a previous one and costs nothing, so no shift can make the
//!   start cheaper: whichever copies are dropped here, a cheapest plan can still be reached, as
//!   taking one back costs nothing either. 2. nothing exceeds its upper bound.
//! Not here: placing what is missing afterwards.

use super::State;
use crate::placement::share::Share;
use crate::placement::spread::Spread;
use crate::placement::{Plan, Problem};

impl<'a> State<'a> {
    pub(super) fn keeping(
        problem: &'a Problem,
        spread: &'a Spread,
        shares: &'a [Share],
        previous: &'a Plan,
    ) -> State<'a> {
        let mut state = State {
            problem,
            spread,
            shares,
            previous,
            nodes_by_zone: problem.nodes_by_zone(),
            held: previous.clone(),
            loads: vec![0; problem.nodes.len()],
            free: vec![0; problem.partitions_count],
            owed: vec![0; problem.partitions_count],
            pool: 0,
        };
        for partition in 0..problem.partitions_count {
            state.drop_beyond_spread(partition);
        }
        state
            .held
            .iter()
            .flatten()
            .for_each(|node| state.loads[*node] += 1);
        state.drop_beyond_shares();
        state.note_missing();
        state
    }

    /// Drops copies until no zone has too many, and no zone's first copy lacks room.
    fn drop_beyond_spread(&mut self, partition: usize) {
        let (problem, spread) = (self.problem, self.spread);
        let mut kept: Vec<usize> = Vec::with_capacity(problem.copies_count);
        for node in std::mem::take(&mut self.held[partition]) {
            if problem.copies_in_zone(&kept, problem.nodes[node].zone) < spread.zone_copies_max {
                kept.push(node);
            }
        }
        let is_spare = |kept: &[usize], node: usize| {
            problem.copies_in_zone(kept, problem.nodes[node].zone) > spread.zone_copies_min
        };
        while kept.len() + self.empty_zones(&kept).count() > problem.copies_count {
            let spare = kept.iter().rposition(|node| is_spare(&kept, *node));
            kept.remove(spare.expect("more copies than there is room for leave a zone with two"));
        }
        self.held[partition] = kept;
    }

    /// The zones that must have a copy and have none among `owners`.
    fn empty_zones(&self, owners: &[usize]) -> impl Iterator<Item = usize> {
        let zones_count = if self.spread.zone_copies_min == 0 {
            0
        } else {
            self.problem.zones_count
        };
        (0..zones_count).filter(|zone| self.problem.copies_in_zone(owners, *zone) == 0)
    }

    /// Drops copies until no node is above its share rounded up, and no more nodes round up than
    /// all copies together allow.
    fn drop_beyond_shares(&mut self) {
        let over =
            |state: &Self, node: usize| state.loads[node].saturating_sub(state.shares[node].max);
        self.drop_from_fullest(u64::MAX, over);

        let copies = (self.problem.partitions_count * self.problem.copies_count) as u64;
        let at_least = |(load, share): (&u64, &Share)| *load.max(&share.min);
        let taken: u64 = self.loads.iter().zip(self.shares).map(at_least).sum();
        let rounds_up = |state: &Self, node: usize| u64::from(state.can_round_down(node));
        self.drop_from_fullest(taken.saturating_sub(copies), rounds_up);
        self.pool = copies.saturating_sub(taken);
    }

    /// Drops up to `limit` copies of nodes with a surplus, the largest surplus first, and from the
    /// partitions with the most copies left, so that few change all of their owners at once.
    fn drop_from_fullest(&mut self, mut limit: u64, surplus: impl Fn(&Self, usize) -> u64) {
        for copies_left in (1..=self.problem.copies_count).rev() {
            for partition in self.problem.scattered_partitions() {
                let owners = &self.held[partition];
                if limit == 0 || owners.len() != copies_left {
                    continue;
                }
                let surpluses = owners.iter().map(|node| surplus(self, *node)).enumerate();
                if let Some((place, 1..)) = surpluses.max_by_key(|(_, surplus)| *surplus) {
                    let node = self.held[partition].remove(place);
                    self.loads[node] -= 1;
                    limit -= 1;
                }
            }
        }
    }

    /// Writes down which copies each partition lacks, zones without any first.
    fn note_missing(&mut self) {
        for partition in 0..self.problem.partitions_count {
            let owners = &self.held[partition];
            let owed = self
                .empty_zones(owners)
                .fold(0, |zones, zone| zones | 1 << zone);
            let placed = owners.len() + u8::count_ones(owed) as usize;
            let free = self.problem.copies_count.checked_sub(placed);
            self.free[partition] = free.expect("what lies beyond the spread was dropped");
            self.owed[partition] = owed;
        }
    }
}
