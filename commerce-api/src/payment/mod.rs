//! Payments as the shop sees them: one intent per order, and the outside provider behind it.
//!
//! Place: used by `crate::checkout`.
//! Shape: `intent` is what the shop asked for and what came of it (pure), `ledger` keeps intents in registers,
//! `provider` speaks to the outside process over HTTP, `desk` joins the three.
//! Invariants: 1. authorised = quoted = ordered. 2. refunds never exceed captures. 3. the key is stored before
//! the call, and a call without an answer is asked about by its key, never guessed.
//! Not here: the provider itself (`crate::payment_provider`, which plays the outside party).

pub mod desk;
pub mod intent;
pub mod provider;

pub use desk::PaymentDesk;
pub use intent::PaymentIntent;
pub use provider::{ProviderClient, ProviderError};
