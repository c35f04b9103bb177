//! Keeps the index in step with the catalogue, also with what other shop processes write.
//!
//! Place: one task per shop process, started by `crate::serve`.
//! Shape: read everything once; then look at the shards' marks every [`LOOK_EVERY`] and read again what changed.
//! A full sweep every [`SWEEP_EVERY`] catches a change whose mark was never written.
//! Invariants: 1. the marks are read before the shards, so a change in between is seen at the next look.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::index::{SearchIndex, SearchIndexError};
use crate::catalog::shard::CATALOG_SHARDS;
use crate::catalog::store::{Marks, shard};
use crate::catalog::{CatalogStore, Shard};
use crate::clock::now_unix_ms;
use crate::fault::StoreFault;

/// How often the marks are read. Twice this, plus the time to read a shard, is the lag to expect.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often everything is read again.
pub const SWEEP_EVERY: Duration = Duration::from_secs(600);
/// Shards read at the same time.
const SHARDS_AT_ONCE: usize = 8;

/// Follows the catalogue.
pub struct SearchSync {
    catalog: CatalogStore,
    index: Arc<SearchIndex>,
    seen: Marks,
}

/// Why the index could not follow.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// What: the store does not answer.
    #[error(transparent)]
    Store(#[from] StoreFault),
    /// What: the index does not take the products.
    #[error(transparent)]
    Index(#[from] SearchIndexError),
}

impl SearchSync {
    /// A follower that has seen nothing yet.
    #[must_use]
    pub fn new(catalog: CatalogStore, index: Arc<SearchIndex>) -> Self {
        Self {
            catalog,
            index,
            seen: Marks::new(),
        }
    }

    /// Reads the whole catalogue. Returns how many documents changed.
    ///
    /// # Errors
    /// The store or the index fails; what was read so far is kept.
    pub async fn sweep(&mut self) -> Result<usize, SyncError> {
        let marks = self.catalog.marks().await?;
        let changed = self.read(Shard::all(CATALOG_SHARDS).collect()).await?;
        self.seen = marks;
        Ok(changed)
    }

    /// Reads the shards that changed since the last look. Returns how many documents changed.
    ///
    /// # Errors
    /// The store or the index fails; the same shards are read again next time.
    pub async fn look(&mut self) -> Result<usize, SyncError> {
        let marks = self.catalog.marks().await?;
        let is_new = |shard: &Shard| marks.get(shard) != self.seen.get(shard);
        let shards: Vec<Shard> = marks.keys().copied().filter(is_new).collect();
        if shards.is_empty() {
            return Ok(0);
        }
        let oldest = shards
            .iter()
            .filter_map(|shard| marked_unix_ms(&marks, *shard))
            .min();
        let changed = self.read(shards).await?;
        self.seen = marks;
        if let Some(oldest) = oldest {
            let lag = now_unix_ms().saturating_sub(oldest) as f64 / 1_000.0;
            metrics::histogram!("souk_shop_search_lag_seconds").record(lag);
        }
        Ok(changed)
    }

    /// Follows until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut since_sweep = Duration::ZERO;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            since_sweep += LOOK_EVERY;
            let result = if since_sweep >= SWEEP_EVERY {
                since_sweep = Duration::ZERO;
                self.sweep().await
            } else {
                self.look().await
            };
            match result {
                Ok(0) => {}
                Ok(changed) => tracing::info!(changed, "search index caught up"),
                Err(error) => {
                    tracing::warn!(%error, "the search index cannot follow the catalogue")
                }
            }
            metrics::gauge!("souk_shop_search_products").set(self.index.len() as f64);
        }
    }

    async fn read(&self, shards: Vec<Shard>) -> Result<usize, SyncError> {
        let scans = shards.iter().map(|shard| {
            let (catalog, shard) = (self.catalog.clone(), *shard);
            async move { catalog.scan_shard(shard).await }
        });
        let scans: Vec<_> = scans.collect();
        let products: Vec<Vec<_>> = stream::iter(scans)
            .buffered(SHARDS_AT_ONCE)
            .try_collect()
            .await?;
        let products: Vec<_> = products.into_iter().flatten().collect();
        let index = Arc::clone(&self.index);
        let applied = tokio::task::spawn_blocking(move || {
            let found: std::collections::BTreeSet<_> =
                products.iter().map(|product| product.id.clone()).collect();
            let gone = index.ids(|id| shards.contains(&shard(id)) && !found.contains(id));
            index.apply(&products, &gone)
        });
        Ok(applied.await.unwrap_or(Err(SearchIndexError::Stopped))?)
    }
}

fn marked_unix_ms(marks: &Marks, shard: Shard) -> Option<u64> {
    let text = std::str::from_utf8(marks.get(&shard)?).ok()?;
    let (seconds, nanos) = text
        .trim_matches('"')
        .parse::<Uuid>()
        .ok()?
        .get_timestamp()?
        .to_unix();
    Some(seconds * 1_000 + u64::from(nanos) / 1_000_000)
}

#[cfg(test)]
mod tests {
    use souk_kv_client::Context;

    use super::*;
    use crate::catalog::Product;
    use crate::money::Currency;
    use crate::search::SearchRequest;
    use crate::testing::MemoryKv;

    fn product(id: &str, title: &str) -> Product {
        Product::new(id.parse().unwrap(), title.to_owned(), Currency::USD, 1)
    }

    fn total(index: &SearchIndex, words: &str) -> u64 {
        index
            .search(&SearchRequest::for_words(words))
            .unwrap()
            .total
    }

    #[tokio::test]
    async fn follows_what_another_process_writes() {
        let catalog = CatalogStore::new(Arc::new(MemoryKv::default()));
        let index = Arc::new(SearchIndex::new().unwrap());
        let mut sync = SearchSync::new(catalog.clone(), Arc::clone(&index));
        catalog
            .put(&product("a", "Copper kettle"), &Context::default())
            .await
            .unwrap();
        assert_eq!(sync.sweep().await.unwrap(), 1);
        assert_eq!(sync.look().await.unwrap(), 0, "nothing changed since");
        catalog
            .put(&product("b", "Copper pan"), &Context::default())
            .await
            .unwrap();
        assert_eq!(sync.look().await.unwrap(), 1);
        catalog
            .put(&product("a", "Iron kettle"), &Context::default())
            .await
            .unwrap();
        assert_eq!(sync.look().await.unwrap(), 1);
        assert_eq!((total(&index, "copper"), total(&index, "iron")), (1, 1));
    }

    #[tokio::test]
    async fn a_write_whose_mark_was_lost_is_found_by_the_sweep() {
        let catalog = CatalogStore::new(Arc::new(MemoryKv::default()));
        let index = Arc::new(SearchIndex::new().unwrap());
        let mut sync = SearchSync::new(catalog.clone(), Arc::clone(&index));
        catalog
            .put_many(&[product("a", "Copper kettle")])
            .await
            .pop()
            .unwrap()
            .unwrap();
        assert_eq!(sync.look().await.unwrap(), 0, "no mark, no look");
        assert_eq!(sync.sweep().await.unwrap(), 1);
    }

    #[test]
    fn reads_the_time_out_of_a_mark() {
        let shard = Shard::of("x", CATALOG_SHARDS);
        let now = now_unix_ms();
        let mark = format!("\"{}\"", Uuid::now_v7());
        let marks = Marks::from([(shard, mark.into())]);
        let marked = marked_unix_ms(&marks, shard).unwrap();
        assert!((now..=now_unix_ms()).contains(&marked), "{marked}");
        assert_eq!(
            marked_unix_ms(&Marks::from([(shard, "odd".into())]), shard),
            None
        );
    }
}
