//! The few messages of etcd's API that are needed, and a client that sends them.
//!
//! Source: `etcdserverpb/rpc.proto` and `mvccpb/kv.proto` of etcd 3; fields that are not used are left out, which
//! protocol buffers allow.

use prost::Message;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

#[derive(Clone, PartialEq, Message)]
pub(super) struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct KeyValue {
    #[prost(int64, tag = "3")]
    pub(super) mod_revision: i64,
    #[prost(bytes = "vec", tag = "5")]
    pub(super) value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    pub(super) kvs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Header {
    #[prost(int64, tag = "3")]
    pub(super) revision: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PutResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<Header>,
}

/// Compares the revision of a key's last change; 0 is that of a key that is missing.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Compare {
    /// 2 is the last change.
    #[prost(int32, tag = "2")]
    pub(super) target: i32,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) key: Vec<u8>,
    #[prost(oneof = "Target", tags = "6")]
    pub(super) union: Option<Target>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Target {
    #[prost(int64, tag = "6")]
    ModRevision(i64),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RequestOp {
    #[prost(oneof = "Operation", tags = "1, 2")]
    pub(super) request: Option<Operation>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Operation {
    #[prost(message, tag = "1")]
    Range(RangeRequest),
    #[prost(message, tag = "2")]
    Put(PutRequest),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ResponseOp {
    #[prost(message, optional, tag = "1")]
    pub(super) range: Option<RangeResponse>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TxnRequest {
    #[prost(message, repeated, tag = "1")]
    pub(super) compare: Vec<Compare>,
    #[prost(message, repeated, tag = "2")]
    pub(super) success: Vec<RequestOp>,
    #[prost(message, repeated, tag = "3")]
    pub(super) failure: Vec<RequestOp>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TxnResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<Header>,
    #[prost(bool, tag = "2")]
    pub(super) succeeded: bool,
    #[prost(message, repeated, tag = "3")]
    pub(super) responses: Vec<ResponseOp>,
}

/// One connection to a member.
#[derive(Debug, Clone)]
pub(super) struct Kv(Grpc<Channel>);

impl Kv {
    pub(super) fn new(channel: Channel) -> Self {
        Self(Grpc::new(channel))
    }

    pub(super) async fn range(&mut self, request: RangeRequest) -> Result<RangeResponse, Status> {
        self.unary("/etcdserverpb.KV/Range", request).await
    }

    pub(super) async fn put(&mut self, request: PutRequest) -> Result<PutResponse, Status> {
        self.unary("/etcdserverpb.KV/Put", request).await
    }

    /// Puts a value if the key's last change has that revision. Either way it tells the revision now.
    pub(super) async fn compare_and_set(
        &mut self,
        key: Vec<u8>,
        mod_revision: i64,
        value: Vec<u8>,
    ) -> Result<Cas, Status> {
        const LAST_CHANGE: i32 = 2;
        let operation = |request| {
            vec![RequestOp {
                request: Some(request),
            }]
        };
        let request = TxnRequest {
            compare: vec![Compare {
                target: LAST_CHANGE,
                key: key.clone(),
                union: Some(Target::ModRevision(mod_revision)),
            }],
            success: operation(Operation::Put(PutRequest {
                key: key.clone(),
                value,
            })),
            failure: operation(Operation::Range(RangeRequest { key })),
        };
        let answer: TxnResponse = self.unary("/etcdserverpb.KV/Txn", request).await?;
        if answer.succeeded {
            let revision = answer.header.map_or(0, |header| header.revision);
            return Ok(Cas::Applied { revision });
        }
        let ranges = answer.responses.into_iter().filter_map(|one| one.range);
        let mut kvs = ranges.flat_map(|range| range.kvs);
        Ok(Cas::Conflict {
            revision: kvs.next().map_or(0, |row| row.mod_revision),
        })
    }

    async fn unary<Q, A>(&mut self, path: &'static str, request: Q) -> Result<A, Status>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let ready = self.0.ready().await;
        ready.map_err(|problem| Status::unavailable(problem.to_string()))?;
        let codec: ProstCodec<Q, A> = ProstCodec::default();
        let path = PathAndQuery::from_static(path);
        let answer = self.0.unary(Request::new(request), path, codec).await?;
        Ok(answer.into_inner())
    }
}

/// How a compare-and-set came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cas {
    /// It is this revision now.
    Applied { revision: i64 },
    /// It had another revision, this one.
    Conflict { revision: i64 },
}
