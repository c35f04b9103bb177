//! The part of every write that is nobody's command: releasing holds that ran out, forgetting ended ones.
//!
//! Place: pure; the first step of [`super::plan`].
//! Invariants: 1. only holds with `expires_unix_ms <= now` are released, the oldest first. 2. afterwards the summary
//! says when to look next, as far as the rows that were read can tell.
//! Not here: the rule that an expired hold cannot be confirmed (`super::holds`); it does not wait for the sweep.

use super::draft::{Draft, Stop};
use super::{PRUNE_MAX, SWEEP_MAX};
use crate::counts::{Compartment, Movement};
use crate::error::RowError;
use crate::hold::{Hold, HoldRow, HoldStatus};
use crate::ledger::LedgerCause;
use crate::rows::{Expiring, Row, RowKey};

/// Releases up to [`SWEEP_MAX`] holds that ran out; says how many.
pub(super) fn release_expired(draft: &mut Draft<'_>) -> Result<usize, RowError> {
    let rows = draft.rows;
    let Some(window) = &rows.expiring else {
        return Ok(0);
    };
    let is_due = |row: &&Expiring| row.expires_unix_ms <= draft.now_unix_ms;
    let due_count = window
        .rows
        .iter()
        .take(SWEEP_MAX)
        .take_while(is_due)
        .count();
    let (due, later) = window.rows.split_at(due_count);
    for row in due {
        release(draft, row)?;
    }
    if draft.summary.holds_count > 0 {
        // Behind an incomplete window anything may follow, but nothing earlier than its last row.
        let last = || window.rows.last().filter(|_| !window.complete);
        draft.summary.next_expiry_unix_ms =
            later.first().or_else(last).map(|row| row.expires_unix_ms);
    }
    Ok(due_count)
}

fn release(draft: &mut Draft<'_>, row: &Expiring) -> Result<(), RowError> {
    let held = Hold {
        quantity: row.quantity,
        expires_unix_ms: row.expires_unix_ms,
        status: HoldStatus::Held,
    };
    // The hold's own row need not be read. Where a command of this batch named it, it has to agree.
    let key = RowKey::Hold(row.id);
    match draft.row(key) {
        Ok(Some(Row::Hold(HoldRow::Made(hold)))) if *hold == held => {}
        Err(RowError::NotRead { .. }) => {}
        Ok(_) | Err(_) => return Err(RowError::Contradiction { key }),
    }
    let units = Movement::shift(
        Compartment::Reserved,
        Compartment::Available,
        row.quantity.get().into(),
    );
    match draft.record(LedgerCause::Expire(row.id), units) {
        Ok(()) => draft.advance(row.id, held, HoldStatus::Expired).map(|_| ()),
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
