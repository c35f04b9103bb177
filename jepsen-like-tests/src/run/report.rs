//! What a run leaves behind.
//!
//! ```text
//! OUT/schedule.json       what was broken, and when
//! OUT/repro.txt           the command that repeats it
//! OUT/results.json        all verdicts
//! OUT/WORKLOAD/history.jsonl, history.edn, results.json, timeline.html, latency.svg, rate.svg
//! OUT/WORKLOAD/explanation.txt  what went wrong, if something did
//! OUT/cluster/            configuration, data and logs
//! ```

use std::fmt;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use serde::Serialize;

use super::{RunError, RunPlan};
use crate::checker::{Report, Verdict};
use crate::fault::Schedule;
use crate::history::{History, write_edn, write_lines};
use crate::picture::{explanation, latency_svg, rate_svg, timeline_html};

/// Everything that a run found.
#[derive(Clone, Debug, Serialize)]
pub struct RunReport {
    /// What was broken, and when.
    pub schedule: Schedule,
    /// Where nodes lived: `namespaces`, or `loopback`.
    pub hosts: &'static str,
    /// Why they shared this machine's network, though hosts of their own were wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why_loopback: Option<String>,
    /// In the order of the plan.
    pub workloads: Vec<WorkloadReport>,
}

/// What a run found of one workload.
#[derive(Clone, Debug, Serialize)]
pub struct WorkloadReport {
    /// Its name.
    pub workload: &'static str,
    /// The verdict.
    #[serde(flatten)]
    pub report: Report,
    /// Everything that happened, with the blows of the nemesis.
    #[serde(skip)]
    pub history: History,
}

impl RunReport {
    /// The verdict on all workloads.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let verdicts = self.workloads.iter().map(|one| one.report.verdict.clone());
        verdicts.fold(Verdict::Valid, Verdict::and)
    }

    /// What was found of a workload of the plan.
    #[must_use]
    pub fn of(&self, workload: &str) -> Option<&WorkloadReport> {
        self.workloads.iter().find(|one| one.workload == workload)
    }

    pub(super) fn write(&self, plan: &RunPlan) -> Result<(), RunError> {
        write_json(&plan.out.join("results.json"), self)?;
        for one in &self.workloads {
            let folder = plan.out.join(one.workload);
            write_json(&folder.join("results.json"), one)?;
            if let Some(story) = explanation(&one.history, &one.report.verdict) {
                let path = folder.join("explanation.txt");
                std::fs::write(&path, story).map_err(RunError::file(&path))?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for RunReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (faults, seed) = (self.schedule.fault_names(), self.schedule.seed);
        write!(
            formatter,
            "fault {faults}, seed {seed}, hosts: {}",
            self.hosts
        )?;
        if let Some(why) = &self.why_loopback {
            write!(formatter, " (no namespaces: {why})")?;
        }
        for one in &self.workloads {
            write!(formatter, "\n{}: {}", one.workload, one.report)?;
        }
        Ok(())
    }
}

/// Writes a history in both forms, and as pictures.
pub(crate) fn write_history(folder: &Path, history: &History) -> Result<(), RunError> {
    let path = folder.join("history.jsonl");
    let file = File::create(&path).map_err(RunError::file(&path))?;
    write_lines(history, BufWriter::new(file)).map_err(RunError::file(&path))?;
    let path = folder.join("history.edn");
    let file = File::create(&path).map_err(RunError::file(&path))?;
    write_edn(history, BufWriter::new(file)).map_err(RunError::file(&path))?;
    for (name, picture) in [
        ("timeline.html", timeline_html(history)),
        ("latency.svg", latency_svg(history)),
        ("rate.svg", rate_svg(history)),
    ] {
        let path = folder.join(name);
        std::fs::write(&path, picture).map_err(RunError::file(&path))?;
    }
    Ok(())
}

pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), RunError> {
    let mut text = serde_json::to_vec_pretty(value)
        .map_err(std::io::Error::from)
        .map_err(RunError::file(path))?;
    text.push(b'\n');
    std::fs::write(path, text).map_err(RunError::file(path))
}
