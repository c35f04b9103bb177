//! Recommendations in the store.
//!
//! Place: over `crate::kv`.
//! Shape: bucket `recommendations`: (product id, `also-bought`) holds a list; (`*`, `best-sellers`) the fallback.
//! No product id is `*`, so the two never meet.
//! Invariants: 1. lists only point to products; whether one is still sold is looked up when it is shown.

use serde::{Deserialize, Serialize};
use souk_kv_client::{Context, Key, Put};

use super::pairs::Learned;
use crate::buckets::RECOMMENDATIONS;
use crate::fault::StoreFault;
use crate::ids::ProductId;
use crate::kv::{SharedKv, json};

const ALSO_BOUGHT: &str = "also-bought";
const BEST_SELLERS: &str = "best-sellers";
/// The partition key of what belongs to no single product.
const NO_PRODUCT: &str = "*";
/// Rows written at once.
const BATCH: usize = 500;

/// Where a list comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// From baskets that held the product.
    Baskets,
    /// From all baskets, because those with this product say too little.
    BestSellers,
}

/// The lists of all products.
#[derive(Clone)]
pub struct RecommendationStore {
    kv: SharedKv,
}

impl RecommendationStore {
    /// The lists behind `kv`.
    #[must_use]
    pub fn new(kv: SharedKv) -> Self {
        Self { kv }
    }

    /// What is also bought with `id`, best first; the best sellers when nothing is known.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn also_bought(
        &self,
        id: &ProductId,
    ) -> Result<(Source, Vec<ProductId>), StoreFault> {
        let list = self
            .read(&Key::new(RECOMMENDATIONS, id.as_str(), ALSO_BOUGHT))
            .await?;
        if !list.is_empty() {
            return Ok((Source::Baskets, list));
        }
        let mut best = self
            .read(&Key::new(RECOMMENDATIONS, NO_PRODUCT, BEST_SELLERS))
            .await?;
        best.retain(|other| other != id);
        Ok((Source::BestSellers, best))
    }

    /// Replaces the lists of every learned product and the best sellers. Calls `stored` with rows written so far.
    ///
    /// # Errors
    /// The first row that the store refuses; rows before it are written.
    pub async fn replace(
        &self,
        learned: &Learned,
        stored: impl Fn(usize),
    ) -> Result<(), StoreFault> {
        let rows = learned.lists.iter().map(|(id, list)| {
            let ids: Vec<&ProductId> = list.iter().map(|one| &one.id).collect();
            (Key::new(RECOMMENDATIONS, id.as_str(), ALSO_BOUGHT), ids)
        });
        let best = Key::new(RECOMMENDATIONS, NO_PRODUCT, BEST_SELLERS);
        let best = (best, learned.best_sellers.iter().collect());
        let puts: Vec<Put> = rows
            .chain([best])
            .map(|(key, ids)| Put {
                key,
                value: encode(&ids),
                context: Context::default(),
            })
            .collect();
        let mut done = 0;
        for batch in puts.chunks(BATCH) {
            for written in self.kv.put_many(batch.to_vec()).await {
                written
                    .map_err(|error| StoreFault::from_request("store recommendations", error))?;
            }
            done += batch.len();
            stored(done);
        }
        Ok(())
    }

    async fn read(&self, key: &Key) -> Result<Vec<ProductId>, StoreFault> {
        let read = self.kv.get(key).await;
        let read = read.map_err(|error| StoreFault::from_request("read recommendations", error))?;
        let Some(value) = read.values.into_iter().next() else {
            return Ok(Vec::new());
        };
        serde_json::from_slice(&value.data).map_err(|error| StoreFault::Unreadable {
            what: "list of recommendations",
            why: error.to_string(),
        })
    }
}

fn encode(ids: &[&ProductId]) -> souk_kv_client::Value {
    json(serde_json::to_vec(ids).expect("ids are texts"))
}
