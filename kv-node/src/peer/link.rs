//! The asking side of a link: keeps it up, sends requests, matches answers.
//!
//! Shape: one task per link owns connecting and reading; callers put requests into an outbox and wait
//! on a one-shot channel registered under the request's id.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use futures::StreamExt;
use parking_lot::Mutex;
use prost::Message;
use souk_kv_proto::peer::{Hello, HelloReply, PeerFrame, PeerMessage, peer_message::Body};
use souk_ring::NodeId;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tracing::{debug, info, warn};

use super::{MESSAGE_BYTES_MAX, PeerError, connect::connect};
use crate::outbox::{Outbox, OutboxError, outbox};

/// The other side must greet back within this.
const HELLO_TIMEOUT: Duration = Duration::from_secs(2);
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// How a link is set up.
#[derive(Debug, Clone)]
pub(crate) struct LinkOptions {
    /// Bytes that may wait to leave.
    pub(crate) queued_bytes_max: usize,
    /// What this node says of itself.
    pub(crate) hello: Hello,
}

type Waiting = oneshot::Sender<Result<Body, PeerError>>;

/// One established stream.
#[derive(Debug)]
struct Connection {
    outbox: Outbox<PeerMessage>,
    /// Requests without an answer yet; `None` once the stream has ended.
    waiting: Mutex<Option<BTreeMap<u64, Waiting>>>,
}

impl Connection {
    fn register(&self, id: u64, sender: Waiting) -> Result<(), PeerError> {
        let mut waiting = self.waiting.lock();
        let table = waiting.as_mut().ok_or(PeerError::NotConnected)?;
        table.insert(id, sender);
        Ok(())
    }

    fn take(&self, id: u64) -> Option<Waiting> {
        self.waiting.lock().as_mut()?.remove(&id)
    }

    fn end(&self) {
        let ended = self.waiting.lock().take();
        for sender in ended.into_iter().flat_map(BTreeMap::into_values) {
            // A caller that has gone away needs no answer.
            let _ = sender.send(Err(PeerError::Lost));
        }
    }
}

/// Forgets a request whose caller stopped waiting.
struct Registration<'a> {
    connection: &'a Connection,
    id: u64,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.connection.take(self.id);
    }
}

/// What the link reports about its peer.
pub(crate) trait LinkEvents: Send + Sync + 'static {
    /// The peer greeted back; asked before anything is sent to it. `Err` refuses it, with the reason.
    fn connected(&self, node: NodeId, reply: &HelloReply) -> Result<(), String>;
    /// The link broke.
    fn disconnected(&self, node: NodeId);
}

/// The way to one peer.
#[derive(Debug)]
pub(crate) struct PeerLink {
    node: NodeId,
    name: String,
    address: String,
    current: ArcSwapOption<Connection>,
    next_id: AtomicU64,
}

impl PeerLink {
    pub(crate) fn new(node: NodeId, name: String, address: String) -> Self {
        Self {
            node,
            name,
            address,
            current: ArcSwapOption::empty(),
            next_id: AtomicU64::new(1),
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.current.load().is_some()
    }

    /// Sends a request and waits for its answer until the deadline.
    pub(crate) async fn call(&self, body: Body, deadline: Instant) -> Result<Body, PeerError> {
        let connection = self.current.load_full().ok_or(PeerError::NotConnected)?;
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let left = deadline.saturating_duration_since(Instant::now());
        let message = PeerMessage {
            id,
            deadline_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1),
            body: Some(body),
        };
        let bytes = message.encoded_len();
        if bytes > MESSAGE_BYTES_MAX {
            return Err(PeerError::TooLarge { bytes });
        }
        let (sender, receiver) = oneshot::channel();
        connection.register(id, sender)?;
        let registration = Registration {
            connection: &connection,
            id,
        };
        connection
            .outbox
            .send(message, bytes)
            .map_err(|error| match error {
                OutboxError::Full => PeerError::Overloaded,
                OutboxError::Closed => PeerError::NotConnected,
            })?;
        let answer = timeout_at(deadline, receiver).await;
        drop(registration);
        match answer {
            Err(_) => Err(PeerError::TimedOut),
            Ok(Err(_)) => Err(PeerError::Lost),
            Ok(Ok(Err(error))) => Err(error),
            Ok(Ok(Ok(Body::Error(error)))) => Err(PeerError::Remote(error)),
            Ok(Ok(Ok(body))) => Ok(body),
        }
    }

    /// Keeps the link up until `stop`. Reports through `events`.
    pub(crate) async fn run(
        self: Arc<Self>,
        options: LinkOptions,
        events: Arc<impl LinkEvents>,
        stop: CancellationToken,
    ) {
        let mut backoff = BACKOFF_FIRST;
        while !stop.is_cancelled() {
            let attempt = tokio::select! {
                () = stop.cancelled() => return,
                attempt = self.establish(&options, events.as_ref()) => attempt,
            };
            match attempt {
                Ok((connection, incoming)) => {
                    backoff = BACKOFF_FIRST;
                    info!(peer = self.name, address = self.address, "link is up");
                    self.current.store(Some(Arc::clone(&connection)));
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = self.read(&connection, incoming) => {}
                    }
                    self.current.store(None);
                    connection.end();
                    events.disconnected(self.node);
                    info!(peer = self.name, "link is down");
                }
                Err(cause) if cause.is_refusal => {
                    warn!(
                        peer = self.name,
                        address = self.address,
                        cause = cause.text,
                        "the peer refused the link"
                    );
                }
                Err(cause) => {
                    debug!(
                        peer = self.name,
                        address = self.address,
                        cause = cause.text,
                        "cannot reach the peer"
                    );
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(backoff) => {}
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    async fn establish(
        &self,
        options: &LinkOptions,
        events: &impl LinkEvents,
    ) -> Result<(Arc<Connection>, Streaming<PeerFrame>), LinkFailure> {
        let mut client = connect(&self.address)
            .await
            .map_err(LinkFailure::unreachable)?;
        let (outbox, batches) = outbox(options.queued_bytes_max);
        let greeting = PeerMessage {
            id: 0,
            deadline_ms: 0,
            body: Some(Body::Hello(options.hello.clone())),
        };
        outbox
            .send(greeting, 0)
            .map_err(|_| LinkFailure::unreachable("the new stream is closed"))?;
        let frames = batches.map(|messages| PeerFrame { messages });
        let greeted = timeout(HELLO_TIMEOUT, async {
            let mut incoming = client.link(frames).await?.into_inner();
            let first = incoming.message().await?;
            Ok::<_, tonic::Status>((incoming, first))
        })
        .await
        .map_err(|_| LinkFailure::unreachable("no greeting in time"))?;
        let (incoming, first) = greeted.map_err(LinkFailure::unreachable)?;
        let body = first.and_then(|frame| frame.messages.into_iter().next()?.body);
        match body {
            Some(Body::HelloReply(reply)) if reply.node_id == self.node.0 => {
                // Before the link can be used: a peer that may not vote must not be asked to.
                events
                    .connected(self.node, &reply)
                    .map_err(LinkFailure::refused)?;
                let waiting = Mutex::new(Some(BTreeMap::new()));
                Ok((Arc::new(Connection { outbox, waiting }), incoming))
            }
            Some(Body::HelloReply(reply)) => Err(LinkFailure::refused(format!(
                "node number {} answers at the address of node number {}: check the addresses in cluster.toml",
                reply.node_id, self.node.0
            ))),
            Some(Body::Error(error)) => Err(LinkFailure::refused(error.message)),
            _ => Err(LinkFailure::refused("it did not greet back".to_owned())),
        }
    }

    async fn read(&self, connection: &Connection, mut incoming: Streaming<PeerFrame>) {
        loop {
            match incoming.message().await {
                Ok(Some(frame)) => {
                    for message in frame.messages {
                        if let (Some(sender), Some(body)) =
                            (connection.take(message.id), message.body)
                        {
                            // A caller that has gone away needs no answer.
                            let _ = sender.send(Ok(body));
                        }
                    }
                }
                Ok(None) => return,
                Err(status) => {
                    debug!(peer = self.name, cause = %status, "the link broke");
                    return;
                }
            }
        }
    }
}

struct LinkFailure {
    is_refusal: bool,
    text: String,
}

impl LinkFailure {
    fn unreachable(cause: impl ToString) -> Self {
        Self {
            is_refusal: false,
            text: cause.to_string(),
        }
    }

    fn refused(text: String) -> Self {
        Self {
            is_refusal: true,
            text,
        }
    }
}
