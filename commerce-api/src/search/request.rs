//! One search and its answer, as plain data.
//!
//! Place: pure; read from the query string by `crate::http`, answered by `super::index`.
//! Not here: refusing what is out of range (`crate::http`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::catalog::Product;
use crate::ids::ProductId;
use crate::money::{Currency, Money};

/// The longest query, in characters.
pub const QUERY_CHARS_MAX: usize = 256;
/// The largest page.
pub const PAGE_SIZE_MAX: u32 = 100;
/// The page size when none is named.
pub const PAGE_SIZE_DEFAULT: u32 = 20;
/// How many hits deep a search may page. Deeper pages would cost more and help nobody; they are empty.
pub const WINDOW_MAX: u32 = 10_000;
/// Brands and categories counted in each answer.
pub const FACETS_MAX: u32 = 20;

/// In which order hits come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// The best match first; without words, the most reviewed first.
    #[default]
    Relevance,
    /// The cheapest first; products without a price last.
    PriceAsc,
    /// The dearest first; products without a price last.
    PriceDesc,
    /// The best rated first, where a few ratings count less than many.
    Rating,
    /// The most recently stored first.
    Newest,
    /// By title.
    Name,
}

impl Sort {
    /// Every order, with its name.
    pub const ALL: [(Sort, &'static str); 6] = [
        (Sort::Relevance, "relevance"),
        (Sort::PriceAsc, "price_asc"),
        (Sort::PriceDesc, "price_desc"),
        (Sort::Rating, "rating"),
        (Sort::Newest, "newest"),
        (Sort::Name, "name"),
    ];
}

/// The text names no order; the message lists them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownSort;

impl fmt::Display for UnknownSort {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = Sort::ALL.iter().map(|(_, name)| *name).collect();
        write!(formatter, "unknown sort; use one of {}", names.join(", "))
    }
}

impl std::error::Error for UnknownSort {}

impl FromStr for Sort {
    type Err = UnknownSort;

    fn from_str(text: &str) -> Result<Self, UnknownSort> {
        Sort::ALL
            .iter()
            .find(|(_, name)| *name == text)
            .map(|(sort, _)| *sort)
            .ok_or(UnknownSort)
    }
}

/// One search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchRequest {
    /// What the customer typed; blank means everything.
    pub words: String,
    /// Only this category and those below it, as `Makeup/Eye`.
    pub category: Option<String>,
    /// The order of the hits.
    pub sort: Sort,
    /// The page, from 1.
    pub page: u32,
    /// Hits on a page, `1..=PAGE_SIZE_MAX`.
    pub size: u32,
}

impl SearchRequest {
    /// A search for `words` in everything, first page, best match first.
    #[must_use]
    pub fn for_words(words: &str) -> Self {
        Self {
            words: words.to_owned(),
            category: None,
            sort: Sort::Relevance,
            page: 1,
            size: PAGE_SIZE_DEFAULT,
        }
    }

    /// Hits before the first one of the page.
    #[must_use]
    pub fn offset(&self) -> u64 {
        u64::from(self.page.saturating_sub(1)) * u64::from(self.size)
    }

    /// Whether the page lies within [`WINDOW_MAX`].
    #[must_use]
    pub fn is_within_window(&self) -> bool {
        self.offset() + u64::from(self.size) <= u64::from(WINDOW_MAX)
    }
}

/// How the words were matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Matched {
    /// There were no words: everything in the category.
    Everything,
    /// Products with some of the words; those with more of them come first.
    Words,
    /// Nothing held the words, so similarly spelled ones were tried.
    SimilarSpelling,
}

/// A product as a list shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Card {
    /// The product.
    #[schema(value_type = String)]
    pub id: ProductId,
    /// Its title.
    pub title: String,
    /// Its brand; empty when the catalogue names none.
    pub brand: String,
    /// From the widest category to the narrowest.
    pub category_path: Vec<String>,
    /// The usual price in minor units; `null` when it is not sold.
    pub price_minor: Option<i64>,
    /// The reduced price in minor units, if there is one.
    pub sale_price_minor: Option<i64>,
    /// ISO 4217.
    #[schema(value_type = String, min_length = 3, max_length = 3)]
    pub currency: Currency,
    /// Mean rating, 0 to 5.
    pub rating: Option<f64>,
    /// Ratings behind the mean.
    pub review_count: u32,
}

impl Card {
    /// What one unit costs now: the reduced price where it is lower; `None` when the product is not sold.
    #[must_use]
    pub fn unit_price(&self) -> Option<Money> {
        let usual = self.price_minor?;
        let price = self.sale_price_minor.map_or(usual, |sale| sale.min(usual));
        Some(Money::new(price, self.currency))
    }
}

impl From<&Product> for Card {
    fn from(product: &Product) -> Self {
        Self {
            id: product.id.clone(),
            title: product.title.clone(),
            brand: product.brand.clone(),
            category_path: product.category_path.clone(),
            price_minor: product.price_minor,
            sale_price_minor: product.sale_price_minor,
            currency: product.currency,
            rating: product.rating,
            review_count: product.review_count,
        }
    }
}

/// How many of the hits carry one value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FacetCount {
    /// The brand, or the category as the `category` parameter takes it.
    pub value: String,
    /// Hits with it.
    pub count: u64,
}

/// The answer to one search.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchAnswer {
    /// All hits, on every page.
    pub total: u64,
    /// The hits of this page.
    pub hits: Vec<Card>,
    /// How the words were matched.
    pub matched: Matched,
    /// The commonest brands among all hits, most first.
    pub brands: Vec<FacetCount>,
    /// The commonest categories among all hits, most first; a product counts in each level it is in.
    pub categories: Vec<FacetCount>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sort_has_a_name_that_parses() {
        for (sort, name) in Sort::ALL {
            assert_eq!(name.parse(), Ok(sort));
            assert_eq!(serde_json::to_value(sort).unwrap(), name);
        }
        let message = "cheapest".parse::<Sort>().unwrap_err().to_string();
        assert!(
            message.contains("price_asc") && message.contains("newest"),
            "{message}"
        );
    }

    #[test]
    fn the_window_has_an_end() {
        let mut request = SearchRequest::for_words("x");
        request.size = 100;
        request.page = 100;
        assert!(request.is_within_window());
        request.page = 101;
        assert!(!request.is_within_window());
        request.page = u32::MAX;
        assert!(!request.is_within_window());
    }
}
