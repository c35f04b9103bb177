//! Pairs answers with callers, and knows of each request whether it has left.
//!
//! Place: shared by callers, the outbound stream and the reader of one link, under one short lock.
//! Invariants: 1. ids are a slot's index and its generation; freeing a slot starts a new generation, so
//! that a late answer finds nobody. 2. a request is in the queue exactly while its slot is not `sent`
//! (a slot freed earlier leaves a queue entry behind that is skipped).

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;
use souk_kv_proto::kv::{
    SessionRequest, SessionRequests, session_request::Body as Question,
    session_response::Body as Answer,
};
use tokio::sync::oneshot;

/// Most requests of one frame.
const FRAME_REQUESTS_MAX: usize = 512;
/// A frame is closed once its requests reach this size.
const FRAME_BYTES: usize = 1 << 20;

/// A request that ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    /// False when the node cannot have seen it.
    pub(crate) sent: bool,
}

/// The shared half of a link.
#[derive(Debug, Default)]
pub(crate) struct LinkState {
    /// Whether requests are taken. Changed only under the lock.
    open: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The number of the stream that may take frames; 0 while there is none.
    stream: u64,
    slots: Vec<Slot>,
    free: Vec<u32>,
    queue: VecDeque<Queued>,
    /// Of the outbound stream, when it waits for requests.
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    caller: Option<Caller>,
}

#[derive(Debug)]
struct Caller {
    answer: oneshot::Sender<Result<Answer, Lost>>,
    sent: bool,
}

#[derive(Debug)]
struct Queued {
    id: u64,
    body: Question,
    bytes: usize,
}

fn id_of(index: u32, generation: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(index)
}

impl Inner {
    fn caller(&mut self, id: u64) -> Option<&mut Caller> {
        let slot = self.slots.get_mut(index_of(id))?;
        if slot.generation != generation_of(id) {
            None
        } else {
            slot.caller.as_mut()
        }
    }

    fn insert(&mut self, caller: Caller) -> u64 {
        if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            slot.caller = Some(caller);
            return id_of(index, slot.generation);
        }
        let index = u32::try_from(self.slots.len()).expect("in_flight_max is far below 2^32");
        self.slots.push(Slot {
            generation: 0,
            caller: Some(caller),
        });
        id_of(index, 0)
    }

    fn take(&mut self, id: u64) -> Option<Caller> {
        let index = index_of(id);
        let slot = self
            .slots
            .get_mut(index)
            .filter(|slot| slot.generation == generation_of(id))?;
        let caller = slot.caller.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free
            .push(u32::try_from(index).expect("an index came from 32 bits of an id"));
        Some(caller)
    }
}

fn index_of(id: u64) -> usize {
    (id & u64::from(u32::MAX)) as usize
}

fn generation_of(id: u64) -> u32 {
    u32::try_from(id >> 32).expect("the upper half of 64 bits fits into 32")
}

impl LinkState {
    /// Whether a stream is open.
    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Stream `number`, above 0 and never used twice, may take frames from now on.
    pub(crate) fn begin(&self, number: u64) {
        self.inner.lock().stream = number;
    }

    /// The node has accepted the stream: requests are taken from now on.
    pub(crate) fn open(&self) {
        let _inner = self.inner.lock();
        self.open.store(true, Ordering::Release);
    }

    /// The stream is gone: every request on it ends as lost.
    pub(crate) fn close(&self) {
        let mut lost = Vec::new();
        let waker = {
            let mut inner = self.inner.lock();
            self.open.store(false, Ordering::Release);
            inner.stream = 0;
            inner.queue.clear();
            for index in 0..inner.slots.len() {
                let index = u32::try_from(index).expect("in_flight_max is far below 2^32");
                let id = id_of(index, inner.slots[index as usize].generation);
                lost.extend(inner.take(id));
            }
            inner.waker.take()
        };
        for caller in lost {
            // A caller that is gone needs no news.
            let _ = caller.answer.send(Err(Lost { sent: caller.sent }));
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Queues a request of about `bytes` bytes, or gives it back when no stream is open.
    pub(crate) fn send(self: &Arc<Self>, body: Question, bytes: usize) -> Result<Waiting, Lost> {
        let (answer, receiver) = oneshot::channel();
        let (id, waker) = {
            let mut inner = self.inner.lock();
            if !self.is_open() {
                return Err(Lost { sent: false });
            }
            let id = inner.insert(Caller {
                answer,
                sent: false,
            });
            inner.queue.push_back(Queued { id, body, bytes });
            (id, inner.waker.take())
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(Waiting {
            state: Arc::clone(self),
            id,
            receiver,
            finished: false,
        })
    }

    /// Whether requests wait to leave.
    pub(crate) fn has_queued(&self) -> bool {
        !self.inner.lock().queue.is_empty()
    }

    /// The next frame of stream `number`: `Ready(None)` when that stream is no longer the current one.
    pub(crate) fn poll_frame(
        &self,
        number: u64,
        context: &mut Context<'_>,
    ) -> Poll<Option<SessionRequests>> {
        let mut inner = self.inner.lock();
        if inner.stream != number {
            return Poll::Ready(None);
        }
        let mut requests = Vec::with_capacity(inner.queue.len().min(FRAME_REQUESTS_MAX));
        let mut bytes = 0;
        while requests.len() < FRAME_REQUESTS_MAX && bytes < FRAME_BYTES {
            let Some(queued) = inner.queue.pop_front() else {
                break;
            };
            if let Some(caller) = inner.caller(queued.id) {
                caller.sent = true;
                bytes += queued.bytes;
                requests.push(SessionRequest {
                    id: queued.id,
                    body: Some(queued.body),
                });
            }
        }
        if requests.is_empty() {
            inner.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Some(SessionRequests { requests }))
    }

    /// Hands answers to their callers; answers that nobody waits for are dropped.
    pub(crate) fn deliver(&self, answers: impl Iterator<Item = (u64, Answer)>) {
        let mut inner = self.inner.lock();
        for (id, answer) in answers {
            if let Some(caller) = inner.take(id) {
                let _ = caller.answer.send(Ok(answer));
            }
        }
    }

    /// Frees the slot of a caller that went away: whether the request had left, or `None` if it has ended.
    fn abandon(&self, id: u64) -> Option<bool> {
        self.inner.lock().take(id).map(|caller| caller.sent)
    }
}

/// A request on its way. Dropping it abandons the request: if it has not left, it never will.
#[derive(Debug)]
pub(crate) struct Waiting {
    state: Arc<LinkState>,
    id: u64,
    receiver: oneshot::Receiver<Result<Answer, Lost>>,
    finished: bool,
}

impl Waiting {
    /// Gives the request up; true if it had left, so that the node may act on it.
    pub(crate) fn give_up(mut self) -> bool {
        self.finished = true;
        // Without a slot it has just been answered or lost; then doubt is the safe side.
        self.state.abandon(self.id).unwrap_or(true)
    }
}

impl Future for Waiting {
    type Output = Result<Answer, Lost>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let ended = std::task::ready!(Pin::new(&mut self.receiver).poll(context));
        self.finished = true;
        // The sender is dropped unused only if the link's state was torn down.
        Poll::Ready(ended.unwrap_or(Err(Lost { sent: true })))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.finished {
            self.state.abandon(self.id);
        }
    }
}

#[cfg(test)]
#[path = "state_test.rs"]
mod tests;
