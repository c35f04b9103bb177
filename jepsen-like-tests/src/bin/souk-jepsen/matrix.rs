//! `souk-jepsen matrix`: every workload under every fault, in simulation.

use std::error::Error;
use std::time::{Duration, Instant};

use souk_jepsen_like_tests::fault::Fault;
use souk_jepsen_like_tests::sim::{SimPlan, simulated_faults};

use crate::apart::run_all;
use crate::args::MatrixArgs;
use crate::cells::{Cells, chosen_workloads};
use crate::run::new_folder;
use crate::simulate::{check_pace, check_time};

/// How often the state is told.
const TELL_EVERY: u64 = 10;

/// Runs all cells and prints them as a table; the exit code is that of the worst verdict.
pub(crate) fn matrix(args: &MatrixArgs) -> Result<u8, Box<dyn Error>> {
    check_time(args.time)?;
    check_pace(args.pace)?;
    let workloads = chosen_workloads(&args.workload)?;
    let faults = if args.fault.is_empty() {
        simulated_faults()
    } else {
        args.fault.clone()
    };
    let out = new_folder(&args.sweep.out)?;
    let plans = plans(args, &workloads, &faults);
    let begun = Instant::now();
    let mut cells = Cells::new(&workloads);
    let jobs = args.sweep.jobs();
    run_all(&plans, jobs, &out, |plan, found| {
        cells.add(plan, found);
        if cells.runs().is_multiple_of(TELL_EVERY) {
            eprintln!(
                "{} of {} runs: {} invalid, {} unknown",
                cells.runs(),
                plans.len(),
                cells.invalid(),
                cells.unknown()
            );
        }
    })?;
    std::fs::write(out.join("matrix.txt"), cells.to_string())?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&cells.as_json())?);
    } else {
        print!("{cells}");
        println!(
            "{} runs, {} requests, {:.0} simulated seconds in {:.0} s",
            cells.runs(),
            cells.requests(),
            cells.simulated().as_secs_f64(),
            begun.elapsed().as_secs_f64()
        );
    }
    Ok(cells.worst())
}

/// A seed of its own for each run. All cells once, then all cells again.
fn plans(args: &MatrixArgs, workloads: &[String], faults: &[Fault]) -> Vec<SimPlan> {
    let mut plans = Vec::new();
    let mut seed = args.sweep.first_seed;
    for _ in 0..args.seeds {
        for workload in workloads {
            for fault in faults {
                plans.push(SimPlan {
                    time: Duration::from_secs_f64(args.time),
                    nodes: args.nodes,
                    pace: args.pace,
                    ..SimPlan::new(workload, &[*fault], seed)
                });
                seed += 1;
            }
        }
    }
    plans
}
