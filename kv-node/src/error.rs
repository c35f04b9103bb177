//! Why a request failed, what its caller may believe, and how to mend it.
//!
//! Place: every coordinator ends here; the API turns it into the wire's `Error`.
//! Invariants: 1. each variant has one code and one outcome, checked by the compiler.
//! 2. `NotApplied` is said only when nothing was stored and nothing sent that might be.

use souk_kv_core::outcome::Outcome;
use souk_kv_proto::kv::{self, ErrorCode};
use souk_kv_storage::{NotWritten, StorageError};

/// Why a request got no answer of its own.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum RequestError {
    /// What: a field is outside its range. Mend: as the message says.
    #[error("{0}")]
    Invalid(String),
    /// What: the value is larger than its bucket allows.
    #[error(
        "the value has {bytes} bytes, bucket `{bucket}` takes at most {bytes_max}: split it, or create a bucket with a higher value_bytes_max"
    )]
    ValueTooLarge {
        /// Size of the value.
        bytes: usize,
        /// Where it was to go.
        bucket: String,
        /// The limit.
        bytes_max: u32,
    },
    /// What: no such bucket. Mend: create it.
    #[error(
        "there is no bucket `{0}`: create it with `souk admin bucket create {0} --mode siblings` (or lww, register)"
    )]
    BucketNotFound(String),
    /// What: the caller has shown no token that is good. Mend: as the message says.
    #[error("{0}")]
    Unauthenticated(String),
    /// What: the caller's token is good, and does not allow this.
    #[error(
        "token `{token}` does not allow {lacks}: use one that does; an operator makes it with `souk admin token create NAME --grant {grant}`"
    )]
    PermissionDenied {
        /// Name of the token.
        token: String,
        /// What it would have to allow.
        lacks: String,
        /// The least grant that would.
        grant: String,
    },
    /// What: the call does not fit the bucket's mode.
    #[error("bucket `{bucket}` is a {mode} bucket: {mend}")]
    WrongMode {
        /// The bucket.
        bucket: String,
        /// Its mode.
        mode: &'static str,
        /// Which call to use instead.
        mend: &'static str,
    },
    /// What: a bucket of that name has another configuration.
    #[error(
        "bucket `{name}` exists with another configuration ({difference}): choose another name, or ask for what is there"
    )]
    BucketExists {
        /// The bucket.
        name: String,
        /// What differs.
        difference: String,
    },
    /// What: too few replicas can be reached. Nothing was sent.
    #[error(
        "{reachable} of {needed} needed replicas can be reached: try again when more nodes are back, see `souk admin status`"
    )]
    Unavailable {
        /// Replicas that seem up.
        reachable: usize,
        /// Replicas needed.
        needed: usize,
    },
    /// What: too few replicas answered in time. Reads only have no outcome to doubt.
    #[error("{answered} of {needed} replicas answered in {waited_ms} ms: {mend}")]
    Timeout {
        /// Replicas that answered.
        answered: usize,
        /// Replicas needed.
        needed: usize,
        /// How long.
        waited_ms: u64,
        /// What to do.
        mend: &'static str,
        /// Unknown for writes, not applied for reads.
        outcome: Outcome,
    },
    /// What: more work waits than the node takes.
    #[error("{what}: back off for {retry_after_ms} ms and try again")]
    Overloaded {
        /// Which bound was met.
        what: &'static str,
        /// When to try again.
        retry_after_ms: u32,
    },
    /// What: other coordinators outran this request again and again.
    #[error("other writers of this row were always faster: read it, then try again")]
    Contention {
        /// Unknown once anything was sent that might be accepted.
        outcome: Outcome,
    },
    /// What: a layout was proposed and is not known to be decided.
    #[error("{0}; what was proposed may still be decided: look at the layout, then repeat it")]
    Undecided(String),
    /// What: the local disk refused or failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// What: the request is older than the memory of answers.
    #[error(
        "the request was issued longer ago than answers are remembered, it was not run now: read, then send a new request"
    )]
    RequestTooOld {
        /// Unknown when an earlier attempt may have been applied.
        outcome: Outcome,
    },
    /// What: the transaction cannot be taken as it is.
    #[error("{reason}")]
    TransactionRefused {
        /// What is wrong, and how to mend it.
        reason: String,
        /// Unknown when an earlier attempt may have been applied.
        outcome: Outcome,
    },
    /// What: the key has as many concurrent values as its bucket allows.
    #[error(
        "the key has {siblings} concurrent values, bucket `{bucket}` takes at most {siblings_max}: read it and write back with the context received"
    )]
    SiblingsFull {
        /// How many.
        siblings: usize,
        /// The bucket.
        bucket: String,
        /// The limit.
        siblings_max: u32,
    },
    /// What: the node is starting, stopping, or waiting for the first agreement.
    #[error("the node is not ready: {0}")]
    NotReady(String),
    /// What: stored or received bytes break an invariant.
    #[error("{what} is damaged ({cause}): the node reads it from its peers, see its log")]
    Corrupt {
        /// Which bytes.
        what: &'static str,
        /// What was seen.
        cause: String,
    },
    /// Another node's answer, passed on.
    #[error("{}", .0.message)]
    Remote(kv::Error),
    /// What: an invariant of the node itself is broken.
    #[error("internal error: {0}; please report it")]
    Internal(String),
}

impl RequestError {
    /// The code that the wire carries.
    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            Self::Invalid(_) | Self::TransactionRefused { .. } => ErrorCode::InvalidArgument,
            Self::ValueTooLarge { .. } => ErrorCode::ValueTooLarge,
            Self::BucketNotFound(_) => ErrorCode::BucketNotFound,
            Self::Unauthenticated(_) => ErrorCode::Unauthenticated,
            Self::PermissionDenied { .. } => ErrorCode::PermissionDenied,
            Self::WrongMode { .. } => ErrorCode::WrongMode,
            Self::BucketExists { .. } => ErrorCode::BucketExists,
            Self::Unavailable { .. } => ErrorCode::Unavailable,
            Self::Timeout { .. } => ErrorCode::Timeout,
            Self::Overloaded { .. } => ErrorCode::Overloaded,
            Self::Contention { .. } | Self::Undecided(_) => ErrorCode::Contention,
            Self::Storage(error) => match error {
                StorageError::NotWritten(NotWritten::QueueFull { .. }) => ErrorCode::Overloaded,
                StorageError::Corrupt { .. } | StorageError::Gap { .. } => ErrorCode::Corrupt,
                StorageError::NotWritten(_)
                | StorageError::Unknown(_)
                | StorageError::Open(_)
                | StorageError::Read { .. }
                | StorageError::Closed => ErrorCode::Disk,
            },
            Self::RequestTooOld { .. } => ErrorCode::RequestTooOld,
            Self::SiblingsFull { .. } => ErrorCode::SiblingsFull,
            Self::NotReady(_) => ErrorCode::NotReady,
            Self::Corrupt { .. } => ErrorCode::Corrupt,
            Self::Remote(error) => error.code(),
            Self::Internal(_) => ErrorCode::Internal,
        }
    }

    /// What the caller may believe.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Invalid(_)
            | Self::ValueTooLarge { .. }
            | Self::BucketNotFound(_)
            | Self::Unauthenticated(_)
            | Self::PermissionDenied { .. }
            | Self::WrongMode { .. }
            | Self::BucketExists { .. }
            | Self::Unavailable { .. }
            | Self::Overloaded { .. }
            | Self::SiblingsFull { .. }
            | Self::NotReady(_)
            | Self::Corrupt { .. } => Outcome::NotApplied,
            Self::Timeout { outcome, .. }
            | Self::Contention { outcome }
            | Self::RequestTooOld { outcome }
            | Self::TransactionRefused { outcome, .. } => *outcome,
            Self::Storage(error) => match error {
                StorageError::Unknown(_) => Outcome::Unknown,
                StorageError::NotWritten(_)
                | StorageError::Open(_)
                | StorageError::Corrupt { .. }
                | StorageError::Read { .. }
                | StorageError::Gap { .. }
                | StorageError::Closed => Outcome::NotApplied,
            },
            Self::Remote(error) => match error.outcome() {
                kv::Outcome::Applied => Outcome::Applied,
                kv::Outcome::NotApplied => Outcome::NotApplied,
                kv::Outcome::Unknown | kv::Outcome::Unspecified => Outcome::Unknown,
            },
            Self::Internal(_) | Self::Undecided(_) => Outcome::Unknown,
        }
    }

    /// As the wire carries it.
    pub(crate) fn to_wire(&self) -> kv::Error {
        if let Self::Remote(error) = self {
            return error.clone();
        }
        let outcome = match self.outcome() {
            Outcome::Applied => kv::Outcome::Applied,
            Outcome::NotApplied => kv::Outcome::NotApplied,
            Outcome::Unknown => kv::Outcome::Unknown,
        };
        let retry_after_ms = match self {
            Self::Overloaded { retry_after_ms, .. } => *retry_after_ms,
            Self::Storage(StorageError::NotWritten(NotWritten::QueueFull { .. })) => 20,
            Self::NotReady(_) => 200,
            _ => 0,
        };
        kv::Error::new(self.code(), outcome, self.to_string()).retry_after(retry_after_ms)
    }
}
