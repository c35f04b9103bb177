//! Orders: the record of what was bought, and where it stands.
//!
//! Place: written by `crate::checkout` and `crate::fulfilment`, read by the order endpoints.
//! Shape: `record` is one order (pure), `store` keeps it in a register group of its own,
//! `by_customer` lists a customer's orders.
//! Not here: how an order comes to be (`crate::checkout`), money movements (`crate::payment`).

pub mod by_customer;
pub mod record;
pub mod store;

pub use by_customer::CustomerIndex;
pub use record::{OrderRecord, OrderStatus, Stage};
pub use store::OrderStore;
