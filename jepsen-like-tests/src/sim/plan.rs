//! What to simulate.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fault::{Fault, Schedule};

/// Most nodes of a simulated cluster.
pub const NODES_MAX: u32 = 9;
/// Most clients of a simulated run.
pub const CLIENTS_MAX: u32 = 64;

/// Everything that decides a simulated run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SimPlan {
    /// Name of the workload.
    pub workload: String,
    /// What is broken.
    pub faults: Vec<Fault>,
    /// Decides everything else.
    pub seed: u64,
    /// How long clients run.
    pub time: Duration,
    /// Number of nodes, 1 to [`NODES_MAX`].
    pub nodes: u32,
    /// Number of clients, each on a machine of its own, 1 to [`CLIENTS_MAX`].
    pub clients: u32,
    /// Stretches the pauses between the requests of a client; 1 is as on real processes.
    pub pace: f64,
    /// When to break what; made from the other fields when there is none.
    #[serde(default)]
    pub schedule: Option<Schedule>,
}

impl SimPlan {
    /// A plan of the usual size: three nodes, three clients, a minute.
    #[must_use]
    pub fn new(workload: &str, faults: &[Fault], seed: u64) -> SimPlan {
        SimPlan {
            workload: workload.to_owned(),
            faults: faults.to_vec(),
            seed,
            time: Duration::from_secs(60),
            nodes: 3,
            clients: 3,
            pace: 4.0,
            schedule: None,
        }
    }

    /// The command that repeats the run into a new folder.
    #[must_use]
    pub fn command(&self) -> String {
        format!(
            "souk-jepsen run --sim --workload {} --fault {} --seed {} --time {} --nodes {} --clients {} --pace {}",
            self.workload,
            Fault::names(&self.faults),
            self.seed,
            self.time.as_secs_f64(),
            self.nodes,
            self.clients,
            self.pace,
        )
    }

    /// The schedule of the run, by the names of its nodes.
    #[must_use]
    pub fn schedule(&self, nodes: &[String]) -> Schedule {
        let time_ms = u64::try_from(self.time.as_millis()).unwrap_or(u64::MAX);
        self.schedule
            .clone()
            .unwrap_or_else(|| Schedule::plan(&self.faults, self.seed, time_ms, nodes))
    }
}
