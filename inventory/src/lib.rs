//! Stock that is never oversold: a pure state machine per SKU and fulfilment centre, and its store.
//!
//! Think of the stock clerk of one shelf. The clerk keeps one card with the counts, one slip for each hold, a box of
//! slips sorted by when they run out, and a book in which every movement is written once. A stack of requests comes in;
//! the clerk reads the card, the few slips that the requests name and the front of the box, and hands back what to
//! write and an answer for each request. The clerk never reads the whole box, however many holds it has.
//!
//! ```text
//! StockCommand × n ─┐
//! StockRows (card, ─┼─> plan() ──> RowChanges (one conditional write) + one answer per command
//! named slips, due) ┘
//! ```
//!
//! Place: the rules are pure (no clock, no socket, no randomness: times and names are arguments); used by
//! `souk_commerce_api`. The feature `store` adds the store over `souk_kv_client`.
//! Source: words and life cycle after saleor's warehouse models (stock, reservation, allocation).
//! Invariants: 1. on hand = available + reserved + allocated + damaged, none of them below zero. 2. the sum of the
//! ledger is the counts, with those of its pages that were summed up. 3. each command counts once, however often it is sent. 4. a hold ends only by a written row.
//! Not here: which centre serves an order, sagas over several stocks (`souk_commerce_api`), consensus (`souk_kv_core`).

mod answer;
mod command;
mod counts;
mod demand;
mod error;
mod hold;
mod ids;
mod ledger;
mod names;
mod outbox;
mod plan;
mod rows;
#[cfg_attr(
    not(feature = "store"),
    allow(dead_code, reason = "the store moves what these rules say")
)]
mod shard;
#[cfg(feature = "store")]
pub mod store;
mod summary;

pub use answer::StockAnswer;
pub use command::StockCommand;
pub use counts::{Compartment, Movement, MovementError, StockCounts, UNITS_MAX};
pub use demand::{DemandError, sum_demand};
pub use error::{RowError, StockError};
pub use hold::{
    CART_HOLD_MS, CHECKOUT_HOLD_MS, ENDED_MEMORY_MS, HOLD_MAX_MS, Hold, HoldRow, HoldStatus,
    ORDER_MEMORY_MS, Reservation,
};
pub use ids::{CommandId, IdError, OrderId, ReservationId, ReturnId, TransferId};
pub use ledger::{
    LEDGER_PAGES_KEPT, LedgerCause, LedgerCheckpoint, LedgerEntry, LedgerPage, SHORTEN_MAX,
};
pub use names::{
    CENTRE_BYTES_MAX, Centre, NameError, QUANTITY_MAX, Quantity, SHARDS_MAX, SKU_BYTES_MAX, Sku,
    StockId,
};
pub use outbox::{OUTBOX_CLEAR_MAX, OUTBOX_ROWS_MAX, OutboxRow, StockEvent};
pub use plan::{
    CHANGES_MAX, COMMANDS_MAX, HOLDS_MAX, PRUNE_MAX, RowChanges, SWEEP_MAX, StockPlan, plan,
};
pub use rows::{
    CommandRecord, EXPIRY_ROWS_MAX, EndedRow, ExpiryRow, ReturnRow, Row, RowKey,
    STOCK_CONTENT_TYPE, StockRows, TransferDirection, TransferRow,
};
pub use shard::home_shard;
pub use summary::{STOCK_FORMAT, Summary};
