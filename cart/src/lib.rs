//! Carts that never lose an added item: an observed-remove set with quantities, and its store.
//!
//! A cart is like a receipt roll on which nothing is ever rubbed out.
//! Adding an item prints a line under a name of its own; removing an item strikes out the lines that the shopper could
//! see. Two rolls that grew apart, on two phones or on two sides of a network split, are joined by laying one over the
//! other: every line of both is there, and a line struck out on either stays struck out.
//!
//! Place: the rules are pure (no clock, no socket, no randomness: times and names are arguments); used by
//! `souk_commerce_api`. The feature `store` adds the store over `souk_kv_client`.
//! Source: DeCandia et al., Dynamo, SOSP 2007, §4.4 and §6.1 (a cart merged by its reader); Shapiro et al.,
//! Conflict-free Replicated Data Types, 2011, §3.3.5 (observed-remove set).
//! Invariants: 1. no acknowledged add is lost. 2. nothing removed comes back, unless it was added or changed
//! concurrently with the removal, and then its line says so ([`CartLine::concurrent`]). 3. merging is commutative,
//! associative and idempotent. 4. quantities are summed over adds, never merged as numbers.
//! Not here: prices and stock (`souk_commerce_api`, `souk_inventory`), causal contexts (`souk_kv_core`).

mod cart;
mod error;
mod format;
mod line;
#[cfg(feature = "store")]
pub mod store;
mod tag;
mod view;

pub use cart::{ADDS_MAX, CART_BYTES_MAX, Cart, CartAdd, CartEffect};
pub use error::{CartError, CartFormatError};
pub use format::{CART_CONTENT_TYPE, CART_FORMAT};
pub use line::{LineError, QUANTITY_MAX, Quantity, SKU_BYTES_MAX, Sku};
pub use tag::{AddTag, RemovalTag, TagError};
pub use view::{CartLine, CartView};
