//! The part of every write that is nobody's command: releasing holds that ran out, forgetting ended ones.
//!
//! The expiry index lists holds in the lots in which they were made. The sweep takes the front lots apart: it releases
//! what ran out, passes over what has ended otherwise, and lists the rest anew under its own earliest time.
//!
//! Place: pure; the first step of [`super::plan`].
//! Invariants: 1. only holds with `expires_unix_ms <= now` are released. 2. every live hold stays listed, not later than
//! it expires. 3. afterwards the summary says when to look next, as far as the rows that were read can tell.
//! Not here: the rule that an expired hold cannot be confirmed (`super::holds`); it does not wait for the sweep.

use super::PRUNE_MAX;
use super::draft::{Draft, Stop};
use crate::counts::{Compartment, Movement};
use crate::error::RowError;
use crate::hold::{Hold, HoldRow, HoldStatus};
use crate::ids::ReservationId;
use crate::ledger::LedgerCause;
use crate::rows::{Row, RowKey};

/// Works through the front of the expiry index and releases what ran out; says how many holds that were.
pub(super) fn release_expired(draft: &mut Draft<'_>) -> Result<usize, RowError> {
    let rows = draft.rows;
    let Some(window) = &rows.expiring else {
        return Ok(0);
    };
    let due = rows.due(draft.now_unix_ms);
    let last = || window.rows.last().filter(|_| !window.complete);
    // Behind an incomplete window anything may follow, but nothing earlier than its last row.
    let next = window.rows.get(due.len()).or_else(last);
    draft.summary.next_expiry_unix_ms = next.map(|row| row.earliest_unix_ms);
    let mut released_count = 0;
    for lot in due {
        let mut later = Vec::new();
        for id in &lot.holds {
            match live(draft, *id)? {
                Some(hold) if hold.expires_unix_ms <= draft.now_unix_ms => {
                    release(draft, *id, hold)?;
                    released_count += 1;
                }
                Some(hold) => later.push((hold.expires_unix_ms, *id)),
                None => {}
            }
        }
        draft.delete(RowKey::Expiry(lot.earliest_unix_ms, lot.page));
        draft.index(lot.page, &later);
    }
    Ok(released_count)
}

/// The hold, if it still holds its units; one that ended may be forgotten already.
fn live(draft: &Draft<'_>, id: ReservationId) -> Result<Option<Hold>, RowError> {
    let key = RowKey::Hold(id);
    match draft.row(key)? {
        Some(Row::Hold(HoldRow::Made(hold))) if hold.status == HoldStatus::Held => Ok(Some(*hold)),
        Some(Row::Hold(_)) | None => Ok(None),
        Some(_) => Err(RowError::Contradiction { key }),
    }
}

fn release(draft: &mut Draft<'_>, id: ReservationId, hold: Hold) -> Result<(), RowError> {
    let units = Movement::shift(
        Compartment::Reserved,
        Compartment::Available,
        hold.quantity.get().into(),
    );
    match draft.record(LedgerCause::Expire(id), units) {
        Ok(()) => draft.advance(id, hold, HoldStatus::Expired).map(|_| ()),
        Err(Stop::Rows(broken)) => Err(broken),
        // A shift within what is on hand is refused only if the counts were wrong before.
        Err(Stop::Refused(_)) => Err(RowError::Contradiction {
            key: RowKey::Summary,
        }),
    }
}

/// Forgets up to [`PRUNE_MAX`] ended or barred reservations whose time has come.
pub(super) fn forget_ended(draft: &mut Draft<'_>) {
    let rows = draft.rows;
    let Some(window) = &rows.ended else { return };
    let now_unix_ms = draft.now_unix_ms;
    let due_count = window
        .rows
        .iter()
        .take(PRUNE_MAX)
        .take_while(|row| row.prune_unix_ms <= now_unix_ms)
        .count();
    let (due, later) = window.rows.split_at(due_count);
    for row in due {
        draft.delete(RowKey::Ended(row.prune_unix_ms, row.id));
        draft.delete(RowKey::Hold(row.id));
    }
    let last = || window.rows.last().filter(|_| !window.complete);
    draft.summary.next_prune_unix_ms = later.first().or_else(last).map(|row| row.prune_unix_ms);
}
