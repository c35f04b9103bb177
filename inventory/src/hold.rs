//! One reservation from its first hold to the shipment, and how long its row is kept.
//!
//! ```text
//!            Reserve            Confirm              Ship
//! (nothing) ────────> Held ───────────────> Allocated ────> Shipped
//!     │                │ └ Release ─> Released    └ Cancel ─> Cancelled
//!     │                ├ Cancel ────> Cancelled
//!     │                └ its time ──> Expired, once a write says so
//!     ├ Release or Cancel before Reserve ──> Barred: a late Reserve is refused
//!     └ PassOn, in a split stock ──> Passed: see there
//! ```
//!
//! A hold is good while `now < expires_unix_ms`. From that instant on it cannot be confirmed, though its units stay
//! reserved until a write releases them; so an answer never depends on when the clean-up ran.
//!
//! **When a row may go.** Forgetting a row must not let an old Reserve through once more. Such a copy carries its old
//! `expires_unix_ms`, and Reserve is refused from that instant on; rows are kept at least that long, and a stock's time
//! never runs back. A barred id has no expiry, so it is kept for [`HOLD_MAX_MS`], the longest that any Reserve sent
//! before it may have asked for.
//!
//! Place: pure; used by `crate::plan`.
//! Invariants: 1. an ended hold never changes again. 2. its row outlives its expiry.
//! Not here: counting units (`crate::plan`).

use serde::{Deserialize, Serialize};

use crate::ids::{OrderId, ReservationId};
use crate::names::Quantity;

/// How long a cart's hold lasts, in milliseconds: 15 minutes. A shop may choose another.
pub const CART_HOLD_MS: u64 = 15 * 60 * 1_000;

/// How long a checkout's hold lasts, in milliseconds: 10 minutes. A shop may choose another.
pub const CHECKOUT_HOLD_MS: u64 = 10 * 60 * 1_000;

/// The longest hold, in milliseconds: one day.
pub const HOLD_MAX_MS: u64 = 24 * 60 * 60 * 1_000;

/// How long a released or expired hold is remembered at least, in milliseconds: 10 minutes, as requests are.
pub const ENDED_MEMORY_MS: u64 = 10 * 60 * 1_000;

/// How long a shipped or cancelled reservation is remembered at least, in milliseconds: one week. People and parcels
/// are slower than requests, and orders are fewer than holds.
pub const ORDER_MEMORY_MS: u64 = 7 * 24 * 60 * 60 * 1_000;

const _: () = assert!(CART_HOLD_MS <= HOLD_MAX_MS && CHECKOUT_HOLD_MS <= HOLD_MAX_MS);

/// Where a reservation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldStatus {
    /// Its units are reserved.
    Held,
    /// Its units are bound to an order.
    Allocated {
        /// The order.
        order_id: OrderId,
    },
    /// Its units left for the customer.
    Shipped {
        /// The order.
        order_id: OrderId,
    },
    /// The order was called off; its units are available again.
    Cancelled {
        /// The order.
        order_id: OrderId,
    },
    /// It was given up; its units are available again.
    Released,
    /// It ran out and a write released its units.
    Expired,
}

impl HoldStatus {
    /// Whether it holds no units any more and never will again.
    pub fn is_ended(self) -> bool {
        match self {
            Self::Held | Self::Allocated { .. } => false,
            Self::Shipped { .. } | Self::Cancelled { .. } | Self::Released | Self::Expired => true,
        }
    }

    /// How long it is remembered at least after it ended, in milliseconds.
    fn memory_ms(self) -> u64 {
        match self {
            Self::Shipped { .. } | Self::Cancelled { .. } => ORDER_MEMORY_MS,
            Self::Held | Self::Allocated { .. } | Self::Released | Self::Expired => ENDED_MEMORY_MS,
        }
    }
}

/// A reservation as its row keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// Its units.
    pub quantity: Quantity,
    /// The first instant at which it cannot be confirmed any more, in Unix milliseconds. Set once.
    pub expires_unix_ms: u64,
    /// Where it stands.
    pub status: HoldStatus,
}

impl Hold {
    /// From when on its row may be forgotten, if it ends now.
    pub(crate) fn prune_unix_ms(&self, now_unix_ms: u64) -> u64 {
        self.expires_unix_ms
            .max(now_unix_ms.saturating_add(self.status.memory_ms()))
    }
}

/// What stands under the id of a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldRow {
    /// The reservation was made.
    Made(Hold),
    /// It was given up before it was made; it never will be.
    Barred,
    /// It was passed on to another shard before it was made; it never will be made here.
    Passed {
        /// The number of the shard.
        to: u8,
    },
}

/// A reservation as an answer tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reservation {
    /// Its id.
    pub id: ReservationId,
    /// Its units.
    pub quantity: Quantity,
    /// The first instant at which it cannot be confirmed any more, in Unix milliseconds.
    pub expires_unix_ms: u64,
    /// Where it stands now.
    pub status: HoldStatus,
}

impl Reservation {
    pub(crate) fn new(id: ReservationId, hold: &Hold) -> Self {
        Self {
            id,
            quantity: hold.quantity,
            expires_unix_ms: hold.expires_unix_ms,
            status: hold.status,
        }
    }
}
