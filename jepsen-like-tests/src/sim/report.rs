//! What a simulated run found.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use super::SimPlan;
use crate::checker::Report;
use crate::fault::Schedule;
use crate::history::History;
use crate::picture::explanation;
use crate::run::RunError;
use crate::run::report::{write_history, write_json};

/// Where a folder of a run has its plan, with the schedule.
pub const PLAN_FILE: &str = "plan.json";

/// Everything that a simulated run found.
#[derive(Clone, Debug, Serialize)]
pub struct SimReport {
    /// What was run.
    pub plan: SimPlan,
    /// What was broken, and when.
    pub schedule: Schedule,
    /// The verdict, over promises, progress and evidence.
    #[serde(flatten)]
    pub report: Report,
    /// Equal for equal runs, and for no others.
    #[serde(serialize_with = "in_hex")]
    pub trace_hash: u64,
    /// Simulated time, in milliseconds, from the first start to the last look.
    pub simulated_ms: u64,
    /// Everything that happened.
    #[serde(skip)]
    pub history: History,
}

impl SimReport {
    /// Writes history, verdict, plan, schedule and the commands that repeat the run into a folder, and the story of what went
    /// wrong if something did.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), RunError> {
        write_history(folder, &self.history)?;
        write_json(&folder.join("schedule.json"), &self.schedule)?;
        write_json(&folder.join("results.json"), self)?;
        let plan = SimPlan {
            schedule: Some(self.schedule.clone()),
            ..self.plan.clone()
        };
        write_json(&folder.join(PLAN_FILE), &plan)?;
        let path = folder.join("repro.txt");
        let folder_name = folder.display();
        let mut text = format!("souk-jepsen replay {folder_name} --out {folder_name}-again\n");
        if self.plan.schedule.is_none() {
            // The seed alone makes the same schedule.
            text += &format!("{} --out {folder_name}-again\n", self.plan.command());
        }
        std::fs::write(&path, text).map_err(RunError::file(&path))?;
        if let Some(story) = explanation(&self.history, &self.report.verdict) {
            let path = folder.join("explanation.txt");
            std::fs::write(&path, story).map_err(RunError::file(&path))?;
        }
        Ok(())
    }
}

impl fmt::Display for SimReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "workload {}, fault {}, seed {}\n{}\n  trace {:016x}, {} simulated ms",
            self.plan.workload,
            self.schedule.fault_names(),
            self.plan.seed,
            self.report,
            self.trace_hash,
            self.simulated_ms,
        )
    }
}

fn in_hex<S: serde::Serializer>(hash: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{hash:016x}"))
}
