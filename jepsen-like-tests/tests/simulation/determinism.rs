//! One seed is one run, in every process.

use std::process::Command;
use std::time::Duration;

use souk_jepsen_like_tests::fault::Fault;
use souk_jepsen_like_tests::sim::{SimPlan, run};

fn trace_hash(seed: u64) -> String {
    let out = tempfile::tempdir().expect("a temporary folder");
    let output = Command::new(env!("CARGO_BIN_EXE_souk-jepsen"))
        .args(
            "run --sim --json --workload register --fault kill-one,split-halves --time 8"
                .split(' '),
        )
        .args(["--seed", &seed.to_string(), "--out"])
        .arg(out.path().join("run"))
        .output()
        .expect("the command runs");
    assert!(out.path().join("run/repro.txt").exists());
    let result: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("the result is JSON");
    result["trace_hash"].to_string()
}

#[test]
fn one_seed_is_one_run_in_every_process() {
    assert_eq!(trace_hash(1), trace_hash(1));
    assert_ne!(trace_hash(1), trace_hash(2));
}

#[test]
fn one_seed_is_one_run_also_for_the_second_time_in_a_process() {
    let hash = |seed| {
        let plan = SimPlan {
            time: Duration::from_secs(8),
            ..SimPlan::new("cart-changes", &[Fault::KillOne, Fault::Lossy], seed)
        };
        run(&plan).expect("the harness does its part").trace_hash
    };
    let first = hash(1);
    assert_ne!(first, hash(2));
    assert_eq!(first, hash(1));
}
