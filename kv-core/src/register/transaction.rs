//! What a caller asks of a group: conditions on rows and writes to them, all or nothing.
//!
//! Place: pure; built by the driver from a request, judged by `evaluate`.
//! Shape: 1 to [`TRANSACTION_ROWS_MAX`] operations on distinct user rows of one group.
//! Invariants: a [`Transaction`] exists only in valid form; its constructor checks the bounds.
//! Not here: what the conditions mean against a state (`evaluate`).

use std::collections::BTreeSet;

use super::limits::{TRANSACTION_BYTES_MAX, TRANSACTION_ROWS_MAX};
use super::{Cell, RowKey, RowKind, Version};
use crate::causality::RequestId;

/// What has to hold of a row for the transaction to apply. A tombstone counts as no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// Anything.
    Any,
    /// No live row.
    Absent,
    /// A live row, whatever its version.
    Exists,
    /// A live row with exactly this version.
    Version(Version),
}

/// What becomes of a row when the transaction applies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Write {
    /// The row holds this from now on.
    Put(Cell),
    /// The row becomes a tombstone. Deleting a row that is not there is allowed and leaves one too.
    Delete,
}

/// One row's part of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowOperation {
    /// The row, always one of the user's.
    pub key: RowKey,
    /// What has to hold.
    pub condition: Condition,
    /// What to change, or `None` only to check the condition.
    pub write: Option<Write>,
}

/// Who asks, and how the answer is to be remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestStamp {
    /// The request. Sequence 0 wants no memory: a lost answer then stays unknown for ever.
    pub request: RequestId,
    /// Which try this is, from 1. From the second on, "not applied" is remembered before it is given,
    /// because the first may still be under way elsewhere.
    pub attempt: u32,
    /// The client's lowest sequence without an answer yet; answers below it may be forgotten.
    pub lowest_unanswered: u64,
    /// When the client first issued this request, by its own clock, the same in every attempt.
    /// Milliseconds since the Unix epoch.
    pub issued_unix_ms: u64,
}

/// Conditions and writes on rows of one group, applied all together or not at all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Transaction {
    stamp: RequestStamp,
    operations: Vec<RowOperation>,
    bytes: usize,
    exposed: bool,
}

impl Transaction {
    /// A transaction within the bounds of [`super::limits`].
    ///
    /// # Errors
    /// [`TransactionError`] when there is no operation, too many, too many bytes, a row named twice,
    /// or a row that is not the user's.
    pub fn new(
        stamp: RequestStamp,
        operations: Vec<RowOperation>,
    ) -> Result<Transaction, TransactionError> {
        if operations.is_empty() {
            return Err(TransactionError::Empty);
        }
        if operations.len() > TRANSACTION_ROWS_MAX {
            return Err(TransactionError::TooManyRows {
                rows: operations.len(),
            });
        }
        let mut seen = BTreeSet::new();
        for (index, operation) in operations.iter().enumerate() {
            if operation.key.kind() != RowKind::User {
                return Err(TransactionError::NotAUserRow { index });
            }
            if !seen.insert(&operation.key) {
                return Err(TransactionError::RowTwice { index });
            }
        }
        let bytes = operations.iter().map(operation_bytes).sum();
        if bytes > TRANSACTION_BYTES_MAX {
            return Err(TransactionError::TooLarge { bytes });
        }
        Ok(Transaction {
            stamp,
            operations,
            bytes,
            exposed: false,
        })
    }

    /// Who asks, and how the answer is to be remembered.
    #[must_use]
    pub fn stamp(&self) -> &RequestStamp {
        &self.stamp
    }

    /// The operations, in the order given.
    #[must_use]
    pub fn operations(&self) -> &[RowOperation] {
        &self.operations
    }

    /// Bytes of keys and cells, at most [`TRANSACTION_BYTES_MAX`].
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Notes that an accept with this transaction in it left for an acceptor and was not chosen for sure.
    /// From then on it may surface at any time, so "not applied" needs a chosen record first.
    pub fn expose(&mut self) {
        self.exposed = true;
    }

    /// True when a copy of this transaction may still be under way: an earlier attempt of the client,
    /// or an earlier ballot of the coordinator.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        self.exposed || self.stamp.attempt > 1
    }

    /// True when some operation writes; otherwise the transaction is a read.
    #[must_use]
    pub fn writes(&self) -> bool {
        self.operations
            .iter()
            .any(|operation| operation.write.is_some())
    }

    /// True when the group has to remember the answer. Without a write there is nothing to repeat.
    #[must_use]
    pub fn wants_memory(&self) -> bool {
        self.stamp.request.is_remembered() && self.writes()
    }

    /// The keys that have to be known before this can be evaluated: its rows,
    /// and the client's memory when the answer is to be remembered.
    pub fn keys(&self) -> impl Iterator<Item = RowKey> + '_ {
        let memory = self.wants_memory().then(|| {
            [
                RowKey::memory(&self.stamp.request.client),
                RowKey::memory_floor(),
            ]
        });
        self.operations
            .iter()
            .map(|operation| operation.key.clone())
            .chain(memory.into_iter().flatten())
    }
}

/// What: a transaction breaks a bound. Mend: split it, or correct the request; nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// No operation at all.
    #[error("a transaction needs at least one operation")]
    Empty,
    /// More rows than one transaction may name.
    #[error("a transaction names at most {TRANSACTION_ROWS_MAX} rows, got {rows}; split it")]
    TooManyRows {
        /// How many it names.
        rows: usize,
    },
    /// More bytes than one transaction may carry.
    #[error("a transaction carries at most {TRANSACTION_BYTES_MAX} bytes, got {bytes}; split it")]
    TooLarge {
        /// How many it carries.
        bytes: usize,
    },
    /// One row named by two operations.
    #[error("operation {index} names a row that an earlier operation names; join the two")]
    RowTwice {
        /// The second operation, from 0.
        index: usize,
    },
    /// A row that belongs to the group itself.
    #[error("operation {index} names a row that is not a user row")]
    NotAUserRow {
        /// The operation, from 0.
        index: usize,
    },
}

fn operation_bytes(operation: &RowOperation) -> usize {
    let cell = match &operation.write {
        Some(Write::Put(cell)) => cell.content_type.as_str().len() + cell.bytes.len(),
        Some(Write::Delete) | None => 0,
    };
    operation.key.as_bytes().len() + cell
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(operations: Vec<RowOperation>, expected: Result<(), TransactionError>) {
        let request = RequestId {
            client: [7; 16],
            sequence: 1,
        };
        let stamp = RequestStamp {
            request,
            attempt: 1,
            lowest_unanswered: 1,
            issued_unix_ms: 0,
        };
        assert_eq!(Transaction::new(stamp, operations).map(|_| ()), expected);
    }

    fn operation(key: RowKey, bytes: usize) -> RowOperation {
        let cell = Cell {
            content_type: super::super::check::content_type(),
            bytes: vec![0; bytes].into(),
        };
        RowOperation {
            key,
            condition: Condition::Any,
            write: Some(Write::Put(cell)),
        }
    }

    fn numbered(index: usize) -> RowOperation {
        operation(RowKey::user(&index.to_be_bytes()), 1)
    }

    #[test]
    fn bounds_are_kept() {
        check(vec![], Err(TransactionError::Empty));
        check((0..TRANSACTION_ROWS_MAX).map(numbered).collect(), Ok(()));
        let rows = TRANSACTION_ROWS_MAX + 1;
        check(
            (0..rows).map(numbered).collect(),
            Err(TransactionError::TooManyRows { rows }),
        );
        check(
            vec![numbered(1), numbered(2), numbered(1)],
            Err(TransactionError::RowTwice { index: 2 }),
        );
        check(
            vec![operation(RowKey::memory(&[1; 16]), 1)],
            Err(TransactionError::NotAUserRow { index: 0 }),
        );
        let bytes = TRANSACTION_BYTES_MAX + 2;
        let type_len = super::super::check::content_type().as_str().len();
        check(
            vec![operation(RowKey::user(b"a"), bytes - 2 - type_len)],
            Err(TransactionError::TooLarge { bytes }),
        );
        check(
            vec![operation(RowKey::user(b"a"), bytes - 4 - type_len)],
            Ok(()),
        );
    }
}
