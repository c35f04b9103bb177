//! Refuses requests that no node would take, before they cost anything.

use std::time::Duration;

use souk_kv_core::outcome::Outcome;
use souk_kv_proto::kv::ErrorCode;

use crate::{
    error::RequestError,
    model::{KEY_BYTES_MAX, Key},
    options::REQUEST_TIMEOUT_MAX,
};

pub(super) fn key(key: &Key) -> Result<(), RequestError> {
    place(&key.bucket, &key.partition_key)?;
    if key.sort_key.len() > KEY_BYTES_MAX {
        let given = key.sort_key.len();
        return Err(refuse(format!(
            "the sort key has {given} bytes; at most {KEY_BYTES_MAX} are allowed"
        )));
    }
    Ok(())
}

pub(super) fn place(bucket: &str, partition_key: &[u8]) -> Result<(), RequestError> {
    if bucket.is_empty() {
        return Err(refuse("the bucket has no name".to_owned()));
    }
    if partition_key.is_empty() || partition_key.len() > KEY_BYTES_MAX {
        let given = partition_key.len();
        return Err(refuse(format!(
            "the partition key has {given} bytes; 1 to {KEY_BYTES_MAX} are allowed"
        )));
    }
    Ok(())
}

pub(super) fn timeout(timeout: Option<Duration>) -> Result<(), RequestError> {
    match timeout {
        Some(timeout) if timeout < Duration::from_millis(1) || timeout > REQUEST_TIMEOUT_MAX => {
            Err(refuse(format!(
                "timeout {timeout:?} is not within 1ms to {REQUEST_TIMEOUT_MAX:?}"
            )))
        }
        Some(_) | None => Ok(()),
    }
}

fn refuse(message: String) -> RequestError {
    RequestError {
        code: ErrorCode::InvalidArgument,
        outcome: Outcome::NotApplied,
        message,
        retry_after: None,
        node: None,
        retryable: false,
    }
}
