//! Whole clusters in one thread: the node and the client library as they are, on a network, clocks and disks that are
//! pretended.
//!
//! ```text
//!   workloads ── client library ─┐                         ┌─ node ── engine on a pretended disk
//!   (as on real processes)       ├── tap ── turmoil ── tap ┤  ...
//!   nemesis: cuts, kills, clocks ┘                         └─ node
//! ```
//!
//! A rehearsal room: the play and the players are the real ones, only street, weather and light are made, and every
//! evening can be repeated to the second. One seed decides everything; equal seeds give equal [`SimReport::trace_hash`]es, in
//! every process and on every machine.
//!
//! Two phases: first faults by schedule while clients work, then everything is healed, and the cluster has to take
//! requests and come to rest within bounds.
//!
//! Place: uses the workloads, faults, histories and checkers that real processes are judged by; nothing of the store
//! knows that it is simulated but for the [`souk_kv_node::Environment`] that it is given.
//! Source: Zhou et al., FoundationDB, SIGMOD 2021, §4; the turmoil crate.
//! Invariants: 1. no real clock, thread, file, socket or chance below this line. 2. a run in which too little happened is
//! unknown. 3. one run ends well within 30 s of real time: h2 forgets reset streams by the real clock.
//! Not here: durable engines, which are tested by real kills (`crate::process`, `kv-storage/tests`).

mod cluster;
mod copies;
mod machine;
mod members;
mod nemesis;
mod network;
mod plan;
mod report;
mod run;
mod sweep;
mod time;
mod trace;

pub use plan::{CLIENTS_MAX, NODES_MAX, SimPlan};
pub use report::{PLAN_FILE, SimReport};
pub use run::{SimError, run};
pub use sweep::{simulated_faults, simulated_workloads, sweep};
