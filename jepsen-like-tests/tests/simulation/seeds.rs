//! A few seeds of every workload under every kind of fault, each short.

use std::time::Duration;

use souk_jepsen_like_tests::fault::Fault;
use souk_jepsen_like_tests::sim::{SimPlan, run};

/// Runs, and demands a valid verdict.
pub(crate) fn check(workload: &str, faults: &[Fault], seed: u64) {
    let plan = SimPlan {
        time: Duration::from_secs(12),
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
