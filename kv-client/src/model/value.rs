//! Bytes with a content type.

use bytes::Bytes;

/// What a row holds. The store looks into neither part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Value {
    /// For example `application/json`; empty means `application/octet-stream`.
    pub content_type: String,
    /// At most the bucket's `value_bytes_max`, by default 1 MiB.
    pub data: Bytes,
}

impl Value {
    /// A value with a content type.
    pub fn new(content_type: impl Into<String>, data: impl Into<Bytes>) -> Value {
        Value {
            content_type: content_type.into(),
            data: data.into(),
        }
    }

    /// A value whose content type is left out.
    pub fn bytes(data: impl Into<Bytes>) -> Value {
        Value::new("", data)
    }
}
