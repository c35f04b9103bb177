//! Options of one request, and the requests that need more than a key.
//!
//! Everything left at its default is taken from the bucket and from `ClientOptions`.

use std::time::Duration;

use bytes::Bytes;

use super::{Context, Key, Value};

/// How many copies have to answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Consistency {
    /// What the bucket says.
    #[default]
    Bucket,
    /// One copy.
    One,
    /// A majority of the copies.
    Quorum,
    /// All copies.
    All,
}

/// Options of one read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// How many copies have to answer. Register reads are always linearizable and ignore it.
    pub consistency: Consistency,
    /// Explicit R, 1..=N; goes before `consistency`.
    pub read_quorum: Option<u32>,
    /// Forbids fallbacks: only the key's primaries count.
    pub strict: bool,
    /// Deadline over all attempts, 1 ms..=60 s; `None` means `ClientOptions::request_timeout`.
    pub timeout: Option<Duration>,
    /// Asks for `Read::explain`.
    pub explain: bool,
    /// Ask a second replica when the first has not answered after this time;
    /// `None` means `ClientOptions::hedge_after`.
    pub hedge_after: Option<Duration>,
}

/// Options of one write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// How many copies have to answer. Conditional writes always need a majority and ignore it.
    pub consistency: Consistency,
    /// Explicit W, 1..=N; goes before `consistency`.
    pub write_quorum: Option<u32>,
    /// Forbids fallbacks and `write_floor`.
    pub strict: bool,
    /// Deadline over all attempts, 1 ms..=60 s; `None` means `ClientOptions::request_timeout`.
    pub timeout: Option<Duration>,
    /// Asks for `Written::explain`.
    pub explain: bool,
    /// Time from now after which the value expires, in whole milliseconds; `None` means the bucket's
    /// default. Ignored by deletes and conditional writes.
    pub ttl: Option<Duration>,
    /// Lets a conditional write whose outcome is unknown be sent again by itself, under the same request
    /// id. The group remembers the ids that it has answered, so that an answer to a later attempt is the
    /// truth about all of them. Without it such a write fails as `Unknown` at once.
    pub retry_unknown: bool,
}

/// One write of `Client::put_many`.
#[derive(Clone, Debug, PartialEq)]
pub struct Put {
    /// Where to write; the bucket's mode is `siblings` or `lww`.
    pub key: Key,
    /// What to write.
    pub value: Value,
    /// Of the read that this write follows.
    pub context: Context,
}

/// Which rows of one partition key to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanQuery {
    /// Name of the bucket.
    pub bucket: String,
    /// Whose rows.
    pub partition_key: Bytes,
    /// Only rows whose sort key begins so; empty means all.
    pub prefix: Bytes,
    /// First sort key, inclusive; empty means the beginning.
    pub start: Bytes,
    /// Last sort key, exclusive; empty means the end.
    pub end: Bytes,
    /// Most rows of one page, 1..=1000; 0 means 100.
    pub limit: u32,
    /// From the last row to the first.
    pub reverse: bool,
    /// `Page::continuation` of the previous page.
    pub continuation: Option<Bytes>,
}

impl ScanQuery {
    /// All rows of one partition key in sort-key order; narrow it with the struct's fields.
    pub fn new(bucket: impl Into<String>, partition_key: impl AsRef<[u8]>) -> ScanQuery {
        ScanQuery {
            bucket: bucket.into(),
            partition_key: Bytes::copy_from_slice(partition_key.as_ref()),
            ..ScanQuery::default()
        }
    }
}
