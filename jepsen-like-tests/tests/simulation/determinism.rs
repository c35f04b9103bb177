//! One seed is one run, in every process.

use std::process::Command;

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
