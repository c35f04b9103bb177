//! One worker process: some clients of one workload, in a process of their own.

use std::path::PathBuf;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::RunError;
use crate::history::Recorder;
use crate::workload::{ClientContext, ClientId, Target, named};

/// What a worker is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerPlan {
    /// Name of the workload.
    pub workload: String,
    /// A file with the [`Target`] as JSON.
    pub target: PathBuf,
    /// Which worker this is.
    pub worker: u32,
    /// How many clients it runs.
    pub lanes: u32,
    /// Of the run.
    pub seed: u64,
    /// How long clients run.
    pub time: Duration,
    /// Where the history goes, event by event.
    pub history: PathBuf,
}

/// Runs all clients of a worker until their time is up.
///
/// # Errors
/// When a client cannot do its part, or the history cannot be written.
pub async fn work(plan: &WorkerPlan) -> Result<(), RunError> {
    let workload = named(&plan.workload).map_err(RunError::NoWorkload)?;
    let target = std::fs::read(&plan.target).map_err(RunError::file(&plan.target))?;
    let target: Target = serde_json::from_slice(&target)
        .map_err(std::io::Error::from)
        .map_err(RunError::file(&plan.target))?;
    let recorder = Recorder::to_file(&plan.history).map_err(RunError::file(&plan.history))?;
    let mut clients = JoinSet::new();
    for lane in 0..plan.lanes {
        let id = ClientId {
            worker: plan.worker,
            lane,
        };
        let context = ClientContext {
            target: target.clone(),
            id,
            lane: recorder.lane(),
            twin: recorder.lane(),
            random: ClientContext::random_of(plan.seed, id),
            time: plan.time,
            until: Instant::now() + plan.time,
        };
        clients.spawn(workload.run(context));
    }
    let name = workload.name();
    while let Some(ended) = clients.join_next().await {
        let result = ended.map_err(|problem| RunError::Worker {
            workload: name,
            what: problem.to_string(),
            log: plan.history.clone(),
        })?;
        result.map_err(|source| RunError::Workload {
            workload: name,
            source,
        })?;
    }
    recorder.history().map_err(RunError::file(&plan.history))?;
    Ok(())
}
