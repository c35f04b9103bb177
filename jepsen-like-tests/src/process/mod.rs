//! Real processes of the `souk` binary on this machine: started, watched, killed, frozen, started again.
//!
//! Shape: [`TestCluster`] is a cluster file, a folder and one [`Server`] per process. Whatever happens to the
//! test, its processes end with it: they are killed when the cluster is dropped, and stop by themselves when
//! the pipe to the test closes.
//!
//! Place: under workloads and faults; speaks to the servers only as an operator would, through signals, files
//! and HTTP.
//! Invariants: 1. a signal is reported as given only once its effect was seen. 2. no server outlives its test.
//! Not here: which faults, and when (`crate::fault`); hosts, disks and clocks of their own (`crate::real`).

mod binary;
mod cluster;
mod error;
mod ports;
mod ready;
mod server;
mod site;

pub use binary::souk_binary;
pub use cluster::{ClusterPlan, TestCluster};
pub use error::HarnessError;
pub use server::Server;
pub use site::{Plot, Site};
