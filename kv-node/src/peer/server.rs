//! The answering side of a link: reads requests, hands them to the handler, sends answers back.
//!
//! Requests that need no waiting (most reads) are answered in the reading task itself; the others
//! get a task each, at most a bounded number at once per link. What comes on the bulk lane always gets a
//! task, because it waits until requests leave it room.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt};
use metrics::counter;
use prost::Message;
use souk_kv_proto::{
    kv::{Error, ErrorCode, Outcome},
    network::ShownBearer,
    peer::{Hello, PeerFrame, PeerMessage, peer_message::Body, peer_server::Peer},
};
use souk_kv_tls::BearerKind;
use souk_ring::NodeId;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, warn};

use super::{Lane, MESSAGE_BYTES_MAX, PeerHandler, Prompt, unexpected};
use crate::outbox::{Outbox, outbox};

/// Requests of one link that may be in work at once.
const IN_WORK_MAX: usize = 8192;
/// The same for a bulk lane.
const BULK_IN_WORK_MAX: usize = 256;
/// Answers that may wait to leave, in bytes, before the link is given up as stuck.
const ANSWERS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The first message must come within this.
const HELLO_TIMEOUT: Duration = Duration::from_secs(2);
/// Asked for when the asking side named none.
const DEADLINE_DEFAULT: Duration = Duration::from_secs(10);

/// The gRPC service behind which the handler stands.
#[derive(Debug)]
pub(crate) struct PeerService<H> {
    handler: Arc<H>,
    stop: CancellationToken,
}

impl<H> PeerService<H> {
    pub(crate) fn new(handler: Arc<H>, stop: CancellationToken) -> Self {
        Self { handler, stop }
    }
}

#[tonic::async_trait]
impl<H: PeerHandler> Peer for PeerService<H> {
    type LinkStream = Pin<Box<dyn Stream<Item = Result<PeerFrame, Status>> + Send>>;

    async fn link(
        &self,
        request: Request<Streaming<PeerFrame>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let shown = request.extensions().get::<ShownBearer>().cloned();
        let incoming = request.into_inner();
        let (answers, batches) = outbox(ANSWERS_BYTES_MAX);
        let link = IncomingLink {
            handler: Arc::clone(&self.handler),
            answers,
            shown,
        };
        let stop = self.stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = link.serve(incoming) => {}
            }
        });
        let frames = batches.map(|messages| Ok(PeerFrame { messages }));
        Ok(Response::new(Box::pin(frames)))
    }
}

struct IncomingLink<H> {
    handler: Arc<H>,
    answers: Outbox<PeerMessage>,
    /// Who it is by certificate, where there are any.
    shown: Option<ShownBearer>,
}

impl<H: PeerHandler> IncomingLink<H> {
    async fn serve(self, mut incoming: Streaming<PeerFrame>) {
        let Ok(Ok(Some(first))) = timeout(HELLO_TIMEOUT, incoming.message()).await else {
            debug!("a link ended before its greeting");
            return;
        };
        let mut messages = first.messages.into_iter();
        let Some((node, lane)) = self.greet(messages.next()) else {
            return;
        };
        let from = Caller {
            node,
            lane,
            in_work: Arc::new(Semaphore::new(match lane {
                Lane::Foreground => IN_WORK_MAX,
                Lane::Bulk => BULK_IN_WORK_MAX,
            })),
        };
        for message in messages {
            self.take(&from, message);
        }
        loop {
            match incoming.message().await {
                Ok(Some(frame)) => {
                    for message in frame.messages {
                        self.take(&from, message);
                    }
                }
                Ok(None) => return,
                Err(status) => {
                    debug!(from = from.node.0, cause = %status, "an incoming link broke");
                    return;
                }
            }
        }
    }

    fn greet(&self, first: Option<PeerMessage>) -> Option<(NodeId, Lane)> {
        let body = first.and_then(|message| message.body);
        let Some(Body::Hello(hello)) = body else {
            send(&self.answers, 0, unexpected("no greeting"));
            return None;
        };
        if let Err(error) = self.check_name(&hello) {
            send(&self.answers, 0, Body::Error(error));
            return None;
        }
        match self.handler.greet(&hello) {
            Ok(reply) if reply.forgotten || reply.removed => {
                // It is told why, and nothing that it sends is read.
                send(&self.answers, 0, Body::HelloReply(reply));
                None
            }
            Ok(reply) => {
                send(&self.answers, 0, Body::HelloReply(reply));
                let lane = if hello.bulk {
                    Lane::Bulk
                } else {
                    Lane::Foreground
                };
                Some((NodeId(hello.node_id), lane))
            }
            Err(error) => {
                send(&self.answers, 0, Body::Error(error));
                None
            }
        }
    }

    /// A caller may only greet as the node that its certificate names.
    fn check_name(&self, hello: &Hello) -> Result<(), Error> {
        let Some(shown) = &self.shown else {
            return Ok(());
        };
        if shown.kind == BearerKind::Node
            && shown.name == hello.node_name
            && shown.cluster == hello.cluster_id
        {
            return Ok(());
        }
        counter!("souk_peer_links_refused_total", "reason" => "wrong_name").increment(1);
        let message = format!(
            "the caller greets as node `{}` of cluster `{}` and shows the certificate of {shown}: give every node its own",
            hello.node_name, hello.cluster_id
        );
        warn!(message, "a peer was refused");
        Err(Error::new(
            ErrorCode::PermissionDenied,
            Outcome::NotApplied,
            message,
        ))
    }

    fn take(&self, from: &Caller, message: PeerMessage) {
        let id = message.id;
        let Some(mut body) = message.body else {
            send(&self.answers, id, unexpected("an empty message"));
            return;
        };
        if from.lane == Lane::Foreground {
            body = match self.handler.answer_now(from.node, body) {
                Prompt::Answer(answer) => {
                    send(&self.answers, id, answer);
                    return;
                }
                Prompt::Later(body) => body,
            };
        }
        let Ok(permit) = Arc::clone(&from.in_work).try_acquire_owned() else {
            let overloaded = Error::new(
                ErrorCode::Overloaded,
                Outcome::NotApplied,
                "too many requests of this peer are in work",
            );
            send(&self.answers, id, Body::Error(overloaded.retry_after(20)));
            return;
        };
        let left = match message.deadline_ms {
            0 => DEADLINE_DEFAULT,
            left => Duration::from_millis(left.into()),
        };
        let deadline = Instant::now() + left;
        let handler = Arc::clone(&self.handler);
        let answers = self.answers.clone();
        let (node, lane) = (from.node, from.lane);
        tokio::spawn(async move {
            let answer = handler.answer(node, lane, body, deadline).await;
            drop(permit);
            send(&answers, id, answer);
        });
    }
}

/// Who asks on a link.
struct Caller {
    node: NodeId,
    lane: Lane,
    /// Room for requests in work.
    in_work: Arc<Semaphore>,
}

fn send(answers: &Outbox<PeerMessage>, id: u64, body: Body) {
    let mut message = PeerMessage {
        id,
        deadline_ms: 0,
        body: Some(body),
    };
    let mut bytes = message.encoded_len();
    if bytes > MESSAGE_BYTES_MAX {
        let error = Error::new(
            ErrorCode::InvalidArgument,
            Outcome::Unknown,
            format!("the answer has {bytes} bytes, more than fits a frame: ask for less at once"),
        );
        message.body = Some(Body::Error(error));
        bytes = message.encoded_len();
    }
    if let Err(error) = answers.send(message, bytes) {
        // The asking side will see a broken link or a timeout, and treats both as unknown.
        debug!(?error, "an answer could not leave");
    }
}
