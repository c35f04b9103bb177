//! `souk-jepsen run --sim` and `souk-jepsen replay`.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use souk_jepsen_like_tests::sim::{PLAN_FILE, SimPlan, run};

use crate::args::{ReplayArgs, RunArgs};
use crate::code_of;
use crate::run::new_folder;

/// Longest simulated run, in seconds. More of them take other seeds: h2 keeps one real time for half a minute.
pub(crate) const TIME_MAX_S: f64 = 1_200.0;

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

/// Runs a plan that an earlier run left, and says whether it was the same run.
pub(crate) fn replay(args: &ReplayArgs) -> Result<u8, Box<dyn Error>> {
    let plan = read_plan(&args.folder)?;
    let out = new_folder(&args.out)?;
    let code = run_and_print(&plan, &out, args.json)?;
    let hash_in = |folder: &Path| -> Option<Value> {
        let text = std::fs::read(folder.join("results.json")).ok()?;
        let result: Value = serde_json::from_slice(&text).ok()?;
        result.get("trace_hash").cloned()
    };
    let is_same = hash_in(&args.folder) == hash_in(&out);
    eprintln!(
        "{}",
        match is_same {
            true => "the same run, to the last byte",
            false => "another run: the store or this program has changed since",
        }
    );
    Ok(code)
}

/// The plan that a simulated run left in its folder.
pub(crate) fn read_plan(folder: &Path) -> Result<SimPlan, Box<dyn Error>> {
    let path = folder.join(PLAN_FILE);
    let text = std::fs::read(&path).map_err(|problem| {
        let path = path.display();
        format!("cannot read {path}: {problem}; only simulated runs can be replayed")
    })?;
    Ok(serde_json::from_slice(&text)?)
}

/// Runs a plan here; the exit code is that of the verdict.
pub(crate) fn run_and_print(
    plan: &SimPlan,
    out: &Path,
    is_json: bool,
) -> Result<u8, Box<dyn Error>> {
    let report = run(plan)?;
    report.write(out)?;
    if is_json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{report}");
    }
    Ok(code_of(&report.report.verdict))
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
