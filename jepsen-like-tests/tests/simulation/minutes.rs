//! Sixty seeds of a simulated minute each, over workloads and faults in turn: what every change has to pass.
//!
//! `SOUK_SIM_SEEDS` asks for another number, and `SOUK_SEED` for other seeds than those from 1 on. Each run has a process of
//! its own, as those of `souk-jepsen ci-full`; half of the seeds go to each of two tests, which run side by side.

use std::process::Command;
use std::time::Duration;

use souk_jepsen_like_tests::sim::{SimPlan, sweep};

const SEEDS: usize = 60;
const TIME: Duration = Duration::from_secs(60);

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
    )
}

/// Runs every second plan, and demands valid verdicts.
fn check(half: usize) {
    let count = number("SOUK_SIM_SEEDS").map_or(SEEDS, |count| {
        usize::try_from(count).expect("a number of seeds")
    });
    let plans = sweep(count, number("SOUK_SEED").unwrap_or(1), TIME);
    let broken: Vec<String> = plans
        .iter()
        .skip(half)
        .step_by(2)
        .filter_map(broken)
        .collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// What went wrong in a run, with the command that repeats it.
fn broken(plan: &SimPlan) -> Option<String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let command = plan.command();
    let output = Command::new(env!("CARGO_BIN_EXE_souk-jepsen"))
        .args(command.split(' ').skip(1))
        .arg("--out")
        .arg(folder.path().join("run"))
        .env("SOUK_LOG", "off")
        .output()
        .expect("the command runs");
    (!output.status.success()).then(|| {
        let said = String::from_utf8_lossy(&output.stdout);
        let problem = String::from_utf8_lossy(&output.stderr);
        format!("{command}\n{said}{problem}")
    })
}

#[test]
fn one_half_of_the_seeds_breaks_no_promise() {
    check(0);
}

#[test]
fn the_other_half_breaks_no_promise() {
    check(1);
}
