//! The one table of error codes: what each means as a gRPC code, and whether trying again helps.
//!
//! Place: wire; every node and client maps its errors through it.
//! Source: the gRPC status-code guide; the outcome travels beside the code and is never guessed from it.
//! Invariant: every code has exactly one row, checked by the compiler (no wildcard arm).

use prost::Message;
use tonic::{Code, Status, metadata::MetadataMap};

use crate::kv::{Error, ErrorCode, Outcome};

/// The type URL of our error detail inside a `google.rpc.Status`.
const DETAIL_TYPE_URL: &str = "type.googleapis.com/souk.kv.v1.Error";

impl ErrorCode {
    /// The gRPC code that a unary call answers with.
    pub fn grpc_code(self) -> Code {
        match self {
            Self::Unspecified | Self::Internal => Code::Internal,
            Self::InvalidArgument | Self::ValueTooLarge => Code::InvalidArgument,
            Self::BucketNotFound => Code::NotFound,
            Self::WrongMode | Self::StaleEpoch | Self::RequestTooOld | Self::SiblingsFull => {
                Code::FailedPrecondition
            }
            Self::BucketExists => Code::AlreadyExists,
            Self::Unauthenticated => Code::Unauthenticated,
            Self::PermissionDenied | Self::WrongCluster => Code::PermissionDenied,
            Self::Unavailable | Self::NotReady | Self::Disk | Self::ConnectionLost => {
                Code::Unavailable
            }
            Self::Timeout => Code::DeadlineExceeded,
            Self::Overloaded => Code::ResourceExhausted,
            Self::Contention => Code::Aborted,
            Self::Corrupt => Code::DataLoss,
        }
    }

    /// Whether the same request may succeed later or elsewhere. Says nothing of the outcome:
    /// repeating a write whose outcome is unknown needs its request id or its context.
    pub fn is_retryable(self) -> bool {
        match self {
            Self::StaleEpoch
            | Self::Unavailable
            | Self::NotReady
            | Self::Disk
            | Self::ConnectionLost
            | Self::Timeout
            | Self::Overloaded
            | Self::Contention
            | Self::Corrupt => true,
            Self::Unspecified
            | Self::Internal
            | Self::InvalidArgument
            | Self::ValueTooLarge
            | Self::BucketNotFound
            | Self::WrongMode
            | Self::RequestTooOld
            | Self::SiblingsFull
            | Self::BucketExists
            | Self::Unauthenticated
            | Self::PermissionDenied
            | Self::WrongCluster => false,
        }
    }
}

/// `google.rpc.Status`, the standard envelope of error details.
#[derive(Clone, PartialEq, Message)]
struct RichStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<AnyDetail>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct AnyDetail {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

impl Error {
    /// An error whose retry advice is that of its code.
    pub fn new(code: ErrorCode, outcome: Outcome, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            outcome: outcome.into(),
            message: message.into(),
            retry_after_ms: 0,
            retryable: code.is_retryable(),
        }
    }

    /// Adds a hint when to try again, in milliseconds.
    #[must_use]
    pub fn retry_after(mut self, retry_after_ms: u32) -> Self {
        self.retry_after_ms = retry_after_ms;
        self
    }

    /// The answer of a unary call: the code's gRPC status with this error as its detail.
    pub fn into_status(self) -> Status {
        let code = self.code().grpc_code();
        let message = self.message.clone();
        let details = RichStatus {
            code: code as i32,
            message: message.clone(),
            details: vec![AnyDetail {
                type_url: DETAIL_TYPE_URL.to_owned(),
                value: self.encode_to_vec(),
            }],
        };
        Status::with_details_and_metadata(
            code,
            message,
            details.encode_to_vec().into(),
            MetadataMap::new(),
        )
    }

    /// What a status says. One without our detail was made on the way (by gRPC itself, a proxy or a
    /// broken connection): its outcome is unknown.
    pub fn from_status(status: &Status) -> Self {
        let detail = RichStatus::decode(status.details())
            .ok()
            .and_then(|rich| {
                rich.details
                    .into_iter()
                    .find(|any| any.type_url == DETAIL_TYPE_URL)
            })
            .and_then(|any| Error::decode(any.value.as_slice()).ok());
        detail.unwrap_or_else(|| {
            let code = match status.code() {
                Code::DeadlineExceeded => ErrorCode::Timeout,
                Code::Unauthenticated => ErrorCode::Unauthenticated,
                Code::PermissionDenied => ErrorCode::PermissionDenied,
                Code::ResourceExhausted => ErrorCode::Overloaded,
                _ => ErrorCode::ConnectionLost,
            };
            Self::new(code, Outcome::Unknown, status.message())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_carries_code_outcome_and_message() {
        let error =
            Error::new(ErrorCode::Timeout, Outcome::Unknown, "2 of 3 answered").retry_after(50);
        let status = error.clone().into_status();
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert_eq!(Error::from_status(&status), error);
    }

    #[test]
    fn a_bare_status_is_unknown() {
        let error = Error::from_status(&Status::unavailable("connection reset"));
        assert_eq!(error.outcome(), Outcome::Unknown);
        assert_eq!(error.code(), ErrorCode::ConnectionLost);
        assert!(error.retryable);
    }
}
