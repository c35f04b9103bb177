//! Carts as the shop uses them.
//!
//! Place: between the cart endpoints, checkout, and `souk_cart`, which has the rules and the store.
//! Shape: `port` is what the shop asks of a cart store, `priced` shows a cart with today's prices
//! (pure), `hold` keeps its units for a while, `shelf` puts `souk_cart`'s store behind the port.
//! Invariants: 1. a cart holds articles and quantities only; prices are looked up when it is shown.
//! Not here: merging, removing, limits (`souk_cart`).

pub mod hold;
pub mod port;
pub mod priced;
mod shelf;

pub use hold::{CartHolds, HeldCart, HeldLine};
pub use port::{CartFault, Carts, SeenCart, SharedCarts};
pub use priced::{PricedCart, PricedLine};

/// The largest quantity of one line, in units.
pub const QUANTITY_MAX: u32 = souk_cart::QUANTITY_MAX;
/// The most lines of one cart.
pub const LINES_MAX: usize = souk_cart::ADDS_MAX;
