//! One run from beginning to end: start, set up, break, heal, look, judge, report.
//!
//! ```text
//! cluster ── set up ── workers ────────────── wait ── ready again ── last looks ── verdicts ── report
//!                      nemesis: blow, undo ...
//! ```
//!
//! Place: ties workloads, faults, processes and checkers together; used by the tests and the `souk-jepsen`
//! binary.
//! Invariants: 1. everything runs again before the last looks. 2. a harness that fails ends in an error, never
//! in a verdict. 3. what happened is on disk before it is judged. 4. a run in which too little happened is unknown.

mod error;
mod evidence;
mod plan;
pub(crate) mod report;
mod runner;
mod strain;
mod worker;

pub use error::RunError;
pub(crate) use evidence::Evidence;
pub use plan::RunPlan;
pub use report::{RunReport, WorkloadReport};
pub use runner::run;
pub use worker::{WorkerPlan, work};
