//! Many requests over one stream: frames of requests in, frames of answers out, in any order.

use std::{pin::Pin, sync::Arc};

use futures::{Stream, StreamExt};
use prost::Message;
use souk_kv_proto::kv::{
    AuthenticateResponse, SessionRequest, SessionRequests, SessionResponse, SessionResponses,
    session_request::Body as Ask, session_response::Body as Answer,
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tracing::{Instrument, debug, debug_span};

use super::Requests;
use crate::{
    access::{Access, Caller},
    error::RequestError,
    outbox::{Outbox, outbox},
};

/// Answers that may wait for a client that does not read, in bytes, before its session ends.
const ANSWERS_BYTES_MAX: usize = 64 * 1024 * 1024;

pub(super) type Frames = Pin<Box<dyn Stream<Item = Result<SessionResponses, Status>> + Send>>;

/// Serves a session; the stream ends when the client goes away or the node stops.
pub(super) fn open(
    requests: Requests,
    caller: Caller,
    incoming: Streaming<SessionRequests>,
    stop: CancellationToken,
) -> Frames {
    let (answers, batches) = outbox(ANSWERS_BYTES_MAX);
    let session = Session {
        in_flight: Arc::new(Semaphore::new(
            requests.core.limits.client_in_flight_max as usize,
        )),
        requests: requests.clone(),
        caller,
        answers,
    };
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = session.serve(incoming) => {}
        }
    });
    Box::pin(batches.map(move |responses| {
        let cluster = &requests.core.cluster;
        Ok(SessionResponses {
            responses,
            layout_epoch: cluster.layout().epoch().0,
            catalogue_version: cluster.catalogue.version(),
        })
    }))
}

struct Session {
    requests: Requests,
    /// Who asks: at first whoever has opened the stream, then whose token was shown last.
    caller: Caller,
    answers: Outbox<SessionResponse>,
    in_flight: Arc<Semaphore>,
}

impl Session {
    async fn serve(mut self, mut incoming: Streaming<SessionRequests>) {
        loop {
            match incoming.message().await {
                Ok(Some(frame)) => {
                    for request in frame.requests {
                        self.take(request);
                    }
                }
                Ok(None) => return,
                Err(status) => {
                    debug!(cause = %status, "a session broke");
                    return;
                }
            }
        }
    }

    fn take(&mut self, request: SessionRequest) {
        let id = request.id;
        let Some(ask) = request.body else {
            let error =
                RequestError::Invalid("the request is empty: fill in one of its bodies".to_owned());
            send(&self.answers, id, Answer::Error(error.to_wire()));
            return;
        };
        if let Ask::Authenticate(shown) = &ask {
            let answer = self.authenticate(&shown.token);
            send(&self.answers, id, answer);
            return;
        }
        let Ok(permit) = Arc::clone(&self.in_flight).try_acquire_owned() else {
            let error = RequestError::Overloaded {
                what: "this session has too many requests without an answer",
                retry_after_ms: 20,
            };
            send(&self.answers, id, Answer::Error(error.to_wire()));
            return;
        };
        let (requests, caller) = (self.requests.clone(), self.caller);
        let answers = self.answers.clone();
        let span = debug_span!("request", id);
        tokio::spawn(
            async move {
                let answer = requests.run(ask, &caller).await;
                drop(permit);
                send(&answers, id, answer);
            }
            .instrument(span),
        );
    }
}

impl Session {
    /// Goes on as the holder of another token. One that is not good changes nothing.
    fn authenticate(&mut self, token: &str) -> Answer {
        let shown = Access::holder(token);
        match self.requests.core.access.check(&shown, Vec::new) {
            Ok(()) => {
                self.caller = shown;
                Answer::Authenticate(AuthenticateResponse {})
            }
            Err(error) => Answer::Error(error.to_wire()),
        }
    }
}

fn send(answers: &Outbox<SessionResponse>, id: u64, answer: Answer) {
    let response = SessionResponse {
        id,
        body: Some(answer),
    };
    let bytes = response.encoded_len();
    if let Err(error) = answers.send(response, bytes) {
        debug!(?error, "an answer could not leave");
    }
}
