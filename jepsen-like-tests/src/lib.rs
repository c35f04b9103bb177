//! Workloads, faults, histories and checkers that judge Souk from outside.
//!
//! A judge who knows nothing of the accused: clients do what clients do, a nemesis kills and freezes
//! processes, everything asked and answered is written down, and afterwards checkers look for an answer
//! that cannot be explained.
//!
//! ```text
//! workload ──invoke, ok, fail, info──> history ──> checker ──> valid, invalid, unknown
//!     │                                   ▲
//!     └────> process <──── fault ─────────┘ notes
//! ```
//!
//! Place: sees every other room; nothing sees it.
//! Source: Jepsen (generator, nemesis, history, checker); etcd's robustness tests.
//! Invariants: 1. a time-out is doubt, never failure. 2. a run in which nothing happened is unknown, never
//! valid. 3. a seed names a schedule.
//! Not here: tests of one room alone, which live with that room.

pub mod checker;
pub mod fault;
pub mod history;
pub mod mutants;
pub mod picture;
pub mod process;
pub mod real;
pub mod run;
pub mod sim;
pub mod workload;

#[cfg(test)]
mod testing;
