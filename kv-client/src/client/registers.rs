//! Conditional writes, and the reads that go with them: rows of `register` buckets.

use souk_kv_proto::kv::{session_request::Body as Question, session_response::Body as Answer};

use super::{Client, call::Call, check, flight::Asked};
use crate::{
    attempts::Kind,
    convert::{transact_from_wire, transact_to_wire},
    error::RequestError,
    model::{
        CasOutcome, Condition, Key, ReadOptions, RowAction, RowOperation, TransactOutcome,
        Transaction, Value, Version, Versioned, WriteOptions,
    },
};

impl Client {
    /// Applies all operations of a transaction, or none if a condition does not hold. Linearizable.
    ///
    /// # Errors
    /// An error whose outcome is `Unknown` may have been applied, or may still be: read the rows to find
    /// out. It is sent again by itself only with `WriteOptions::retry_unknown`.
    pub async fn transact(
        &self,
        transaction: &Transaction,
        options: WriteOptions,
    ) -> Result<TransactOutcome, RequestError> {
        check::place(&transaction.bucket, &transaction.partition_key)?;
        check::timeout(options.timeout)?;
        let ticket = self.shared.ticket();
        let call = Call {
            kind: Kind::Conditional {
                retry_unknown: options.retry_unknown,
            },
            bucket: &transaction.bucket,
            partition_key: &transaction.partition_key,
            deadline: self.shared.deadline(options.timeout),
            double_after: self.shared.options.request_timeout,
        };
        let bytes = transaction.operations.iter().map(operation_bytes).sum();
        let question = |asked: Asked| {
            let request_id = ticket.request_id(asked.attempt);
            let request = transact_to_wire(transaction, &options, request_id, asked.timeout_ms);
            (Question::Transact(request), bytes)
        };
        let hear = |answer| match answer {
            Answer::Transact(answer) => transact_from_wire(answer),
            _ => None,
        };
        self.shared.call(call, question, hear).await
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
