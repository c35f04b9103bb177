//! Conditional writes on the rows of one register group.
//!
//! Shape: 1 to 1024 operations on distinct rows of one partition key, applied together or not at all.
//! Source: Gray and Lamport's compare-and-set over CASPaxos (Rystsov, 2018); the group is one register.

use bytes::Bytes;

use super::{Value, Version};

/// An atomic batch on one register group.
#[derive(Clone, Debug, PartialEq)]
pub struct Transaction {
    /// A bucket of mode `register`.
    pub bucket: String,
    /// Names the group.
    pub partition_key: Bytes,
    /// 1 to 1024 operations on distinct rows.
    pub operations: Vec<RowOperation>,
}

impl Transaction {
    /// A transaction from its parts; the partition key is copied.
    pub fn new(
        bucket: impl Into<String>,
        partition_key: impl AsRef<[u8]>,
        operations: Vec<RowOperation>,
    ) -> Transaction {
        let partition_key = Bytes::copy_from_slice(partition_key.as_ref());
        Transaction {
            bucket: bucket.into(),
            partition_key,
            operations,
        }
    }
}

/// One row of a transaction: what must hold, and what then happens.
#[derive(Clone, Debug, PartialEq)]
pub struct RowOperation {
    /// The row.
    pub sort_key: Bytes,
    /// What must hold of the row for the whole transaction to be applied.
    pub condition: Condition,
    /// What the transaction does to the row.
    pub action: RowAction,
}

impl RowOperation {
    /// Writes the row if the condition holds.
    pub fn put(sort_key: impl AsRef<[u8]>, condition: Condition, value: Value) -> RowOperation {
        RowOperation::new(sort_key, condition, RowAction::Put(value))
    }

    /// Deletes the row if the condition holds.
    pub fn delete(sort_key: impl AsRef<[u8]>, condition: Condition) -> RowOperation {
        RowOperation::new(sort_key, condition, RowAction::Delete)
    }

    /// Only checks the condition.
    pub fn check(sort_key: impl AsRef<[u8]>, condition: Condition) -> RowOperation {
        RowOperation::new(sort_key, condition, RowAction::Check)
    }

    fn new(sort_key: impl AsRef<[u8]>, condition: Condition, action: RowAction) -> RowOperation {
        RowOperation {
            sort_key: Bytes::copy_from_slice(sort_key.as_ref()),
            condition,
            action,
        }
    }
}

/// What must hold of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    Any,
    /// The row is missing.
    Missing,
    /// The row is there, in any version.
    Present,
    /// The row is there in this version.
    Version(Version),
}

/// What happens to a row.
#[derive(Clone, Debug, PartialEq)]
pub enum RowAction {
    /// The row gets this value and a new version.
    Put(Value),
    /// The row goes.
    Delete,
    /// The row stays as it is.
    Check,
}

/// The answer of a transaction that was decided. An undecided one is a `RequestError`.
#[derive(Clone, Debug, PartialEq)]
pub enum TransactOutcome {
    /// All operations were applied.
    Applied {
        /// Per operation, in order: the row's new version; `None` for deletes and checks.
        versions: Vec<Option<Version>>,
    },
    /// None was applied, because conditions did not hold.
    NotApplied {
        /// The rows whose conditions did not hold, as they are.
        failed: Vec<FailedCondition>,
    },
}

/// A row whose condition did not hold.
#[derive(Clone, Debug, PartialEq)]
pub struct FailedCondition {
    /// Index into [`Transaction::operations`].
    pub operation: usize,
    /// The row as it was then, or is by now; `None` when it is missing.
    pub current: Option<Versioned>,
}

/// A register row with its version.
#[derive(Clone, Debug, PartialEq)]
pub struct Versioned {
    /// What the row holds.
    pub value: Value,
    /// Changes with every write of the row.
    pub version: Version,
}

/// The answer of a conditional write of one row that was decided.
#[derive(Clone, Debug, PartialEq)]
pub enum CasOutcome {
    /// The write was applied.
    Applied {
        /// The row's new version; `None` after a delete.
        version: Option<Version>,
    },
    /// The condition did not hold and nothing was changed.
    Conflict {
        /// The row as it is; `None` when it is missing.
        current: Option<Versioned>,
    },
}
