//! Conditional writes, and the reads that go with them: rows of `register` buckets.

use std::time::Duration;

use souk_kv_proto::kv::{
    self, session_request::Body as Question, session_response::Body as Answer,
    transact_response::Result as Verdict,
};
use tokio::time::Instant;

use super::{Client, call::Call, check, flight::Asked};
use crate::{
    attempts::Kind,
    convert::{FailedRow, failed_from_wire, transact_to_wire, versions_from_wire},
    error::RequestError,
    model::{
        CasOutcome, Condition, FailedCondition, Key, ReadOptions, RowAction, RowOperation,
        TransactOutcome, Transaction, Value, Version, Versioned, WriteOptions,
    },
};

impl Client {
    /// Applies all operations of a transaction, or none if a condition does not hold. Linearizable.
    ///
    /// # Errors
    /// One whose outcome is `Unknown` may have been applied, or may still be: read the rows to find
    /// out. It is sent again by itself only with `WriteOptions::retry_unknown`.
    pub async fn transact(
        &self,
        transaction: &Transaction,
        options: WriteOptions,
    ) -> Result<TransactOutcome, RequestError> {
        check::place(&transaction.bucket, &transaction.partition_key)?;
        check::timeout(options.timeout)?;
        let ticket = self.shared.ticket();
        let deadline = self.shared.deadline(options.timeout);
        let call = Call {
            kind: Kind::Conditional {
                retry_unknown: options.retry_unknown,
            },
            bucket: &transaction.bucket,
            partition_key: &transaction.partition_key,
            deadline,
            double_after: self.shared.options.request_timeout,
        };
        let bytes = transaction.operations.iter().map(operation_bytes).sum();
        let question = |asked: Asked| {
            let request_id = ticket.request_id(asked.attempt);
            let request = transact_to_wire(transaction, &options, request_id, asked.timeout_ms);
            (Question::Transact(request), bytes)
        };
        let hear = |answer| match answer {
            Answer::Transact(answer) => answer.result,
            _ => None,
        };
        match self.shared.call(call, question, hear).await? {
            Verdict::Applied(applied) => Ok(TransactOutcome::Applied {
                versions: versions_from_wire(applied),
            }),
            Verdict::NotApplied(refused) => {
                let mut failed = Vec::with_capacity(refused.failed.len());
                for row in refused.failed {
                    failed.push(self.failed_condition(transaction, row, deadline).await?);
                }
                Ok(TransactOutcome::NotApplied { failed })
            }
        }
    }

    /// Fills in what the node's memory of an earlier answer leaves out, by reading the row.
    async fn failed_condition(
        &self,
        transaction: &Transaction,
        failed: kv::FailedCondition,
        deadline: Instant,
    ) -> Result<FailedCondition, RequestError> {
        let operation = failed.operation as usize;
        let current = match (
            failed_from_wire(failed),
            transaction.operations.get(operation),
        ) {
            (FailedRow::Known(current), _) => current,
            (FailedRow::Forgotten, None) => None,
            (FailedRow::Forgotten, Some(row)) => {
                let key = Key {
                    bucket: transaction.bucket.clone(),
                    partition_key: transaction.partition_key.clone(),
                    sort_key: row.sort_key.clone(),
                };
                let left = deadline.saturating_duration_since(Instant::now());
                let timeout = Some(left.max(Duration::from_millis(1)));
                self.get_row(
                    &key,
                    ReadOptions {
                        timeout,
                        ..ReadOptions::default()
                    },
                )
                .await?
            }
        };
        Ok(FailedCondition { operation, current })
    }

    /// Reads one row, linearizably; `None` when it is missing.
    ///
    /// # Errors
    /// Always `NotApplied`.
    pub async fn get_row(
        &self,
        key: &Key,
        options: ReadOptions,
    ) -> Result<Option<Versioned>, RequestError> {
        let read = self.get(key, options).await?;
        let value = read.values.into_iter().next();
        Ok(value
            .zip(read.version)
            .map(|(value, version)| Versioned { value, version }))
    }

    /// Writes the row if it still has `version`.
    ///
    /// # Errors
    /// As for [`Client::transact`].
    pub async fn put_if_version(
        &self,
        key: &Key,
        version: &Version,
        value: Value,
        options: WriteOptions,
    ) -> Result<CasOutcome, RequestError> {
        let condition = Condition::Version(version.clone());
        self.cas(key, condition, RowAction::Put(value), options)
            .await
    }

    /// Writes the row if it is missing.
    ///
    /// # Errors
    /// As for [`Client::transact`].
    pub async fn put_if_absent(
        &self,
        key: &Key,
        value: Value,
        options: WriteOptions,
    ) -> Result<CasOutcome, RequestError> {
        self.cas(key, Condition::Missing, RowAction::Put(value), options)
            .await
    }

    /// Deletes the row if it still has `version`.
    ///
    /// # Errors
    /// As for [`Client::transact`].
    pub async fn delete_if_version(
        &self,
        key: &Key,
        version: &Version,
        options: WriteOptions,
    ) -> Result<CasOutcome, RequestError> {
        self.cas(
            key,
            Condition::Version(version.clone()),
            RowAction::Delete,
            options,
        )
        .await
    }

    async fn cas(
        &self,
        key: &Key,
        condition: Condition,
        action: RowAction,
        options: WriteOptions,
    ) -> Result<CasOutcome, RequestError> {
        check::key(key)?;
        let operation = RowOperation {
            sort_key: key.sort_key.clone(),
            condition,
            action,
        };
        let transaction = Transaction {
            bucket: key.bucket.clone(),
            partition_key: key.partition_key.clone(),
            operations: vec![operation],
        };
        Ok(match self.transact(&transaction, options).await? {
            TransactOutcome::Applied { versions } => CasOutcome::Applied {
                version: versions.into_iter().next().flatten(),
            },
            TransactOutcome::NotApplied { failed } => {
                let row = failed.into_iter().next();
                CasOutcome::Conflict {
                    current: row.and_then(|row| row.current),
                }
            }
        })
    }
}

fn operation_bytes(operation: &RowOperation) -> usize {
    let value_bytes = match &operation.action {
        RowAction::Put(value) => value.data.len(),
        RowAction::Delete | RowAction::Check => 0,
    };
    operation.sort_key.len() + value_bytes
}
