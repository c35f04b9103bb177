//! Turns requests into wire messages and wire answers into what callers hear.
//!
//! Place: pure.
//! Invariant: what a caller keeps never pins a much larger receive buffer: small slices of a frame are
//! copied out of it.

use std::time::Duration;

use bytes::Bytes;
use souk_kv_core::outcome::Outcome;
use souk_kv_proto::kv;

use crate::model::{
    Condition, Consistency, Context, Key, Page, Put, Read, ReadOptions, Row, RowAction,
    RowOperation, ScanQuery, Transaction, Value, Version, Versioned, WriteOptions, Written,
};

/// Slices up to this size are copied out of their frame; a larger one is most of its frame anyway.
const COPIED_BYTES_MAX: usize = 64 * 1024;

fn keep(slice: Bytes) -> Bytes {
    if slice.len() <= COPIED_BYTES_MAX {
        Bytes::copy_from_slice(&slice)
    } else {
        slice
    }
}

pub(crate) fn key_to_wire(key: &Key) -> kv::Key {
    kv::Key {
        bucket: key.bucket.clone(),
        partition_key: key.partition_key.clone(),
        sort_key: key.sort_key.clone(),
    }
}

fn value_to_wire(value: &Value) -> kv::Value {
    kv::Value {
        content_type: value.content_type.clone(),
        data: value.data.clone(),
    }
}

fn value_from_wire(value: kv::Value) -> Value {
    Value {
        content_type: value.content_type,
        data: keep(value.data),
    }
}

fn values_from_wire(values: Vec<kv::Value>) -> Vec<Value> {
    values.into_iter().map(value_from_wire).collect()
}

/// An empty version means that the row is missing.
fn version_from_wire(version: Bytes) -> Option<Version> {
    (!version.is_empty()).then(|| Version(keep(version)))
}

fn consistency_to_wire(consistency: Consistency) -> i32 {
    let wire = match consistency {
        Consistency::Bucket => kv::Consistency::Unspecified,
        Consistency::One => kv::Consistency::One,
        Consistency::Quorum => kv::Consistency::Quorum,
        Consistency::All => kv::Consistency::All,
    };
    wire.into()
}

pub(crate) fn read_options_to_wire(options: &ReadOptions, timeout_ms: u32) -> kv::RequestOptions {
    kv::RequestOptions {
        consistency: consistency_to_wire(options.consistency),
        read_quorum: options.read_quorum.unwrap_or_default(),
        write_quorum: 0,
        strict: options.strict,
        timeout_ms,
        explain: options.explain,
    }
}

pub(crate) fn write_options_to_wire(options: &WriteOptions, timeout_ms: u32) -> kv::RequestOptions {
    kv::RequestOptions {
        consistency: consistency_to_wire(options.consistency),
        read_quorum: 0,
        write_quorum: options.write_quorum.unwrap_or_default(),
        strict: options.strict,
        timeout_ms,
        explain: options.explain,
    }
}

pub(crate) fn get_to_wire(key: &Key, options: &ReadOptions, timeout_ms: u32) -> kv::GetRequest {
    kv::GetRequest {
        key: Some(key_to_wire(key)),
        options: Some(read_options_to_wire(options, timeout_ms)),
    }
}

pub(crate) fn put_to_wire(
    put: &Put,
    options: &WriteOptions,
    request_id: kv::RequestId,
    timeout_ms: u32,
) -> kv::PutRequest {
    kv::PutRequest {
        key: Some(key_to_wire(&put.key)),
        value: Some(value_to_wire(&put.value)),
        context: put.context.0.clone(),
        options: Some(write_options_to_wire(options, timeout_ms)),
        request_id: Some(request_id),
        ttl_ms: options.ttl.map(millis).unwrap_or_default(),
    }
}

pub(crate) fn scan_to_wire(
    query: &ScanQuery,
    options: &ReadOptions,
    timeout_ms: u32,
) -> kv::ScanRequest {
    kv::ScanRequest {
        bucket: query.bucket.clone(),
        partition_key: query.partition_key.clone(),
        prefix: query.prefix.clone(),
        start: query.start.clone(),
        end: query.end.clone(),
        limit: query.limit,
        reverse: query.reverse,
        continuation: query.continuation.clone().unwrap_or_default(),
        options: Some(read_options_to_wire(options, timeout_ms)),
    }
}

pub(crate) fn transact_to_wire(
    transaction: &Transaction,
    options: &WriteOptions,
    request_id: kv::RequestId,
    timeout_ms: u32,
) -> kv::TransactRequest {
    kv::TransactRequest {
        bucket: transaction.bucket.clone(),
        partition_key: transaction.partition_key.clone(),
        operations: transaction
            .operations
            .iter()
            .map(operation_to_wire)
            .collect(),
        request_id: Some(request_id),
        options: Some(write_options_to_wire(options, timeout_ms)),
    }
}

fn operation_to_wire(operation: &RowOperation) -> kv::RowOperation {
    use kv::{condition::Test, row_operation::Action};
    let test = match &operation.condition {
        Condition::Any => Test::Any(kv::AnyState {}),
        Condition::Missing => Test::Missing(kv::Missing {}),
        Condition::Present => Test::Present(kv::Present {}),
        Condition::Version(version) => Test::Version(version.0.clone()),
    };
    let action = match &operation.action {
        RowAction::Put(value) => Action::Put(value_to_wire(value)),
        RowAction::Delete => Action::Delete(kv::DeleteRow {}),
        RowAction::Check => Action::Check(kv::CheckRow {}),
    };
    kv::RowOperation {
        sort_key: operation.sort_key.clone(),
        condition: Some(kv::Condition { test: Some(test) }),
        action: Some(action),
    }
}

pub(crate) fn read_from_wire(answer: kv::GetResponse) -> Read {
    Read {
        values: values_from_wire(answer.values),
        context: Context(keep(answer.context)),
        version: version_from_wire(answer.version),
        explain: answer.explain,
    }
}

pub(crate) fn written_from_wire(answer: kv::PutResponse) -> Written {
    Written {
        context: Context(keep(answer.context)),
        copies: answer.copies,
        degraded: answer.degraded,
        explain: answer.explain,
    }
}

pub(crate) fn page_from_wire(answer: kv::ScanResponse) -> Page {
    let rows = answer.rows.into_iter().map(|row| Row {
        sort_key: keep(row.sort_key),
        values: values_from_wire(row.values),
        context: Context(keep(row.context)),
        version: version_from_wire(row.version),
    });
    Page {
        rows: rows.collect(),
        continuation: (!answer.continuation.is_empty()).then(|| keep(answer.continuation)),
    }
}

pub(crate) fn versions_from_wire(applied: kv::TransactApplied) -> Vec<Option<Version>> {
    applied
        .versions
        .into_iter()
        .map(version_from_wire)
        .collect()
}

/// A row whose condition did not hold, as far as the node still knew it.
pub(crate) enum FailedRow {
    Known(Option<Versioned>),
    /// It was there, but only its version is remembered: the answer is that of an earlier attempt.
    Forgotten,
}

pub(crate) fn failed_from_wire(failed: kv::FailedCondition) -> FailedRow {
    match (version_from_wire(failed.version), failed.value) {
        (None, _) => FailedRow::Known(None),
        (Some(version), Some(value)) => FailedRow::Known(Some(Versioned {
            value: value_from_wire(value),
            version,
        })),
        (Some(_), None) => FailedRow::Forgotten,
    }
}

/// An outcome that is left out is unknown.
pub(crate) fn outcome_from_wire(outcome: kv::Outcome) -> Outcome {
    match outcome {
        kv::Outcome::Applied => Outcome::Applied,
        kv::Outcome::NotApplied => Outcome::NotApplied,
        kv::Outcome::Unknown | kv::Outcome::Unspecified => Outcome::Unknown,
    }
}

pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
