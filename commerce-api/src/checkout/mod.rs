//! Checkout: from a cart to exactly one order.
//!
//! Place: called by the checkout endpoint and by the resumer; stands on orders, payment, `souk_inventory`.
//! Source: Garcia-Molina and Salem, "Sagas", SIGMOD 1987.
//! Shape: `saga` says what comes next (pure), `quote` fixes lines and prices (pure), `driver` performs steps,
//! `pending` lists unfinished orders, `resume` finishes what a crashed shop left behind.
//! Invariants: 1. an order exists once for one idempotency key. 2. a failed order leaves no unit held and no
//! money taken. 3. any number of drivers, in any shop processes, may drive one order at once.
//! Not here: who may call (`crate::http`), what happens to parcels (`crate::fulfilment`).

pub mod driver;
pub mod pending;
pub mod quote;
pub mod resume;
pub mod saga;

pub use driver::{Checkout, CheckoutError, CheckoutRequest};
