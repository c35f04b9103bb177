//! Limits of what a request may name and carry, each with its own message.

use std::time::Duration;

use bytes::Bytes;
use souk_kv_core::causality::{Observed, RequestId};
use souk_kv_proto::{
    convert::causality::decode_observed,
    kv::{self, RequestOptions},
};
use tokio::time::Instant;

use crate::{
    cluster::Bucket,
    config::Limits,
    error::RequestError,
    keys::{PARTITION_KEY_BYTES_MAX, SORT_KEY_BYTES_MAX},
};

/// Longest time a request may ask for.
const TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// Most items of a batch.
const BATCH_ITEMS_MAX: usize = 1000;
/// Largest context a client may pass back: more than a thousand crashes of replicas grow it to.
const CONTEXT_BYTES_MAX: usize = 64 * 1024;
/// Most rows of a page.
const SCAN_ROWS_MAX: u32 = 1000;
/// Rows of a page that names no limit.
const SCAN_ROWS_DEFAULT: u32 = 100;
/// Longest time to live: a hundred years.
const TTL_MS_MAX: u64 = 100 * 366 * 24 * 3600 * 1000;

fn invalid(problem: impl Into<String>) -> RequestError {
    RequestError::Invalid(problem.into())
}

pub(super) fn partition_key(key: &[u8]) -> Result<(), RequestError> {
    match key.len() {
        1..=PARTITION_KEY_BYTES_MAX => Ok(()),
        0 => Err(invalid("the partition key is empty: name 1 to 1024 bytes")),
        length => Err(invalid(format!(
            "the partition key has {length} bytes: at most {PARTITION_KEY_BYTES_MAX} are allowed, hash or shorten it"
        ))),
    }
}

pub(super) fn sort_key(key: &[u8]) -> Result<(), RequestError> {
    if key.len() > SORT_KEY_BYTES_MAX {
        return Err(invalid(format!(
            "the sort key has {} bytes: at most {SORT_KEY_BYTES_MAX} are allowed, shorten it",
            key.len()
        )));
    }
    Ok(())
}

pub(super) fn key(key: Option<kv::Key>) -> Result<kv::Key, RequestError> {
    let key =
        key.ok_or_else(|| invalid("the request names no key: fill in bucket and partition_key"))?;
    partition_key(&key.partition_key)?;
    sort_key(&key.sort_key)?;
    Ok(key)
}

pub(super) fn value_size(
    bucket: &Bucket,
    limits: &Limits,
    data: &[u8],
) -> Result<(), RequestError> {
    let bytes_max = bucket.value_bytes_max.min(limits.value_bytes_max);
    if data.len() > bytes_max as usize {
        return Err(RequestError::ValueTooLarge {
            bytes: data.len(),
            bucket: bucket.name.clone(),
            bytes_max,
        });
    }
    Ok(())
}

pub(super) fn context(context: &Bytes) -> Result<Observed, RequestError> {
    if context.len() > CONTEXT_BYTES_MAX {
        return Err(invalid(format!(
            "the context has {} bytes, no answer gives one above {CONTEXT_BYTES_MAX}: pass the context of an earlier answer back unchanged",
            context.len()
        )));
    }
    decode_observed(context).map_err(|cause| {
        invalid(format!(
            "{cause}: pass the context of an earlier answer back unchanged, or none"
        ))
    })
}

pub(super) fn request_id(id: Option<&kv::RequestId>) -> Result<RequestId, RequestError> {
    match id {
        None => Ok(RequestId {
            client: [0; 16],
            sequence: 0,
        }),
        Some(id) => {
            let client = id.client.as_ref().try_into().map_err(|_| {
                invalid(format!(
                    "request_id.client has {} bytes: it needs 16 random ones",
                    id.client.len()
                ))
            })?;
            Ok(RequestId {
                client,
                sequence: id.sequence,
            })
        }
    }
}

pub(super) fn expiry(
    ttl_ms: u64,
    bucket: &Bucket,
    now_ms: u64,
) -> Result<Option<u64>, RequestError> {
    let ttl = if ttl_ms == 0 { bucket.ttl_ms } else { ttl_ms };
    if ttl > TTL_MS_MAX {
        return Err(invalid(format!(
            "ttl_ms is {ttl}: at most {TTL_MS_MAX} (a hundred years) are allowed"
        )));
    }
    Ok((ttl > 0).then(|| now_ms.saturating_add(ttl)))
}

pub(super) fn batch(items: usize) -> Result<(), RequestError> {
    match items {
        1..=BATCH_ITEMS_MAX => Ok(()),
        0 => Err(invalid("the batch is empty: name 1 to 1000 items")),
        items => Err(invalid(format!(
            "the batch has {items} items: at most {BATCH_ITEMS_MAX} are allowed, split it"
        ))),
    }
}

pub(super) fn scan_limit(limit: u32) -> Result<usize, RequestError> {
    match limit {
        0 => Ok(SCAN_ROWS_DEFAULT as usize),
        1..=SCAN_ROWS_MAX => Ok(limit as usize),
        limit => Err(invalid(format!(
            "limit is {limit}: at most {SCAN_ROWS_MAX} rows come in a page, use the continuation"
        ))),
    }
}

/// When the caller gives up.
pub(super) fn deadline(options: &RequestOptions, limits: &Limits) -> Result<Instant, RequestError> {
    let timeout = match options.timeout_ms {
        0 => limits.request_timeout,
        asked => Duration::from_millis(asked.into()),
    };
    if timeout > TIMEOUT_MAX {
        return Err(invalid(format!(
            "timeout_ms is {}: at most {} are allowed",
            options.timeout_ms,
            TIMEOUT_MAX.as_millis()
        )));
    }
    Ok(Instant::now() + timeout)
}
