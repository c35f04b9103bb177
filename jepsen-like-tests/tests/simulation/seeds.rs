//! A few seeds of every workload under every kind of fault, each short.

use std::time::Duration;

use souk_jepsen_like_tests::fault::Fault;
use souk_jepsen_like_tests::sim::{SimPlan, run};

/// Runs, and demands a valid verdict.
pub(crate) fn check(workload: &str, faults: &[Fault], seed: u64) {
    check_for(12, workload, faults, seed);
}

/// The same, with clients that work for so many seconds.
fn check_for(seconds: u64, workload: &str, faults: &[Fault], seed: u64) {
    let plan = SimPlan {
        time: Duration::from_secs(seconds),
        ..SimPlan::new(workload, faults, seed)
    };
    let report = run(&plan).unwrap_or_else(|problem| panic!("{problem}: {}", plan.command()));
    assert!(
        report.report.verdict.is_valid(),
        "{report}\nrepeat with: {}",
        plan.command()
    );
}

#[test]
fn registers_stay_linearizable() {
    check("register", &[Fault::KillOne, Fault::SplitHalves], 3);
}

#[test]
fn carts_lose_nothing() {
    check("cart", &[Fault::KillOne, Fault::SplitOne], 4);
}

#[test]
fn stock_is_not_oversold() {
    check("stock", &[Fault::SplitBridge, Fault::Lossy], 5);
}

/// A put was sent a second time while the first attempt was under way, and ran under two dots; what replaced one of them left
/// the other.
#[test]
fn a_put_that_ran_twice_is_replaced_once() {
    check_for(60, "siblings", &[Fault::SplitFlapping], 1142);
}

/// Every workload once, each under another fault, with seeds from this one on.
fn check_one_of_each(faults: &[Fault], first_seed: u64) {
    let all = souk_jepsen_like_tests::workload::all();
    let simulated = all.iter().filter(|workload| !workload.needs_shop());
    for ((seed, workload), fault) in (first_seed..).zip(simulated).zip(faults.iter().cycle()) {
        check(workload.name(), &[*fault], seed);
    }
}

#[test]
fn every_workload_survives_what_happens_to_networks() {
    let faults = [Fault::SplitOneWay, Fault::PauseOne, Fault::Jitter];
    check_one_of_each(&faults, 100);
}

#[test]
fn every_workload_survives_what_happens_to_machines() {
    let faults = [Fault::Wipe, Fault::KillMajority, Fault::TornWrite];
    check_one_of_each(&faults, 200);
}
