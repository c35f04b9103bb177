//! "Customers who bought this also bought": counted from baskets, offline.
//!
//! Place: filled by `crate::import::baskets`, read by the also-bought endpoint.
//! Shape: `pairs` counts and scores (pure), `store` keeps a short list for each product.
//! Invariants: 1. a read costs one row. 2. without a list of its own a product falls back to best sellers, and the
//! answer says so.

pub mod pairs;
pub mod store;

pub use pairs::{Learned, PairCounter};
pub use store::{RecommendationStore, Source};
