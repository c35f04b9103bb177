//! `souk-jepsen ci-full` and `souk-jepsen nightly`: fixed selections of simulated seeds and of runs on real processes.

use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use souk_jepsen_like_tests::fault::Fault;
use souk_jepsen_like_tests::sim::sweep;

use crate::apart::run_all;
use crate::args::SuiteArgs;
use crate::cells::{Cells, chosen_workloads};
use crate::real_cells;
use crate::run::new_folder;
use crate::{FAILED, INVALID, SKIPPED, UNKNOWN, VALID};

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Suite {
    /// Simulated runs, of which the cells get equally many.
    seeds: usize,
    /// Runs on real processes.
    real_cells: usize,
}

/// What is run before a change of weight is merged.
pub(crate) const CI_FULL: Suite = Suite {
    seeds: 200,
    real_cells: 12,
};
/// What is run every night: every cell of the simulation at least six times.
pub(crate) const NIGHTLY: Suite = Suite {
    seeds: 2_000,
    real_cells: 48,
};
/// How long the clients of each run work.
const TIME: Duration = Duration::from_secs(60);

/// Runs a suite; the exit code is that of the worst verdict.
pub(crate) fn suite(suite: Suite, args: &SuiteArgs) -> Result<u8, Box<dyn Error>> {
    let out = new_folder(&args.sweep.out)?;
    let plans = sweep(suite.seeds, args.sweep.first_seed, TIME);
    let mut cells = Cells::new(&chosen_workloads(&[])?);
    let jobs = args.sweep.jobs();
    run_all(&plans, jobs, &out, |plan, found| cells.add(plan, found))?;
    print!("{cells}");
    println!("{} simulated runs", cells.runs());
    let mut codes = vec![cells.worst()];
    if !args.no_real {
        for (number, (workload, fault)) in real(suite.real_cells).into_iter().enumerate() {
            let code = run_real(workload, fault, args.sweep.first_seed, number, &out)?;
            println!("real: {workload} under {fault}: {}", word(code));
            codes.push(code);
        }
    }
    Ok(worst(&codes))
}

/// So many cells of the real matrix, evenly out of all of them.
fn real(count: usize) -> Vec<(&'static str, Fault)> {
    let all = real_cells::usual();
    (0..count)
        .map(|number| all[number * all.len() / count])
        .collect()
}

fn run_real(
    workload: &str,
    fault: Fault,
    first_seed: u64,
    number: usize,
    out: &Path,
) -> Result<u8, Box<dyn Error>> {
    let seed = first_seed + u64::try_from(number)?;
    let status = Command::new(std::env::current_exe()?)
        .args(["run", "--real", "--workload", workload])
        .args(["--fault", fault.as_str(), "--seed", &seed.to_string()])
        .args(["--time", &TIME.as_secs().to_string(), "--out"])
        .arg(out.join(format!("real-{workload}-{fault}-{seed}")))
        .status()?;
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(FAILED))
}

fn word(code: u8) -> &'static str {
    match code {
        VALID => "valid",
        INVALID => "INVALID",
        UNKNOWN => "unknown",
        SKIPPED => "skipped",
        _ => "the harness failed",
    }
}

/// A broken promise weighs most, then a harness that failed, then doubt, then what was skipped.
fn worst(codes: &[u8]) -> u8 {
    let order = [INVALID, FAILED, UNKNOWN, SKIPPED];
    let found = order.into_iter().find(|code| codes.contains(code));
    found.unwrap_or(VALID)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use souk_jepsen_like_tests::sim::{simulated_faults, simulated_workloads};

    use super::*;

    #[test]
    fn a_night_comes_to_every_cell_six_times() {
        let cells = simulated_workloads().len() * simulated_faults().len();
        assert!(NIGHTLY.seeds >= 6 * cells, "{cells} cells");
    }

    #[test]
    fn real_cells_are_distinct() {
        for count in [CI_FULL.real_cells, NIGHTLY.real_cells] {
            let pairs: BTreeSet<_> = real(count).into_iter().collect();
            assert_eq!(pairs.len(), count);
        }
    }

    #[test]
    fn the_worst_counts() {
        assert_eq!(worst(&[VALID, UNKNOWN, VALID]), UNKNOWN);
        assert_eq!(worst(&[UNKNOWN, FAILED]), FAILED);
        assert_eq!(worst(&[FAILED, INVALID, UNKNOWN]), INVALID);
        assert_eq!(worst(&[VALID]), VALID);
    }
}
