//! Four cells of the real matrix, two clusters at a time on hosts of their own: a split, a slow network, a torn disk, and a
//! shop that is killed. Where namespaces, packet queues or fail points are missing, a cell says so and is skipped.

use souk_jepsen_like_tests::fault::Fault;
use souk_jepsen_like_tests::process::HarnessError;
use souk_jepsen_like_tests::run::{RunError, run};

use crate::support::{Chaos, chain, whole_machine};

const SECONDS: f64 = 30.0;

/// Runs a cell, and demands a valid verdict, which rests on windows that bit.
async fn check(workload: &'static str, fault: Fault) {
    let folder = tempfile::Builder::new()
        .prefix("souk-cell-")
        .tempdir()
        .unwrap();
    let chaos = Chaos {
        workloads: &[workload],
        fault,
        engine: "fjall",
    };
    let plan = chaos.plan_of(SECONDS, folder.path().to_owned());
    println!("seed {}; repeat with: {}", plan.seed, plan.command());
    match run(&plan).await {
        Err(RunError::Harness(lacking @ HarnessError::Lacking { .. })) => {
            eprintln!("skipped {workload} under {fault}: {lacking}");
        }
        Ok(report) if report.verdict().is_valid() => println!("{report}"),
        broken => {
            println!("everything is kept in {}", folder.keep().display());
            match broken {
                Ok(report) => panic!("{report}"),
                Err(problem) => panic!("{}", chain(&problem)),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn split_and_slow_networks_break_no_promise() {
    let _machine = whole_machine().await;
    tokio::join!(
        check("register", Fault::SplitHalves),
        check("session", Fault::Slow)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn torn_disks_and_killed_shops_break_no_promise() {
    let _machine = whole_machine().await;
    tokio::join!(
        check("ledger", Fault::TornWrite),
        check("checkout", Fault::KillShop)
    );
}
