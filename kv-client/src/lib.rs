//! The embedded client library of Souk: what a service links to use the store.
//!
//! The client knows where every key lives and sends each request straight to the node that will
//! coordinate it. It keeps one stream per node, on which all waiting requests leave together; it retries
//! what is safe to retry, within one deadline and one budget; and it says of every write that failed
//! whether it can have been applied.
//!
//! ```no_run
//! use souk_kv_client::{Client, ClientOptions, Key, ReadOptions, Value, WriteOptions};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect(ClientOptions::new(["127.0.0.1:7101"])).await?;
//! let key = Key::new("carts", "customer-17", "");
//! let read = client.get(&key, ReadOptions::default()).await?;
//! // Merge `read.values` in the way of the data, then write what replaces them all.
//! let value = Value::new("text/plain", "one teapot");
//! client.put(&key, value, &read.context, WriteOptions::default()).await?;
//! # Ok(()) }
//! ```
//!
//! Place: I/O; stands on `souk_kv_proto`; `cart`, `inventory`, `commerce-api` and the command line stand
//! on it.
//! Source: DeCandia et al., Dynamo, SOSP 2007, §6.4 (client-driven coordination).
//! Shape: `model` is what callers say and hear; `client` runs requests; `attempts`, `routing`, `budget` and
//! `request_ids` decide and are pure; `session` moves frames.
//! Not here: merging siblings, server-side quorums, hints, repair.

mod admin;
mod attempts;
mod budget;
mod client;
mod convert;
mod environment;
mod error;
mod model;
mod options;
mod request_ids;
mod routing;
mod session;
mod token;
mod topology;

pub use admin::{Admin, Progress};
pub use client::Client;
pub use environment::ClientEnvironment;
pub use error::{ClientError, RequestError};
pub use model::{
    CasOutcome, Condition, Consistency, Context, FailedCondition, KEY_BYTES_MAX, Key, Page, Put,
    Read, ReadOptions, Row, RowAction, RowOperation, ScanQuery, TransactOutcome, Transaction,
    Value, Version, Versioned, WriteOptions, Written,
};
pub use options::{ATTEMPTS_MAX, ClientOptions, IN_FLIGHT_MAX, REQUEST_TIMEOUT_MAX};
pub use souk_kv_core::outcome::Outcome;
pub use souk_kv_proto::{
    admin::{
        AcceptorState, EndpointsResponse, ForgetResponse, HintAction, HintSummary, HintsResponse,
        LayoutApplyResponse, LayoutCallOffResponse, LayoutDeed, LayoutHistoryResponse,
        LayoutPlanResponse, LayoutRevertResponse, LayoutStageRequest, LayoutStageResponse,
        NodeStatus, NodeTransfers, PlannedNode, RegisterRecoverResponse, RegisterShowResponse,
        RepairProgress, ScrubProgress, StageJoin, StageReplace, StageWeight, StageZone,
        StatusResponse, SteerHintsRequest, SteerHintsResponse, TokenInfo, TokenSecret,
        TombstonesResponse, TombstonesWait, TransfersResponse,
        layout_stage_request::Change as StageChange,
    },
    kv::{BucketConfig, BucketMode, ErrorCode, Explain, ExplainReplica},
    network::Network,
};
pub use souk_kv_tls::{BearerFiles, TlsError};
pub use topology::Topology;
