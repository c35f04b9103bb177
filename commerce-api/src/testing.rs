//! A store in memory and a whole shop on it, for this crate's tests.
//!
//! Shape: one map of rows behind `crate::kv::Kv`, `souk_cart`'s bucket and `souk_inventory`'s bucket, so that the
//! real stores run on it. It can be told to lose answers: the write is done, the caller hears nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::Value as Json;
use souk_cart::store::{CartBucket, CartId as StoreCartId, CartStore, CartStoreOptions};
use souk_inventory::store::{RowPage, StockBucket};
use souk_inventory::{RowKey, StockId};
use souk_kv_client::{
    Condition, Consistency, Context, ErrorCode, FailedCondition, Key, Outcome, Page, Put, Read,
    RequestError, Row, RowAction, RowOperation, ScanQuery, TransactOutcome, Transaction, Value,
    Version, Versioned, Written,
};
use tokio::net::TcpListener;
use tower::ServiceExt;

use crate::catalog::Product;
use crate::http::router;
use crate::http::state::ShopState;
use crate::import::catalogue::{CatalogueOptions, Target, import_products};
use crate::kv::Kv;
use crate::money::Currency;
use crate::payment::ProviderClient;
use crate::payment_provider;
use crate::shop::{Parts, ShopOptions};
use crate::stock::StockShelf;

/// The store.
#[derive(Clone, Default)]
pub(crate) struct MemoryKv {
    rows: Arc<Mutex<BTreeMap<Key, (Version, Value)>>>,
    counter: Arc<AtomicU64>,
    /// Every n-th write is done but not answered; 0 answers all.
    lose_every: Arc<AtomicU64>,
    writes: Arc<AtomicU64>,
    down: Arc<AtomicBool>,
}

impl MemoryKv {
    /// From now on every `n`-th write is done, but its answer is lost; 0 stops that.
    pub(crate) fn lose_every(&self, n: u64) {
        self.lose_every.store(n, Ordering::SeqCst);
    }

    /// From now on nothing is done at all, or everything again.
    pub(crate) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    /// Writes so far.
    pub(crate) fn writes_count(&self) -> u64 {
        self.writes.load(Ordering::SeqCst)
    }

    /// Rows of one bucket.
    pub(crate) fn count(&self, bucket: &str) -> usize {
        self.rows
            .lock()
            .keys()
            .filter(|key| key.bucket == bucket)
            .count()
    }

    fn version(&self) -> Version {
        let number = self.counter.fetch_add(1, Ordering::SeqCst) + 1;
        Version(Bytes::copy_from_slice(&number.to_be_bytes()))
    }

    fn check_up(&self) -> Result<(), RequestError> {
        if self.down.load(Ordering::SeqCst) {
            return Err(failure(ErrorCode::Unavailable, Outcome::NotApplied));
        }
        Ok(())
    }

    /// The answer to a write that was done, unless it is this one's turn to be lost.
    fn answered<T>(&self, answer: T) -> Result<T, RequestError> {
        let number = self.writes.fetch_add(1, Ordering::SeqCst) + 1;
        let every = self.lose_every.load(Ordering::SeqCst);
        if every > 0 && number.is_multiple_of(every) {
            return Err(failure(ErrorCode::Timeout, Outcome::Unknown));
        }
        Ok(answer)
    }

    fn read(&self, key: &Key) -> Result<Read, RequestError> {
        self.check_up()?;
        let row = self.rows.lock().get(key).cloned();
        Ok(match row {
            Some((version, value)) => Read {
                values: vec![value],
                context: Context(version.0.clone()),
                version: Some(version),
                explain: None,
            },
            None => Read::default(),
        })
    }

    fn write(&self, key: Key, value: Option<Value>) -> Result<Written, RequestError> {
        self.check_up()?;
        let version = self.version();
        let context = Context(version.0.clone());
        match value {
            Some(value) => drop(self.rows.lock().insert(key, (version, value))),
            None => drop(self.rows.lock().remove(&key)),
        }
        self.answered(Written {
            context,
            copies: 1,
            degraded: false,
            explain: None,
        })
    }

    fn page(&self, query: &ScanQuery) -> Result<Page, RequestError> {
        self.check_up()?;
        let limit = if query.limit == 0 {
            100
        } else {
            query.limit as usize
        };
        let mut rows: Vec<Row> = self
            .rows
            .lock()
            .iter()
            .filter(|(key, _)| key.bucket == query.bucket)
            .filter(|(key, _)| key.partition_key == query.partition_key)
            .filter(|(key, _)| key.sort_key.starts_with(&query.prefix))
            .filter(|(key, _)| key.sort_key >= query.start)
            .filter(|(key, _)| query.end.is_empty() || key.sort_key < query.end)
            .map(|(key, (version, value))| Row {
                sort_key: key.sort_key.clone(),
                values: vec![value.clone()],
                context: Context(version.0.clone()),
                version: Some(version.clone()),
            })
            .collect();
        if query.reverse {
            rows.reverse();
        }
        if let Some(after) = &query.continuation {
            rows.retain(|row| {
                if query.reverse {
                    row.sort_key < *after
                } else {
                    row.sort_key > *after
                }
            });
        }
        let more = rows.len() > limit;
        rows.truncate(limit);
        let continuation = rows.last().filter(|_| more).map(|row| row.sort_key.clone());
        Ok(Page { rows, continuation })
    }

    fn apply(
        &self,
        bucket: &str,
        partition_key: &[u8],
        operations: &[RowOperation],
    ) -> Result<TransactOutcome, RequestError> {
        self.check_up()?;
        let mut rows = self.rows.lock();
        let keys: Vec<Key> = operations
            .iter()
            .map(|one| Key::new(bucket, partition_key, &one.sort_key))
            .collect();
        let failed: Vec<FailedCondition> = operations
            .iter()
            .zip(&keys)
            .enumerate()
            .filter_map(|(number, (operation, key))| {
                let row = rows.get(key);
                let holds = match &operation.condition {
                    Condition::Any => true,
                    Condition::Missing => row.is_none(),
                    Condition::Present => row.is_some(),
                    Condition::Version(version) => row.is_some_and(|(found, _)| found == version),
                };
                let current = row.cloned();
                let current = current.map(|(version, value)| Versioned { value, version });
                (!holds).then_some(FailedCondition {
                    operation: number,
                    current,
                })
            })
            .collect();
        if !failed.is_empty() {
            drop(rows);
            return self.answered(TransactOutcome::NotApplied { failed });
        }
        let mut versions = Vec::new();
        for (operation, key) in operations.iter().zip(keys) {
            versions.push(match &operation.action {
                RowAction::Put(value) => {
                    let version = self.version();
                    rows.insert(key, (version.clone(), value.clone()));
                    Some(version)
                }
                RowAction::Delete => {
                    rows.remove(&key);
                    None
                }
                RowAction::Check => None,
            });
        }
        drop(rows);
        self.answered(TransactOutcome::Applied { versions })
    }
}

fn failure(code: ErrorCode, outcome: Outcome) -> RequestError {
    RequestError {
        code,
        outcome,
        message: "told to fail".to_owned(),
        retry_after: None,
        node: None,
        retryable: true,
    }
}

impl Kv for MemoryKv {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Read, RequestError>> {
        async move { self.read(key) }.boxed()
    }

    fn put<'a>(
        &'a self,
        key: &'a Key,
        value: Value,
        _: &'a Context,
    ) -> BoxFuture<'a, Result<Written, RequestError>> {
        async move { self.write(key.clone(), Some(value)) }.boxed()
    }

    fn delete<'a>(
        &'a self,
        key: &'a Key,
        _: &'a Context,
    ) -> BoxFuture<'a, Result<Written, RequestError>> {
        async move { self.write(key.clone(), None) }.boxed()
    }

    fn get_many<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Vec<Result<Read, RequestError>>> {
        async move { keys.iter().map(|key| self.read(key)).collect() }.boxed()
    }

    fn put_many(&self, puts: Vec<Put>) -> BoxFuture<'_, Vec<Result<Written, RequestError>>> {
        let write = |put: Put| self.write(put.key, Some(put.value));
        async move { puts.into_iter().map(write).collect() }.boxed()
    }

    fn scan<'a>(&'a self, query: &'a ScanQuery) -> BoxFuture<'a, Result<Page, RequestError>> {
        async move { self.page(query) }.boxed()
    }

    fn transact<'a>(
        &'a self,
        transaction: &'a Transaction,
    ) -> BoxFuture<'a, Result<TransactOutcome, RequestError>> {
        let Transaction {
            bucket,
            partition_key,
            operations,
        } = transaction;
        async move { self.apply(bucket, partition_key, operations) }.boxed()
    }
}

impl CartBucket for MemoryKv {
    async fn read(
        &self,
        id: &StoreCartId,
        _: Consistency,
        _: Duration,
    ) -> Result<Read, RequestError> {
        MemoryKv::read(self, &Key::new("carts", id.as_str(), ""))
    }

    async fn write(
        &self,
        id: &StoreCartId,
        cart: Bytes,
        context: &Context,
        _: Duration,
    ) -> Result<Written, RequestError> {
        let key = Key::new("carts", id.as_str(), "");
        self.check_up()?;
        // The tests write a cart from one place at a time, so what is overwritten was always read.
        assert_eq!(
            MemoryKv::read(self, &key)?.context,
            *context,
            "a blind write over a cart"
        );
        MemoryKv::write(self, key, Some(Value::new("application/json", cart)))
    }
}

impl StockBucket for MemoryKv {
    async fn get(
        &self,
        rows: &[(&StockId, RowKey)],
        _: Duration,
    ) -> Vec<Result<Option<Versioned>, RequestError>> {
        let read = |(stock, key): &(&StockId, RowKey)| {
            let read = self.read(&Key::new("stock", stock.to_string(), key.to_bytes()))?;
            let value = read.values.into_iter().next();
            Ok(value
                .zip(read.version)
                .map(|(value, version)| Versioned { value, version }))
        };
        rows.iter().map(read).collect()
    }

    async fn scan(
        &self,
        stock: &StockId,
        prefix: &str,
        from: Option<RowKey>,
        limit: usize,
        _: Duration,
    ) -> Result<RowPage, RequestError> {
        let query = ScanQuery {
            prefix: Bytes::copy_from_slice(prefix.as_bytes()),
            start: from.map(|key| key.to_bytes()).unwrap_or_default(),
            limit: u32::try_from(limit).unwrap(),
            ..ScanQuery::new("stock", stock.to_string())
        };
        let page = self.page(&query)?;
        let value = |row: Row| Some((row.sort_key, row.values.into_iter().next()?.data));
        let complete = page.continuation.is_none();
        Ok(RowPage {
            rows: page.rows.into_iter().filter_map(value).collect(),
            complete,
        })
    }

    async fn transact(
        &self,
        stock: &StockId,
        operations: Vec<RowOperation>,
        _: Duration,
    ) -> Result<TransactOutcome, RequestError> {
        self.apply("stock", stock.to_string().as_bytes(), &operations)
    }
}

/// A shop over a store in memory, with a payment provider on a socket of its own.
pub(crate) struct TestShop {
    pub(crate) kv: MemoryKv,
    pub(crate) state: Arc<ShopState>,
    pub(crate) router: Router,
    pub(crate) provider: SocketAddr,
    _directory: tempfile::TempDir,
}

/// What a request came to.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Json,
}

impl TestShop {
    /// A shop that sells `kettle` (40.00, 5 units), `cup` (5.00, 100 units) and `poster` (no price).
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let provider = start_provider(&directory.path().join("payments.jsonl")).await;
        let kv = MemoryKv::default();
        let shop = Self::over(kv, provider, directory).await;
        for (id, price, units) in [
            ("kettle", Some(4_000), 5),
            ("cup", Some(500), 100),
            ("poster", None, 1),
        ] {
            let mut product =
                Product::new(id.parse().unwrap(), format!("The {id}"), Currency::USD, 1);
            product.price_minor = price;
            product.category_path = vec!["Things".to_owned()];
            shop.import(product, units).await;
        }
        shop
    }

    async fn over(kv: MemoryKv, provider: SocketAddr, directory: tempfile::TempDir) -> Self {
        let url = format!("http://{provider}");
        let mut options = ShopOptions::new(provider, Vec::new(), url.clone());
        options.admin_token = Some("secret".to_owned());
        options.checkout_hold = CHECKOUT_HOLD;
        let parts = Parts {
            kv: Arc::new(kv.clone()),
            carts: Arc::new(CartStore::new(kv.clone(), CartStoreOptions::default())),
            stocks: Arc::new(StockShelf::over(kv.clone())),
            provider: ProviderClient::new(&url).unwrap(),
        };
        let state = parts.assemble(&options).unwrap();
        state.index_filled.store(true, Ordering::Release);
        let router = router(Arc::clone(&state), 64);
        Self {
            kv,
            state,
            router,
            provider,
            _directory: directory,
        }
    }

    async fn import(&self, product: Product, units: u32) {
        let target = Target {
            catalog: self.state.catalog.clone(),
            stocks: Arc::clone(&self.state.stocks),
        };
        let options = CatalogueOptions {
            currency: Currency::USD,
            initial_stock: units,
            now_unix_ms: 1,
        };
        self.state
            .index
            .apply(std::slice::from_ref(&product), &[])
            .unwrap();
        import_products(vec![product], &target, options, |_| {})
            .await
            .unwrap();
    }

    /// Sends a request; `headers` are `name: value` lines.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Json>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = match body {
            Some(body) => {
                request = request.header("content-type", "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        self.send_raw(request.body(body).unwrap()).await
    }

    /// Sends a request as it is.
    pub(crate) async fn send_raw(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, 1 << 22).await.unwrap();
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Json::String(String::from_utf8_lossy(&bytes).into_owned()));
        Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }

    /// Puts units into a cart and returns its id.
    pub(crate) async fn fill(&self, lines: &[(&str, u32)]) -> String {
        let mut cart: Option<String> = None;
        for (sku, quantity) in lines {
            let mut body = serde_json::json!({ "sku": sku, "quantity": quantity });
            if let Some(cart) = &cart {
                body["cart_id"] = Json::from(cart.as_str());
            }
            let answer = self
                .send("POST", "/api/v1/cart/items", &[], Some(body))
                .await;
            assert_eq!(answer.status, 200, "{answer:?}");
            cart = Some(answer.body["cart_id"].as_str().unwrap().to_owned());
        }
        cart.unwrap()
    }

    /// Checks out under `key` with `token`.
    pub(crate) async fn checkout(&self, key: &str, cart: &str, token: &str) -> Answer {
        let body = checkout_body(cart, token);
        let headers = [("idempotency-key", key)];
        self.send("POST", "/api/v1/orders/checkout", &headers, Some(body))
            .await
    }

    /// Units of `sku`: available, reserved, allocated.
    pub(crate) async fn units(&self, sku: &str) -> (u64, u64, u64) {
        let counts = self
            .state
            .stocks
            .counts(&sku.parse().unwrap())
            .await
            .unwrap()
            .unwrap();
        (counts.available, counts.reserved, counts.allocated)
    }
}

/// How long checkouts of a test shop hold their units: not the default.
pub(crate) const CHECKOUT_HOLD: Duration = Duration::from_secs(7);

/// A checkout of `cart` paid with `token`.
pub(crate) fn checkout_body(cart: &str, token: &str) -> Json {
    serde_json::json!({
        "cart_id": cart,
        "customer_id": "ada",
        "payment": { "token": token },
        "shipping_address": {
            "name": "Ada", "lines": ["Canal 1"], "city": "Fez", "country": "MA"
        }
    })
}

/// Starts a payment provider that ends with the test.
async fn start_provider(file: &Path) -> SocketAddr {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    tokio::spawn(payment_provider::serve(
        address,
        file.to_owned(),
        std::future::pending(),
    ));
    let client = ProviderClient::new(&format!("http://{address}")).unwrap();
    while !client.is_ready().await {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    address
}
