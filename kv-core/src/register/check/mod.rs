//! Proof by machine that the parts of `register` keep their promises together, and that the proof can fail.
//!
//! Two crash labs share one dummy. `explore` takes every turn that a small world can take; `simulate` lets
//! a larger world run at random for a long time and asks `linearizability` whether the story told to the clients
//! could have happened on one machine. Each then breaks one bolt at a time ([`mutant::Mutant`]) and must notice.
//!
//! Place: tests only. The code under test is the real one; mutants live in the dummy's joints around it.
//! Invariants: everything follows from the seed; a failure names it.
//! Not here: real disks, sockets and clocks (`jepsen-like-tests`).

mod explore;
mod history;
mod linearizability;
mod mutant;
mod replica;
mod simulate;
mod units;

use crate::causality::ContentType;

/// The content type of every cell in these tests.
pub(super) fn content_type() -> ContentType {
    ContentType::octets()
}

/// A small generator whose sequence never changes with a library (SplitMix64: Steele, Lea, Flood, 2014).
#[derive(Clone, Debug)]
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}
