//! `souk-jepsen churn`: hours of simulated time, seed after seed, several faults at once.

use std::error::Error;
use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use serde_json::json;
use souk_jepsen_like_tests::fault::Fault;
use souk_jepsen_like_tests::sim::SimPlan;

use crate::apart::run_all;
use crate::args::ChurnArgs;
use crate::cells::{Cells, chosen_workloads};
use crate::run::new_folder;
use crate::simulate::{check_pace, check_time};

/// Faults at once.
const AT_ONCE: usize = 3;
/// Runs of one job between two words on the state.
const RUNS_PER_JOB: u64 = 4;
const S_PER_HOUR: f64 = 3_600.0;

/// Runs seeds until the hours are over; the exit code is that of the worst verdict.
pub(crate) fn churn(args: &ChurnArgs) -> Result<u8, Box<dyn Error>> {
    check_time(args.time)?;
    check_pace(args.pace)?;
    let workloads = chosen_workloads(&args.workload)?;
    let out = new_folder(&args.sweep.out)?;
    let begun = Instant::now();
    let mut cells = Cells::new(&workloads);
    let jobs = args.sweep.jobs();
    let wanted = Duration::from_secs_f64(args.hours * S_PER_HOUR);
    let mut seed = args.sweep.first_seed;
    while cells.simulated() < wanted {
        let left = wanted - cells.simulated();
        let runs_left = (left.as_secs_f64() / args.time).ceil() as u64;
        let count = runs_left.clamp(1, u64::try_from(jobs)? * RUNS_PER_JOB);
        let plan = |seed| plan(args, &workloads, seed);
        let plans: Vec<SimPlan> = (seed..seed + count).map(plan).collect();
        run_all(&plans, jobs, &out, |plan, found| cells.add(plan, found))?;
        seed += count;
        eprintln!(
            "{:.2} of {} h, {} runs, {} invalid, {} unknown",
            cells.simulated().as_secs_f64() / S_PER_HOUR,
            args.hours,
            cells.runs(),
            cells.invalid(),
            cells.unknown()
        );
    }
    print(&cells, begun.elapsed(), args.json);
    Ok(cells.worst())
}

fn plan(args: &ChurnArgs, workloads: &[String], seed: u64) -> SimPlan {
    let workload = &workloads[usize::try_from(seed).unwrap_or(0) % workloads.len()];
    SimPlan {
        time: Duration::from_secs_f64(args.time),
        nodes: args.nodes,
        pace: args.pace,
        ..SimPlan::new(workload, &faults(seed), seed)
    }
}

/// Several that leave every node its disk.
fn faults(seed: u64) -> Vec<Fault> {
    let all: Vec<Fault> = Fault::ALL
        .into_iter()
        .filter(|fault| fault.is_simulated())
        .filter(|fault| !matches!(fault, Fault::None | Fault::Wipe | Fault::BitFlip))
        .collect();
    let mut random = StdRng::seed_from_u64(seed);
    all.choose_multiple(&mut random, AT_ONCE).copied().collect()
}

fn print(cells: &Cells, real: Duration, is_json: bool) {
    let hours = cells.simulated().as_secs_f64() / S_PER_HOUR;
    let (runs, requests) = (cells.runs(), cells.requests());
    let (invalid, unknown) = (cells.invalid(), cells.unknown());
    if is_json {
        let result = json!({
            "runs": runs, "unknown": unknown, "invalid": invalid, "requests": requests,
            "simulated_hours": hours, "real_seconds": real.as_secs_f64(), "cells": cells.as_json(),
        });
        println!("{result:#}");
        return;
    }
    let seconds = real.as_secs_f64();
    println!(
        "{hours:.2} simulated hours in {seconds:.0} s: {runs} runs, {requests} requests, {invalid} invalid, {unknown} unknown"
    );
}
