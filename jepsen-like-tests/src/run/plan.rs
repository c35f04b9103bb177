//! What to run.

use std::path::PathBuf;
use std::time::Duration;

use crate::fault::Fault;
use crate::real::HostsWanted;

/// Everything that decides a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunPlan {
    /// Names of workloads, which run at the same time on one cluster.
    pub workloads: Vec<String>,
    /// What is broken; several overlap.
    pub faults: Vec<Fault>,
    /// Chooses when, whom, and what clients do.
    pub seed: u64,
    /// How long clients run.
    pub time: Duration,
    /// Number of nodes, 1 or more.
    pub nodes: usize,
    /// Which hosts the nodes live on.
    pub hosts: HostsWanted,
    /// Storage engine of all nodes: `fjall` or `sled`.
    pub engine: String,
    /// Where everything is kept; a folder that is new or empty.
    pub out: PathBuf,
    /// The `souk-jepsen` binary, which the workers are run from.
    pub worker_binary: PathBuf,
}

impl RunPlan {
    /// The command that repeats the run.
    #[must_use]
    pub fn command(&self) -> String {
        format!(
            "souk-jepsen run --real --workload {} --fault {} --seed {} --time {} --nodes {} --engine {}{} --out {}-again",
            self.workloads.join(","),
            Fault::names(&self.faults),
            self.seed,
            self.time.as_secs_f64(),
            self.nodes,
            self.engine,
            self.hosts.option(),
            self.out.display(),
        )
    }
}
