//! The asking side of a link: keeps it up, sends requests, matches answers.
//!
//! Shape: one task per link owns connecting and reading; callers put requests into an outbox and wait
//! on a one-shot channel registered under the request's id.
//! Invariants: 1. the bytes of unanswered requests stay within a bound. 2. what has waited past its deadline does not
//! leave. 3. the time left that travels with a request is counted when it leaves, not when it was queued.

use std::{
    collections::BTreeMap,
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use futures::{StreamExt, future::ready, stream};
use metrics::counter;
use parking_lot::Mutex;
use souk_kv_proto::{
    network::Network,
    peer::{Hello, HelloReply, PeerFrame, PeerMessage, peer_message::Body},
};
use souk_kv_tls::{Expected, HandshakeError, bottom_of};
use souk_ring::NodeId;
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tracing::{debug, info, warn};

use super::{Lane, MESSAGE_BYTES_MAX, PeerError, connect::connect};
use crate::outbox::{Outbox, OutboxError, outbox};

/// The other side must greet back within this.
const HELLO_TIMEOUT: Duration = Duration::from_secs(2);
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// What a message has around its body, at most: id, deadline, tag and length.
const ENVELOPE_BYTES: usize = 32;

/// How a link is set up.
#[derive(Debug, Clone)]
pub(crate) struct LinkOptions {
    pub(crate) network: Network,
    /// Bytes of requests that may wait to leave, and that may wait for an answer.
    pub(crate) in_flight_bytes_max: usize,
}

type Waiting = oneshot::Sender<Result<Body, PeerError>>;

/// A request on its way out.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) id: u64,
    pub(super) deadline: Instant,
    pub(super) body: Body,
}

impl Outgoing {
    /// The message as it leaves; `None` when nobody waits for its answer any more.
    fn leave(self, now: Instant) -> Option<PeerMessage> {
        let left = self.deadline.checked_duration_since(now)?;
        Some(PeerMessage {
            id: self.id,
            deadline_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1),
            body: Some(self.body),
        })
    }
}

/// One established stream.
#[derive(Debug)]
struct Connection {
    outbox: Outbox<Outgoing>,
    /// Requests without an answer yet; `None` once the stream has ended.
    waiting: Mutex<Option<BTreeMap<u64, Waiting>>>,
    /// Of those requests.
    in_flight_bytes: AtomicUsize,
    in_flight_bytes_max: usize,
}

impl Connection {
    /// A request larger than the bound passes when it is alone, as it does in the outbox.
    fn register(
        &self,
        id: u64,
        bytes: usize,
        sender: Waiting,
    ) -> Result<Registration<'_>, PeerError> {
        let before = self.in_flight_bytes.fetch_add(bytes, Ordering::AcqRel);
        let registration = Registration {
            connection: self,
            id,
            bytes,
        };
        if before > 0 && before + bytes > self.in_flight_bytes_max {
            return Err(PeerError::Overloaded);
        }
        let mut waiting = self.waiting.lock();
        let table = waiting.as_mut().ok_or(PeerError::NotConnected)?;
        table.insert(id, sender);
        drop(waiting);
        Ok(registration)
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
    bytes: usize,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.connection.take(self.id);
        self.connection
            .in_flight_bytes
            .fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// What the link reports about its peer.
pub(crate) trait LinkEvents: Send + Sync + 'static {
    /// What this node says of itself now.
    fn hello(&self) -> Hello;
    /// The peer greeted back; asked before anything is sent to it. `Err` refuses it, with the reason.
    fn connected(&self, node: NodeId, lane: Lane, reply: &HelloReply) -> Result<(), String>;
    /// The link broke.
    fn disconnected(&self, node: NodeId, lane: Lane);
}

/// One of the two ways to a peer.
#[derive(Debug)]
pub(crate) struct PeerLink {
    node: NodeId,
    lane: Lane,
    name: String,
    address: String,
    current: ArcSwapOption<Connection>,
    next_id: AtomicU64,
    broken_off: Notify,
}

impl PeerLink {
    pub(crate) fn new(node: NodeId, lane: Lane, name: String, address: String) -> Self {
        Self {
            node,
            lane,
            name,
            address,
            current: ArcSwapOption::empty(),
            next_id: AtomicU64::new(1),
            broken_off: Notify::new(),
        }
    }

    /// Breaks the link, if it stands; it is made anew at once.
    pub(crate) fn reset(&self) {
        if self.is_connected() {
            self.broken_off.notify_one();
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.current.load().is_some()
    }

    /// Sends a request and waits for its answer until the deadline.
    pub(crate) async fn call(&self, body: Body, deadline: Instant) -> Result<Body, PeerError> {
        let connection = self.current.load_full().ok_or(PeerError::NotConnected)?;
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let bytes = body.encoded_len() + ENVELOPE_BYTES;
        if bytes > MESSAGE_BYTES_MAX {
            return Err(PeerError::TooLarge { bytes });
        }
        let (sender, receiver) = oneshot::channel();
        let registration = connection.register(id, bytes, sender)?;
        let overtakes = matches!(body, Body::Heartbeat(_));
        let request = Outgoing { id, deadline, body };
        let queued = if overtakes {
            connection.outbox.overtake(request, bytes)
        } else {
            connection.outbox.send(request, bytes)
        };
        queued.map_err(|error| match error {
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
                    info!(
                        peer = self.name,
                        lane = self.lane.as_str(),
                        address = self.address,
                        "link is up"
                    );
                    self.current.store(Some(Arc::clone(&connection)));
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = self.read(&connection, incoming) => {}
                        () = self.broken_off.notified() => {}
                    }
                    self.current.store(None);
                    connection.end();
                    events.disconnected(self.node, self.lane);
                    info!(peer = self.name, lane = self.lane.as_str(), "link is down");
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
        let expected = Expected::Node(self.name.clone());
        let mut client = connect(&options.network, &self.address, &expected)
            .await
            .map_err(LinkFailure::of_connection)?;
        let (outbox, batches) = outbox(options.in_flight_bytes_max);
        let greeting = PeerMessage {
            id: 0,
            deadline_ms: 0,
            body: Some(Body::Hello(Hello {
                bulk: self.lane == Lane::Bulk,
                ..events.hello()
            })),
        };
        let first = PeerFrame {
            messages: vec![greeting],
        };
        let frames =
            stream::iter([first]).chain(batches.filter_map(|requests| ready(frame(requests))));
        let greeted = timeout(HELLO_TIMEOUT, async {
            let mut incoming = client.link(frames).await?.into_inner();
            let first = incoming.message().await?;
            Ok::<_, tonic::Status>((incoming, first))
        })
        .await
        .map_err(|_| LinkFailure::unreachable("no greeting in time"))?;
        let (incoming, first) = greeted.map_err(LinkFailure::of_connection)?;
        let body = first.and_then(|frame| frame.messages.into_iter().next()?.body);
        match body {
            Some(Body::HelloReply(reply)) if reply.node_id == self.node.0 => {
                // Before the link can be used: a peer that may not vote must not be asked to.
                events
                    .connected(self.node, self.lane, &reply)
                    .map_err(LinkFailure::refused)?;
                let connection = Connection {
                    outbox,
                    waiting: Mutex::new(Some(BTreeMap::new())),
                    in_flight_bytes: AtomicUsize::new(0),
                    in_flight_bytes_max: options.in_flight_bytes_max,
                };
                Ok((Arc::new(connection), incoming))
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

/// What leaves together; `None` when all of it came too late.
pub(super) fn frame(requests: Vec<Outgoing>) -> Option<PeerFrame> {
    let now = Instant::now();
    let queued = requests.len();
    let messages: Vec<PeerMessage> = requests
        .into_iter()
        .filter_map(|request| request.leave(now))
        .collect();
    let expired = queued - messages.len();
    if expired > 0 {
        counter!("souk_peer_requests_expired_total", "side" => "asking").increment(expired as u64);
    }
    (!messages.is_empty()).then_some(PeerFrame { messages })
}

struct LinkFailure {
    is_refusal: bool,
    text: String,
}

impl LinkFailure {
    /// Names what is at the bottom; a failed handshake is a refusal, for it does not mend itself.
    fn of_connection(cause: impl Error + 'static) -> Self {
        Self {
            is_refusal: HandshakeError::find_in(&cause).is_some(),
            text: bottom_of(&cause),
        }
    }

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
