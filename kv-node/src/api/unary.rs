//! The public service, one call per request, and the door to sessions.

use souk_kv_proto::kv::{
    BatchGetRequest, BatchGetResponse, BatchPutRequest, BatchPutResponse, DeleteRequest,
    GetRequest, GetResponse, PutRequest, PutResponse, ScanRequest, ScanResponse, SessionRequests,
    TopologyRequest, TopologyResponse, TransactRequest, TransactResponse, kv_server::Kv,
    session_request::Body as Ask, session_response::Body as Answer,
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::{Instrument, debug_span};

use crate::access::{Caller, caller_of};

use super::{
    Requests,
    session::{self, Frames},
};

/// The gRPC service.
#[derive(Debug)]
pub(crate) struct KvService {
    requests: Requests,
    stop: CancellationToken,
}

impl KvService {
    pub(crate) fn new(requests: Requests, stop: CancellationToken) -> Self {
        Self { requests, stop }
    }

    /// What the caller named the request, and who the caller is.
    fn origin<T>(&self, request: &Request<T>) -> (Option<String>, Caller) {
        let is_guarded = self.requests.core.is_guarded();
        let caller = caller_of(request.extensions(), is_guarded);
        (request_id(request), caller)
    }

    async fn run<T>(
        &self,
        (request_id, caller): (Option<String>, Caller),
        ask: Ask,
        pick: impl FnOnce(Answer) -> Option<T>,
    ) -> Result<Response<T>, Status> {
        let span = debug_span!("request", id = request_id.unwrap_or_default());
        match self.requests.run(ask, &caller).instrument(span).await {
            Answer::Error(error) => Err(error.into_status()),
            answer => pick(answer)
                .map(Response::new)
                .ok_or_else(|| Status::internal("the node answered another kind of request")),
        }
    }
}

/// What the caller named the request for its own logs.
fn request_id<T>(request: &Request<T>) -> Option<String> {
    let id = request.metadata().get("x-request-id")?.to_str().ok()?;
    Some(id.chars().take(128).collect())
}

#[tonic::async_trait]
impl Kv for KvService {
    type SessionStream = Frames;

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let from = self.origin(&request);
        self.run(
            from,
            Ask::Get(request.into_inner()),
            |answer| match answer {
                Answer::Get(response) => Some(response),
                _ => None,
            },
        )
        .await
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let from = self.origin(&request);
        self.run(
            from,
            Ask::Put(request.into_inner()),
            |answer| match answer {
                Answer::Put(response) => Some(response),
                _ => None,
            },
        )
        .await
    }

    async fn delete(
        &self,
        request: Request<DeleteRequest>,
    ) -> Result<Response<PutResponse>, Status> {
        let from = self.origin(&request);
        self.run(
            from,
            Ask::Delete(request.into_inner()),
            |answer| match answer {
                Answer::Put(response) => Some(response),
                _ => None,
            },
        )
        .await
    }

    async fn scan(&self, request: Request<ScanRequest>) -> Result<Response<ScanResponse>, Status> {
        let from = self.origin(&request);
        self.run(
            from,
            Ask::Scan(request.into_inner()),
            |answer| match answer {
                Answer::Scan(response) => Some(response),
                _ => None,
            },
        )
        .await
    }

    async fn batch_get(
        &self,
        request: Request<BatchGetRequest>,
    ) -> Result<Response<BatchGetResponse>, Status> {
        let from = self.origin(&request);
        self.run(
            from,
            Ask::BatchGet(request.into_inner()),
            |answer| match answer {
                Answer::BatchGet(response) => Some(response),
                _ => None,
            },
        )
        .await
    }

    async fn batch_put(
        &self,
        request: Request<BatchPutRequest>,
    ) -> Result<Response<BatchPutResponse>, Status> {
        let from = self.origin(&request);
        self.run(
            from,
            Ask::BatchPut(request.into_inner()),
            |answer| match answer {
                Answer::BatchPut(response) => Some(response),
                _ => None,
            },
        )
        .await
    }

    async fn transact(
        &self,
        request: Request<TransactRequest>,
    ) -> Result<Response<TransactResponse>, Status> {
        let from = self.origin(&request);
        self.run(
            from,
            Ask::Transact(request.into_inner()),
            |answer| match answer {
                Answer::Transact(response) => Some(response),
                _ => None,
            },
        )
        .await
    }

    async fn topology(
        &self,
        request: Request<TopologyRequest>,
    ) -> Result<Response<TopologyResponse>, Status> {
        let from = self.origin(&request);
        self.run(
            from,
            Ask::Topology(request.into_inner()),
            |answer| match answer {
                Answer::Topology(response) => Some(response),
                _ => None,
            },
        )
        .await
    }

    async fn session(
        &self,
        request: Request<Streaming<SessionRequests>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (_, caller) = self.origin(&request);
        let frames = session::open(
            self.requests.clone(),
            caller,
            request.into_inner(),
            self.stop.clone(),
        );
        Ok(Response::new(frames))
    }
}
