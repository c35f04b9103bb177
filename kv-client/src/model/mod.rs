//! What callers say and hear: keys, values, opaque tokens, options, answers.
//!
//! Place: plain data; turned into wire messages by `crate::convert`; knows no connection.
//! Invariants: 1. contexts and versions are opaque: made by the store, compared for equality, handed back.
//! 2. no answer is both applied and failed; a failure is always a `RequestError` with its outcome.
//! Not here: who is asked (`crate::routing`), what happens after a failure (`crate::attempts`).

mod answer;
mod key;
mod request;
mod row;
mod token;
mod value;

pub use answer::{Page, Read, Row, Written};
pub use key::{KEY_BYTES_MAX, Key};
pub use request::{Consistency, Put, ReadOptions, ScanQuery, WriteOptions};
pub use row::{
    CasOutcome, Condition, FailedCondition, RowAction, RowOperation, TransactOutcome, Transaction,
    Versioned,
};
pub use token::{Context, Version};
pub use value::Value;
