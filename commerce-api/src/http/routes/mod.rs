//! The handlers, one module for each group of addresses.
//!
//! Invariants: 1. each handler's annotation names every status it can answer with, beyond those that `openapi` adds
//! to all.

pub(super) mod admin;
pub(super) mod carts;
pub(super) mod orders;
pub(super) mod products;
pub(super) mod reviews;
