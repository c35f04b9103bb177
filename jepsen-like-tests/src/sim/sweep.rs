//! Which cells many seeds go to: every workload that can be simulated under every fault that can, in turn.
//!
//! Shape: a cell is a workload and a fault; seed after seed takes the next cell, in steps that visit all of them before
//! one comes again, so that a few seeds already meet many workloads and many faults.

use std::time::Duration;

use super::SimPlan;
use crate::fault::Fault;
use crate::workload;

/// From one cell to the next one that is visited; made longer where it shares a factor with the number of cells.
const STRIDE: usize = 97;

/// The faults that can be done to simulated nodes.
#[must_use]
pub fn simulated_faults() -> Vec<Fault> {
    let all = Fault::ALL.into_iter();
    all.filter(|fault| fault.is_simulated()).collect()
}

/// The workloads that can be simulated, by name.
#[must_use]
pub fn simulated_workloads() -> Vec<&'static str> {
    let all = workload::all();
    let simulated = all.iter().filter(|workload| !workload.needs_shop());
    simulated.map(|workload| workload.name()).collect()
}

/// So many runs of the usual size whose clients work for `time`, each with a seed of its own, over all cells in turn. Where
/// there are more cells than runs, `first_seed` decides which are left out.
#[must_use]
pub fn sweep(count: usize, first_seed: u64, time: Duration) -> Vec<SimPlan> {
    let (workloads, faults) = (simulated_workloads(), simulated_faults());
    let cells = workloads.len() * faults.len();
    let stride = (STRIDE..).find(|stride| divisor(*stride, cells) == 1);
    let stride = stride.expect("some number shares no factor with another one");
    let first = usize::try_from(first_seed % cells as u64).expect("there are few cells");
    let plans = (first..).zip(first_seed..).take(count);
    plans
        .map(|(number, seed)| {
            let cell = number * stride % cells;
            let workload = workloads[cell % workloads.len()];
            let fault = faults[cell / workloads.len()];
            SimPlan {
                time,
                ..SimPlan::new(workload, &[fault], seed)
            }
        })
        .collect()
}

/// The greatest common one.
fn divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn cells(count: usize, first_seed: u64) -> BTreeSet<(String, Fault)> {
        let plans = sweep(count, first_seed, Duration::from_secs(1)).into_iter();
        plans.map(|plan| (plan.workload, plan.faults[0])).collect()
    }

    #[test]
    fn every_cell_has_its_turn_before_one_comes_again() {
        let all = simulated_workloads().len() * simulated_faults().len();
        for first in [1, 77, u64::MAX / 2] {
            assert_eq!(cells(all, first).len(), all);
            assert_eq!(cells(all + 5, first).len(), all);
        }
    }

    #[test]
    fn a_few_seeds_meet_all_workloads_and_faults() {
        let few = cells(60, 1);
        let workloads: BTreeSet<&String> = few.iter().map(|(workload, _)| workload).collect();
        let faults: BTreeSet<Fault> = few.iter().map(|(_, fault)| *fault).collect();
        assert_eq!(workloads.len(), simulated_workloads().len());
        assert_eq!(faults.len(), simulated_faults().len());
    }
}
