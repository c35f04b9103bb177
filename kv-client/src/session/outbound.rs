//! The sending half of a stream: polled by the connection whenever it can take a frame.
//!
//! Place: owned by the gRPC call; ends when its stream is no longer the open one.

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
    pub(super) state: Arc<LinkState>,
    pub(super) number: u64,
}

impl Stream for Outbound {
    type Item = SessionRequests;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<SessionRequests>> {
        self.state.poll_frame(self.number, context)
    }
}
