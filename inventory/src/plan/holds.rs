//! The commands of one reservation's life. `crate::hold` shows it as a picture.
//!
//! Place: pure; called by [`super::plan`].
//! Invariants: 1. every status change moves its units in the same step. 2. each command may arrive any number of times
//! and in any order; what comes too late is refused, what comes too early (a release before its reserve) is kept.
//! Not here: releasing holds that ran out (`super::sweep`).

use super::HOLDS_MAX;
use super::draft::{Draft, Stop};
use crate::answer::StockAnswer;
use crate::counts::{Compartment, Movement};
use crate::error::{RowError, StockError};
use crate::hold::{ENDED_MEMORY_MS, HOLD_MAX_MS, Hold, HoldRow, HoldStatus, Reservation};
use crate::ids::{OrderId, ReservationId};
use crate::ledger::LedgerCause;
use crate::names::Quantity;
use crate::rows::{Row, RowKey};
use crate::shard::home_shard;

pub(super) fn reserve(
    draft: &mut Draft<'_>,
    id: ReservationId,
    quantity: Quantity,
    expires_unix_ms: u64,
) -> Result<StockAnswer, Stop> {
    match find(draft, id)? {
        Some(HoldRow::Barred) => Err(StockError::Barred { reservation_id: id }.into()),
        Some(HoldRow::Passed { to }) => Ok(StockAnswer::Passed { to }),
        Some(HoldRow::Made(hold))
            if (hold.quantity, hold.expires_unix_ms) != (quantity, expires_unix_ms) =>
        {
            Err(StockError::IdReused {
                key: RowKey::Hold(id),
            }
            .into())
        }
        Some(HoldRow::Made(hold)) => match hold.status {
            HoldStatus::Held if draft.now_unix_ms < expires_unix_ms => Ok(told(id, &hold)),
            HoldStatus::Allocated { .. } | HoldStatus::Shipped { .. } => Ok(told(id, &hold)),
            HoldStatus::Held | HoldStatus::Expired => Err(expired(draft, id, hold)),
            HoldStatus::Released | HoldStatus::Cancelled { .. } => Err(ended(id, &hold)),
        },
        None => open(draft, id, quantity, expires_unix_ms),
    }
}

pub(super) fn confirm(
    draft: &mut Draft<'_>,
    id: ReservationId,
    order_id: OrderId,
) -> Result<StockAnswer, Stop> {
    let hold = match find_made(draft, id)? {
        Found::Here(hold) => hold,
        Found::Passed { to } => return Ok(StockAnswer::Passed { to }),
    };
    match hold.status {
        HoldStatus::Held if draft.now_unix_ms < hold.expires_unix_ms => {
            let to = Some(Compartment::Allocated);
            step(
                draft,
                id,
                hold,
                LedgerCause::Confirm(id),
                to,
                HoldStatus::Allocated { order_id },
            )
        }
        HoldStatus::Held | HoldStatus::Expired => Err(expired(draft, id, hold)),
        HoldStatus::Allocated { order_id: owner } | HoldStatus::Shipped { order_id: owner } => {
            owned(id, &hold, owner, order_id)
        }
        HoldStatus::Released | HoldStatus::Cancelled { .. } => Err(ended(id, &hold)),
    }
}

pub(super) fn release(draft: &mut Draft<'_>, id: ReservationId) -> Result<StockAnswer, Stop> {
    let hold = match find(draft, id)? {
        Some(HoldRow::Made(hold)) => hold,
        Some(HoldRow::Passed { to }) => return Ok(StockAnswer::Passed { to }),
        Some(HoldRow::Barred) | None => return bar(draft, id),
    };
    match hold.status {
        HoldStatus::Held => {
            let to = Some(Compartment::Available);
            step(
                draft,
                id,
                hold,
                LedgerCause::Release(id),
                to,
                HoldStatus::Released,
            )
        }
        HoldStatus::Allocated { order_id } => Err(StockError::AllocatedTo {
            reservation_id: id,
            order_id,
        }
        .into()),
        HoldStatus::Shipped { .. } => Err(ended(id, &hold)),
        HoldStatus::Released | HoldStatus::Expired | HoldStatus::Cancelled { .. } => {
            Ok(told(id, &hold))
        }
    }
}

pub(super) fn cancel(
    draft: &mut Draft<'_>,
    id: ReservationId,
    order_id: OrderId,
) -> Result<StockAnswer, Stop> {
    let hold = match find(draft, id)? {
        Some(HoldRow::Made(hold)) => hold,
        Some(HoldRow::Passed { to }) => return Ok(StockAnswer::Passed { to }),
        Some(HoldRow::Barred) | None => return bar(draft, id),
    };
    match hold.status {
        // An order may be called off while its Confirm is still on the way; that one then finds the hold cancelled.
        HoldStatus::Held => {
            let to = Some(Compartment::Available);
            step(
                draft,
                id,
                hold,
                LedgerCause::Cancel(id),
                to,
                HoldStatus::Cancelled { order_id },
            )
        }
        HoldStatus::Allocated { order_id: owner } if owner == order_id => {
            let to = Some(Compartment::Available);
            step(
                draft,
                id,
                hold,
                LedgerCause::Cancel(id),
                to,
                HoldStatus::Cancelled { order_id },
            )
        }
        HoldStatus::Allocated { order_id: owner } | HoldStatus::Cancelled { order_id: owner } => {
            owned(id, &hold, owner, order_id)
        }
        HoldStatus::Shipped { .. } => Err(ended(id, &hold)),
        HoldStatus::Released | HoldStatus::Expired => Ok(told(id, &hold)),
    }
}

pub(super) fn ship(
    draft: &mut Draft<'_>,
    id: ReservationId,
    order_id: OrderId,
) -> Result<StockAnswer, Stop> {
    let hold = match find_made(draft, id)? {
        Found::Here(hold) => hold,
        Found::Passed { to } => return Ok(StockAnswer::Passed { to }),
    };
    match hold.status {
        HoldStatus::Allocated { order_id: owner } if owner == order_id => step(
            draft,
            id,
            hold,
            LedgerCause::Ship(id),
            None,
            HoldStatus::Shipped { order_id },
        ),
        HoldStatus::Allocated { order_id: owner } | HoldStatus::Shipped { order_id: owner } => {
            owned(id, &hold, owner, order_id)
        }
        HoldStatus::Held => Err(StockError::NotAllocated { reservation_id: id }.into()),
        HoldStatus::Expired => Err(expired(draft, id, hold)),
        HoldStatus::Released | HoldStatus::Cancelled { .. } => Err(ended(id, &hold)),
    }
}

/// Makes a new hold, if its time and the units allow it.
fn open(
    draft: &mut Draft<'_>,
    id: ReservationId,
    quantity: Quantity,
    expires_unix_ms: u64,
) -> Result<StockAnswer, Stop> {
    let now_unix_ms = draft.now_unix_ms;
    let shards = draft.summary.shards;
    if shards > 1 && home_shard(id, shards) != 0 {
        // A writer that has not heard of the split: its write would be overlooked by all who have.
        return Err(StockError::Elsewhere {
            reservation_id: id,
            shards,
        }
        .into());
    }
    if expires_unix_ms <= now_unix_ms {
        return Err(StockError::ExpiryPassed {
            expires_unix_ms,
            now_unix_ms,
        }
        .into());
    }
    if expires_unix_ms - now_unix_ms > HOLD_MAX_MS {
        return Err(StockError::ExpiryTooFar {
            expires_unix_ms,
            now_unix_ms,
        }
        .into());
    }
    if draft.summary.holds_count >= HOLDS_MAX {
        return Err(StockError::TooManyHolds.into());
    }
    let units = Movement::shift(
        Compartment::Available,
        Compartment::Reserved,
        quantity.get().into(),
    );
    draft.record(LedgerCause::Reserve(id), units)?;
    let hold = Hold {
        quantity,
        expires_unix_ms,
        status: HoldStatus::Held,
    };
    draft.open_hold(id, hold);
    Ok(told(id, &hold))
}

/// PassOn: the reservation will be made in another shard, and never here.
pub(super) fn pass_on(
    draft: &mut Draft<'_>,
    id: ReservationId,
    to: u8,
    expires_unix_ms: u64,
) -> Result<StockAnswer, Stop> {
    match find(draft, id)? {
        Some(HoldRow::Made(hold)) => Ok(told(id, &hold)),
        Some(HoldRow::Passed { to }) => Ok(StockAnswer::Passed { to }),
        Some(HoldRow::Barred) => Err(StockError::Barred { reservation_id: id }.into()),
        None => {
            let now_unix_ms = draft.now_unix_ms;
            draft.put(RowKey::Hold(id), Row::Hold(HoldRow::Passed { to }));
            // Until then a Reserve may come again; whatever comes later finds the reservation itself.
            let prune_unix_ms = expires_unix_ms.min(now_unix_ms.saturating_add(HOLD_MAX_MS));
            let prune_unix_ms = prune_unix_ms.max(now_unix_ms.saturating_add(ENDED_MEMORY_MS));
            draft.forget_later(id, prune_unix_ms);
            Ok(StockAnswer::Passed { to })
        }
    }
}

/// Moves the units of a reservation from where its status has them to `to` (none: out of the centre), and gives it its
/// next status.
fn step(
    draft: &mut Draft<'_>,
    id: ReservationId,
    hold: Hold,
    cause: LedgerCause,
    to: Option<Compartment>,
    status: HoldStatus,
) -> Result<StockAnswer, Stop> {
    let from = if hold.status == HoldStatus::Held {
        Compartment::Reserved
    } else {
        Compartment::Allocated
    };
    let quantity = u64::from(hold.quantity.get());
    let units = match to {
        Some(to) => Movement::shift(from, to, quantity),
        None => Movement::leave(from, quantity),
    };
    draft.record(cause, units)?;
    let hold = draft.advance(id, hold, status)?;
    Ok(told(id, &hold))
}

/// Keeps a reservation from ever being made, or finds that it never will be.
fn bar(draft: &mut Draft<'_>, id: ReservationId) -> Result<StockAnswer, Stop> {
    if find(draft, id)?.is_none() {
        draft.put(RowKey::Hold(id), Row::Hold(HoldRow::Barred));
        draft.forget_later(id, draft.now_unix_ms.saturating_add(HOLD_MAX_MS));
    }
    Ok(StockAnswer::Barred)
}

fn find(draft: &Draft<'_>, id: ReservationId) -> Result<Option<HoldRow>, RowError> {
    let key = RowKey::Hold(id);
    match draft.row(key)? {
        None => Ok(None),
        Some(Row::Hold(hold)) => Ok(Some(*hold)),
        Some(_) => Err(RowError::Contradiction { key }),
    }
}

/// Where a reservation was made.
enum Found {
    Here(Hold),
    Passed { to: u8 },
}

fn find_made(draft: &Draft<'_>, id: ReservationId) -> Result<Found, Stop> {
    match find(draft, id)? {
        Some(HoldRow::Made(hold)) => Ok(Found::Here(hold)),
        Some(HoldRow::Passed { to }) => Ok(Found::Passed { to }),
        Some(HoldRow::Barred) => Err(StockError::Barred { reservation_id: id }.into()),
        None => Err(StockError::NoHold { reservation_id: id }.into()),
    }
}

fn told(id: ReservationId, hold: &Hold) -> StockAnswer {
    StockAnswer::Reservation(Reservation::new(id, hold))
}

fn owned(
    id: ReservationId,
    hold: &Hold,
    owner: OrderId,
    order_id: OrderId,
) -> Result<StockAnswer, Stop> {
    if owner == order_id {
        Ok(told(id, hold))
    } else {
        Err(StockError::AllocatedTo {
            reservation_id: id,
            order_id: owner,
        }
        .into())
    }
}

/// Refuses a hold that ran out, and releases it where the sweep has not come to it yet: once an answer said "expired",
/// no proposer with a slower clock may confirm it.
fn expired(draft: &mut Draft<'_>, id: ReservationId, hold: Hold) -> Stop {
    if hold.status == HoldStatus::Held {
        let to = Some(Compartment::Available);
        if let Err(stop) = step(
            draft,
            id,
            hold,
            LedgerCause::Expire(id),
            to,
            HoldStatus::Expired,
        ) {
            return stop;
        }
    }
    StockError::HoldExpired {
        reservation_id: id,
        expires_unix_ms: hold.expires_unix_ms,
        now_unix_ms: draft.now_unix_ms,
    }
    .into()
}

fn ended(id: ReservationId, hold: &Hold) -> Stop {
    StockError::HoldEnded {
        reservation_id: id,
        status: hold.status,
    }
    .into()
}
