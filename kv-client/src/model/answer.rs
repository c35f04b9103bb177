//! What the store answers to reads and to plain writes.

use bytes::Bytes;
use souk_kv_proto::kv::Explain;

use super::{Context, Value, Version};

/// The answer of a read. A missing key is no error: it has no values and a context.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Read {
    /// Every concurrent value of a `siblings` key, in no promised order; none or one otherwise.
    pub values: Vec<Value>,
    /// Pass it to the next write of this key; empty for `register` buckets.
    pub context: Context,
    /// The version of a `register` row that is there.
    pub version: Option<Version>,
    /// How the read was answered, when `ReadOptions::explain` asked for it.
    pub explain: Option<Explain>,
}

/// The answer of a put or a delete that was applied.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Written {
    /// Covers this write; pass it to the next write of this key.
    pub context: Context,
    /// Distinct nodes that held the write when the answer was given.
    pub copies: u32,
    /// Accepted with fewer than W copies (but at least the bucket's `write_floor`): repaired in the
    /// background, and lost if those few nodes are lost first.
    pub degraded: bool,
    /// How the write was done, when `WriteOptions::explain` asked for it.
    pub explain: Option<Explain>,
}

/// One row of a scan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// The row's sort key.
    pub sort_key: Bytes,
    /// As in [`Read::values`].
    pub values: Vec<Value>,
    /// As in [`Read::context`].
    pub context: Context,
    /// As in [`Read::version`].
    pub version: Option<Version>,
}

/// One page of a scan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// In sort-key order, or in reverse order if the query asked for it.
    pub rows: Vec<Row>,
    /// Put into the next query's `continuation`; `None` when there is nothing more.
    pub continuation: Option<Bytes>,
}
