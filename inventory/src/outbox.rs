//! What others may want to act on: orders that got their units, holds that ran out, shelves that became empty.
//!
//! An event is written together with the change that it tells of, so it tells of nothing that did not happen, and
//! nothing that happened goes untold. Readers follow the numbers and clear away what they have handled. A stock that
//! nobody clears keeps its newest rows only: a reader that comes late sees from the numbers that it missed some, and
//! begins again from the stock itself.
//!
//! Place: pure; written by `crate::plan`, read by whoever passes events on.
//! Shape: one row for each write with events, numbered from 0 without gaps.
//! Invariants: 1. at most [`OUTBOX_ROWS_MAX`] rows are kept. 2. a row is never changed.
//! Not here: passing events on, and single holds that come and go (the ledger has them).

use serde::{Deserialize, Serialize};

use crate::hold::{Hold, HoldStatus};
use crate::ids::{OrderId, ReservationId, TransferId};
use crate::names::{Centre, Quantity};

/// Most rows that an outbox keeps; further ones push out the oldest.
pub const OUTBOX_ROWS_MAX: u64 = 10_000;

/// Most rows that one command clears away.
pub const OUTBOX_CLEAR_MAX: u64 = 64;

/// Something that happened to a stock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum StockEvent {
    /// An order got its units.
    Allocated {
        /// The reservation.
        reservation_id: ReservationId,
        /// The order.
        order_id: OrderId,
        /// The units.
        quantity: Quantity,
    },
    /// An order's units left for the customer.
    Shipped {
        /// The reservation.
        reservation_id: ReservationId,
        /// The order.
        order_id: OrderId,
        /// The units.
        quantity: Quantity,
    },
    /// An order was called off.
    Cancelled {
        /// The reservation.
        reservation_id: ReservationId,
        /// The order.
        order_id: OrderId,
        /// The units.
        quantity: Quantity,
    },
    /// A hold ran out.
    Expired {
        /// The reservation.
        reservation_id: ReservationId,
        /// The units.
        quantity: Quantity,
    },
    /// Units left for another centre, which has to take them in.
    TransferSent {
        /// The transfer.
        transfer_id: TransferId,
        /// The centre.
        to: Centre,
        /// The units.
        quantity: Quantity,
    },
    /// The last available unit was taken.
    SoldOut,
    /// There are available units again.
    BackInStock,
}

impl StockEvent {
    /// What a hold's new status means to others; nothing for one that was only made or given up.
    pub(crate) fn of(reservation_id: ReservationId, hold: &Hold) -> Option<Self> {
        let quantity = hold.quantity;
        match hold.status {
            HoldStatus::Held | HoldStatus::Released => None,
            HoldStatus::Allocated { order_id } => Some(Self::Allocated {
                reservation_id,
                order_id,
                quantity,
            }),
            HoldStatus::Shipped { order_id } => Some(Self::Shipped {
                reservation_id,
                order_id,
                quantity,
            }),
            HoldStatus::Cancelled { order_id } => Some(Self::Cancelled {
                reservation_id,
                order_id,
                quantity,
            }),
            HoldStatus::Expired => Some(Self::Expired {
                reservation_id,
                quantity,
            }),
        }
    }

    /// What a change of the available units means to others.
    pub(crate) fn of_available(before: u64, after: u64) -> Option<Self> {
        match (before, after) {
            (1.., 0) => Some(Self::SoldOut),
            (0, 1..) => Some(Self::BackInStock),
            _ => None,
        }
    }
}

/// The events of one write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutboxRow {
    /// The stock's time at the write, in Unix milliseconds.
    pub time_unix_ms: u64,
    /// In the order in which they happened; never empty.
    pub events: Vec<StockEvent>,
}
