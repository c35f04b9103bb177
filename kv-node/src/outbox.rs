//! A bounded queue of messages that leaves as batches: what waits while one frame is on its way
//! forms the next frame.
//!
//! Place: between the tasks that produce messages and the gRPC stream that carries them, on both
//! sides of peer links and client sessions. Batching is what makes a stream ten times cheaper per
//! message than a unary call; no timer is involved, so an idle link adds no delay. Before a frame leaves, every
//! task that is ready to run gets a turn, and what it sends leaves along: a runtime runs the reader of a queue
//! right after its writer, and frames would hold one message each.
//! Invariants: 1. the bytes queued stay within the bound; 2. messages leave in the order they came, but for
//! signs of life, which overtake: a full queue must not look like a dead node.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures::Stream;
use tokio::sync::mpsc;

/// Most messages in one frame.
const FRAME_MESSAGES_MAX: usize = 128;
/// A frame takes no further message once it holds this many bytes.
const FRAME_BYTES_MAX: usize = 256 * 1024;

/// The queue is full or its stream is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutboxError {
    /// More than the bound would wait. Nothing was queued.
    Full,
    /// The stream ended. Nothing was queued.
    Closed,
}

/// The producing end. Cheap to clone.
#[derive(Debug)]
pub(crate) struct Outbox<T> {
    sender: mpsc::UnboundedSender<(T, usize)>,
    overtaking: mpsc::UnboundedSender<(T, usize)>,
    queued_bytes: Arc<AtomicUsize>,
    bytes_max: usize,
}

impl<T> Clone for Outbox<T> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            overtaking: self.overtaking.clone(),
            queued_bytes: Arc::clone(&self.queued_bytes),
            bytes_max: self.bytes_max,
        }
    }
}

impl<T> Outbox<T> {
    /// Queues a message of about `bytes` bytes. A single message larger than the bound passes when
    /// the queue is empty.
    pub(crate) fn send(&self, message: T, bytes: usize) -> Result<(), OutboxError> {
        let before = self.queued_bytes.fetch_add(bytes, Ordering::AcqRel);
        if before > 0 && before + bytes > self.bytes_max {
            self.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
            return Err(OutboxError::Full);
        }
        self.queue(&self.sender, message, bytes)
    }

    /// Queues a small message before all others, whatever waits. Only for what comes at a bounded rate.
    pub(crate) fn overtake(&self, message: T, bytes: usize) -> Result<(), OutboxError> {
        self.queued_bytes.fetch_add(bytes, Ordering::AcqRel);
        self.queue(&self.overtaking, message, bytes)
    }

    fn queue(
        &self,
        queue: &mpsc::UnboundedSender<(T, usize)>,
        message: T,
        bytes: usize,
    ) -> Result<(), OutboxError> {
        queue.send((message, bytes)).map_err(|_| {
            self.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
            OutboxError::Closed
        })
    }
}

/// The consuming end: a stream of batches, each with at least one message.
#[derive(Debug)]
pub(crate) struct Batches<T> {
    receiver: mpsc::UnboundedReceiver<(T, usize)>,
    overtaking: mpsc::UnboundedReceiver<(T, usize)>,
    queued_bytes: Arc<AtomicUsize>,
    /// Others have had their turn since messages began to wait.
    has_gathered: bool,
}

/// Makes a queue that holds at most `bytes_max` bytes of waiting messages.
pub(crate) fn outbox<T>(bytes_max: usize) -> (Outbox<T>, Batches<T>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let (overtaking_sender, overtaking_receiver) = mpsc::unbounded_channel();
    let queued_bytes = Arc::new(AtomicUsize::new(0));
    let outbox = Outbox {
        sender,
        overtaking: overtaking_sender,
        queued_bytes: Arc::clone(&queued_bytes),
        bytes_max,
    };
    (
        outbox,
        Batches {
            receiver,
            overtaking: overtaking_receiver,
            queued_bytes,
            has_gathered: false,
        },
    )
}

impl<T> Batches<T> {
    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Option<(T, usize)>> {
        if let Poll::Ready(Some(message)) = self.overtaking.poll_recv(context) {
            return Poll::Ready(Some(message));
        }
        // Both ends of the two queues go together, so the end of this one is the end of both.
        self.receiver.poll_recv(context)
    }
}

impl<T> Stream for Batches<T> {
    type Item = Vec<T>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Vec<T>>> {
        let waiting = self.receiver.len() + self.overtaking.len();
        if waiting > 0 && !self.has_gathered {
            self.has_gathered = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.has_gathered = false;
        let mut batch = Vec::with_capacity(waiting.min(FRAME_MESSAGES_MAX));
        let mut batch_bytes = 0;
        while batch.len() < FRAME_MESSAGES_MAX && batch_bytes < FRAME_BYTES_MAX {
            match self.poll_message(context) {
                Poll::Ready(Some((message, bytes))) => {
                    self.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
                    batch_bytes += bytes;
                    batch.push(message);
                }
                Poll::Ready(None) if batch.is_empty() => return Poll::Ready(None),
                Poll::Pending if batch.is_empty() => return Poll::Pending,
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        Poll::Ready(Some(batch))
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    #[tokio::test]
    async fn what_waits_leaves_as_one_batch_in_order() {
        let (outbox, mut batches) = outbox(1000);
        for number in 0..5 {
            outbox.send(number, 10).expect("there is room");
        }
        assert_eq!(batches.next().await, Some(vec![0, 1, 2, 3, 4]));
        drop(outbox);
        assert_eq!(batches.next().await, None);
    }

    #[tokio::test]
    async fn the_bound_holds_and_frees_again() {
        let (outbox, mut batches) = outbox(100);
        outbox.send('a', 60).expect("there is room");
        assert_eq!(outbox.send('b', 60), Err(OutboxError::Full));
        batches.next().await.expect("one waits");
        outbox.send('c', 60).expect("room came back");
    }

    #[tokio::test]
    async fn one_huge_message_passes_an_empty_queue() {
        let (outbox, _batches) = outbox(100);
        outbox.send('a', 5000).expect("it is alone");
        assert_eq!(outbox.send('b', 1), Err(OutboxError::Full));
    }

    #[tokio::test]
    async fn a_frame_stays_small() {
        let (outbox, mut batches) = outbox(usize::MAX);
        for _ in 0..3 {
            outbox.send((), FRAME_BYTES_MAX).expect("there is room");
        }
        assert_eq!(batches.next().await.map(|batch| batch.len()), Some(1));
    }

    #[tokio::test]
    async fn a_sign_of_life_overtakes_a_full_queue() {
        let (outbox, mut batches) = outbox(FRAME_BYTES_MAX);
        outbox.send('a', FRAME_BYTES_MAX).expect("there is room");
        assert_eq!(outbox.send('b', 1), Err(OutboxError::Full));
        outbox.overtake('!', 1).expect("it always passes");
        assert_eq!(batches.next().await, Some(vec!['!', 'a']));
        outbox.send('b', 1).expect("everything left");
        drop(outbox);
        assert_eq!(batches.next().await, Some(vec!['b']));
        assert_eq!(batches.next().await, None);
    }

    #[tokio::test]
    async fn a_closed_stream_is_told() {
        let (outbox, batches) = outbox(100);
        drop(batches);
        assert_eq!(outbox.send((), 1), Err(OutboxError::Closed));
        assert_eq!(outbox.overtake((), 1), Err(OutboxError::Closed));
    }
}
