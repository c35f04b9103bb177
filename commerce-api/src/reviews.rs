//! What customers say about products: one review per customer and product.
//!
//! Place: over `crate::kv`; read and written by the review endpoints.
//! Shape: bucket `reviews`, last writer wins: (product, customer) holds a review. A customer who writes again replaces
//! what they said before. The badge *verified* is given only with a delivered order that holds the product.
//! Invariants: 1. one review per customer and product. 2. a summary counts each customer once.
//! Not here: the ratings a catalogue came with (`crate::catalog`).

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use souk_kv_client::{Context, Key, ScanQuery};

use crate::buckets::REVIEWS;
use crate::fault::StoreFault;
use crate::ids::{CustomerId, ProductId};
use crate::kv::{SharedKv, json, next_cursor};

/// The longest title, in characters.
pub const TITLE_CHARS_MAX: usize = 200;
/// The longest text, in characters.
pub const TEXT_CHARS_MAX: usize = 5_000;
/// Reviews read for a summary, at most. Beyond, the summary says that it is partial.
const SUMMARY_MAX: usize = 5_000;

/// One review.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Review {
    /// Who wrote it.
    #[schema(value_type = String)]
    pub customer: CustomerId,
    /// Stars.
    #[schema(minimum = 1, maximum = 5)]
    pub rating: u8,
    /// A headline; may be empty.
    pub title: String,
    /// What they say; may be empty.
    pub text: String,
    /// The customer had the product delivered.
    pub verified: bool,
    /// When it was written, in Unix milliseconds.
    pub written_unix_ms: u64,
}

/// All ratings of a product.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RatingSummary {
    /// Reviews.
    pub count: u64,
    /// Mean stars; `null` without reviews.
    pub mean: Option<f64>,
    /// Reviews with 1, 2, 3, 4 and 5 stars.
    #[schema(min_items = 5, max_items = 5)]
    pub by_stars: [u64; 5],
    /// There are more reviews than were counted.
    pub partial: bool,
}

impl RatingSummary {
    /// Counts one rating.
    fn add(&mut self, rating: u8) {
        let Some(count) = self.by_stars.get_mut(usize::from(rating).wrapping_sub(1)) else {
            return;
        };
        *count += 1;
        self.count += 1;
        let stars = self
            .by_stars
            .iter()
            .zip(1_u64..)
            .map(|(count, stars)| count * stars);
        self.mean = Some(stars.sum::<u64>() as f64 / self.count as f64);
    }
}

/// One page of reviews.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReviewPage {
    /// In the order of their customers.
    pub reviews: Vec<Review>,
    /// For the next page; `None` on the last.
    pub next: Option<String>,
}

/// The reviews of all products.
#[derive(Clone)]
pub struct ReviewStore {
    kv: SharedKv,
}

impl ReviewStore {
    /// The reviews behind `kv`.
    #[must_use]
    pub fn new(kv: SharedKv) -> Self {
        Self { kv }
    }

    /// Stores a review in place of what the customer said before.
    ///
    /// # Errors
    /// The store refuses, or does not answer: then it may be stored.
    pub async fn put(&self, product: &ProductId, review: &Review) -> Result<(), StoreFault> {
        let key = Key::new(REVIEWS, product.as_str(), review.customer.as_str());
        let bytes = serde_json::to_vec(review).expect("a review is made of texts and numbers");
        let written = self.kv.put(&key, json(bytes), &Context::default()).await;
        written
            .map(|_| ())
            .map_err(|error| StoreFault::from_request("store the review", error))
    }

    /// A page of `limit` reviews after `cursor`.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn list(
        &self,
        product: &ProductId,
        limit: u32,
        cursor: Option<String>,
    ) -> Result<ReviewPage, StoreFault> {
        let mut query = ScanQuery::new(REVIEWS, product.as_str());
        query.limit = limit;
        // The key right after the cursor's: the same with a zero byte.
        query.start = cursor
            .map(|cursor| Bytes::from(cursor + "\0"))
            .unwrap_or_default();
        let page = self.kv.scan(&query).await;
        let page = page.map_err(|error| StoreFault::from_request("list reviews", error))?;
        let next = next_cursor(&page);
        let values = page
            .rows
            .into_iter()
            .filter_map(|row| row.values.into_iter().next());
        let reviews = values
            .map(|value| serde_json::from_slice(&value.data))
            .collect::<Result<_, _>>();
        let reviews = reviews.map_err(|error| StoreFault::Unreadable {
            what: "review",
            why: error.to_string(),
        })?;
        Ok(ReviewPage { reviews, next })
    }

    /// All ratings of a product.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn summary(&self, product: &ProductId) -> Result<RatingSummary, StoreFault> {
        let mut summary = RatingSummary::default();
        let mut cursor = None;
        loop {
            let page = self.list(product, 500, cursor).await?;
            for review in page.reviews {
                summary.add(review.rating);
            }
            cursor = page.next;
            if cursor.is_none() {
                return Ok(summary);
            }
            if summary.count as usize >= SUMMARY_MAX {
                summary.partial = true;
                return Ok(summary);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_each_rating_and_ignores_impossible_ones() {
        let mut summary = RatingSummary::default();
        for rating in [5, 5, 2, 0, 6] {
            summary.add(rating);
        }
        assert_eq!(summary.count, 3);
        assert_eq!(summary.mean, Some(4.0));
        assert_eq!(summary.by_stars, [0, 1, 0, 0, 2]);
    }
}
