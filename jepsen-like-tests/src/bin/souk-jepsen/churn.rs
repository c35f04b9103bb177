//! `souk-jepsen churn`: hours of simulated time, seed after seed, several faults at once.

use std::error::Error;
use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use serde_json::json;
use souk_jepsen_like_tests::fault::Fault;
use souk_jepsen_like_tests::sim::SimPlan;

use crate::args::ChurnArgs;
use crate::run::new_folder;
use crate::simulate::{check_pace, check_time, run_apart};
use crate::{INVALID, UNKNOWN, VALID};

/// Faults at once.
const AT_ONCE: usize = 3;
const S_PER_HOUR: f64 = 3_600.0;

/// What came of it.
#[derive(Default)]
struct Sum {
    runs: u64,
    valid: u64,
    unknown: Vec<u64>,
    invalid: Vec<u64>,
    requests: u64,
    simulated: Duration,
}

/// Runs seeds until the hours are over; the exit code is that of the worst verdict.
pub(crate) fn churn(args: &ChurnArgs) -> Result<u8, Box<dyn Error>> {
    check_time(args.time)?;
    check_pace(args.pace)?;
    let out = new_folder(&args.out)?;
    let begun = Instant::now();
    let mut sum = Sum::default();
    let wanted = Duration::from_secs_f64(args.hours * S_PER_HOUR);
    let mut seed = args.first_seed;
    while sum.simulated < wanted {
        let workload = &args.workload[usize::try_from(seed).unwrap_or(0) % args.workload.len()];
        let plan = SimPlan {
            time: Duration::from_secs_f64(args.time),
            nodes: args.nodes,
            pace: args.pace,
            ..SimPlan::new(workload, &faults(seed), seed)
        };
        let found = run_apart(&plan, &out.join(format!("{workload}-{seed}")))?;
        sum.runs += 1;
        sum.simulated += Duration::from_millis(found.simulated_ms);
        sum.requests += found.count("requests");
        if found.is_valid() {
            sum.valid += 1;
        } else if found.is_invalid() {
            sum.invalid.push(seed);
        } else {
            sum.unknown.push(seed);
        }
        eprintln!(
            "{:.2} of {} h, {} runs, {} invalid, {} unknown",
            sum.simulated.as_secs_f64() / S_PER_HOUR,
            args.hours,
            sum.runs,
            sum.invalid.len(),
            sum.unknown.len()
        );
        seed += 1;
    }
    print(&sum, begun.elapsed(), args.json);
    Ok(if !sum.invalid.is_empty() {
        INVALID
    } else if !sum.unknown.is_empty() {
        UNKNOWN
    } else {
        VALID
    })
}

/// Several that leave every node its disk.
fn faults(seed: u64) -> Vec<Fault> {
    let all: Vec<Fault> = Fault::ALL
        .into_iter()
        .filter(|fault| !matches!(fault, Fault::None | Fault::Wipe | Fault::BitFlip))
        .collect();
    let mut random = StdRng::seed_from_u64(seed);
    all.choose_multiple(&mut random, AT_ONCE).copied().collect()
}

fn print(sum: &Sum, real: Duration, is_json: bool) {
    let hours = sum.simulated.as_secs_f64() / S_PER_HOUR;
    if is_json {
        let result = json!({
            "runs": sum.runs, "valid": sum.valid, "unknown": sum.unknown, "invalid": sum.invalid,
            "requests": sum.requests, "simulated_hours": hours, "real_seconds": real.as_secs_f64(),
        });
        println!("{result:#}");
        return;
    }
    println!(
        "{hours:.2} simulated hours in {:.0} s: {} runs, {} valid, {} requests\ninvalid {:?}\nunknown {:?}",
        real.as_secs_f64(),
        sum.runs,
        sum.valid,
        sum.requests,
        sum.invalid,
        sum.unknown
    );
}
