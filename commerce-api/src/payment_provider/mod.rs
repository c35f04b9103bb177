//! A payment provider to try the shop against: an outside party, a process of its own behind a socket.
//!
//! Place: started by `souk payment-provider`; the shop knows it only by its HTTP interface.
//! Shape: `book` is what the provider knows (pure), `journal` keeps it in a file, `server` answers HTTP.
//! Invariants: 1. one payment per idempotency key. 2. captures never exceed authorisations, refunds never
//! captures. 3. what was answered is on disk: synced before the answer, read again at the start.
//! Not here: cards, banks, money. Tokens such as `tok_declined` play the part of a customer's card.

pub mod book;
mod journal;
mod server;

pub use server::{ProviderServeError, serve};
