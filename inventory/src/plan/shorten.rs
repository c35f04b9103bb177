//! Tears the oldest pages out of the ledger and adds them to the checkpoint.
//!
//! Place: pure; the last step of [`super::plan`], in a write that happens anyway.
//! Invariants: 1. what leaves the pages enters the checkpoint in the same write. 2. at least
//! [`crate::LEDGER_PAGES_KEPT`] pages stay.
//! Not here: who reads the pages (`crate::store`).

use super::draft::Draft;
use crate::rows::{Row, RowKey};

/// Tears out the pages that were read for it, if this plan writes at all.
pub(super) fn tear_out(draft: &mut Draft<'_>) {
    let rows = draft.rows;
    let Some(oldest) = rows.oldest.as_ref().filter(|_| draft.moves_units()) else {
        return;
    };
    if oldest.pages.is_empty() {
        return;
    }
    let mut checkpoint = oldest.checkpoint;
    for page in &oldest.pages {
        draft.delete(RowKey::Ledger(checkpoint.pages));
        checkpoint.add(page);
    }
    draft.summary.ledger_first = checkpoint.pages;
    draft.put(RowKey::Checkpoint, Row::Checkpoint(checkpoint));
}
