//! The waiting room in front of the one writer: bounded, in order, and closed for good when
//! something breaks.
//!
//! Place: filled by [`crate::Store::submit`], emptied by `crate::writer`.
//! Invariants: 1. requests leave in the order they came. 2. never more than the named bounds wait.
//! 3. once poisoned or closed, nothing enters. 4. every request that entered is answered: by the
//! writer, or by being dropped, which its caller reads as unknown.
//! Not here: what is done with a group.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use tokio::sync::{Notify, oneshot};

use crate::error::{NotWritten, WriteFailure};
use crate::gather::Hold;
use crate::{Durability, WriteBatch};

/// Most requests of one group: bounds what a single sync can be blamed for.
pub(crate) const GROUP_REQUESTS_MAX: usize = 4_096;
/// Bytes after which a group is full. A larger batch forms a group alone.
pub(crate) const GROUP_BYTES_MAX: u64 = 16 << 20;
const _: () = assert!(GROUP_BYTES_MAX <= crate::BATCH_BYTES_MAX);

/// A batch and whoever waits for it.
pub(crate) struct Request {
    pub(crate) batch: WriteBatch,
    pub(crate) durability: Durability,
    pub(crate) answer: oneshot::Sender<Result<(), WriteFailure>>,
}

/// What the writer is to do next.
pub(crate) enum Work {
    /// Commit these.
    Group(Vec<Request>),
    /// The time for a sync has come.
    SyncDue,
    /// Nothing waits and nothing will come.
    Closed,
}

/// The queue. Shared by the store's handles and its writer.
pub(crate) struct CommitQueue {
    requests_max: usize,
    bytes_max: u64,
    inner: Mutex<Inner>,
    /// Wakes a writer that is a thread.
    wake_thread: Condvar,
    /// Wakes a writer that is a task.
    wake_task: Notify,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Request>,
    bytes: u64,
    /// How many requests a writer holds its group back for; while it does, fewer do not wake it.
    wanted: Option<usize>,
    refusal: Option<NotWritten>,
    closed: bool,
}

impl CommitQueue {
    pub(crate) fn new(requests_max: usize, bytes_max: u64) -> Self {
        Self {
            requests_max,
            bytes_max,
            inner: Mutex::default(),
            wake_thread: Condvar::new(),
            wake_task: Notify::new(),
        }
    }

    /// Takes a request in, or says why not.
    pub(crate) fn push(&self, request: Request) -> Result<(), NotWritten> {
        let bytes = request.batch.bytes();
        let mut inner = self.inner.lock();
        if let Some(refusal) = &inner.refusal {
            return Err(refusal.clone());
        }
        let full = inner.waiting.len() >= self.requests_max || inner.bytes + bytes > self.bytes_max;
        if full {
            return Err(NotWritten::QueueFull {
                requests: inner.waiting.len(),
                bytes: inner.bytes,
            });
        }
        inner.bytes += bytes;
        inner.waiting.push_back(request);
        // One waker is enough: there is one writer, and it drains everything it finds.
        let wakes = inner.waiting.len() == inner.wanted.unwrap_or(1);
        drop(inner);
        if wakes {
            self.wake_thread.notify_one();
            self.wake_task.notify_one();
        }
        Ok(())
    }

    /// Refuses everything from now on. What waits is still handed out.
    pub(crate) fn close(&self) {
        {
            let mut inner = self.inner.lock();
            // The first reason stays: a poisoned store that is closed was poisoned.
            inner.refusal.get_or_insert(NotWritten::Closed);
            inner.closed = true;
        }
        self.wake_thread.notify_one();
        self.wake_task.notify_one();
    }

    /// Refuses everything from now on, and everything that waits.
    pub(crate) fn poison(&self, cause: Arc<str>) {
        let refusal = NotWritten::Poisoned { cause };
        let waiting = {
            let mut inner = self.inner.lock();
            inner.refusal = Some(refusal.clone());
            inner.bytes = 0;
            std::mem::take(&mut inner.waiting)
        };
        for request in waiting {
            // A caller that has gone away needs no answer.
            let _ = request
                .answer
                .send(Err(WriteFailure::NotWritten(refusal.clone())));
        }
    }

    /// Drops what waits; the writer is gone. Callers read that as unknown.
    pub(crate) fn abandon(&self) {
        let mut inner = self.inner.lock();
        inner.bytes = 0;
        inner.waiting.clear();
    }

    /// The poisoning, if there was one.
    pub(crate) fn poisoning(&self) -> Option<NotWritten> {
        self.refusal()
            .filter(|refusal| matches!(refusal, NotWritten::Poisoned { .. }))
    }

    /// Why nothing enters any more, if so.
    pub(crate) fn refusal(&self) -> Option<NotWritten> {
        self.inner.lock().refusal.clone()
    }

    /// Requests and bytes that wait.
    pub(crate) fn depth(&self) -> (usize, u64) {
        let inner = self.inner.lock();
        (inner.waiting.len(), inner.bytes)
    }

    /// Blocks the thread until there is work. `sync_at` is when a sync is due.
    pub(crate) fn wait(&self, sync_at: Option<Instant>) -> Work {
        let mut inner = self.inner.lock();
        loop {
            if let Some(work) = inner.take(sync_at.is_some_and(|at| at <= Instant::now())) {
                return work;
            }
            match sync_at {
                Some(at) => {
                    self.wake_thread.wait_until(&mut inner, at);
                }
                None => self.wake_thread.wait(&mut inner),
            }
        }
    }

    /// Blocks the thread until as many wait as `hold` wants, a group is full, the queue is closed,
    /// or the time is up. Takes nothing out.
    pub(crate) fn hold(&self, hold: Hold) {
        let end = Instant::now() + hold.at_most;
        let mut inner = self.inner.lock();
        inner.wanted = Some(hold.until_requests);
        while inner.waiting.len() < hold.until_requests
            && inner.bytes < GROUP_BYTES_MAX
            && !inner.closed
            && !self.wake_thread.wait_until(&mut inner, end).timed_out()
        {}
        inner.wanted = None;
    }

    /// [`CommitQueue::wait`] for a task, in the runtime's time.
    pub(crate) async fn wait_async(&self, sync_at: Option<tokio::time::Instant>) -> Work {
        loop {
            let woken = self.wake_task.notified();
            let due = sync_at.is_some_and(|at| at <= tokio::time::Instant::now());
            if let Some(work) = self.inner.lock().take(due) {
                return work;
            }
            match sync_at {
                // Being late is what ends the wait here, not an error.
                Some(at) => drop(tokio::time::timeout_at(at, woken).await),
                None => woken.await,
            }
        }
    }
}

impl Inner {
    fn take(&mut self, sync_due: bool) -> Option<Work> {
        if sync_due {
            return Some(Work::SyncDue);
        }
        if self.waiting.is_empty() {
            return self.closed.then_some(Work::Closed);
        }
        let mut bytes = 0;
        let mut group = Vec::new();
        while let Some(next) = self.waiting.front() {
            let next_bytes = next.batch.bytes();
            let full = group.len() >= GROUP_REQUESTS_MAX || bytes + next_bytes > GROUP_BYTES_MAX;
            if full && !group.is_empty() {
                break;
            }
            bytes += next_bytes;
            group.extend(self.waiting.pop_front());
        }
        self.bytes -= bytes;
        Some(Work::Group(group))
    }
}
