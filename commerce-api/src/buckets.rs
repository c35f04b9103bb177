//! The buckets of the shop, and how each one is kept.
//!
//! Place: made by `crate::serve` and by imports on their first start; named by every store.
//! Shape: see the table in [`all`].
//! Invariants: 1. creating them again changes nothing. 2. what must never be lost or sold twice is a register.

use souk_kv_client::{BucketConfig, BucketMode, Client, RequestError};

/// Products, spread over shards, and the marks that say which shard changed.
pub const CATALOG: &str = "catalog";
/// Carts.
pub const CARTS: &str = "carts";
/// What is held for carts.
pub const CART_HOLDS: &str = "cart-holds";
/// Stock, one register group for each SKU and centre.
pub const STOCK: &str = "stock";
/// Orders, one register group each.
pub const ORDERS: &str = "orders";
/// Orders by customer.
pub const ORDERS_BY_CUSTOMER: &str = "orders-by-customer";
/// Orders that a crashed shop may have left unfinished.
pub const CHECKOUT_PENDING: &str = "checkout-pending";
/// Payment intents, one register group each.
pub const PAYMENTS: &str = "payments";
/// What is bought together.
pub const RECOMMENDATIONS: &str = "recommendations";
/// What customers say about products.
pub const REVIEWS: &str = "reviews";

/// Every bucket of the shop.
#[must_use]
pub fn all() -> Vec<BucketConfig> {
    vec![
        souk_cart::store::cart_bucket(CARTS),
        BucketConfig {
            // No hold is longer.
            ttl_ms: souk_inventory::HOLD_MAX_MS,
            ..bucket(CART_HOLDS, BucketMode::Lww)
        },
        bucket(CATALOG, BucketMode::Lww),
        bucket(CHECKOUT_PENDING, BucketMode::Lww),
        bucket(ORDERS, BucketMode::Register),
        bucket(ORDERS_BY_CUSTOMER, BucketMode::Lww),
        bucket(PAYMENTS, BucketMode::Register),
        bucket(RECOMMENDATIONS, BucketMode::Lww),
        bucket(REVIEWS, BucketMode::Lww),
        souk_inventory::store::stock_bucket(STOCK),
    ]
}

/// Makes the buckets that are missing.
///
/// # Errors
/// The cluster does not answer, or has a bucket of that name with another configuration.
pub async fn create_missing(client: &Client) -> Result<(), RequestError> {
    for config in all() {
        let name = config.name.clone();
        if client.admin().create_bucket(config).await? {
            tracing::info!(bucket = name, "bucket created");
        }
    }
    Ok(())
}

fn bucket(name: &str, mode: BucketMode) -> BucketConfig {
    BucketConfig {
        name: name.to_owned(),
        mode: mode as i32,
        ..BucketConfig::default()
    }
}
