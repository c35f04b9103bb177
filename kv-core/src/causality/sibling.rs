//! One value under a key, with the name and date of the write that put it there.
//!
//! Place: pure; the content of [`super::Record`].
//! Invariants: 1. everything here is fixed when the dot is minted: two siblings with one dot are equal.

use std::fmt;

use bytes::Bytes;

use super::{ContentType, Dot, RequestId, Stamp};

/// Bytes and what they mean.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Value {
    /// The media type of `bytes`.
    pub content_type: ContentType,
    /// The payload; a slice of a receive buffer must be copied before it is kept here for long.
    pub bytes: Bytes,
}

impl Value {
    /// A value from its parts.
    #[must_use]
    pub const fn new(content_type: ContentType, bytes: Bytes) -> Value {
        Value {
            content_type,
            bytes,
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{:?} × {:?}",
            self.bytes.len(),
            self.content_type
        )
    }
}

/// One concurrent value, or the tombstone of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sibling {
    /// The name of the write.
    pub dot: Dot,
    /// Its date: the order in `lww` buckets, information elsewhere.
    pub stamp: Stamp,
    /// The client's name for it.
    pub request: RequestId,
    /// The moment it stops being shown, in milliseconds since 1970. An absolute deadline, set once:
    /// a duration would start again on every replica that receives it.
    pub expires_unix_ms: Option<u64>,
    /// The value; `None` is a tombstone.
    pub value: Option<Value>,
}

impl Sibling {
    /// True for a delete.
    #[must_use]
    pub const fn is_tombstone(&self) -> bool {
        self.value.is_none()
    }

    /// True when a reader at `now_ms` sees a value here: neither deleted nor past its deadline.
    #[must_use]
    pub fn is_live(&self, now_ms: u64) -> bool {
        self.value.is_some()
            && self
                .expires_unix_ms
                .is_none_or(|deadline| deadline > now_ms)
    }

    /// About how many bytes this takes on disk and on the wire.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        const FIXED: usize = 24 + 8 + 24 + 8;
        let value = self.value.as_ref();
        FIXED
            + value.map_or(0, |value| {
                value.bytes.len() + value.content_type.as_str().len()
            })
    }
}
