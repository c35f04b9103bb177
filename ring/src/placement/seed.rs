//! Deals out a first placement when there is none to keep.
//!
//! A dealer goes round the table and hands each partition to the nodes that are furthest behind
//! their fair share. Among equals a hash decides, so that any two nodes share partitions with
//! many others rather than always with each other: when one fails, many help to replace it.
//!
//! Place: pure; plays the previous layout for [`super::flow`], which settles what dealing got wrong.
//! Source: Cidon et al., Copysets, USENIX ATC 2013 (why scattering copies speeds recovery).
//! Invariants: 1. distinct nodes per partition, within the spread. 2. loads close to the shares,
//!   but not bound by them.
//! Not here: the exact shares and the fewest moves ([`super::flow`]).

use super::share::Share;
use super::spread::Spread;
use super::{Plan, Problem};

/// A plan for all partitions that keeps the spread and nearly keeps the shares.
pub(super) fn deal(problem: &Problem, spread: &Spread, shares: &[Share]) -> Plan {
    let mut dealer = Dealer {
        problem,
        spread,
        shares,
        loads: vec![0; problem.nodes.len()],
    };
    (0..problem.partitions_count)
        .map(|partition| dealer.deal_one(partition))
        .collect()
}

struct Dealer<'a> {
    problem: &'a Problem,
    spread: &'a Spread,
    shares: &'a [Share],
    loads: Vec<u64>,
}

impl Dealer<'_> {
    fn deal_one(&mut self, partition: usize) -> Vec<usize> {
        let mut queue: Vec<(i128, u64, usize)> = (0..self.problem.nodes.len())
            .map(|node| (-self.lag(node, partition), mix(partition, node), node))
            .collect();
        queue.sort_unstable();

        let mut owners = Vec::with_capacity(self.problem.copies_count);
        for (_, _, node) in queue {
            if owners.len() == self.problem.copies_count {
                break;
            }
            if self.fits(&owners, self.problem.nodes[node].zone) {
                owners.push(node);
                self.loads[node] += 1;
            }
        }
        owners
    }

    /// How far `node` will be behind its share after `partition`, in copies times partitions.
    fn lag(&self, node: usize, partition: usize) -> i128 {
        let due = i128::from(self.shares[node].max) * (partition as i128 + 1);
        due - i128::from(self.loads[node]) * self.problem.partitions_count as i128
    }

    /// Whether one more copy may go to `zone` and still leave room for the zones that need one.
    fn fits(&self, owners: &[usize], zone: usize) -> bool {
        let in_zone = |zone| self.problem.copies_in_zone(owners, zone);
        if in_zone(zone) >= self.spread.zone_copies_max {
            return false;
        }
        let needy = |other: &usize| *other != zone && in_zone(*other) < self.spread.zone_copies_min;
        self.spread.zone_copies_min == 0
            || owners.len() + 1 + (0..self.problem.zones_count).filter(needy).count()
                <= self.problem.copies_count
    }
}

/// A number that looks random for every pair (the finalizer of SplitMix64; Steele, Lea, Flood,
/// Fast splittable pseudorandom number generators, OOPSLA 2014).
pub(super) fn mix(partition: usize, node: usize) -> u64 {
    let mut bits = ((partition as u64) << 32) ^ node as u64 ^ 0x9e37_79b9_7f4a_7c15;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
