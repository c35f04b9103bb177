//! The sending half of a stream: polled by the connection whenever it can take a frame.
//!
//! Place: owned by the gRPC call; ends when its stream is no longer the open one.
//! Shape: before a frame leaves, every task that is ready to run gets a turn, and what it asks leaves along.
//! An idle client pays for that with one look at an empty queue of tasks.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use souk_kv_proto::kv::SessionRequests;
use tokio_stream::Stream;

use super::state::LinkState;

#[derive(Debug)]
pub(super) struct Outbound {
    state: Arc<LinkState>,
    number: u64,
    /// Others have had their turn since requests began to wait.
    has_gathered: bool,
}

impl Outbound {
    pub(super) fn new(state: Arc<LinkState>, number: u64) -> Self {
        Self {
            state,
            number,
            has_gathered: false,
        }
    }
}

impl Stream for Outbound {
    type Item = SessionRequests;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<SessionRequests>> {
        if !self.has_gathered && self.state.has_queued() {
            self.has_gathered = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.has_gathered = false;
        self.state.poll_frame(self.number, context)
    }
}
