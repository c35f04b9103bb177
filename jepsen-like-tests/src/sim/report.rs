//! What a simulated run found.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Serialize;

use super::SimPlan;
use crate::checker::{Report, Verdict};
use crate::fault::{Fault, Schedule, windows};
use crate::history::History;
use crate::picture::explanation;
use crate::run::RunError;
use crate::run::report::{write_history, write_json};

/// Where a folder of a run has its plan, with the schedule.
pub const PLAN_FILE: &str = "plan.json";
/// Of all requests, so many have to be answered, with a result or a condition that did not hold.
const ANSWERED_MIN: f64 = 0.3;
/// So many windows have to show that their fault bit.
const WINDOWS_MIN: usize = 3;

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

/// How much happened.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Evidence {
    pub(super) asked: usize,
    pub(super) answered: usize,
    pub(super) windows: usize,
    pub(super) bitten: usize,
}

impl Evidence {
    pub(super) fn of(history: &History) -> Evidence {
        let operations = history.operations();
        let is_answered = |operation: &&crate::history::Operation| {
            operation.is_ok() || operation.refused().is_some()
        };
        let windows = windows(history);
        Evidence {
            asked: operations.len(),
            answered: operations.iter().filter(is_answered).count(),
            windows: windows.len(),
            bitten: windows
                .iter()
                .filter(|window| window.bit != Some(false))
                .count(),
        }
    }

    /// Whether a verdict may rest on it.
    pub(super) fn verdict(&self, faults: &[Fault]) -> Verdict {
        let Evidence {
            asked,
            answered,
            windows,
            bitten,
        } = *self;
        if (answered as f64) < ANSWERED_MIN * asked as f64 || answered == 0 {
            return Verdict::unknown(format!("only {answered} of {asked} requests were answered"));
        }
        let is_quiet = faults.iter().all(|fault| *fault == Fault::None);
        if !is_quiet && bitten < WINDOWS_MIN {
            return Verdict::unknown(format!(
                "only {bitten} of {windows} fault windows show that they bit"
            ));
        }
        Verdict::Valid
    }

    pub(super) fn counts(&self) -> BTreeMap<&'static str, u64> {
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        BTreeMap::from([
            ("requests", count(self.asked)),
            ("requests_answered", count(self.answered)),
            ("windows", count(self.windows)),
            ("windows_bitten", count(self.bitten)),
        ])
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_evidence_is_unknown() {
        let full = Evidence {
            asked: 100,
            answered: 30,
            windows: 3,
            bitten: 3,
        };
        let check = |evidence: Evidence, faults: &[Fault], is_valid: bool| {
            assert_eq!(
                evidence.verdict(faults).is_valid(),
                is_valid,
                "{evidence:?}"
            );
        };
        check(full, &[Fault::KillOne], true);
        check(
            Evidence {
                answered: 29,
                ..full
            },
            &[Fault::KillOne],
            false,
        );
        check(Evidence { bitten: 2, ..full }, &[Fault::KillOne], false);
        check(Evidence { bitten: 0, ..full }, &[Fault::None], true);
        check(Evidence::default(), &[Fault::None], false);
    }
}
