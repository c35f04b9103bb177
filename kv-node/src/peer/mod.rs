//! Links between nodes: requests out, answers back, over one long-lived stream per direction.
//!
//! Each node opens a link to every other node and sends its own requests on it; the answers come
//! back on the same stream, in any order, matched by id. So a pair of nodes shares two streams, and
//! either side notices by itself when it cannot reach the other, also when only one direction is cut.
//!
//! Place: I/O; the coordinators call [`Peers::call`], the replicas answer through [`PeerHandler`].
//! Invariants: 1. a request that may have left ends as `Lost` or `TimedOut`, never as not sent.
//! 2. the bytes waiting to leave stay within a bound. 3. a peer of another cluster gets no answer but an error.
//! Not here: who is asked (`souk_kv_core::quorum`), what an answer means (`crate::siblings`, `crate::register`).

mod connect;
mod link;
mod server;

use std::{collections::BTreeMap, future::Future, sync::Arc};

use souk_kv_proto::{
    kv::{Error, ErrorCode, Outcome},
    peer::{Hello, HelloReply, peer_message::Body},
};
use souk_ring::NodeId;
use tokio::time::Instant;

pub(crate) use link::{LinkEvents, LinkOptions, PeerLink};
pub(crate) use server::PeerService;

/// Largest frame either side takes.
pub(crate) const FRAME_DECODE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Largest single message: a frame may hold some others beside it.
pub(crate) const MESSAGE_BYTES_MAX: usize = FRAME_DECODE_BYTES_MAX - 1024 * 1024;

/// Why a peer gave no usable answer.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum PeerError {
    /// There is no link to it now. Nothing was sent.
    #[error("no link to the peer")]
    NotConnected,
    /// Too much waits on its link. Nothing was sent.
    #[error("the link to the peer is full")]
    Overloaded,
    /// More than a frame holds. Nothing was sent.
    #[error("the message has {bytes} bytes, more than fits a frame")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The link broke before the answer came. It may have been received.
    #[error("the link broke before the answer came")]
    Lost,
    /// No answer by the deadline. It may have been received.
    #[error("no answer in time")]
    TimedOut,
    /// It answered with an error.
    #[error("{}", .0.message)]
    Remote(Error),
}

impl PeerError {
    /// Whether the peer certainly did nothing and never will.
    pub(crate) fn certainly_not_done(&self) -> bool {
        match self {
            Self::NotConnected | Self::Overloaded | Self::TooLarge { .. } => true,
            Self::Remote(error) => error.outcome() == Outcome::NotApplied,
            Self::Lost | Self::TimedOut => false,
        }
    }
}

/// What can be done with a request without waiting.
pub(crate) enum Prompt {
    /// This is the answer.
    Answer(Body),
    /// It needs [`PeerHandler::answer`].
    Later(Body),
}

/// Answers what other nodes ask.
pub(crate) trait PeerHandler: Send + Sync + 'static {
    /// Checks who calls. An error refuses the link.
    fn greet(&self, hello: &Hello) -> Result<HelloReply, Error>;

    /// Answers at once when that takes no waiting; gives the request back when it does.
    fn answer_now(&self, from: NodeId, body: Body) -> Prompt;

    /// Answers a request. The deadline is when the asking side gives up.
    fn answer(
        &self,
        from: NodeId,
        body: Body,
        deadline: Instant,
    ) -> impl Future<Output = Body> + Send;
}

/// Everybody else: one link each.
#[derive(Debug)]
pub(crate) struct Peers {
    links: BTreeMap<NodeId, Arc<PeerLink>>,
}

impl Peers {
    pub(crate) fn new(links: impl IntoIterator<Item = (NodeId, Arc<PeerLink>)>) -> Self {
        Self {
            links: links.into_iter().collect(),
        }
    }

    /// Asks a peer and waits for its answer until the deadline.
    pub(crate) async fn call(
        &self,
        node: NodeId,
        body: Body,
        deadline: Instant,
    ) -> Result<Body, PeerError> {
        match self.links.get(&node) {
            Some(link) => link.call(body, deadline).await,
            None => Err(PeerError::NotConnected),
        }
    }

    /// Whether its link stands.
    pub(crate) fn is_connected(&self, node: NodeId) -> bool {
        self.links
            .get(&node)
            .is_some_and(|link| link.is_connected())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (NodeId, &Arc<PeerLink>)> {
        self.links.iter().map(|(node, link)| (*node, link))
    }
}

/// The answer to a message that makes no sense where it came.
pub(crate) fn unexpected(what: &str) -> Body {
    Body::Error(Error::new(
        ErrorCode::InvalidArgument,
        Outcome::NotApplied,
        format!("a peer sent {what}, which is not a request: are all nodes of one version?"),
    ))
}
