//! One simulated run from the first start to the verdict.
//!
//! ```text
//! start ── set up ── clients work, nemesis breaks ── heal ── ready again ── last looks ── verdict
//! ```

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use souk_kv_client::{ClientEnvironment, Network};
use souk_kv_node::config::ConfigError;
use tokio::time::Instant;

use super::cluster::{SimCluster, StepError};
use super::nemesis::SimNemesis;
use super::{SimPlan, SimReport, members, trace};
use crate::checker::{Report, Verdict, Violation};
use crate::fault::Fault;
use crate::history::{Recorder, write_lines};
use crate::run::Evidence;
use crate::workload::{
    ClientContext, ClientId, Simulated, Target, Workload, WorkloadError, World, named,
};

/// From the start to the first request.
const START_WITHIN: Duration = Duration::from_secs(30);
/// For making buckets.
const SET_UP_WITHIN: Duration = Duration::from_secs(60);
/// How much longer than planned clients may take: their last requests have to end.
const LATE_MAX: Duration = Duration::from_secs(120);
/// After healing, until every node takes requests.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// From then on, until every key has its copies on the disks of its nodes, all in one state, without being read.
const CONVERGED_WITHIN: Duration = Duration::from_secs(30);
/// How often the disks are looked at meanwhile.
const LOOK_AT_DISKS_EVERY: Duration = Duration::from_millis(250);
/// For the last looks, which wait for rest themselves.
const FINISH_WITHIN: Duration = Duration::from_secs(300);

/// Why a run ended without a verdict. It says nothing about the store.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// There is no such workload.
    #[error("{0}")]
    NoWorkload(String),
    /// The workload cannot be simulated.
    #[error("the workload {0} needs a shop, which is not simulated; run it with --real")]
    NeedsShop(&'static str),
    /// The fault cannot be simulated.
    #[error("the fault {0} needs real processes; run it with --real")]
    NeedsProcesses(Fault),
    /// The cluster's configuration.
    #[error("the simulated cluster's configuration")]
    Config(#[from] ConfigError),
    /// A healthy cluster did not start.
    #[error("{what} within {within_s} simulated seconds: {last}")]
    NotInTime {
        /// What did not happen.
        what: &'static str,
        /// The bound.
        within_s: u64,
        /// What was seen last.
        last: String,
    },
    /// A workload could not do its part.
    #[error("a client could not do its part")]
    Workload(#[from] WorkloadError),
    /// The simulation itself.
    #[error("the simulation: {0}")]
    Simulation(String),
}

/// Runs a plan to its verdict. Takes the thread for as long as that lasts.
///
/// # Errors
/// When the harness or a workload could not do its part while nothing was broken.
pub fn run(plan: &SimPlan) -> Result<SimReport, SimError> {
    let workload: Arc<dyn Workload> =
        Arc::from(named(&plan.workload).map_err(SimError::NoWorkload)?);
    if workload.needs_shop() {
        return Err(SimError::NeedsShop(workload.name()));
    }
    if let Some(fault) = plan.faults.iter().find(|fault| !fault.is_simulated()) {
        return Err(SimError::NeedsProcesses(*fault));
    }
    let mut stage = Stage::new(plan, workload)?;
    stage.start()?;
    stage.set_up()?;
    let broken = stage.chaos().and_then(|()| stage.calm());
    stage.judge(broken)
}

/// Ended early: the store did something that ends a run.
enum Broken {
    Store(Violation),
    Harness(SimError),
}

impl From<SimError> for Broken {
    fn from(error: SimError) -> Broken {
        Broken::Harness(error)
    }
}

impl From<StepError> for Broken {
    fn from(error: StepError) -> Broken {
        match error {
            StepError::Panicked(what) => Broken::Store(Violation::new("panicked", what, [])),
            StepError::Client(what) => Broken::Harness(SimError::Simulation(what)),
        }
    }
}

impl From<StepError> for SimError {
    fn from(error: StepError) -> SimError {
        SimError::Simulation(error.to_string())
    }
}

type Slot<T> = Rc<RefCell<Option<T>>>;

struct Stage<'plan> {
    plan: &'plan SimPlan,
    workload: Arc<dyn Workload>,
    cluster: SimCluster,
    recorder: Recorder,
    schedule: crate::fault::Schedule,
    nemesis: SimNemesis,
    /// How long the copies took to become the same.
    converged: Duration,
}

impl<'plan> Stage<'plan> {
    fn new(plan: &'plan SimPlan, workload: Arc<dyn Workload>) -> Result<Stage<'plan>, SimError> {
        let nodes = usize::try_from(plan.nodes).unwrap_or(usize::MAX);
        let cluster = SimCluster::new(nodes, plan.seed)?;
        let recorder = Recorder::with_clock(Arc::new(cluster.time.clone()));
        let schedule = plan.schedule(&cluster.names());
        let nemesis = SimNemesis::new(&schedule, recorder.clone());
        Ok(Stage {
            plan,
            workload,
            cluster,
            recorder,
            schedule,
            nemesis,
            converged: Duration::ZERO,
        })
    }

    fn target(&self, machine: &str) -> Target {
        target_of(self.plan, &self.cluster, machine)
    }

    fn start(&mut self) -> Result<(), SimError> {
        let begun = self.cluster.elapsed();
        loop {
            self.cluster.step()?;
            let unready = self.cluster.unready();
            if unready.is_empty() {
                return Ok(());
            }
            if self.cluster.elapsed() - begun > START_WITHIN {
                return Err(not_in_time(
                    "the cluster did not start",
                    START_WITHIN,
                    unready.join("; "),
                ));
            }
        }
    }

    fn set_up(&mut self) -> Result<(), SimError> {
        let (target, recorder) = (self.target("set-up"), self.recorder.clone());
        let workload = Arc::clone(&self.workload);
        let slot = self.cluster.client("set-up", async move {
            workload.set_up(&target, &recorder).await
        });
        let begun = self.cluster.elapsed();
        while slot.borrow().is_none() {
            self.cluster.step()?;
            if self.cluster.elapsed() - begun > SET_UP_WITHIN {
                let last = "the set-up waits".to_owned();
                return Err(not_in_time("nothing was set up", SET_UP_WITHIN, last));
            }
        }
        let done = slot.borrow_mut().take();
        Ok(done.expect("the loop ended because it is there")?)
    }

    /// Clients work while the nemesis breaks.
    fn chaos(&mut self) -> Result<(), Broken> {
        let slots: Vec<_> = (0..self.plan.clients)
            .map(|number| self.client(number))
            .collect();
        let begun = self.cluster.elapsed();
        while slots.iter().any(|slot| slot.borrow().is_none()) {
            let since = self.cluster.elapsed() - begun;
            let plan = self.plan;
            self.nemesis
                .perform_until(&mut self.cluster, since, |cluster, name| {
                    target_of(plan, cluster, name)
                });
            self.cluster.step()?;
            if since > self.plan.time + LATE_MAX {
                let what = "a client's request does not end, though each has a deadline";
                return Err(Broken::Store(Violation::new("hangs", what, [])));
            }
        }
        for slot in slots {
            let done = slot.borrow_mut().take();
            done.expect("the loop ended because all are there")
                .map_err(SimError::Workload)?;
        }
        Ok(())
    }

    fn client(&mut self, number: u32) -> Slot<Result<(), WorkloadError>> {
        let name = format!("c{}", number + 1);
        let id = ClientId {
            worker: number,
            lane: 0,
        };
        let target = self.target(&name);
        let recorder = self.recorder.clone();
        let workload = Arc::clone(&self.workload);
        let (seed, time) = (self.plan.seed, self.plan.time);
        self.cluster.client(&name, async move {
            let context = ClientContext {
                target,
                id,
                lane: recorder.lane(),
                twin: recorder.lane(),
                random: ClientContext::random_of(seed, id),
                time,
                until: Instant::now() + time,
            };
            workload.run(context).await
        })
    }

    /// Heals, and requires readiness and rest.
    fn calm(&mut self) -> Result<(), Broken> {
        self.nemesis.heal(&mut self.cluster);
        self.rest_from_changes()?;
        let healed = self.cluster.elapsed();
        loop {
            self.cluster.step()?;
            let unready = self.cluster.unready();
            if unready.is_empty() {
                break;
            }
            if self.cluster.elapsed() - healed > READY_WITHIN {
                let what = format!(
                    "{} s after everything was healed: {}",
                    READY_WITHIN.as_secs(),
                    unready.join("; ")
                );
                return Err(Broken::Store(Violation::new("not ready", what, [])));
            }
        }
        self.converge()?;
        let (target, recorder) = (self.target("finish"), self.recorder.clone());
        let workload = Arc::clone(&self.workload);
        let until_now = self.recorder.history().map_err(unwritten)?;
        let slot = self.cluster.client("finish", async move {
            workload.finish(&target, &recorder, &until_now).await
        });
        let begun = self.cluster.elapsed();
        while slot.borrow().is_none() {
            self.cluster.step()?;
            if self.cluster.elapsed() - begun > FINISH_WITHIN {
                let what = "the last looks do not end, though nothing is broken";
                return Err(Broken::Store(Violation::new("hangs", what, [])));
            }
        }
        let done = slot.borrow_mut().take();
        match done.expect("the loop ended because it is there") {
            Ok(()) => Ok(()),
            Err(problem @ WorkloadError::NotSettled { .. }) => Err(Broken::Store(Violation::new(
                "no rest",
                problem.to_string(),
                [],
            ))),
            Err(problem) => Err(Broken::Harness(problem.into())),
        }
    }

    /// Waits until all copies are the same, by hints and comparing alone: nobody has read anything yet.
    fn converge(&mut self) -> Result<(), Broken> {
        let begun = self.cluster.elapsed();
        let mut look_at = begun;
        loop {
            self.cluster.step()?;
            if self.cluster.elapsed() < look_at {
                continue;
            }
            look_at += LOOK_AT_DISKS_EVERY;
            let differing = self.cluster.differing_copies();
            let waited = self.cluster.elapsed() - begun;
            let Some(first) = differing.first() else {
                self.converged = waited;
                return Ok(());
            };
            if waited > CONVERGED_WITHIN {
                let what = format!(
                    "{} s after everything was healed {} keys do not have their copies; {first}",
                    CONVERGED_WITHIN.as_secs(),
                    differing.len(),
                );
                return Err(Broken::Store(Violation::new("no convergence", what, [])));
            }
        }
    }

    /// Lets a change of members come to its end, and switches off who is no member after it.
    fn rest_from_changes(&mut self) -> Result<(), Broken> {
        let is_change = |step: &crate::fault::Step| step.action.changes_members();
        if !self.schedule.steps.iter().any(is_change) {
            return Ok(());
        }
        let target = self.target("last-operator");
        let told = self.cluster.client("last-operator", members::rest(target));
        while told.borrow().is_none() {
            self.cluster.step()?;
        }
        let told = told.borrow_mut().take();
        let seen = told.expect("the loop ended because it is there");
        let names = self.cluster.names();
        let broken = self.nemesis.broken_changes().first().cloned();
        match (seen, broken) {
            (Ok(seen), None) => {
                self.nemesis.see_off(&mut self.cluster, &names, &seen);
                Ok(())
            }
            (Err(what), _) | (Ok(_), Some(what)) => {
                Err(Broken::Store(Violation::new("members", what, [])))
            }
        }
    }

    fn judge(self, broken: Result<(), Broken>) -> Result<SimReport, SimError> {
        let history = self
            .recorder
            .history()
            .map_err(|problem| SimError::Simulation(problem.to_string()))?;
        let evidence = Evidence::of(&history);
        let Report {
            checker,
            verdict,
            mut counts,
        } = self.workload.checker().check(&history);
        let early = match broken {
            Ok(()) => Verdict::Valid,
            Err(Broken::Store(violation)) => Verdict::of(vec![violation]),
            Err(Broken::Harness(error)) => return Err(error),
        };
        let verdict = verdict.and(early).and(evidence.verdict(&self.schedule));
        counts.extend(evidence.counts());
        let mut lines = Vec::new();
        write_lines(&history, &mut lines)
            .map_err(|problem| SimError::Simulation(problem.to_string()))?;
        let (hash, pieces) = self.cluster.trace.sum();
        counts.insert("packets", pieces);
        let converged_ms = u64::try_from(self.converged.as_millis()).unwrap_or(u64::MAX);
        counts.insert("converged_ms", converged_ms);
        Ok(SimReport {
            plan: self.plan.clone(),
            schedule: self.schedule,
            report: Report {
                checker,
                verdict,
                counts,
            },
            trace_hash: trace::with_history(hash, &lines),
            simulated_ms: u64::try_from(self.cluster.elapsed().as_millis()).unwrap_or(u64::MAX),
            history,
        })
    }
}

/// What clients on a machine of this name are given.
fn target_of(plan: &SimPlan, cluster: &SimCluster, machine: &str) -> Target {
    let time = cluster.time.clone();
    let unix_ms = Arc::new(move || time.unix_ms());
    let network = Network::Pretended(Arc::new(cluster.exchange_of(machine)));
    let clock = Arc::clone(&unix_ms);
    Target {
        endpoints: cluster.endpoints(),
        nodes: cluster.names(),
        shop: None,
        payments_file: None,
        world: World {
            pace: plan.pace,
            simulated: Some(Simulated {
                environment: ClientEnvironment::new(network, move || clock()),
                unix_ms,
                seed: plan.seed,
            }),
        },
    }
}

fn not_in_time(what: &'static str, within: Duration, last: String) -> SimError {
    SimError::NotInTime {
        what,
        within_s: within.as_secs(),
        last,
    }
}

fn unwritten(problem: std::io::Error) -> Broken {
    Broken::Harness(SimError::Simulation(problem.to_string()))
}
