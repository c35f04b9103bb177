//! The shop: catalog, search, recommendations, carts, checkout, payment, orders and fulfilment over HTTP.
//!
//! Place: stands on `souk_cart`, `souk_inventory` and `souk_kv_client`; started by the `souk` command.
//! Shape: one folder per service of the shop. Pure rules (`money`, `ids`, `catalog::product`, `checkout::saga`,
//! `payment_provider::book`, `recommend::pairs`, `import::record`) know no socket; `http` turns requests into
//! calls and answers into JSON; `kv` is the only door to the store.
//! Invariants: 1. an order exists once for one idempotency key. 2. authorised = quoted = ordered.
//! 3. every error a client can cause is an RFC 9457 problem, never a panic.
//! Not here: merging carts (`souk_cart`), counting stock (`souk_inventory`), replication (`souk_kv_node`).

pub mod buckets;
pub mod carts;
pub mod catalog;
pub mod checkout;
pub mod clock;
pub mod fault;
pub mod fulfilment;
pub mod http;
pub mod ids;
pub mod import;
pub mod kv;
pub mod money;
pub mod orders;
pub mod payment;
pub mod payment_provider;
pub mod recommend;
pub mod reviews;
pub mod sample;
pub mod search;
mod shop;
pub mod stock;
#[cfg(test)]
mod testing;

pub use shop::{ShopError, ShopOptions, serve};
