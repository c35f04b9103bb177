//! Runs in processes of their own, several at once.
//!
//! Place: under every command that runs many seeds. A process for each leaves nothing behind for the next one, and uses
//! all processors.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use serde::Deserialize;
use serde_json::Value;
use souk_jepsen_like_tests::sim::{PLAN_FILE, SimPlan};

/// What a run in a process of its own came to.
#[derive(Debug, Deserialize)]
pub(crate) struct Apart {
    /// `true`, `false` or `"unknown"`.
    valid: Value,
    counts: BTreeMap<String, u64>,
    pub(crate) simulated_ms: u64,
    #[serde(default)]
    violations: Vec<Value>,
    #[serde(default)]
    why: String,
}

impl Apart {
    pub(crate) fn is_valid(&self) -> bool {
        self.valid == true
    }

    pub(crate) fn is_invalid(&self) -> bool {
        self.valid == false
    }

    pub(crate) fn count(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or_default()
    }

    /// What kind of promise it broke first; empty when it broke none.
    pub(crate) fn kind(&self) -> &str {
        let kind = self.violations.first().and_then(|first| first.get("kind"));
        kind.and_then(Value::as_str).unwrap_or_default()
    }

    /// Why it is not valid, in a line; empty when it is.
    pub(crate) fn told(&self) -> String {
        let first = self.violations.first();
        let what = first.and_then(|first| first.get("what")?.as_str());
        match what {
            Some(what) => format!("{}: {what}", self.kind()),
            None => self.why.clone(),
        }
    }
}

/// Runs a plan in a process of its own, as the printed command does; its files are deleted when it is valid.
pub(crate) fn run_apart(plan: &SimPlan, folder: &Path) -> Result<Apart, Box<dyn Error>> {
    let command = plan.command();
    let output = match &plan.schedule {
        None => souk_jepsen(command.split(' ').skip(1), folder)?,
        // No command line holds a schedule.
        Some(_) => {
            let plans = tempfile::tempdir()?;
            std::fs::write(plans.path().join(PLAN_FILE), serde_json::to_vec(plan)?)?;
            let plans = plans.path().to_string_lossy().into_owned();
            souk_jepsen(["replay", plans.as_str()].into_iter(), folder)?
        }
    };
    let found: Apart = serde_json::from_slice(&output.stdout).map_err(|_| {
        let said = String::from_utf8_lossy(&output.stderr);
        format!("{command}: {said}")
    })?;
    if found.is_valid() {
        std::fs::remove_dir_all(folder)?;
    }
    Ok(found)
}

/// Runs plans, `jobs` at a time, and hands each result to `told` as it comes.
pub(crate) fn run_all(
    plans: &[SimPlan],
    jobs: usize,
    out: &Path,
    mut told: impl FnMut(&SimPlan, &Apart),
) -> Result<(), Box<dyn Error>> {
    let next = AtomicUsize::new(0);
    let (sender, results) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            let (next, sender) = (&next, sender.clone());
            scope.spawn(move || {
                while let Some(plan) = plans.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = run_apart(plan, &folder_of(plan, out));
                    let is_over = found.is_err();
                    let sent = sender.send((plan, found.map_err(|problem| problem.to_string())));
                    if is_over || sent.is_err() {
                        next.store(plans.len(), Ordering::Relaxed);
                    }
                }
            });
        }
        drop(sender);
        for (plan, found) in results {
            let found = found?;
            if !found.is_valid() {
                eprintln!("{}: {}", plan.command(), found.told());
            }
            told(plan, &found);
        }
        Ok(())
    })
}

fn folder_of(plan: &SimPlan, out: &Path) -> PathBuf {
    let faults: Vec<&str> = plan.faults.iter().map(|fault| fault.as_str()).collect();
    out.join(format!(
        "{}-{}-{}",
        plan.workload,
        faults.join("+"),
        plan.seed
    ))
}

fn souk_jepsen<'text>(
    arguments: impl Iterator<Item = &'text str>,
    out: &Path,
) -> std::io::Result<Output> {
    Command::new(std::env::current_exe()?)
        .args(arguments)
        .args(["--json", "--out"])
        .arg(out)
        .env("SOUK_LOG", "off")
        .output()
}
