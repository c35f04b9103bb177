//! Keeps one stream to one node open: connects, reads answers, reconnects.
//!
//! Place: I/O; one background task per node, which ends when the link is dropped.
//! Invariants: 1. waits between attempts to connect are bounded and jittered. 2. when a stream breaks,
//! its requests end before the next stream opens.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

use souk_kv_core::access::TokenText;
use souk_kv_proto::kv::{
    AuthenticateRequest, Error, ErrorCode, Outcome, SessionResponses, kv_client::KvClient,
    session_request::Body as Question, session_response::Body as Answer,
};
use souk_kv_proto::network::Network;
use souk_kv_tls::bottom_of;
use tokio::{
    sync::Semaphore,
    task::AbortHandle,
    time::{Instant, interval, sleep, timeout},
};
use tonic::{Status, service::interceptor::InterceptedService, transport::Endpoint};

use super::{
    outbound::Outbound,
    state::{LinkState, Lost, Waiting},
};
use crate::{
    routing::NodeHealth,
    token::{ShowToken, ShowingChannel, Tokens},
};

/// First and longest wait before connecting again.
const RECONNECT_MIN: Duration = Duration::from_millis(20);
const RECONNECT_MAX: Duration = Duration::from_secs(1);
/// A stream that lived as long counts as a success for the wait before the next one.
const STREAM_LIVED: Duration = Duration::from_secs(1);
/// How often an open stream looks whether there is a newer token.
const TOKEN_LOOK: Duration = Duration::from_millis(1_100);
/// How it shows that the other end does not speak plain HTTP/2.
const NO_HTTP2: [&str; 3] = ["frame with invalid size", "broken pipe", "connection reset"];
/// A silent connection is asked for a sign of life this often, and given up after this wait.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(2);
/// Receive windows: a full frame of answers never waits for a window update.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
/// Largest frame taken: bounded only to survive a broken node.
const FRAME_BYTES_MAX: usize = 1 << 30;

/// What links need from their client.
#[derive(Clone)]
pub(crate) struct LinkOptions {
    pub(crate) network: Network,
    pub(crate) tokens: Tokens,
    pub(crate) connect_timeout: Duration,
    pub(crate) in_flight_max: usize,
    /// The moment since which times are counted.
    pub(crate) started: Instant,
    /// Gives random numbers in 0.0..=1.0.
    pub(crate) jitter: Arc<dyn Fn() -> f64 + Send + Sync>,
    pub(crate) listener: Arc<dyn LinkListener>,
}

/// What a client wants to hear of its links.
pub(crate) trait LinkListener: Send + Sync {
    /// A stream has opened.
    fn opened(&self);
    /// A node spoke of its layout and catalogue.
    fn heard(&self, layout_epoch: u64, catalogue_version: u64);
}

/// One node as this client reaches it.
pub(crate) struct Link {
    address: String,
    channel: ShowingChannel,
    state: Arc<LinkState>,
    health: NodeHealth,
    in_flight: Semaphore,
    activity: Arc<Activity>,
    started: Instant,
    task: AbortHandle,
}

/// What the background task leaves for others to read.
#[derive(Debug, Default)]
struct Activity {
    /// When the last frame came, in microseconds since the client's start; 0 means never.
    heard_us: AtomicU64,
    /// Why there is no stream.
    problem: Mutex<String>,
}

impl Link {
    /// Starts to connect in the background.
    pub(crate) fn start(
        address: &str,
        options: &LinkOptions,
    ) -> Result<Link, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?
            .connect_timeout(options.connect_timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(STREAM_WINDOW_BYTES);
        let channel = options.network.connect_lazy(&endpoint);
        let channel = InterceptedService::new(channel, ShowToken(options.tokens.clone()));
        let state = Arc::new(LinkState::default());
        let activity = Arc::new(Activity::default());
        let background = Background {
            address: address.to_owned(),
            channel: channel.clone(),
            state: Arc::clone(&state),
            activity: Arc::clone(&activity),
            options: options.clone(),
        };
        Ok(Link {
            address: address.to_owned(),
            channel,
            state,
            health: NodeHealth::default(),
            in_flight: Semaphore::new(options.in_flight_max),
            activity,
            started: options.started,
            task: tokio::spawn(background.run()).abort_handle(),
        })
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The connection, for unary calls.
    pub(crate) fn channel(&self) -> ShowingChannel {
        self.channel.clone()
    }

    /// Whether a stream is open.
    pub(crate) fn is_open(&self) -> bool {
        self.state.is_open()
    }

    /// Whether other nodes should be preferred for the moment.
    pub(crate) fn is_suspect(&self) -> bool {
        self.health.is_suspect(|| self.started.elapsed())
    }

    /// The node answered a request.
    pub(crate) fn succeeded(&self) {
        self.health.succeeded();
    }

    /// The node broke off or is not ready.
    pub(crate) fn failed(&self) {
        self.health.failed(self.started.elapsed());
    }

    /// A request sent at `since` has no answer. The node is to blame only if it said nothing at all since
    /// then: otherwise the request alone was slow.
    pub(crate) fn kept_silent(&self, since: Instant) {
        let heard = Duration::from_micros(self.activity.heard_us.load(Ordering::Relaxed));
        if self.started + heard <= since {
            self.failed();
        }
    }

    /// Bounds the unanswered requests of this node; keep the permit until the request has ended.
    pub(crate) fn in_flight(&self) -> &Semaphore {
        &self.in_flight
    }

    /// Queues a request of about `bytes` bytes.
    pub(crate) fn send(&self, body: Question, bytes: usize) -> Result<Waiting, Lost> {
        self.state.send(body, bytes)
    }

    /// Why there is no stream; empty if nothing went wrong.
    pub(crate) fn problem(&self) -> String {
        self.activity.problem.lock().clone()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
        self.state.close();
    }
}

struct Background {
    address: String,
    channel: ShowingChannel,
    state: Arc<LinkState>,
    activity: Arc<Activity>,
    options: LinkOptions,
}

impl Background {
    async fn run(self) {
        let mut wait = RECONNECT_MIN;
        for number in 1.. {
            let opened = Instant::now();
            let problem = self.hold_stream(number).await;
            self.state.close();
            if opened.elapsed() >= STREAM_LIVED {
                wait = RECONNECT_MIN;
            }
            tracing::debug!(address = %self.address, %problem, "no stream to node");
            *self.activity.problem.lock() = problem;
            sleep(wait.mul_f64(0.5 + (self.options.jitter)() / 2.0)).await;
            wait = (wait * 2).min(RECONNECT_MAX);
        }
    }

    /// Opens stream `number` and reads it to its end; says why it ended.
    async fn hold_stream(&self, number: u64) -> String {
        let mut shown = self.options.tokens.current();
        let mut client =
            KvClient::new(self.channel.clone()).max_decoding_message_size(FRAME_BYTES_MAX);
        // The connection may poll the outbound half before the call returns.
        self.state.begin(number);
        let outbound = Outbound::new(Arc::clone(&self.state), number);
        let called = timeout(self.options.connect_timeout, client.session(outbound)).await;
        let mut inbound = match called {
            Err(_) => return format!("no connection within {:?}", self.options.connect_timeout),
            Ok(Err(status)) => return self.describe_opening(&status),
            Ok(Ok(response)) => response.into_inner(),
        };
        self.state.open();
        self.options.listener.opened();
        tracing::debug!(address = %self.address, "stream to node opened");
        let mut looks = interval(TOKEN_LOOK);
        loop {
            let message = tokio::select! {
                message = inbound.message() => message,
                _ = looks.tick(), if shown.is_some() => {
                    shown = self.show_newer(shown);
                    continue;
                }
            };
            match message {
                Ok(Some(frame)) => self.deliver(frame),
                Ok(None) => return "the node closed the stream".to_owned(),
                Err(status) => return describe(&status),
            }
        }
    }

    /// Shows the token on an open stream when it is another one than `shown`; gives the one that was shown last.
    fn show_newer(&self, shown: Option<Arc<TokenText>>) -> Option<Arc<TokenText>> {
        let newest = self.options.tokens.current();
        let holder = |token: &Option<Arc<TokenText>>| token.as_ref().map(|token| token.holder());
        if holder(&newest) == holder(&shown) {
            return shown;
        }
        if let Some(token) = &newest {
            let token = token.reveal();
            let question = Question::Authenticate(AuthenticateRequest { token });
            if let Ok(answer) = self.state.send(question, 0) {
                let address = self.address.clone();
                tokio::spawn(async move {
                    // When the stream breaks meanwhile, the next one begins with the new token.
                    if let Ok(Answer::Error(error)) = answer.await {
                        tracing::warn!(
                            address,
                            problem = error.message,
                            "the node refuses the new token"
                        );
                    }
                });
            }
        }
        newest
    }

    /// Why no stream could be opened. Somebody who answers, but not in a way that makes sense, may expect TLS.
    fn describe_opening(&self, status: &Status) -> String {
        let problem = describe(status);
        let spoke_plainly = matches!(self.options.network, Network::System);
        let lower = problem.to_lowercase();
        if spoke_plainly && NO_HTTP2.iter().any(|sign| lower.contains(sign)) {
            return format!(
                "{problem}; if the node asks for certificates, give some (--ca, --cert and --key)"
            );
        }
        problem
    }

    fn deliver(&self, frame: SessionResponses) {
        let heard = u64::try_from(self.options.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.activity.heard_us.store(heard, Ordering::Relaxed);
        self.options
            .listener
            .heard(frame.layout_epoch, frame.catalogue_version);
        let answers = frame.responses.into_iter();
        self.state.deliver(
            answers.map(|response| (response.id, response.body.unwrap_or_else(no_answer))),
        );
    }
}

fn no_answer() -> Answer {
    let message = "the node's answer has no content; it may be newer than this client";
    Answer::Error(Error::new(ErrorCode::Internal, Outcome::Unknown, message))
}

fn describe(status: &Status) -> String {
    let bottom = bottom_of(status);
    match status.message() {
        "" => bottom,
        message if bottom.contains(message) => bottom,
        message => format!("{message}: {bottom}"),
    }
}
