//! Products in the store.
//!
//! Place: over `crate::kv`; used by carts, checkout, import, the index and the product pages.
//! Shape: bucket `catalog`: (`shard-NN`, product id) holds a product; (`marks`, `shard-NN`) holds a text that
//! changes after every change of the shard.
//! Invariants: 1. the mark is written after the product, so whoever sees the new mark finds the new product, and
//! whoever scanned too early sees the mark change again.
//! Not here: `If-Match` (checked by the caller; the bucket is last-writer-wins, so two editors who write within
//! the same instant are settled by the later stamp).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use souk_kv_client::{Context, Key, Put, ScanQuery};
use uuid::Uuid;

use super::product::Product;
use super::shard::{CATALOG_SHARDS, Shard};
use crate::buckets::CATALOG;
use crate::fault::StoreFault;
use crate::ids::ProductId;
use crate::kv::{SharedKv, json};

/// The partition key of the marks.
const MARKS: &str = "marks";
/// Rows asked for at once when a shard is read.
const SCAN_ROWS: u32 = 200;
/// Products written or read at once.
const BATCH: usize = 200;

/// The catalogue in the store.
#[derive(Clone)]
pub struct CatalogStore {
    kv: SharedKv,
}

/// A product as the store has it.
#[derive(Clone, Debug)]
pub struct StoredProduct {
    /// The product.
    pub product: Product,
    /// For the write that replaces it.
    pub context: Context,
}

/// What the marks said: shard → when it changed last and under which mark.
pub type Marks = BTreeMap<Shard, Bytes>;

impl CatalogStore {
    /// The catalogue behind `kv`.
    #[must_use]
    pub fn new(kv: SharedKv) -> Self {
        Self { kv }
    }

    /// One product.
    ///
    /// # Errors
    /// The store cannot be read, or holds what is no product.
    pub async fn get(&self, id: &ProductId) -> Result<Option<StoredProduct>, StoreFault> {
        let read = self.kv.get(&key(id)).await;
        let read = read.map_err(|error| StoreFault::from_request("read a product", error))?;
        let Some(value) = read.values.into_iter().next() else {
            return Ok(None);
        };
        let product = decode(&value.data)?;
        Ok(Some(StoredProduct {
            product,
            context: read.context,
        }))
    }

    /// Many products, in the order of `ids`; `None` where there is none.
    ///
    /// # Errors
    /// Any of them cannot be read.
    pub async fn get_many(&self, ids: &[ProductId]) -> Result<Vec<Option<Product>>, StoreFault> {
        let mut products = Vec::with_capacity(ids.len());
        for batch in ids.chunks(BATCH) {
            let keys: Vec<Key> = batch.iter().map(key).collect();
            for read in self.kv.get_many(&keys).await {
                let read =
                    read.map_err(|error| StoreFault::from_request("read products", error))?;
                let value = read.values.into_iter().next();
                products.push(value.map(|value| decode(&value.data)).transpose()?);
            }
        }
        Ok(products)
    }

    /// Stores one product and marks its shard as changed.
    ///
    /// # Errors
    /// The store refuses, or does not answer: then the product may be stored.
    pub async fn put(&self, product: &Product, context: &Context) -> Result<(), StoreFault> {
        let value = json(product.to_bytes());
        let written = self.kv.put(&key(&product.id), value, context).await;
        written.map_err(|error| StoreFault::from_request("store a product", error))?;
        self.mark(&BTreeSet::from([shard(&product.id)])).await
    }

    /// Stores many products and marks their shards. Tells of each whether it was stored.
    pub async fn put_many(&self, products: &[Product]) -> Vec<Result<(), StoreFault>> {
        let mut results = Vec::with_capacity(products.len());
        for batch in products.chunks(BATCH) {
            let puts = batch.iter().map(|product| Put {
                key: key(&product.id),
                value: json(product.to_bytes()),
                context: Context::default(),
            });
            let written = self.kv.put_many(puts.collect()).await;
            results.extend(written.into_iter().map(|result| {
                result
                    .map(|_| ())
                    .map_err(|error| StoreFault::from_request("store products", error))
            }));
        }
        results
    }

    /// Every product of one shard, in the order of their ids.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn scan_shard(&self, shard: Shard) -> Result<Vec<Product>, StoreFault> {
        let mut query = ScanQuery::new(CATALOG, shard.partition_key());
        query.limit = SCAN_ROWS;
        let mut products = Vec::new();
        loop {
            let page = self.kv.scan(&query).await;
            let page = page.map_err(|error| StoreFault::from_request("list products", error))?;
            for row in page.rows {
                if let Some(value) = row.values.into_iter().next() {
                    products.push(decode(&value.data)?);
                }
            }
            match page.continuation {
                Some(continuation) => query.continuation = Some(continuation),
                None => return Ok(products),
            }
        }
    }

    /// The marks of all shards that ever changed.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn marks(&self) -> Result<Marks, StoreFault> {
        let mut query = ScanQuery::new(CATALOG, MARKS);
        query.limit = u32::from(CATALOG_SHARDS);
        let page = self.kv.scan(&query).await;
        let page = page.map_err(|error| StoreFault::from_request("look for changes", error))?;
        let by_name: BTreeMap<String, Bytes> = page
            .rows
            .into_iter()
            .filter_map(|row| {
                let name = String::from_utf8(row.sort_key.to_vec()).ok()?;
                Some((name, row.values.into_iter().next()?.data))
            })
            .collect();
        Ok(Shard::all(CATALOG_SHARDS)
            .filter_map(|shard| Some((shard, by_name.get(&shard.partition_key())?.clone())))
            .collect())
    }

    /// Marks shards as changed.
    ///
    /// # Errors
    /// A mark cannot be written; other shop processes then notice the change only at their next full sweep.
    pub async fn mark(&self, shards: &BTreeSet<Shard>) -> Result<(), StoreFault> {
        let puts = shards.iter().map(|shard| Put {
            key: Key::new(CATALOG, MARKS, shard.partition_key()),
            // Version 7: unique, and it carries the time, from which followers compute how late they are.
            value: json(format!("\"{}\"", Uuid::now_v7()).into_bytes()),
            context: Context::default(),
        });
        for written in self.kv.put_many(puts.collect()).await {
            written.map_err(|error| StoreFault::from_request("mark the change", error))?;
        }
        Ok(())
    }
}

/// The shard of a product.
#[must_use]
pub fn shard(id: &ProductId) -> Shard {
    Shard::of(id.as_str(), CATALOG_SHARDS)
}

fn key(id: &ProductId) -> Key {
    Key::new(CATALOG, shard(id).partition_key(), id.as_str())
}

fn decode(bytes: &[u8]) -> Result<Product, StoreFault> {
    Product::from_bytes(bytes).map_err(|error| StoreFault::Unreadable {
        what: "product",
        why: error.to_string(),
    })
}
