//! The shop's only door to the store.
//!
//! Place: every store of the shop (catalog, orders, payments, ...) goes through [`Kv`]; carts and stock have stores
//! of their own in `souk_cart` and `souk_inventory`.
//! Shape: the handful of client calls that the shop needs, as a trait, so that tests put a store in memory behind it.
//! Not here: retries, routing, deadlines (`souk_kv_client`).

use std::sync::Arc;

use futures::future::BoxFuture;
use souk_kv_client::{
    Client, Context, Key, Page, Put, Read, ReadOptions, RequestError, ScanQuery, TransactOutcome,
    Transaction, Value, WriteOptions, Written,
};

/// What the shop asks of the store.
pub trait Kv: Send + Sync + 'static {
    /// Reads one row.
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Read, RequestError>>;
    /// Writes one row of a `siblings` or `lww` bucket.
    fn put<'a>(
        &'a self,
        key: &'a Key,
        value: Value,
        context: &'a Context,
    ) -> BoxFuture<'a, Result<Written, RequestError>>;
    /// Deletes one row of a `siblings` or `lww` bucket.
    fn delete<'a>(
        &'a self,
        key: &'a Key,
        context: &'a Context,
    ) -> BoxFuture<'a, Result<Written, RequestError>>;
    /// Reads many rows, each with its own answer, in order.
    fn get_many<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Vec<Result<Read, RequestError>>>;
    /// Writes many rows, each with its own answer, in order.
    fn put_many(&self, puts: Vec<Put>) -> BoxFuture<'_, Vec<Result<Written, RequestError>>>;
    /// Reads rows of one partition key.
    fn scan<'a>(&'a self, query: &'a ScanQuery) -> BoxFuture<'a, Result<Page, RequestError>>;
    /// Conditional writes on one register group.
    fn transact<'a>(
        &'a self,
        transaction: &'a Transaction,
    ) -> BoxFuture<'a, Result<TransactOutcome, RequestError>>;
}

/// A store that is shared by every room of the shop.
pub type SharedKv = Arc<dyn Kv>;

impl Kv for Client {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Read, RequestError>> {
        Box::pin(Client::get(self, key, ReadOptions::default()))
    }

    fn put<'a>(
        &'a self,
        key: &'a Key,
        value: Value,
        context: &'a Context,
    ) -> BoxFuture<'a, Result<Written, RequestError>> {
        Box::pin(Client::put(
            self,
            key,
            value,
            context,
            WriteOptions::default(),
        ))
    }

    fn delete<'a>(
        &'a self,
        key: &'a Key,
        context: &'a Context,
    ) -> BoxFuture<'a, Result<Written, RequestError>> {
        Box::pin(Client::delete(self, key, context, WriteOptions::default()))
    }

    fn get_many<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Vec<Result<Read, RequestError>>> {
        Box::pin(Client::get_many(self, keys, ReadOptions::default()))
    }

    fn put_many(&self, puts: Vec<Put>) -> BoxFuture<'_, Vec<Result<Written, RequestError>>> {
        Box::pin(Client::put_many(self, puts, WriteOptions::default()))
    }

    fn scan<'a>(&'a self, query: &'a ScanQuery) -> BoxFuture<'a, Result<Page, RequestError>> {
        Box::pin(Client::scan(self, query, ReadOptions::default()))
    }

    fn transact<'a>(
        &'a self,
        transaction: &'a Transaction,
    ) -> BoxFuture<'a, Result<TransactOutcome, RequestError>> {
        Box::pin(Client::transact(self, transaction, WriteOptions::default()))
    }
}

/// A JSON value for the store.
#[must_use]
pub fn json(bytes: Vec<u8>) -> Value {
    Value::new("application/json", bytes)
}

/// Where a list goes on after `page`: the last row's sort key, if there is more. Only for lists whose sort keys are text.
#[must_use]
pub fn next_cursor(page: &Page) -> Option<String> {
    page.continuation.as_ref()?;
    String::from_utf8(page.rows.last()?.sort_key.to_vec()).ok()
}
