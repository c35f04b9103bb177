//! Drives a run.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::report::{write_history, write_json};
use super::strain::Strain;
use super::{Evidence, RunError, RunPlan, RunReport, WorkloadReport};
use crate::checker::{Report, Verdict, Violation};
use crate::fault::{Fault, Schedule};
use crate::history::{History, Recorder, read_lines};
use crate::process::{ClusterPlan, HarnessError, TestCluster};
use crate::real::{Ground, RealNemesis};
use crate::workload::{Target, Workload, WorkloadError, World, named};

/// How long workers may take beyond their time: the last request of each has to end.
const WORKERS_LATE_MAX: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Runs a plan to its end.
///
/// # Errors
/// When the harness or a workload could not do its part. The store is judged by the report only.
pub async fn run(plan: &RunPlan) -> Result<RunReport, RunError> {
    let workloads = plan.workloads.iter().map(|name| named(name));
    let workloads: Vec<_> = workloads
        .collect::<Result<_, _>>()
        .map_err(RunError::NoWorkload)?;
    check(plan, &workloads)?;
    let home = plan.out.join("cluster");
    std::fs::create_dir_all(&home).map_err(RunError::file(&home))?;
    let mut nodes: Vec<String> = (1..=plan.nodes)
        .map(|number| format!("n{number}"))
        .collect();
    let time_ms = u64::try_from(plan.time.as_millis()).unwrap_or(u64::MAX);
    let schedule = Schedule::plan(&plan.faults, plan.seed, time_ms, &nodes);
    write_json(&plan.out.join("schedule.json"), &schedule)?;
    nodes.extend(schedule.newcomers());
    // Before the cluster, so that it is dropped after it.
    let ground = Ground::prepare(&plan.faults, plan.hosts, &home, &nodes)?;
    let what = cluster_plan(plan, &workloads);
    let mut cluster = TestCluster::start_on(&what, Some(&home), &ground.site()?).await?;
    let hosts = ground.hosts_name();
    tracing::info!(nodes = plan.nodes, hosts, home = %home.display(), "the cluster is ready");
    let target = target_of(&cluster);
    let repro = plan.out.join("repro.txt");
    std::fs::write(&repro, plan.command() + "\n").map_err(RunError::file(&repro))?;

    let mut crews = Vec::new();
    for workload in &workloads {
        crews.push(Crew::prepare(plan, &**workload, &target).await?);
    }
    for crew in &mut crews {
        crew.start(plan)?;
    }
    tracing::info!(time_ms, workloads = plan.workloads.join(","), "clients run");
    let noted = Recorder::in_memory();
    let binary = &plan.worker_binary;
    let mut nemesis = RealNemesis::new(&mut cluster, &ground, binary, plan.seed, noted.clone());
    nemesis.perform(&schedule).await?;
    for crew in &mut crews {
        crew.wait().await?;
    }
    nemesis.heal().await?;
    let ends = nemesis.unexplained_ends().iter();
    let ends = ends.map(|what| Violation::new("ended", what, []));
    let changes = nemesis.broken_changes().iter();
    let changes = changes.map(|what| Violation::new("members", what, []));
    let mut broken: Vec<Violation> = ends.chain(changes).collect();
    match cluster.wait_ready().await {
        Ok(()) => tracing::info!("everything runs again; looking at the end of it"),
        Err(problem @ (HarnessError::Ended { .. } | HarnessError::NotReady { .. })) => {
            broken.push(Violation::new("not ready", problem.to_string(), []));
        }
        Err(problem) => return Err(problem.into()),
    }

    // Members may have changed.
    let target = target_of(&cluster);
    let noted = noted.history().map_err(RunError::file(&plan.out))?;
    let mut reports = Vec::new();
    for crew in crews {
        let seen = Seen {
            noted: &noted,
            schedule: &schedule,
            broken: &broken,
        };
        reports.push(crew.judge(&target, &seen).await?);
    }
    let report = RunReport {
        schedule,
        hosts,
        why_loopback: ground.why_loopback().map(ToOwned::to_owned),
        workloads: reports,
    };
    report.write(plan)?;
    Ok(report)
}

/// Where clients find it now.
fn target_of(cluster: &TestCluster) -> Target {
    Target {
        endpoints: cluster.endpoints(),
        nodes: cluster.node_names(),
        shop: cluster.shop_address().map(ToOwned::to_owned),
        payments_file: cluster.shop_address().map(|_| cluster.payments_file()),
        world: World::default(),
    }
}

/// Refuses what would show nothing.
fn check(plan: &RunPlan, workloads: &[Box<dyn Workload>]) -> Result<(), RunError> {
    let has_shop = workloads.iter().any(|workload| workload.needs_shop());
    let why = if plan.faults.contains(&Fault::KillShop) && !has_shop {
        (
            Fault::KillShop,
            "none of the workloads has a shop; name checkout or shop-cart",
        )
    } else if plan.faults.contains(&Fault::TornWrite) && plan.engine != "fjall" {
        (
            Fault::TornWrite,
            "only the journals of fjall are known to it; leave --engine away",
        )
    } else {
        return Ok(());
    };
    Err(RunError::Harness(HarnessError::Lacking {
        what: why.0.to_string(),
        why: why.1.to_owned(),
    }))
}

/// What every workload's verdict rests on, beside its own history.
struct Seen<'run> {
    noted: &'run History,
    schedule: &'run Schedule,
    /// What the store did that ends a run.
    broken: &'run [Violation],
}

fn cluster_plan(plan: &RunPlan, workloads: &[Box<dyn Workload>]) -> ClusterPlan {
    let catalogue = workloads.iter().map(|workload| workload.catalogue());
    ClusterPlan {
        nodes: plan.nodes,
        has_shop: workloads.iter().any(|workload| workload.needs_shop()),
        engine: plan.engine.clone(),
        catalogue: catalogue.max_by_key(String::len).unwrap_or_default(),
    }
}

/// The workers of one workload.
struct Crew<'run> {
    workload: &'run dyn Workload,
    folder: PathBuf,
    recorder: Recorder,
    workers: Vec<WorkerProcess>,
    late: Instant,
}

struct WorkerProcess {
    child: Child,
    history: PathBuf,
    log: PathBuf,
}

impl<'run> Crew<'run> {
    async fn prepare(
        plan: &RunPlan,
        workload: &'run dyn Workload,
        target: &Target,
    ) -> Result<Crew<'run>, RunError> {
        let folder = plan.out.join(workload.name());
        std::fs::create_dir_all(&folder).map_err(RunError::file(&folder))?;
        write_json(&folder.join("target.json"), target)?;
        let recorder = Recorder::in_memory();
        workload
            .set_up(target, &recorder)
            .await
            .map_err(failed(workload))?;
        Ok(Crew {
            workload,
            folder,
            recorder,
            workers: Vec::new(),
            late: Instant::now(),
        })
    }

    fn start(&mut self, plan: &RunPlan) -> Result<(), RunError> {
        let crowd = self.workload.crowd();
        for worker in 0..crowd.workers {
            let history = self.folder.join(format!("worker-{worker}.jsonl"));
            let log = self.folder.join(format!("worker-{worker}.log"));
            let output = File::create(&log).map_err(RunError::file(&log))?;
            let child = Command::new(&plan.worker_binary)
                .args(["worker", "--workload", self.workload.name()])
                .args([
                    "--worker",
                    &worker.to_string(),
                    "--lanes",
                    &crowd.lanes.to_string(),
                ])
                .args(["--seed", &plan.seed.to_string()])
                .args(["--time", &plan.time.as_secs_f64().to_string()])
                .arg("--target")
                .arg(self.folder.join("target.json"))
                .arg("--history")
                .arg(&history)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(output)
                .spawn()
                .map_err(RunError::file(&plan.worker_binary))?;
            self.workers.push(WorkerProcess {
                child,
                history,
                log,
            });
        }
        self.late = Instant::now() + plan.time + WORKERS_LATE_MAX;
        Ok(())
    }

    async fn wait(&mut self) -> Result<(), RunError> {
        for worker in &mut self.workers {
            loop {
                let ended = worker
                    .child
                    .try_wait()
                    .map_err(RunError::file(&worker.log))?;
                let what = match ended {
                    Some(status) if status.success() => break,
                    Some(status) => status.to_string(),
                    None if Instant::now() > self.late => "it does not end".to_owned(),
                    None => {
                        tokio::time::sleep(LOOK_EVERY).await;
                        continue;
                    }
                };
                let log = worker.log.clone();
                return Err(RunError::Worker {
                    workload: self.workload.name(),
                    what,
                    log,
                });
            }
        }
        Ok(())
    }

    async fn judge(self, target: &Target, seen: &Seen<'_>) -> Result<WorkloadReport, RunError> {
        let mut parts = vec![seen.noted.clone()];
        for worker in &self.workers {
            parts.push(read_history(&worker.history)?);
        }
        let until_now = History::merge(parts.clone());
        let finished = if seen.broken.is_empty() {
            self.workload
                .finish(target, &self.recorder, &until_now)
                .await
        } else {
            // Nobody would answer.
            Ok(())
        };
        parts.push(
            self.recorder
                .history()
                .map_err(RunError::file(&self.folder))?,
        );
        let history = History::merge(parts);
        // Also when the last look failed: what led there is in it.
        write_history(&self.folder, &history)?;
        let mut broken = seen.broken.to_vec();
        match finished {
            Ok(()) => {}
            Err(problem @ WorkloadError::NotSettled { .. }) => {
                broken.push(Violation::new("no rest", problem.to_string(), []));
            }
            Err(problem) => return Err(failed(self.workload)(problem)),
        }
        let evidence = Evidence::of(&history);
        let mut report: Report = self.workload.checker().check(&history);
        report.verdict = report
            .verdict
            .and(Verdict::of(broken))
            .and(evidence.verdict(seen.schedule));
        report.counts.extend(evidence.counts());
        report.counts.extend(Strain::of(&history).counts());
        Ok(WorkloadReport {
            workload: self.workload.name(),
            report,
            history,
        })
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn failed(workload: &dyn Workload) -> impl FnOnce(crate::workload::WorkloadError) -> RunError {
    let workload = workload.name();
    move |source| RunError::Workload { workload, source }
}

fn read_history(path: &Path) -> Result<History, RunError> {
    let file = File::open(path).map_err(RunError::file(path))?;
    read_lines(BufReader::new(file)).map_err(|source| RunError::History {
        path: path.to_owned(),
        source,
    })
}
