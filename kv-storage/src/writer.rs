//! Group commit: one ferry for all passengers. Whoever arrives while it crosses takes the next.
//!
//! Place: the only caller of [`Engine::commit`]; fed by `crate::queue`. A thread for engines that
//! block in a sync, a task for the in-memory twin, so that a simulation stays on its one thread.
//! Shape: what waits while one sync runs forms the next atomic batch; one sync serves it all; the
//! answers follow the sync. After a group of many the next one is held back for a moment, so that
//! those who were just answered can join it (`crate::gather`); in simulation it is not.
//! Invariants: 1. groups keep the order of submission, and later changes of a key win. 2. the
//! engine commits one group at a time. 3. after a failed commit nothing is ever written again: a
//! second `fsync` may report success for pages that the kernel threw away (Rebello et al., Can
//! Applications Recover from fsync Failures?, ATC 2020). 4. each group carries its number.
//! Not here: framing and checksums (`crate::frame`), which callers pay for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::batch::{Change, merge};
use crate::engine::{Engine, EngineError, MemoryDisk, MemoryEngine, Persist};
use crate::error::{NotWritten, Unknown, WriteFailure};
use crate::gather::Gatherer;
use crate::options::{INTERVAL_MAX, INTERVAL_MIN};
use crate::panics::guarded;
use crate::queue::{CommitQueue, GROUP_REQUESTS_MAX, Request, Work};
use crate::space::SpaceGuard;
use crate::{Durability, Keyspace, frame};

/// Where the number of the last group is kept, in [`Keyspace::Store`].
pub(crate) const LAST_GROUP_KEY: &[u8] = b"last_group";

/// What both kinds of writer share: building groups and answering them.
pub(crate) struct GroupCommit {
    pub(crate) queue: Arc<CommitQueue>,
    pub(crate) space: SpaceGuard,
    pub(crate) last_group: u64,
}

/// A group on its way through the engine.
struct Group {
    changes: Vec<Change>,
    answers: Vec<oneshot::Sender<Result<(), WriteFailure>>>,
    persist: Persist,
    /// The shortest interval that a member asked for, if none asked for a sync.
    interval: Duration,
}

/// Runs on a thread of its own until the queue is closed and empty.
pub(crate) fn run_blocking(commits: &mut GroupCommit, engine: &dyn Engine) {
    let mut sync_at: Option<Instant> = None;
    let mut gatherer = Gatherer::default();
    loop {
        match commits.queue.wait(sync_at) {
            Work::Closed => return,
            Work::SyncDue => {
                sync_at = None;
                commits.conclude_sync(guarded(|| engine.sync()));
            }
            Work::Group(requests) => {
                gatherer.group_formed(requests.len());
                let Some(group) = commits.form(requests) else {
                    continue;
                };
                let started = Instant::now();
                let result = guarded(|| engine.commit(&group.changes, group.persist));
                let took = started.elapsed();
                sync_at = next_sync(&group, sync_at, Instant::now());
                let answered = group.answers.len();
                let (waiting, _) = commits.queue.depth();
                commits.conclude(group, result, took);
                if sync_at.is_none()
                    && let Some(hold) =
                        gatherer.after_group(answered, took, waiting, GROUP_REQUESTS_MAX)
                {
                    commits.queue.hold(hold);
                }
            }
        }
    }
}

/// Runs as a task until the queue is closed and empty. Time passes between staging and sync.
pub(crate) async fn run_async(commits: &mut GroupCommit, engine: &MemoryEngine, disk: &MemoryDisk) {
    let mut sync_at: Option<tokio::time::Instant> = None;
    loop {
        match commits.queue.wait_async(sync_at).await {
            Work::Closed => return,
            Work::SyncDue => {
                sync_at = None;
                commits.conclude_sync(engine.sync());
            }
            Work::Group(requests) => {
                let Some(group) = commits.form(requests) else {
                    continue;
                };
                let started = tokio::time::Instant::now();
                let mut result = engine.stage(&group.changes);
                if result.is_ok() {
                    let latency = disk.sync_latency();
                    if group.persist == Persist::Disk && !latency.is_zero() {
                        tokio::time::sleep(latency).await;
                    }
                    result = engine.finish(&group.changes, group.persist);
                }
                sync_at = next_sync(&group, sync_at, tokio::time::Instant::now());
                commits.conclude(group, result, started.elapsed());
            }
        }
    }
}

impl GroupCommit {
    /// Admits requests and merges them; `None` if nothing is left to commit.
    fn form(&mut self, requests: Vec<Request>) -> Option<Group> {
        let mut space = self.space.look();
        metrics::gauge!("souk_storage_disk_available_bytes").set(space.available_bytes() as f64);
        let mut changes = Vec::new();
        let mut answers = Vec::with_capacity(requests.len());
        let mut persist = Persist::System;
        let mut interval = INTERVAL_MAX;
        let mut bytes = 0;
        for Request {
            batch,
            durability,
            answer,
        } in requests
        {
            if let Err(refusal) = space.admit(batch.bytes(), batch.may_use_reserve()) {
                metrics::counter!("souk_storage_disk_full_refusals_total").increment(1);
                reply(answer, Err(WriteFailure::NotWritten(refusal)));
                continue;
            }
            match durability {
                Durability::Synced => persist = Persist::Disk,
                Durability::Interval(asked) => interval = interval.min(asked),
            }
            bytes += batch.bytes();
            changes.extend(batch.into_changes());
            answers.push(answer);
        }
        if answers.is_empty() {
            return None;
        }
        metrics::histogram!("souk_storage_group_requests").record(answers.len() as f64);
        metrics::histogram!("souk_storage_group_bytes").record(bytes as f64);
        changes.push(group_number(self.last_group + 1));
        let interval = interval.max(INTERVAL_MIN);
        Some(Group {
            changes: merge(changes),
            answers,
            persist,
            interval,
        })
    }

    fn conclude(&mut self, group: Group, result: Result<(), EngineError>, took: Duration) {
        metrics::histogram!("souk_storage_commit_seconds").record(took.as_secs_f64());
        let (requests, bytes) = self.queue.depth();
        metrics::gauge!("souk_storage_queue_requests").set(requests as f64);
        metrics::gauge!("souk_storage_queue_bytes").set(bytes as f64);
        let answer = match result {
            Ok(()) => {
                self.last_group += 1;
                Ok(())
            }
            Err(error) => Err(self.fail(&error)),
        };
        for waiter in group.answers {
            reply(waiter, answer.clone());
        }
    }

    /// After a late sync failed there is nobody left to tell, except everybody from now on.
    fn conclude_sync(&self, result: Result<(), EngineError>) {
        if let Err(error) = result {
            self.fail(&error);
        }
    }

    /// Stops all writing. Before anyone is answered, so that no later write is accepted first.
    fn fail(&self, error: &EngineError) -> WriteFailure {
        let cause: Arc<str> = error.to_string().into();
        tracing::error!(%cause, "a commit failed; this store takes no more writes");
        metrics::gauge!("souk_storage_poisoned").set(1.0);
        self.queue.poison(Arc::clone(&cause));
        match error {
            EngineError::Refused(_) => WriteFailure::NotWritten(NotWritten::Poisoned { cause }),
            EngineError::Corrupt(_) | EngineError::Failed(_) => {
                WriteFailure::Unknown(Unknown::EngineFailed { cause })
            }
        }
    }
}

/// When the next sync is due after `group`: at once if one just happened, that is never; else
/// when the earliest promise of an interval falls due.
fn next_sync<T: Copy + Ord + std::ops::Add<Duration, Output = T>>(
    group: &Group,
    planned: Option<T>,
    now: T,
) -> Option<T> {
    match group.persist {
        Persist::Disk => None,
        Persist::System => {
            let due = now + group.interval;
            Some(planned.map_or(due, |planned| planned.min(due)))
        }
    }
}

fn group_number(number: u64) -> Change {
    Change {
        keyspace: Keyspace::Store,
        key: LAST_GROUP_KEY.into(),
        value: Some(frame::seal(
            Keyspace::Store,
            LAST_GROUP_KEY,
            &number.to_be_bytes(),
        )),
    }
}

/// A caller that has gone away needs no answer.
fn reply(waiter: oneshot::Sender<Result<(), WriteFailure>>, answer: Result<(), WriteFailure>) {
    let _ = waiter.send(answer);
}
