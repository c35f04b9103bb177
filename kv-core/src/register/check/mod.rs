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
mod joint;
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
