//! Client requests on register groups: finds the group's runner, waits for its answer.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use souk_kv_core::{
    outcome::Outcome,
    register::{BallotClock, RowKey, RowRange, RowSelection, Rows, Transaction},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    GroupPlace, GroupStore,
    ballot::Voting,
    runner::{Runner, RunnerShared},
    work::{Job, Judged, Reading},
};
use crate::{
    cluster::Cluster, config::Limits, error::RequestError, keys::GroupKey, members::Members,
};

/// Transactions that may wait for one group.
const QUEUE_MAX: usize = 8192;

/// Runs conditional writes and linearizable reads.
#[derive(Debug, Clone)]
pub(crate) struct RegisterCoordinator {
    pub(super) shared: RunnerShared,
    queues: Arc<Mutex<BTreeMap<GroupKey, mpsc::Sender<Job>>>>,
}

impl RegisterCoordinator {
    pub(crate) fn new(
        cluster: Arc<Cluster>,
        groups: Arc<GroupStore>,
        members: Arc<Members>,
        limits: &Limits,
        tasks: TaskTracker,
        draining: CancellationToken,
    ) -> Self {
        let millis =
            |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let proposer = cluster.environment.random_u64();
        let shared = RunnerShared {
            voting: Voting {
                cluster,
                groups,
                members,
            },
            ballots: Arc::new(Mutex::new(BallotClock::new(proposer))),
            request_memory_ms: millis(limits.request_memory),
            clock_skew_max_ms: millis(limits.clock_skew_max),
            tasks,
            draining,
        };
        Self {
            shared,
            queues: Arc::default(),
        }
    }

    /// Runs a transaction on one group: all or nothing.
    pub(crate) async fn transact(
        &self,
        place: &GroupPlace,
        transaction: Transaction,
        deadline: Instant,
    ) -> Result<Judged, RequestError> {
        self.check_reachable(place)?;
        let started = Instant::now();
        let writes = transaction.writes();
        let (answer, waiter) = oneshot::channel();
        self.enqueue(
            place,
            Job::Transact {
                transaction,
                deadline,
                answer,
            },
        )?;
        match timeout_at(deadline, waiter).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(RequestError::Internal(
                "a group's task ended without an answer".to_owned(),
            )),
            Err(_) => Err(RequestError::Timeout {
                answered: 0,
                needed: place.majority(),
                waited_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
                mend: "it may still be applied; repeat it under the same request id, or read the rows",
                outcome: if writes {
                    Outcome::Unknown
                } else {
                    Outcome::NotApplied
                },
            }),
        }
    }

    /// Finds out by a ballot which state of the group is the newest, and returns rows of it.
    pub(super) async fn settle(
        &self,
        place: &GroupPlace,
        rows: RowSelection,
        deadline: Instant,
    ) -> Result<Rows, RequestError> {
        let (answer, waiter) = oneshot::channel();
        let is_range = rows.range.is_some();
        let reading = Reading {
            rows,
            deadline,
            answer,
        };
        let job = if is_range {
            Job::Settle(reading)
        } else {
            Job::Read(reading)
        };
        self.enqueue(place, job)?;
        match timeout_at(deadline, waiter).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(RequestError::Internal(
                "a group's task ended without an answer".to_owned(),
            )),
            Err(_) => Err(RequestError::Contention {
                outcome: Outcome::NotApplied,
            }),
        }
    }

    /// Gets the newest state of a group chosen once more, by whoever votes on it now, and changes nothing.
    pub(crate) async fn settle_group(
        &self,
        place: &GroupPlace,
        deadline: Instant,
    ) -> Result<(), RequestError> {
        let first_row = RowRange {
            from: RowKey::user(b""),
            to: None,
            rows_max: 1,
            reverse: false,
        };
        let selection = RowSelection::range(first_row);
        self.settle(place, selection, deadline).await.map(drop)
    }

    /// Erases old rows of a group, from this one on; false when there was nothing to erase after all.
    pub(super) async fn sweep(
        &self,
        place: &GroupPlace,
        from: RowKey,
    ) -> Result<bool, RequestError> {
        self.check_reachable(place)?;
        let (answer, waiter) = oneshot::channel();
        self.enqueue(place, Job::Sweep { from, answer })?;
        waiter.await.unwrap_or_else(|_| {
            Err(RequestError::Internal(
                "a group's task ended without an answer".to_owned(),
            ))
        })
    }

    /// Refuses at once, with nothing sent, when too few acceptors seem up.
    pub(super) fn check_reachable(&self, place: &GroupPlace) -> Result<(), RequestError> {
        let voting = &self.shared.voting;
        if voting.is_quorum_reachable(place) {
            return Ok(());
        }
        Err(RequestError::Unavailable {
            reachable: voting.reachable(place),
            needed: place.majority(),
        })
    }

    fn enqueue(&self, place: &GroupPlace, job: Job) -> Result<(), RequestError> {
        let mut queues = self.queues.lock();
        // A queue without its task (it can only have panicked) is replaced.
        let Some(queue) = queues.get(&place.key).filter(|queue| !queue.is_closed()) else {
            let (queue, jobs) = mpsc::channel(QUEUE_MAX);
            queues.insert(place.key.clone(), queue);
            self.shared.tasks.spawn(serve(
                self.shared.clone(),
                Arc::clone(&self.queues),
                place.clone(),
                jobs,
                job,
            ));
            return Ok(());
        };
        queue.try_send(job).map_err(|_| RequestError::Overloaded {
            what: "too many requests wait for this register group",
            retry_after_ms: 50,
        })
    }
}

/// Serves a group until it has nothing to do.
async fn serve(
    shared: RunnerShared,
    queues: Arc<Mutex<BTreeMap<GroupKey, mpsc::Sender<Job>>>>,
    place: GroupPlace,
    mut jobs: mpsc::Receiver<Job>,
    mut first: Job,
) {
    loop {
        jobs = Runner::new(shared.clone(), place.clone(), jobs, first)
            .run()
            .await;
        // Jobs enter under this lock, so none can slip in behind the look.
        let mut queues = queues.lock();
        match jobs.try_recv() {
            Ok(job) => first = job,
            Err(_) => {
                queues.remove(&place.key);
                return;
            }
        }
    }
}
