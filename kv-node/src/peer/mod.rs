//! Links between nodes: requests out, answers back, over long-lived streams.
//!
//! Each node opens two links to every other node and sends its own requests on them; the answers come
//! back on the same stream, in any order, matched by id. Either side notices by itself when it cannot
//! reach the other, also when only one direction is cut.
//!
//! One link is for what somebody waits for, the other is the bulk lane: hints, repair, large images. A
//! megabyte of those on the first one would hold up everything behind it, and a full window on a shared
//! connection would, too.
//!
//! Place: I/O; the coordinators call [`Peers::call`], background jobs [`Peers::call_in_bulk`], the replicas
//! answer through [`PeerHandler`].
//! Invariants: 1. a request that may have left ends as `Lost` or `TimedOut`, never as not sent.
//! 2. the bytes of unanswered requests stay within a bound for each link. 3. a peer of another cluster, or one whose certificate names
//! somebody else, gets no answer but an error. 4. requests of one lane leave in the order they came, but for signs of life; between lanes there is
//! no order.
//! Not here: who is asked (`souk_kv_core::quorum`), what an answer means (`crate::siblings`, `crate::register`).

mod connect;
mod link;
#[cfg(test)]
mod link_test;
mod server;
#[cfg(test)]
pub(crate) mod stub;

use std::{collections::BTreeMap, future::Future, sync::Arc};

use arc_swap::ArcSwap;
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

    /// What may be believed of the request.
    pub(crate) fn outcome(&self) -> Outcome {
        if self.certainly_not_done() {
            Outcome::NotApplied
        } else {
            Outcome::Unknown
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

    /// Answers at once when that takes no waiting; gives the request back when it does. Only asked for what somebody
    /// waits for.
    fn answer_now(&self, from: NodeId, body: Body) -> Prompt;

    /// Answers a request. The deadline is when the asking side gives up.
    fn answer(
        &self,
        from: NodeId,
        lane: Lane,
        body: Body,
        deadline: Instant,
    ) -> impl Future<Output = Body> + Send;
}

/// Which of the two links to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// What somebody waits for.
    Foreground,
    /// What nobody waits for, or what is large.
    Bulk,
}

impl Lane {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Foreground => "foreground",
            Self::Bulk => "bulk",
        }
    }
}

/// Everybody else: two links each. Who that is follows the layout.
#[derive(Debug)]
pub(crate) struct Peers {
    peers: ArcSwap<BTreeMap<NodeId, Lanes>>,
}

/// The two links to a peer.
#[derive(Debug, Clone)]
pub(crate) struct Lanes {
    foreground: Arc<PeerLink>,
    bulk: Arc<PeerLink>,
}

impl Lanes {
    fn new(node: NodeId, name: &str, address: &str) -> Self {
        let link = |lane| {
            Arc::new(PeerLink::new(
                node,
                lane,
                name.to_owned(),
                address.to_owned(),
            ))
        };
        Self {
            foreground: link(Lane::Foreground),
            bulk: link(Lane::Bulk),
        }
    }

    /// Both of them.
    pub(crate) fn links(&self) -> [&Arc<PeerLink>; 2] {
        [&self.foreground, &self.bulk]
    }
}

impl Peers {
    /// Peers by number, name and address.
    pub(crate) fn new(peers: impl IntoIterator<Item = (NodeId, String, String)>) -> Self {
        let lanes = |(node, name, address): (NodeId, String, String)| {
            (node, Lanes::new(node, &name, &address))
        };
        Self {
            peers: ArcSwap::from_pointee(peers.into_iter().map(lanes).collect()),
        }
    }

    /// Takes up a peer that has become a member; the links of one that is known stay as they are.
    pub(crate) fn meet(&self, node: NodeId, name: &str, address: &str) {
        self.peers.rcu(|known| {
            let mut peers = BTreeMap::clone(known);
            peers
                .entry(node)
                .or_insert_with(|| Lanes::new(node, name, address));
            peers
        });
    }

    /// Lets go of a peer that is no member any more. Whoever runs its links has to end them.
    pub(crate) fn part(&self, node: NodeId) {
        self.peers.rcu(|known| {
            let mut peers = BTreeMap::clone(known);
            peers.remove(&node);
            peers
        });
    }

    /// The links to a peer.
    pub(crate) fn lanes(&self, node: NodeId) -> Option<Lanes> {
        self.peers.load().get(&node).cloned()
    }

    /// Asks a peer and waits for its answer until the deadline.
    pub(crate) async fn call(
        &self,
        node: NodeId,
        body: Body,
        deadline: Instant,
    ) -> Result<Body, PeerError> {
        match self.lanes(node) {
            Some(lanes) => lanes.foreground.call(body, deadline).await,
            None => Err(PeerError::NotConnected),
        }
    }

    /// The same on the bulk lane: for background work, and for what is large.
    pub(crate) async fn call_in_bulk(
        &self,
        node: NodeId,
        body: Body,
        deadline: Instant,
    ) -> Result<Body, PeerError> {
        match self.lanes(node) {
            Some(lanes) => lanes.bulk.call(body, deadline).await,
            None => Err(PeerError::NotConnected),
        }
    }

    /// Whether the link that requests take stands.
    pub(crate) fn is_connected(&self, node: NodeId) -> bool {
        let peers = self.peers.load();
        let lanes = peers.get(&node);
        lanes.is_some_and(|lanes| lanes.foreground.is_connected())
    }

    /// Breaks the links to a peer, which then greets again: another store speaks for it now.
    pub(crate) fn reset(&self, node: NodeId) {
        if let Some(lanes) = self.lanes(node) {
            lanes.foreground.reset();
            lanes.bulk.reset();
        }
    }

    /// Who they are, in order.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = NodeId> + use<> {
        let nodes: Vec<NodeId> = self.peers.load().keys().copied().collect();
        nodes.into_iter()
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
