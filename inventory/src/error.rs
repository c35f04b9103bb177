//! Why a stock refuses a command, and why its rows cannot be used.
//!
//! Place: pure; outputs of [`crate::plan()`].
//! Not here: refusals of the store below (the client library's own errors).

use thiserror::Error;

use crate::counts::{Compartment, UNITS_MAX};
use crate::hold::{HOLD_MAX_MS, HoldStatus};
use crate::ids::{OrderId, ReservationId};
use crate::plan::HOLDS_MAX;
use crate::rows::RowKey;
use crate::summary::STOCK_FORMAT;

/// Why a command is refused. Nothing of this attempt was done: its outcome is always "not applied".
///
/// To a Reserve, `HoldEnded` and `HoldExpired` tell of an earlier attempt under the same id: that one was granted, and
/// holds nothing any more.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StockError {
    /// What: too few units in a compartment. Mend: ask for fewer, try another centre, or wait; when `more_expired`,
    /// some units are free already and the next write releases them, so send the command again at once.
    #[error("{requested} units of {compartment:?} asked for, {present} there")]
    Insufficient {
        /// The compartment that lacks them.
        compartment: Compartment,
        /// The units asked for.
        requested: u64,
        /// The units there.
        present: u64,
        /// Whether holds that ran out still wait for their release.
        more_expired: bool,
    },
    /// What: more than [`UNITS_MAX`] units would be on hand, or in transit. Mend: check the quantity.
    #[error("the stock would exceed {} units; check the quantity", UNITS_MAX)]
    TooManyUnits,
    /// What: the stock has [`HOLDS_MAX`] live holds. Mend: wait until some are confirmed or run out.
    #[error(
        "the stock has {} live holds, the most allowed; wait until some are confirmed or run out",
        HOLDS_MAX
    )]
    TooManyHolds,
    /// What: the expiry asked for has passed. Why: the request was delayed, or a clock is wrong. Mend: reserve anew.
    #[error(
        "a hold until {expires_unix_ms} asked for at {now_unix_ms}, which is not before it; reserve anew"
    )]
    ExpiryPassed {
        /// The expiry asked for.
        expires_unix_ms: u64,
        /// The stock's time.
        now_unix_ms: u64,
    },
    /// What: the expiry asked for is more than [`HOLD_MAX_MS`] ahead. Mend: hold for a shorter time and renew.
    #[error(
        "a hold until {expires_unix_ms} asked for at {now_unix_ms}, more than {} ms ahead; hold for less",
        HOLD_MAX_MS
    )]
    ExpiryTooFar {
        /// The expiry asked for.
        expires_unix_ms: u64,
        /// The stock's time.
        now_unix_ms: u64,
    },
    /// What: no such reservation. Why: it was never made, or it ended and is forgotten. Mend: reserve under a new id.
    #[error("there is no reservation {reservation_id}; it was never made, or it ended long ago")]
    NoHold {
        /// The reservation.
        reservation_id: ReservationId,
    },
    /// What: the hold ran out before it was confirmed. Mend: reserve under a new id.
    #[error(
        "reservation {reservation_id} ran out at {expires_unix_ms}, it is {now_unix_ms} now; reserve anew"
    )]
    HoldExpired {
        /// The reservation.
        reservation_id: ReservationId,
        /// When it ran out.
        expires_unix_ms: u64,
        /// The stock's time.
        now_unix_ms: u64,
    },
    /// What: the reservation has ended otherwise. Mend: reserve under a new id, unless it was shipped.
    #[error(
        "reservation {reservation_id} has ended ({status:?}); reserve anew if units are still needed"
    )]
    HoldEnded {
        /// The reservation.
        reservation_id: ReservationId,
        /// How it ended.
        status: HoldStatus,
    },
    /// What: the reservation was given up before it was made. Mend: reserve under a new id.
    #[error("reservation {reservation_id} was given up before it was made; reserve under a new id")]
    Barred {
        /// The reservation.
        reservation_id: ReservationId,
    },
    /// What: the reservation belongs to an order, or to another one. Mend: name that order, and cancel it if its units
    /// should go back.
    #[error(
        "reservation {reservation_id} is allocated to order {order_id}; name that order, or cancel it"
    )]
    AllocatedTo {
        /// The reservation.
        reservation_id: ReservationId,
        /// The order that has it.
        order_id: OrderId,
    },
    /// What: a hold that was not confirmed should be shipped. Mend: confirm it first.
    #[error("reservation {reservation_id} is not confirmed; confirm it before it ships")]
    NotAllocated {
        /// The reservation.
        reservation_id: ReservationId,
    },
    /// What: a reservation came to the first shard of a split stock, which is not its home. Mend: send it to the shard
    /// that [`crate::home_shard`] names; [`crate::store`] does so by itself.
    #[error(
        "the stock is split into {shards} shards, and reservation {reservation_id} belongs to another one"
    )]
    Elsewhere {
        /// The reservation.
        reservation_id: ReservationId,
        /// How many shards there are.
        shards: u8,
    },
    /// What: a stock cannot be split. Why: it remembers reservations, which would be looked for in other shards, or it
    /// is split already, or is itself a shard. Mend: split a stock before its sale begins.
    #[error(
        "the stock cannot be split into {shards} shards: it has {present}, and {why}; split it before its sale begins"
    )]
    NotSplittable {
        /// How many shards were asked for.
        shards: u8,
        /// How many there are.
        present: u8,
        /// What stands in the way.
        why: &'static str,
    },
    /// What: an id was used before with another content. Mend: make a new id for each new command.
    #[error("the id of row {key} was used before with another content; use a new id")]
    IdReused {
        /// The row that the id names.
        key: RowKey,
    },
    /// What: no such return or transfer here. Mend: record the return, or the transfer out, first.
    #[error("there is no row {key} to complete; record its first half before")]
    NothingToComplete {
        /// The row that is missing.
        key: RowKey,
    },
    /// What: more units found fit for sale than came back. Mend: check the inspection.
    #[error("{sellable} units fit for sale, but only {returned} came back")]
    InspectedTooMany {
        /// Units found fit.
        sellable: u32,
        /// Units that came back.
        returned: u32,
    },
}

impl StockError {
    /// A short name that does not change, for logs and problem documents.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Insufficient { .. } => "stock_insufficient",
            Self::TooManyUnits => "stock_too_many_units",
            Self::TooManyHolds => "stock_too_many_holds",
            Self::ExpiryPassed { .. } => "hold_expiry_passed",
            Self::ExpiryTooFar { .. } => "hold_expiry_too_far",
            Self::NoHold { .. } => "reservation_missing",
            Self::HoldExpired { .. } => "reservation_expired",
            Self::HoldEnded { .. } => "reservation_ended",
            Self::Barred { .. } => "reservation_barred",
            Self::AllocatedTo { .. } => "reservation_allocated",
            Self::NotAllocated { .. } => "reservation_not_confirmed",
            Self::Elsewhere { .. } => "reservation_elsewhere",
            Self::NotSplittable { .. } => "stock_not_splittable",
            Self::IdReused { .. } => "id_reused",
            Self::NothingToComplete { .. } => "nothing_to_complete",
            Self::InspectedTooMany { .. } => "inspected_too_many",
        }
    }

    /// Whether sending the same command again, unchanged, may succeed.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Insufficient { .. } | Self::TooManyHolds => true,
            Self::TooManyUnits
            | Self::ExpiryPassed { .. }
            | Self::ExpiryTooFar { .. }
            | Self::NoHold { .. }
            | Self::HoldExpired { .. }
            | Self::HoldEnded { .. }
            | Self::Barred { .. }
            | Self::AllocatedTo { .. }
            | Self::NotAllocated { .. }
            | Self::Elsewhere { .. }
            | Self::NotSplittable { .. }
            | Self::IdReused { .. }
            | Self::NothingToComplete { .. }
            | Self::InspectedTooMany { .. } => false,
        }
    }
}

/// Why the rows of a stock cannot be used. No command of the batch is run.
#[derive(Debug, Error)]
pub enum RowError {
    /// What: a sort key that no release writes. Mend: find out who else writes to the bucket.
    #[error("`{text}` is not the key of a stock's row")]
    UnknownKey {
        /// The key, with replacements for bytes that are not UTF-8.
        text: String,
    },
    /// What: a row that cannot be read. Mend: find out who else writes to the bucket, or restore the stock.
    #[error("row {key} of the stock cannot be read")]
    Unreadable {
        /// The row.
        key: RowKey,
        /// What the parser met.
        #[source]
        source: serde_json::Error,
    },
    /// What: a newer release wrote this stock. Mend: upgrade this process before it serves stock again.
    #[error(
        "the stock is stored in format {found}, this release reads up to format {}; upgrade it",
        STOCK_FORMAT
    )]
    NewerFormat {
        /// The format number found.
        found: u32,
    },
    /// What: two rows contradict each other. Mend: report it as a bug with the rows of the stock.
    #[error("row {key} of the stock contradicts the others; keep its rows and report it")]
    Contradiction {
        /// The row in which it was noticed.
        key: RowKey,
    },
    /// What: the planner needs a row that it was not given. Mend: this is a bug of the caller; read
    /// [`crate::StockCommand::row`] of every command first.
    #[error("row {key} of the stock was not read before planning")]
    NotRead {
        /// The row.
        key: RowKey,
    },
}
