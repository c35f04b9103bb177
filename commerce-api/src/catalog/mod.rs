//! What the shop sells: the product record and its rows.
//!
//! Place: used by search, carts, checkout, import and the HTTP rooms.
//! Shape: `product` is the record and its rules (pure), `shard` says where a row lives (pure),
//! `store` reads and writes rows and tells other shop processes that a shard changed.
//! Not here: finding products by words (`crate::search`), how many are there to sell (`souk_inventory`).

pub mod product;
pub mod shard;
pub mod store;

pub use product::{Product, ProductError};
pub use shard::Shard;
pub use store::CatalogStore;
