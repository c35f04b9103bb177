//! `souk-jepsen run`, and the workers that it starts.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use souk_jepsen_like_tests::fault::Fault;
use souk_jepsen_like_tests::run::{RunPlan, WorkerPlan};

use crate::args::{RunArgs, WorkerArgs};
use crate::{VALID, code_of};

/// Longest run, in seconds.
const TIME_MAX_S: f64 = 86_400.0;

/// Runs and prints; the exit code is that of the verdict.
pub(crate) fn run(args: &RunArgs) -> Result<u8, Box<dyn Error>> {
    let [fault] = args.fault[..] else {
        return Err("real processes take one fault at a time; --sim takes several".into());
    };
    if !fault.is_real() {
        let names = Fault::ALL.into_iter().filter(|fault| fault.is_real());
        let names: Vec<&str> = names.map(Fault::as_str).collect();
        let names = names.join(", ");
        return Err(format!("{fault} is for --sim; real processes take {names}").into());
    }
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
        fault,
        seed: args.seed.unwrap_or_else(rand::random),
        time: Duration::from_secs_f64(args.time),
        nodes: usize::from(args.nodes),
        engine: args.engine.as_str().to_owned(),
        out,
        worker_binary: std::env::current_exe()?,
    };
    eprintln!("seed {}; repeat with: {}", plan.seed, plan.command());
    let runtime = tokio::runtime::Runtime::new()?;
    let report = runtime.block_on(souk_jepsen_like_tests::run::run(&plan))?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{report}");
    }
    Ok(code_of(&report.verdict()))
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
