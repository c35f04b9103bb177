//! `souk-jepsen run`, and the workers that it starts.

use std::error::Error;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use souk_jepsen_like_tests::process::HarnessError;
use souk_jepsen_like_tests::run::{RunError, RunPlan, RunReport, WorkerPlan};
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{LagArgs, RunArgs, WorkerArgs};
use crate::{SKIPPED, VALID, code_of};

/// Longest run, in seconds.
const TIME_MAX_S: f64 = 86_400.0;

/// Runs and prints; the exit code is that of the verdict.
pub(crate) fn run(args: &RunArgs) -> Result<u8, Box<dyn Error>> {
    if !(1.0..=TIME_MAX_S).contains(&args.time) {
        return Err(format!(
            "--time {} is not within 1 to {TIME_MAX_S} seconds",
            args.time
        )
        .into());
    }
    let out = new_folder(&args.out)?;
    let plan = RunPlan {
        workloads: args.workload.clone(),
        faults: args.fault.clone(),
        seed: args.seed.unwrap_or_else(rand::random),
        time: Duration::from_secs_f64(args.time),
        nodes: usize::from(args.nodes),
        hosts: args.hosts.into(),
        engine: args.engine.as_str().to_owned(),
        out,
        worker_binary: std::env::current_exe()?,
    };
    eprintln!("seed {}; repeat with: {}", plan.seed, plan.command());
    match run_until_interrupted(&plan)? {
        Ok(report) => {
            if args.json {
                println!("{}", serde_json::to_string_pretty(&report)?);
            } else {
                println!("{report}");
            }
            Ok(code_of(&report.verdict()))
        }
        Err(skipped) => {
            if args.json {
                let result = json!({"valid": "unknown", "skipped": skipped});
                println!("{result:#}");
            } else {
                println!("skipped: {skipped}");
            }
            Ok(SKIPPED)
        }
    }
}

/// Runs a plan, and removes what it made on the machine also when a signal asks to stop. A plan that this machine cannot
/// carry out gives the reason.
pub(crate) fn run_until_interrupted(
    plan: &RunPlan,
) -> Result<Result<RunReport, String>, Box<dyn Error>> {
    let runtime = tokio::runtime::Runtime::new()?;
    let result = runtime.block_on(async {
        let mut terminated = signal(SignalKind::terminate())?;
        tokio::select! {
            result = souk_jepsen_like_tests::run::run(plan) => Ok(result),
            _ = tokio::signal::ctrl_c() => Err(std::io::Error::from(ErrorKind::Interrupted)),
            _ = terminated.recv() => Err(std::io::Error::from(ErrorKind::Interrupted)),
        }
    });
    match result
        .map_err(|_| "interrupted; everything that the run made on this machine is removed")?
    {
        Ok(report) => Ok(Ok(report)),
        Err(RunError::Harness(problem @ HarnessError::Lacking { .. })) => {
            Ok(Err(problem.to_string()))
        }
        Err(problem) => Err(problem.into()),
    }
}

/// Delays packets until the standard input ends.
pub(crate) fn lag(args: &LagArgs) -> Result<u8, Box<dyn Error>> {
    let delay = Duration::from_millis(args.delay_ms);
    souk_jepsen_like_tests::real::lag(args.queue, delay, args.shuffle)?;
    Ok(VALID)
}

/// Makes a folder for the files of a run; one that exists has to be empty.
pub(crate) fn new_folder(path: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let is_used = std::fs::read_dir(path).is_ok_and(|mut files| files.next().is_some());
    if is_used {
        return Err(format!("{} is not empty; name a new folder", path.display()).into());
    }
    std::fs::create_dir_all(path)?;
    Ok(path.canonicalize()?)
}

/// Runs the clients of one worker.
pub(crate) fn work(args: WorkerArgs) -> Result<u8, Box<dyn Error>> {
    let plan = WorkerPlan {
        workload: args.workload,
        target: args.target,
        worker: args.worker,
        lanes: args.lanes,
        seed: args.seed,
        time: Duration::from_secs_f64(args.time),
        history: args.history,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(souk_jepsen_like_tests::run::work(&plan))?;
    Ok(VALID)
}
