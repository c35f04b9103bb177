//! Failures, and what a caller may believe after one.
//!
//! Invariants: 1. `outcome` is `NotApplied` only when the request cannot take effect any more.
//! 2. reads change nothing, so a failed read is always `NotApplied`.

use std::{path::PathBuf, time::Duration};

use souk_kv_core::outcome::Outcome;
use souk_kv_proto::kv::ErrorCode;
use souk_kv_tls::TlsError;

/// A request without an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({}, {outcome}{})", code.as_str_name(), node_suffix(self.node.as_deref()))]
pub struct RequestError {
    /// What kind of failure.
    pub code: ErrorCode,
    /// What may be believed of the request.
    pub outcome: Outcome,
    /// What happened and how to mend it.
    pub message: String,
    /// When trying again makes sense, if the store said so.
    pub retry_after: Option<Duration>,
    /// Name of the node that the last attempt went to; `None` when nothing was sent.
    pub node: Option<String>,
    /// See [`RequestError::is_retryable`].
    pub retryable: bool,
}

fn node_suffix(node: Option<&str>) -> String {
    node.map(|name| format!(", node {name}"))
        .unwrap_or_default()
}

impl RequestError {
    /// What may be believed of the request.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Whether the same request may succeed later. This says nothing of the outcome: repeating a write
    /// that is `Unknown` may apply it twice, unless it is idempotent by itself.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.retryable
    }
}

/// Why a client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// An option is out of its range.
    #[error("client option {option}: {problem}")]
    Option {
        /// Name of the field in `ClientOptions`.
        option: &'static str,
        /// What is wrong and which values are allowed.
        problem: String,
    },
    /// The certificates cannot be used.
    #[error(transparent)]
    Certificates(#[from] TlsError),
    /// The file of the token cannot be used.
    #[error("no token can be read from {path} ({problem}): name the file that holds it, as `souk admin token create` has written it", path = path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// No node answered in time. Check the addresses and that nodes are running and ready.
    #[error(
        "none of the nodes {endpoints:?} answered within {waited_ms} ms; check the addresses and that \
         the nodes are running (last problem: {last})"
    )]
    NoNode {
        /// The addresses that were tried.
        endpoints: Vec<String>,
        /// How long, in milliseconds.
        waited_ms: u64,
        /// The most recent problem of any of them.
        last: String,
    },
}
