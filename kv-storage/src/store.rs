//! The node's cabinet: checked reads, queued atomic writes, and an honest word on what was lost.
//!
//! Place: the one type that `kv-node` holds; around an [`Engine`], a queue and a writer.
//! Shape: reads go straight to the engine on the caller's thread and may block on the disk;
//! writes wait for a group. Handles are cheap to clone; the last one to go closes the store.
//! Invariants: 1. a commit resolves only after its group is as durable as it asked. 2. reads show
//! committed data only. 3. bytes that fail their checksum are never returned. 4. after an engine
//! failure nothing is written; reads go on.
//! Not here: what the bytes mean; repair of damaged rows (`souk_kv_node`).

use std::future::Future;
use std::ops::{Bound, ControlFlow};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use parking_lot::RwLock;
use tokio::sync::{oneshot, watch};

use crate::engine::{Engine, EngineError, EngineStats, RowVisitor};
use crate::error::{NotWritten, Unknown, WriteFailure};
use crate::gap::{self, Gap, Seek};
use crate::lifecycle;
use crate::panics::guarded;
use crate::queue::{CommitQueue, Request};
use crate::{
    Durability, KeyRange, Keyspace, Recovery, Scan, ScanPage, ScanRow, StorageError, StoreOptions,
    WriteBatch, frame,
};

/// An open store.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    recovery: Recovery,
    _closer: Arc<Closer>,
}

/// What handles and writer share.
pub(crate) struct Shared {
    /// Gone once the store is closed. A read holds the lock, so that closing waits for it.
    pub(crate) engine: RwLock<Option<Arc<dyn Engine>>>,
    pub(crate) queue: Arc<CommitQueue>,
    /// How the close went, once it is over.
    pub(crate) closed: watch::Sender<Option<Result<(), WriteFailure>>>,
    /// Whether an orderly close may leave its note; see [`Store::vouch`].
    pub(crate) is_vouched_for: AtomicBool,
}

/// Closes the queue when the last handle goes.
struct Closer(Arc<CommitQueue>);

impl Drop for Closer {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Sizes and state of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreStats {
    /// The engine's own sizes.
    pub engine: EngineStats,
    /// Batches that wait for the writer.
    pub queue_requests: usize,
    /// Bytes that wait for the writer.
    pub queue_bytes: u64,
    /// Why writes are refused for good, if they are.
    pub refusal: Option<NotWritten>,
}

impl Store {
    /// Opens or creates a store, and starts its writer: a thread for a durable engine, a task of
    /// the current tokio runtime for a store in memory. Reads journals back and may take seconds.
    ///
    /// # Errors
    /// [`StorageError::Open`], which says how to mend it.
    pub fn open(options: StoreOptions) -> Result<Self, StorageError> {
        let (shared, recovery) = lifecycle::open(options)?;
        let closer = Arc::new(Closer(Arc::clone(&shared.queue)));
        Ok(Self {
            shared,
            recovery,
            _closer: closer,
        })
    }

    /// How the data was found at opening.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Says whether the data may be relied on as a whole; at first it may. While it may not, even an
    /// orderly close leaves no note, however it comes about, so that the next opening is
    /// [`Recovery::Unclean`] at best. For a caller who knows that something is missing here which
    /// the store itself was never given.
    pub fn vouch(&self, is_whole: bool) {
        self.shared
            .is_vouched_for
            .store(is_whole, Ordering::Release);
    }

    /// The value of a key. A batch becomes readable as a whole.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if it fails its checksum, [`StorageError::Read`] if the engine
    /// cannot read, [`StorageError::Closed`].
    pub fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        let stored = self.with_engine(|engine| {
            guarded(|| engine.get(keyspace, key)).map_err(|error| match error {
                EngineError::Corrupt(detail) => corrupt(keyspace, key, detail),
                EngineError::Refused(detail) | EngineError::Failed(detail) => {
                    StorageError::Read { keyspace, detail }
                }
            })
        })?;
        stored
            .map(|frame| open_frame(keyspace, key, &frame))
            .transpose()
    }

    /// One page of rows. A damaged row comes as an error in its place; the page goes on. It ends
    /// before rows that the engine cannot read at all, so that they are never passed in silence.
    ///
    /// # Errors
    /// [`StorageError::Gap`] if the first rows asked for cannot be read; it says from where on the
    /// rest can. [`StorageError::Closed`].
    pub fn scan(&self, scan: &Scan) -> Result<ScanPage, StorageError> {
        let keyspace = scan.range.keyspace;
        let mut page = ScanPage::default();
        if scan.range.is_void() {
            return Ok(page);
        }
        let mut bytes = 0;
        let mut visit = |key: &[u8], stored: &[u8]| {
            let row_bytes = key.len() + stored.len();
            let full = page.rows.len() >= scan.rows_max || bytes + row_bytes > scan.bytes_max;
            if full && !page.rows.is_empty() {
                page.more = true;
                return ControlFlow::Break(());
            }
            bytes += row_bytes;
            let value = frame::payload(keyspace, key, stored)
                .map(Bytes::copy_from_slice)
                .map_err(|error| damaged(keyspace, key, error));
            page.rows.push(ScanRow {
                key: Bytes::copy_from_slice(key),
                value,
            });
            ControlFlow::Continue(())
        };
        let walked = self.walk(&scan.range, &mut visit)?;
        match walked {
            Ok(()) => Ok(page),
            // What was read is good; asking for more meets the trouble as its first row.
            Err(_) if !page.rows.is_empty() => {
                page.more = true;
                Ok(page)
            }
            Err(error) => Err(StorageError::Gap {
                keyspace,
                gap: self.gap_behind(&scan.range, None)?,
                detail: error.to_string().into(),
            }),
        }
    }

    /// Hands a batch to the writer at once, to be synced. The answer comes with the returned
    /// future; dropping that does not take the batch back.
    pub fn submit(&self, batch: WriteBatch) -> Commit {
        self.submit_with(batch, Durability::Synced)
    }

    /// [`Store::submit`] with a durability of the caller's choice.
    pub fn submit_with(&self, batch: WriteBatch, durability: Durability) -> Commit {
        let (answer, waiter) = oneshot::channel();
        let entered = batch.check().and_then(|()| {
            self.shared.queue.push(Request {
                batch,
                durability,
                answer,
            })
        });
        Commit(match entered {
            Ok(()) => CommitState::Waiting(waiter),
            Err(refusal) => CommitState::Refused(Some(refusal)),
        })
    }

    /// Writes a batch; resolves when it is on disk. Cancelling the future leaves it unknown.
    ///
    /// # Errors
    /// [`StorageError::NotWritten`] if nothing was handed to the engine, [`StorageError::Unknown`]
    /// if it may or may not be on disk.
    pub async fn commit(&self, batch: WriteBatch) -> Result<(), StorageError> {
        self.submit(batch).await
    }

    /// [`Store::commit`] with a durability of the caller's choice.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub async fn commit_with(
        &self,
        batch: WriteBatch,
        durability: Durability,
    ) -> Result<(), StorageError> {
        self.submit_with(batch, durability).await
    }

    /// Refuses new writes, commits what waits, syncs, notes the orderly close and gives the
    /// directory back. Later calls, on any handle, wait for the same close.
    ///
    /// # Errors
    /// [`StorageError::NotWritten`] if the store had stopped writing after a failure;
    /// [`StorageError::Unknown`] if the last sync failed. It is closed all the same.
    pub async fn close(&self) -> Result<(), StorageError> {
        self.shared.queue.close();
        let mut closed = self.shared.closed.subscribe();
        match closed.wait_for(Option::is_some).await {
            Ok(result) => Ok(result.clone().unwrap_or(Ok(()))?),
            Err(_) => Err(Unknown::WriterGone.into()),
        }
    }

    /// Sizes and state, cheap enough to ask every second.
    ///
    /// # Errors
    /// [`StorageError::Closed`].
    pub fn stats(&self) -> Result<StoreStats, StorageError> {
        let engine = self.with_engine(|engine| Ok(engine.stats()))?;
        let (queue_requests, queue_bytes) = self.shared.queue.depth();
        Ok(StoreStats {
            engine,
            queue_requests,
            queue_bytes,
            refusal: self.shared.queue.refusal(),
        })
    }

    /// Walks an engine. The inner result is the engine's; `visit` has seen the rows before it.
    pub(crate) fn walk(
        &self,
        range: &KeyRange,
        visit: &mut RowVisitor<'_>,
    ) -> Result<Result<(), EngineError>, StorageError> {
        self.with_engine(|engine| Ok(guarded(|| engine.scan(range, visit))))
    }

    /// The unreadable keys that a walk of `range` met after the row `last`, or at its beginning.
    pub(crate) fn gap_behind(
        &self,
        range: &KeyRange,
        last: Option<&[u8]>,
    ) -> Result<Gap, StorageError> {
        let bound = |bound: &Bound<Bytes>| match bound {
            Bound::Included(key) | Bound::Excluded(key) => Some(key.clone()),
            Bound::Unbounded => None,
        };
        let (low, high) = (bound(&range.start), bound(&range.end));
        let last = last.map(Bytes::copy_from_slice);
        if range.reverse {
            // Only walks that go up need a way on.
            let (after, before) = (low, last.or(high));
            return Ok(Gap { after, before });
        }
        let after = last.or(low);
        let mut closed = None;
        let seek = |place: &[u8]| {
            let found = self.seek(range, place);
            found.unwrap_or_else(|error| {
                closed = Some(error);
                Seek::End
            })
        };
        let before = gap::resume(after.as_deref().unwrap_or_default(), seek);
        closed.map_or(Ok(Gap { after, before }), Err)
    }

    /// The first row of `range` at or behind `place`.
    fn seek(&self, range: &KeyRange, place: &[u8]) -> Result<Seek, StorageError> {
        let range = KeyRange {
            start: Bound::Included(Bytes::copy_from_slice(place)),
            ..range.clone()
        };
        let mut found = Seek::End;
        if range.is_void() {
            return Ok(found);
        }
        let walked = self.walk(&range, &mut |key, _| {
            found = Seek::Row(Bytes::copy_from_slice(key));
            ControlFlow::Break(())
        })?;
        Ok(walked.map_or(Seek::Bad, |()| found))
    }

    fn with_engine<T>(
        &self,
        read: impl FnOnce(&dyn Engine) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let engine = self.shared.engine.read();
        read(engine.as_deref().ok_or(StorageError::Closed)?)
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("recovery", &self.recovery)
            .finish_non_exhaustive()
    }
}

/// A batch on its way. Resolves as [`Store::commit`] does.
#[must_use = "the answer says whether the batch was written"]
pub struct Commit(CommitState);

enum CommitState {
    Waiting(oneshot::Receiver<Result<(), WriteFailure>>),
    Refused(Option<NotWritten>),
}

impl Commit {
    /// Why the batch was refused on the spot, with nothing queued; `None` once it is queued. The
    /// writer may still refuse it later.
    pub fn refusal(&self) -> Option<&NotWritten> {
        match &self.0 {
            CommitState::Refused(refusal) => refusal.as_ref(),
            CommitState::Waiting(_) => None,
        }
    }
}

impl Future for Commit {
    type Output = Result<(), StorageError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            CommitState::Waiting(waiter) => {
                Pin::new(waiter).poll(context).map(|answer| match answer {
                    Ok(answer) => answer.map_err(StorageError::from),
                    Err(_) => Err(Unknown::WriterGone.into()),
                })
            }
            CommitState::Refused(refusal) => {
                let refusal = refusal
                    .take()
                    .expect("a future is not polled after it resolved");
                Poll::Ready(Err(refusal.into()))
            }
        }
    }
}

fn open_frame(keyspace: Keyspace, key: &[u8], stored: &Bytes) -> Result<Bytes, StorageError> {
    frame::open(keyspace, key, stored).map_err(|error| damaged(keyspace, key, error))
}

fn damaged(keyspace: Keyspace, key: &[u8], error: frame::FrameError) -> StorageError {
    corrupt(keyspace, key, error.to_string().into())
}

fn corrupt(keyspace: Keyspace, key: &[u8], detail: Arc<str>) -> StorageError {
    metrics::counter!("souk_storage_corrupt_reads_total", "keyspace" => keyspace.name())
        .increment(1);
    StorageError::Corrupt {
        keyspace,
        key: Bytes::copy_from_slice(key),
        detail,
    }
}
