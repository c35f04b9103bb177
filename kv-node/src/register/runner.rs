//! One task per busy group: what waits while one ballot runs forms the next ballot.
//!
//! That is what makes a hot item fast: a hundred waiting transactions cost one round trip and one sync.
//!
//! Invariants: 1. one ballot of this node at a time per group. 2. each caller gets exactly its own answer.
//! 3. a transaction past its deadline is not proposed any more.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use metrics::{counter, histogram};
use parking_lot::Mutex;
use souk_kv_core::{
    outcome::Outcome,
    register::{
        AfterLoss, Backoff, BackoffLimits, Ballot, BallotClock, Evaluation, EvaluationTime, Lead,
        Lost, LostReason, ReadReply, ReadRequest, RowKey, RowRange, RowSelection, Rows, after_loss,
        evaluate, limits, sweep,
    },
};
use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    GroupPlace,
    ballot::{BallotRun, Progress, Voting},
    sweeping::SWEEP_ROWS,
    work::{Job, Waiting, Work, answer_all, count_in, rows_of},
};
use crate::error::RequestError;

/// A group without work for this long gives up its task and its lead.
const IDLE: Duration = Duration::from_secs(10);

/// What all runners of a node share.
#[derive(Debug, Clone)]
pub(super) struct RunnerShared {
    pub(super) voting: Voting,
    pub(super) ballots: Arc<Mutex<BallotClock>>,
    pub(super) request_memory_ms: u64,
    pub(super) clock_skew_max_ms: u64,
    pub(super) tasks: TaskTracker,
    /// Cancelled when the node stops: idle runners end at once.
    pub(super) draining: CancellationToken,
}

/// Why a set of jobs needs another ballot.
enum Retry {
    No,
    After(Lost),
}

/// The task of one group.
pub(super) struct Runner {
    shared: RunnerShared,
    place: GroupPlace,
    jobs: mpsc::Receiver<Job>,
    lead: Option<Lead>,
    highest_seen: Ballot,
    /// Taken from the queue, not yet part of a ballot.
    held: VecDeque<Job>,
    helping: Arc<Semaphore>,
}

impl Runner {
    /// `first` was taken from the queue already.
    pub(super) fn new(
        shared: RunnerShared,
        place: GroupPlace,
        jobs: mpsc::Receiver<Job>,
        first: Job,
    ) -> Self {
        let held = VecDeque::from([first]);
        Self {
            shared,
            place,
            jobs,
            lead: None,
            highest_seen: Ballot::ZERO,
            held,
            helping: Arc::new(Semaphore::new(1)),
        }
    }

    /// Works until the queue is closed or idle for long. Gives the queue back, for jobs that came meanwhile.
    pub(super) async fn run(mut self) -> mpsc::Receiver<Job> {
        loop {
            let job = match self.held.pop_front() {
                Some(job) => job,
                None => tokio::select! {
                    biased;
                    job = self.jobs.recv() => match job {
                        Some(job) => job,
                        None => return self.jobs,
                    },
                    () = self.shared.draining.cancelled() => return self.jobs,
                    () = sleep(IDLE) => return self.jobs,
                },
            };
            match job {
                Job::Settle(reading) if reading.is_late() => {}
                Job::Settle(reading) => {
                    let result = self.settle(&reading.rows, reading.deadline).await;
                    reading.finish(result);
                }
                Job::Sweep { from, answer } => {
                    // Nobody waits for it who could have gone away.
                    let _ = answer.send(self.sweep(from).await);
                }
                first => {
                    let work = self.gather(first);
                    self.work(work).await;
                }
            }
        }
    }

    /// Everything that waits, in order, as far as it fits into one ballot.
    fn gather(&mut self, first: Job) -> Work {
        let mut work = Work::default();
        let mut bytes = 0;
        let mut remembered = BTreeMap::new();
        let mut next = Some(first);
        while let Some(job) = next {
            match job {
                Job::Transact {
                    transaction,
                    deadline,
                    answer,
                } if (work.transactions.is_empty()
                    || bytes + transaction.bytes() <= limits::BALLOT_BYTES_MAX)
                    && count_in(&mut remembered, &transaction) =>
                {
                    bytes += transaction.bytes();
                    work.transactions.push(Waiting {
                        transaction,
                        deadline,
                        answer,
                    });
                }
                Job::Read(reading) => work.reads.push(reading),
                other => {
                    self.held.push_back(other);
                    break;
                }
            }
            let size = work.transactions.len() + work.reads.len();
            let is_full =
                size >= limits::BALLOT_TRANSACTIONS_MAX || bytes >= limits::BALLOT_BYTES_MAX;
            next = if is_full { None } else { self.next_waiting() };
        }
        work
    }

    fn next_waiting(&mut self) -> Option<Job> {
        self.held.pop_front().or_else(|| self.jobs.try_recv().ok())
    }

    async fn work(&mut self, mut work: Work) {
        let mut backoff = Backoff::new(BackoffLimits::default());
        loop {
            work.drop_late();
            if work.is_empty() {
                return;
            }
            let Retry::After(lost) = self.one_ballot(&mut work).await else {
                return;
            };
            let wait = backoff.next(self.shared.voting.cluster.environment.random_u64());
            work.transactions = self.sort_out(work.transactions, &lost, wait.is_some());
            counter!("souk_register_ballots_lost_total", "reason" => reason(&lost)).increment(1);
            self.after_loss(&lost).await;
            match wait {
                Some(wait) => sleep(wait).await,
                None => {
                    for reading in work.reads.drain(..) {
                        reading.finish(Err(self.given_up(&lost, Outcome::NotApplied)));
                    }
                }
            }
        }
    }

    /// Proposes the work once. Answers everybody when it was chosen.
    async fn one_ballot(&mut self, work: &mut Work) -> Retry {
        self.follow_layout();
        let wanted = work.keys();
        let run = match self.usable_lead(&wanted).await {
            Some(lead) => BallotRun::resume(self.shared.voting.clone(), self.place.clone(), lead),
            None => match self.prepare(RowSelection::keys(wanted)).await {
                Ok(run) => run,
                Err(retry) => return retry,
            },
        };
        let time = self.evaluation_time();
        let basis = run
            .round()
            .basis()
            .expect("a ballot is proposed after it may be evaluated");
        // Reads see the state that the ballot stands on: current right before the ballot, and proven so by it.
        let found: Vec<Rows> = work
            .reads
            .iter()
            .map(|reading| rows_of(basis, reading))
            .collect();
        let transactions = work.transactions.iter().map(|waiting| &waiting.transaction);
        let evaluation = match evaluate(basis, &time, transactions) {
            Ok(evaluation) => evaluation,
            Err(cause) => {
                work.fail(&cause.to_string());
                return Retry::No;
            }
        };
        match self.propose(run, &evaluation).await {
            Progress::Chosen(chosen) => {
                let transactions = std::mem::take(&mut work.transactions);
                histogram!("souk_register_ballot_transactions").record(transactions.len() as f64);
                answer_all(transactions, evaluation, &chosen);
                for (reading, rows) in work.reads.drain(..).zip(found) {
                    reading.finish(Ok(rows));
                }
                Retry::No
            }
            Progress::Lost(lost) => Retry::After(lost),
            Progress::Evaluate => {
                work.fail("a ballot was evaluated twice");
                Retry::No
            }
        }
    }

    /// Settles which state is the newest, and returns rows of it.
    async fn settle(
        &mut self,
        rows: &RowSelection,
        deadline: Instant,
    ) -> Result<Rows, RequestError> {
        let mut backoff = Backoff::new(BackoffLimits::default());
        // A lead knows single rows only; a range needs the rows that a prepare brings.
        self.lead = None;
        loop {
            self.follow_layout();
            let lost = match self.prepare(rows.clone()).await {
                Ok(run) => {
                    let basis = run.round().basis().expect("it was just prepared");
                    let found: Rows = basis
                        .rows()
                        .iter()
                        .map(|(key, row)| (key.clone(), row.clone()))
                        .collect();
                    let evaluation = Evaluation::identity(basis);
                    match self.propose(run, &evaluation).await {
                        Progress::Chosen(_) => return Ok(found),
                        Progress::Lost(lost) => lost,
                        Progress::Evaluate => {
                            return Err(RequestError::Internal(
                                "a ballot was evaluated twice".to_owned(),
                            ));
                        }
                    }
                }
                Err(Retry::After(lost)) => lost,
                Err(Retry::No) => {
                    return Err(RequestError::Internal("no ballot can be drawn".to_owned()));
                }
            };
            self.after_loss(&lost).await;
            let wait = backoff.next(self.shared.voting.cluster.environment.random_u64());
            match wait {
                Some(wait) if Instant::now() + wait < deadline => sleep(wait).await,
                _ => return Err(self.given_up(&lost, Outcome::NotApplied)),
            }
        }
    }

    /// Erases what is old among some rows, in a ballot of its own. It is not tried again: the next walk comes by.
    async fn sweep(&mut self, from: RowKey) -> Result<bool, RequestError> {
        self.follow_layout();
        // A lead knows single rows only; a range needs the rows that a prepare brings.
        self.lead = None;
        let rows = RowSelection {
            keys: [RowKey::memory_floor()].into(),
            range: Some(RowRange {
                from,
                to: None,
                rows_max: u32::try_from(SWEEP_ROWS).unwrap_or(u32::MAX),
                reverse: false,
            }),
        };
        let run = match self.prepare(rows).await {
            Ok(run) => run,
            Err(Retry::After(lost)) => return Err(self.given_up(&lost, Outcome::NotApplied)),
            Err(Retry::No) => {
                return Err(RequestError::Internal("no ballot can be drawn".to_owned()));
            }
        };
        let time = self.evaluation_time();
        let basis = run.round().basis().expect("it was just prepared");
        let evaluation = sweep(basis, &time).map_err(|cause| RequestError::Corrupt {
            what: "a row of request memory",
            cause: cause.to_string(),
        })?;
        let erases = !evaluation.is_identity();
        match self.propose(run, &evaluation).await {
            Progress::Chosen(_) => Ok(erases),
            Progress::Lost(lost) => Err(self.given_up(&lost, Outcome::Unknown)),
            Progress::Evaluate => Err(RequestError::Internal(
                "a ballot was evaluated twice".to_owned(),
            )),
        }
    }

    /// Proposes what was evaluated. A chosen ballot leaves a lead for the next one, and its laggards are helped.
    async fn propose(&mut self, mut run: BallotRun, evaluation: &Evaluation) -> Progress {
        let ballot = run.round().ballot();
        let next = self.next_ballot(ballot);
        let mut progress = match run.propose(evaluation, next) {
            Some(progress) => progress,
            None => run.progress().await,
        };
        match &mut progress {
            Progress::Chosen(chosen) => {
                self.lead = chosen.take_lead();
                self.highest_seen = self.highest_seen.max(ballot);
                self.help_laggards(run);
            }
            Progress::Lost(lost) => {
                self.highest_seen = self.highest_seen.max(lost.highest_seen);
            }
            Progress::Evaluate => {}
        }
        progress
    }

    fn evaluation_time(&self) -> EvaluationTime {
        EvaluationTime {
            now_unix_ms: self.shared.voting.cluster.environment.unix_ms(),
            request_memory_ms: self.shared.request_memory_ms,
            clock_skew_max_ms: self.shared.clock_skew_max_ms,
        }
    }

    /// One helper at a time: under load every ballot finds the same laggard.
    fn help_laggards(&self, run: BallotRun) {
        if let Ok(permit) = Arc::clone(&self.helping).try_acquire_owned() {
            let draining = self.shared.draining.clone();
            self.shared.tasks.spawn(async move {
                // A node that stops does not wait for who lags.
                tokio::select! {
                    () = run.finish() => {}
                    () = draining.cancelled() => {}
                }
                drop(permit);
            });
        }
    }

    /// A lead of another epoch is worthless, and its acceptors may not be the acceptors any more.
    fn follow_layout(&mut self) {
        if self.place.follow(&self.shared.voting.cluster.layout()) {
            self.lead = None;
        }
    }

    /// A newer layout was met: it is fetched before the next try.
    async fn after_loss(&self, lost: &Lost) {
        if let LostReason::Epoch(epoch) = lost.reason {
            self.shared.voting.members.catch_up_somewhere(epoch).await;
        }
    }

    async fn prepare(&mut self, rows: RowSelection) -> Result<BallotRun, Retry> {
        let Some(ballot) = self.next_ballot(self.highest_seen) else {
            return Err(Retry::No);
        };
        let mut run =
            BallotRun::prepare(self.shared.voting.clone(), self.place.clone(), ballot, rows);
        counter!("souk_register_prepares_total").increment(1);
        match run.progress().await {
            Progress::Evaluate => Ok(run),
            Progress::Lost(lost) => {
                self.highest_seen = self.highest_seen.max(lost.highest_seen);
                Err(Retry::After(lost))
            }
            Progress::Chosen(_) => Err(Retry::No),
        }
    }

    /// The lead, if it stands in this epoch and knows (or can learn here) all rows wanted.
    async fn usable_lead(&mut self, wanted: &[RowKey]) -> Option<Lead> {
        let mut lead = self.lead.take()?;
        if lead.epoch() != self.place.epoch {
            return None;
        }
        let missing = lead.missing(wanted);
        if missing.is_empty() {
            return Some(lead);
        }
        let request = ReadRequest {
            epoch: self.place.epoch,
            rows: Arc::new(RowSelection::keys(missing.iter().cloned())),
        };
        let voting = &self.shared.voting;
        match voting.groups.read(&self.place.key, &request).await {
            Ok(ReadReply::Report(report)) => lead.learn(&missing, report).ok().map(|()| lead),
            _ => None,
        }
    }

    /// After a lost ballot: who is tried again, who is told what.
    fn sort_out(&self, batch: Vec<Waiting>, lost: &Lost, tries_left: bool) -> Vec<Waiting> {
        let mut again = Vec::with_capacity(batch.len());
        for mut waiting in batch {
            let outcome = match after_loss(&mut waiting.transaction, lost, tries_left) {
                AfterLoss::TryAgain => {
                    again.push(waiting);
                    continue;
                }
                AfterLoss::NotApplied => Outcome::NotApplied,
                AfterLoss::Unknown => {
                    counter!("souk_register_unknown_total").increment(1);
                    Outcome::Unknown
                }
            };
            // A caller that has gone away needs no answer.
            let _ = waiting.answer.send(Err(self.given_up(lost, outcome)));
        }
        again
    }

    fn given_up(&self, lost: &Lost, outcome: Outcome) -> RequestError {
        match lost.reason {
            LostReason::Unreachable if outcome == Outcome::NotApplied => {
                RequestError::Unavailable {
                    reachable: self.shared.voting.reachable(&self.place),
                    needed: self.place.majority(),
                }
            }
            LostReason::Unreachable | LostReason::Outrun | LostReason::Epoch(_) => {
                RequestError::Contention { outcome }
            }
        }
    }

    fn next_ballot(&self, at_least: Ballot) -> Option<Ballot> {
        let now = self.shared.voting.cluster.environment.unix_ms();
        self.shared
            .ballots
            .lock()
            .next(now, at_least.max(self.highest_seen))
            .ok()
    }
}

fn reason(lost: &Lost) -> &'static str {
    match lost.reason {
        LostReason::Outrun => "outrun",
        LostReason::Unreachable => "unreachable",
        LostReason::Epoch(_) => "epoch",
    }
}
