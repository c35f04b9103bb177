//! What the stock store needs of the client library, and the client library giving it.
//!
//! Place: I/O; used by [`super::StockStore`]. Tests stand in for [`StockBucket`].
//! Not here: what the rows mean (`crate::rows`).

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use souk_kv_client::{
    BucketConfig, BucketMode, Client, Key, ReadOptions, RequestError, RowOperation, ScanQuery,
    TransactOutcome, Transaction, Versioned, WriteOptions,
};

use crate::{RowKey, StockId};

/// The front of a range of rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RowPage {
    /// Sort keys and values in sort-key order.
    pub rows: Vec<(Bytes, Bytes)>,
    /// Whether there are no rows behind these.
    pub complete: bool,
}

/// A register bucket with one group for each stock. All reads are linearizable.
pub trait StockBucket: Send + Sync + 'static {
    /// Reads rows by their keys, each with its own answer, in their order; rows of several stocks may be mixed.
    fn get(
        &self,
        rows: &[(&StockId, RowKey)],
        timeout: Duration,
    ) -> impl Future<Output = Vec<Result<Option<Versioned>, RequestError>>> + Send;

    /// Reads up to `limit` rows whose sort keys begin with `prefix`, not before `from`.
    fn scan(
        &self,
        stock: &StockId,
        prefix: &str,
        from: Option<RowKey>,
        limit: usize,
        timeout: Duration,
    ) -> impl Future<Output = Result<RowPage, RequestError>> + Send;

    /// Applies all operations, or none if a condition does not hold.
    fn transact(
        &self,
        stock: &StockId,
        operations: Vec<RowOperation>,
        timeout: Duration,
    ) -> impl Future<Output = Result<TransactOutcome, RequestError>> + Send;
}

/// How a bucket of stocks has to be made: registers, with the layout's copies.
pub fn stock_bucket(name: &str) -> BucketConfig {
    BucketConfig {
        name: name.to_owned(),
        mode: BucketMode::Register.into(),
        ..BucketConfig::default()
    }
}

/// Stocks behind a real client.
#[derive(Debug, Clone)]
pub struct ClientStock {
    client: Client,
    bucket: String,
}

impl ClientStock {
    /// The stocks in a bucket, which was made as [`stock_bucket`] says.
    pub fn new(client: Client, bucket: impl Into<String>) -> Self {
        Self {
            client,
            bucket: bucket.into(),
        }
    }
}

impl StockBucket for ClientStock {
    async fn get(
        &self,
        rows: &[(&StockId, RowKey)],
        timeout: Duration,
    ) -> Vec<Result<Option<Versioned>, RequestError>> {
        let key = |(stock, key): &(&StockId, RowKey)| {
            Key::new(self.bucket.as_str(), stock.to_string(), key.to_bytes())
        };
        let keys: Vec<Key> = rows.iter().map(key).collect();
        let options = ReadOptions {
            timeout: Some(timeout),
            ..ReadOptions::default()
        };
        let reads = self.client.get_many(&keys, options).await;
        reads
            .into_iter()
            .map(|read| {
                let read = read?;
                let value = read.values.into_iter().next();
                Ok(value
                    .zip(read.version)
                    .map(|(value, version)| Versioned { value, version }))
            })
            .collect()
    }

    async fn scan(
        &self,
        stock: &StockId,
        prefix: &str,
        from: Option<RowKey>,
        limit: usize,
        timeout: Duration,
    ) -> Result<RowPage, RequestError> {
        let query = ScanQuery {
            prefix: Bytes::copy_from_slice(prefix.as_bytes()),
            start: from.map(|key| key.to_bytes()).unwrap_or_default(),
            ..ScanQuery::new(self.bucket.as_str(), stock.to_string())
        };
        let options = ReadOptions {
            timeout: Some(timeout),
            ..ReadOptions::default()
        };
        let page = self.client.scan_all(&query, limit, options).await?;
        let rows = page.rows.into_iter();
        let rows = rows
            .filter_map(|row| Some((row.sort_key, row.values.into_iter().next()?.data)))
            .collect();
        Ok(RowPage {
            rows,
            complete: page.continuation.is_none(),
        })
    }

    async fn transact(
        &self,
        stock: &StockId,
        operations: Vec<RowOperation>,
        timeout: Duration,
    ) -> Result<TransactOutcome, RequestError> {
        let transaction = Transaction::new(self.bucket.as_str(), stock.to_string(), operations);
        // Our conditions make a second arrival harmless, and the commands' own rows tell what a first one did.
        let options = WriteOptions {
            timeout: Some(timeout),
            retry_unknown: true,
            ..WriteOptions::default()
        };
        self.client.transact(&transaction, options).await
    }
}
