//! The always-writable path: records of `siblings` and `lww` buckets.
//!
//! | file | idea |
//! |---|---|
//! | `records` | this node's own copies: read, and merge under the key's guard |
//! | `prepare` | a write gets its name and becomes a record |
//! | `put`, `get`, `scan` | client requests, run by the node that received them |
//! | `explain` | the diary of a request that asked for one |
//! | `hedge` | when a read asks one replica more |
//! | `request` | what the three share: the key's place, quorums, deadline |
//!
//! Place: I/O; drives the pure coordinators of `souk_kv_core::quorum`.
//! Invariants: 1. only whole records travel. 2. a record is read, changed and committed under its guard.
//! Not here: delivering hints (`crate::hint`), conditional writes (`crate::register`).

mod explain;
mod get;
mod hedge;
mod prepare;
mod put;
mod records;
mod request;
mod scan;

pub(crate) use prepare::{PlacedWrite, WriteRequest};
pub(crate) use put::PutOutcome;
pub(crate) use records::{Local, RecordChange, Records, Space, merged};
pub(crate) use request::{Coordinator, RecordPlace};
pub(crate) use scan::RangeQuery;
