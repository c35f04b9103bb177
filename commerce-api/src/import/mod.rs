//! Bringing outside files in: catalogues and baskets.
//!
//! Place: called by the command line, with or without a shop running; talks to the store directly.
//! Shape: `lines` opens a file (gzip or plain), `record` turns one object into a product (pure),
//! `catalogue` and `baskets` do the work and report.
//! Invariants: 1. an import is idempotent: running it again changes nothing. 2. a bad line is counted, named
//! with its line number and skipped; it never stops the rest.

pub mod baskets;
pub mod catalogue;
mod lines;
pub mod record;
mod report;

use std::path::Path;
use std::sync::Arc;

use souk_kv_client::Client;

pub use catalogue::CatalogueOptions;
pub use report::{ImportError, Progress, Report, SKIPPED_NAMED_MAX, SkippedLine};

use crate::buckets;
use crate::catalog::CatalogStore;
use crate::kv::SharedKv;
use crate::recommend::{PairCounter, RecommendationStore};
use crate::sample;
use crate::stock::StockShelf;

/// Baskets of the sample catalogue.
const SAMPLE_BASKETS: usize = 3_000;

/// Imports the catalogue in `path` into the cluster of `client`; makes the buckets if need be.
///
/// # Errors
/// The file cannot be read, not one line of it is a product, or the store refuses.
pub async fn catalogue(
    path: &Path,
    client: &Client,
    options: CatalogueOptions,
    progress: impl Fn(Progress) + Send + Sync,
) -> Result<Report, ImportError> {
    let target = target(client).await?;
    catalogue::import(path, &target, options, progress).await
}

/// Imports the baskets in `path` into the cluster of `client`; makes the buckets if need be.
///
/// # Errors
/// The file cannot be read or lacks a column, or the store refuses.
pub async fn baskets(
    path: &Path,
    client: &Client,
    progress: impl Fn(Progress) + Send + Sync,
) -> Result<Report, ImportError> {
    create_buckets(client).await?;
    let kv: SharedKv = Arc::new(client.clone());
    baskets::import(path, &RecommendationStore::new(kv), progress).await
}

/// Fills the cluster of `client` with the project's own sample: `count` products with stock, and what baskets of
/// them teach.
///
/// # Errors
/// The store refuses.
pub async fn sample(
    seed: u64,
    count: usize,
    client: &Client,
    options: CatalogueOptions,
    progress: impl Fn(Progress) + Send + Sync,
) -> Result<Report, ImportError> {
    let target = target(client).await?;
    let products: Vec<_> = sample::generate(seed, count, options.currency).collect();
    let ids: Vec<_> = products.iter().map(|product| product.id.clone()).collect();
    let report = catalogue::import_products(products, &target, options, &progress).await?;
    let mut counter = PairCounter::default();
    for basket in sample::baskets(seed, &ids, SAMPLE_BASKETS) {
        counter.add(&basket);
    }
    let kv: SharedKv = Arc::new(client.clone());
    let stored = RecommendationStore::new(kv)
        .replace(&counter.finish(), |_| {})
        .await;
    stored.map_err(|fault| ImportError::Store {
        what: "recommendations".to_owned(),
        why: fault.to_string(),
    })?;
    Ok(report)
}

async fn target(client: &Client) -> Result<catalogue::Target, ImportError> {
    create_buckets(client).await?;
    let kv: SharedKv = Arc::new(client.clone());
    let stocks = Arc::new(StockShelf::new(client.clone()));
    Ok(catalogue::Target {
        catalog: CatalogStore::new(kv),
        stocks,
    })
}

async fn create_buckets(client: &Client) -> Result<(), ImportError> {
    buckets::create_missing(client)
        .await
        .map_err(|error| ImportError::Store {
            what: "the shop's buckets".to_owned(),
            why: error.to_string(),
        })
}
