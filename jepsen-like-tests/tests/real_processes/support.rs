//! One run for a test: with a seed that is printed, and a folder that is kept when it fails.

use std::path::PathBuf;
use std::time::Duration;

use souk_jepsen_like_tests::checker::Verdict;
use souk_jepsen_like_tests::fault::{Fault, Window, windows};
use souk_jepsen_like_tests::history::{History, Operation};
use souk_jepsen_like_tests::real::HostsWanted;
use souk_jepsen_like_tests::run::{RunPlan, RunReport, run};
use tokio::sync::{Mutex, MutexGuard};

const SECONDS: f64 = 12.0;

/// Waits for the machine; hold it for the whole test.
pub(crate) async fn whole_machine() -> MutexGuard<'static, ()> {
    static MACHINE: Mutex<()> = Mutex::const_new(());
    MACHINE.lock().await
}

/// What a test runs.
pub(crate) struct Chaos<'test> {
    pub(crate) workloads: &'test [&'test str],
    pub(crate) fault: Fault,
    pub(crate) engine: &'test str,
}

impl Chaos<'_> {
    /// Runs, and demands that everything is valid and that every blow fell while clients were at work.
    pub(crate) async fn run(&self) -> RunReport {
        let _machine = whole_machine().await;
        let folder = tempfile::Builder::new()
            .prefix("souk-chaos-")
            .tempdir()
            .unwrap();
        let plan = self.plan(folder.path().to_owned());
        println!("seed {}; repeat with: {}", plan.seed, plan.command());
        let result = run(&plan).await;
        let is_fine = result
            .as_ref()
            .is_ok_and(|report| report.verdict() == Verdict::Valid);
        if !is_fine {
            println!("everything is kept in {}", folder.keep().display());
        }
        let report = result.unwrap_or_else(|problem| panic!("{}", chain(&problem)));
        assert!(is_fine, "{report}");
        println!("{report}");
        for one in &report.workloads {
            assert!(
                !windows(&one.history).is_empty(),
                "no blow fell during {}",
                one.workload
            );
        }
        report
    }

    fn plan(&self, out: PathBuf) -> RunPlan {
        self.plan_of(SECONDS, out)
    }

    /// A plan that runs so long, unless the environment says otherwise.
    pub(crate) fn plan_of(&self, seconds: f64, out: PathBuf) -> RunPlan {
        let number = |name: &str| Some(std::env::var(name).ok()?.parse().unwrap());
        RunPlan {
            workloads: self.workloads.iter().map(ToString::to_string).collect(),
            faults: vec![self.fault],
            hosts: HostsWanted::Auto,
            seed: std::env::var("SOUK_SEED")
                .map_or_else(|_| rand::random(), |seed| seed.parse().unwrap()),
            time: Duration::from_secs_f64(number("SOUK_CHAOS_SECONDS").unwrap_or(seconds)),
            nodes: 3,
            engine: self.engine.to_owned(),
            out,
            worker_binary: env!("CARGO_BIN_EXE_souk-jepsen").into(),
        }
    }
}

/// The operations named `f` that began and ended within a window.
pub(crate) fn within(history: &History, f: &str, is_in: impl Fn(u64) -> bool) -> Vec<Operation> {
    let mut operations = history.operations_of(f);
    operations.retain(|one| is_in(one.invoked_ns) && one.ended_ns.is_some_and(&is_in));
    operations
}

/// True of a time at which every one of the windows is open.
pub(crate) fn all_open(windows: &[Window]) -> impl Fn(u64) -> bool {
    move |time_ns| windows.iter().all(|window| window.contains(time_ns))
}

pub(crate) fn chain(problem: &dyn std::error::Error) -> String {
    match problem.source() {
        Some(source) => format!("{problem}: {}", chain(source)),
        None => problem.to_string(),
    }
}
