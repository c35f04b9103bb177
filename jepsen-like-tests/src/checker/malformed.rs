//! An operation that a checker cannot read. The workload is at fault then, and the verdict is unknown.

use crate::history::Operation;

/// What cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot read operation {operation}; expected {expected}")]
pub struct Malformed {
    /// The operation as it is.
    pub operation: String,
    /// What it should look like.
    pub expected: &'static str,
}

impl Malformed {
    pub(crate) fn new(operation: &Operation, expected: &'static str) -> Malformed {
        Malformed {
            operation: operation.to_string(),
            expected,
        }
    }
}
