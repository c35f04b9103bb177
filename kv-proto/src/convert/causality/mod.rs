//! Records and causal contexts as bytes, for disk, wire and the hands of clients.
//!
//! A record is decoded several times for every write that it takes in, on each replica. So it has a format of its
//! own: names of 16 bytes (actors and clients) stand once in a table at its head, and everything else points into it.
//! A record with a long memory of requests takes a fifth of the bytes that general messages took.
//!
//! Shape: `compact` writes and reads today's format; `first_format` reads what earlier versions wrote, as protobuf
//! messages. The first byte tells them apart: no protobuf message begins with `compact::FORMAT`.
//! Invariants: 1. equal records encode to equal bytes (everything in them is sorted), so a coordinator can compare
//! the answers of replicas without decoding them. 2. any bytes give a valid record or an error.

mod compact;
mod first_format;

use bytes::Bytes;
use souk_kv_core::causality::{ContentType, MergeMode, Observed, Record, Value};

use super::DecodeError;
use crate::kv;

const RECORD: &str = "record";
const CONTEXT: &str = "context";

/// Encodes a record for disk and wire.
pub fn encode_record(record: &Record, mode: MergeMode) -> Bytes {
    compact::record(record, mode)
}

/// Decodes a record. No bytes at all are the record of a key never written, in `siblings` mode.
/// Values are slices of `bytes`.
///
/// # Errors
/// [`DecodeError`] when the bytes are no record or break one of its invariants.
pub fn decode_record(bytes: Bytes) -> Result<(Record, MergeMode), DecodeError> {
    match bytes.first() {
        None => Ok((Record::default(), MergeMode::Siblings)),
        Some(&compact::FORMAT) => compact::read_record(&bytes),
        Some(_) => first_format::record(bytes),
    }
}

/// Encodes what a client has seen, as the context that it hands back and to whom it is opaque. Nothing seen is no bytes
/// at all.
pub fn encode_observed(observed: &Observed) -> Bytes {
    if *observed == Observed::default() {
        return Bytes::new();
    }
    compact::observed(observed)
}

/// Decodes what a client passed back.
///
/// # Errors
/// [`DecodeError`] when it is not a context that a node gave out.
pub fn decode_observed(bytes: &[u8]) -> Result<Observed, DecodeError> {
    match bytes.first() {
        None => Ok(Observed::default()),
        Some(&compact::FORMAT) => compact::read_observed(bytes),
        Some(_) => first_format::context(bytes).map(Observed::from),
    }
}

/// A value as clients send it.
///
/// # Errors
/// [`DecodeError`] when the content type is not one.
pub fn value_from_wire(value: kv::Value) -> Result<Value, DecodeError> {
    Ok(Value::new(content_type(&value.content_type)?, value.data))
}

/// A value as clients receive it.
pub fn value_to_wire(value: &Value) -> kv::Value {
    kv::Value {
        content_type: value.content_type.as_str().to_owned(),
        data: value.bytes.clone(),
    }
}

/// No text at all is the default type.
fn content_type(text: &str) -> Result<ContentType, DecodeError> {
    if text.is_empty() {
        return Ok(ContentType::octets());
    }
    ContentType::new(text).map_err(|cause| DecodeError::field("value", "content_type", cause))
}

#[cfg(test)]
mod tests;
