//! `souk-jepsen run --sim` and `souk-jepsen replay`.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use souk_jepsen_like_tests::sim::{SimPlan, SimReport, run};

use crate::args::{ReplayArgs, RunArgs};
use crate::code_of;
use crate::run::new_folder;

/// Longest simulated run, in seconds. More of them take other seeds: h2 keeps one real time for half a minute.
pub(crate) const TIME_MAX_S: f64 = 1_200.0;
const PLAN: &str = "plan.json";

/// Simulates and prints; the exit code is that of the verdict.
pub(crate) fn simulate(args: &RunArgs) -> Result<u8, Box<dyn Error>> {
    let [workload] = &args.workload[..] else {
        return Err("a simulation runs one workload at a time".into());
    };
    check_time(args.time)?;
    check_pace(args.pace)?;
    let plan = SimPlan {
        workload: workload.clone(),
        faults: args.fault.clone(),
        seed: args.seed.unwrap_or_else(rand::random),
        time: Duration::from_secs_f64(args.time),
        nodes: u32::from(args.nodes),
        clients: args.clients,
        pace: args.pace,
        schedule: None,
    };
    let out = new_folder(&args.out)?;
    eprintln!("seed {}; repeat with: {}", plan.seed, plan.command());
    run_and_print(&plan, &out, args.json)
}

/// Runs a plan that an earlier run left.
pub(crate) fn replay(args: &ReplayArgs) -> Result<u8, Box<dyn Error>> {
    let path = args.folder.join(PLAN);
    let text = std::fs::read(&path).map_err(|problem| {
        let path = path.display();
        format!("cannot read {path}: {problem}; only simulated runs can be replayed")
    })?;
    let plan: SimPlan = serde_json::from_slice(&text)?;
    let out = new_folder(&args.out)?;
    run_and_print(&plan, &out, args.json)
}

fn run_and_print(plan: &SimPlan, out: &Path, is_json: bool) -> Result<u8, Box<dyn Error>> {
    let report = run(plan)?;
    keep(&report, out)?;
    if is_json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{report}");
    }
    Ok(code_of(&report.report.verdict))
}

/// What a run in a process of its own came to.
#[derive(Debug, Deserialize)]
pub(crate) struct Apart {
    /// `true`, `false` or `"unknown"`.
    valid: Value,
    pub(crate) counts: BTreeMap<String, u64>,
    pub(crate) simulated_ms: u64,
    #[serde(default)]
    pub(crate) violations: Vec<Value>,
    #[serde(default)]
    pub(crate) why: String,
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

    /// Why it is not valid, in a line; empty when it is.
    pub(crate) fn told(&self) -> String {
        let first = self.violations.first();
        let text = |field: &str| first?.get(field)?.as_str();
        match (text("kind"), text("what")) {
            (Some(kind), Some(what)) => format!("{kind}: {what}"),
            _ => self.why.clone(),
        }
    }
}

/// Runs a plan in a process of its own, as the printed command does; its files are deleted when it is valid.
///
/// A second simulation in one process is not the same as in a new one: some library keeps state between them.
pub(crate) fn run_apart(plan: &SimPlan, folder: &Path) -> Result<Apart, Box<dyn Error>> {
    let command = plan.command();
    let output = Command::new(std::env::current_exe()?)
        .args(command.split(' ').skip(1))
        .args(["--json", "--out"])
        .arg(folder)
        .env("SOUK_LOG", "off")
        .output()?;
    let found: Apart = serde_json::from_slice(&output.stdout).map_err(|_| {
        let said = String::from_utf8_lossy(&output.stderr);
        format!("{command}: {said}")
    })?;
    if found.is_valid() {
        std::fs::remove_dir_all(folder)?;
    } else {
        eprintln!("{command}: {}", found.told());
    }
    Ok(found)
}

/// Writes everything that a run leaves.
fn keep(report: &SimReport, out: &Path) -> Result<(), Box<dyn Error>> {
    let plan = SimPlan {
        schedule: Some(report.schedule.clone()),
        ..report.plan.clone()
    };
    std::fs::write(out.join(PLAN), serde_json::to_vec_pretty(&plan)?)?;
    report.write(out)?;
    Ok(())
}

/// Refuses a length that no run may have.
pub(crate) fn check_time(time_s: f64) -> Result<(), Box<dyn Error>> {
    if (1.0..=TIME_MAX_S).contains(&time_s) {
        return Ok(());
    }
    Err(format!("--time {time_s} is not within 1 to {TIME_MAX_S} simulated seconds").into())
}

/// Refuses a pace that makes no sense.
pub(crate) fn check_pace(pace: f64) -> Result<(), Box<dyn Error>> {
    if (0.01..=1_000.0).contains(&pace) {
        return Ok(());
    }
    Err(format!("--pace {pace} is not within 0.01 to 1000").into())
}
