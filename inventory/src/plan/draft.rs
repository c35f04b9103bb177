//! The state of a plan while its commands run: the rows read, and over them the rows changed so far.
//!
//! Place: pure; used by the modules beside it.
//! Invariants: 1. a movement is checked against all counts before anything of its command is changed.
//! 2. all holds that a plan makes share one row of the expiry index.
//! Not here: the rules of single commands (`super::holds`, `super::units`).

use std::collections::BTreeMap;

use super::RowChanges;
use crate::answer::StockAnswer;
use crate::counts::{Compartment, Movement, MovementError};
use crate::error::{RowError, StockError};
use crate::hold::{Hold, HoldRow, HoldStatus};
use crate::ids::ReservationId;
use crate::ledger::{LedgerCause, LedgerEntry, LedgerPage};
use crate::outbox::{OUTBOX_CLEAR_MAX, OUTBOX_ROWS_MAX, OutboxRow, StockEvent};
use crate::rows::{EndedRow, ExpiryRow, Row, RowKey, StockRows};
use crate::summary::Summary;

/// Why a command stops.
#[derive(Debug)]
pub(super) enum Stop {
    /// It is refused; the batch goes on.
    Refused(StockError),
    /// The rows cannot be used; the batch ends.
    Rows(RowError),
}

impl From<StockError> for Stop {
    fn from(refusal: StockError) -> Self {
        Self::Refused(refusal)
    }
}

impl From<RowError> for Stop {
    fn from(broken: RowError) -> Self {
        Self::Rows(broken)
    }
}

/// A plan in the making.
pub(super) struct Draft<'a> {
    pub(super) rows: &'a StockRows,
    pub(super) summary: Summary,
    /// The time that everything in this plan is judged by, in Unix milliseconds.
    pub(super) now_unix_ms: u64,
    changed: BTreeMap<RowKey, Option<Row>>,
    entries: Vec<LedgerEntry>,
    events: Vec<StockEvent>,
    /// Holds that this plan made, with their expiries.
    opened: Vec<(u64, ReservationId)>,
    /// Outbox rows that this plan has cleared away.
    cleared_count: u64,
}

impl<'a> Draft<'a> {
    pub(super) fn new(rows: &'a StockRows, clock_unix_ms: u64) -> Self {
        let summary = *rows.summary();
        let now_unix_ms = summary.now(clock_unix_ms);
        Self {
            rows,
            summary,
            now_unix_ms,
            changed: BTreeMap::new(),
            entries: Vec::new(),
            events: Vec::new(),
            opened: Vec::new(),
            cleared_count: 0,
        }
    }

    /// The row as the commands so far left it.
    pub(super) fn row(&self, key: RowKey) -> Result<Option<&Row>, RowError> {
        match self.changed.get(&key) {
            Some(changed) => Ok(changed.as_ref()),
            None => self.rows.get(key),
        }
    }

    pub(super) fn put(&mut self, key: RowKey, row: Row) {
        self.changed.insert(key, Some(row));
    }

    /// Removes a row that exists.
    pub(super) fn delete(&mut self, key: RowKey) {
        self.changed.insert(key, None);
    }

    /// The ledger page that this plan writes, if it moves anything.
    pub(super) fn page(&self) -> u64 {
        self.summary.ledger_next
    }

    /// Whether holds that ran out still wait for their release.
    pub(super) fn has_expired(&self) -> bool {
        self.summary
            .next_expiry_unix_ms
            .is_some_and(|next| next <= self.now_unix_ms)
    }

    /// Moves units and writes it into the ledger; or changes nothing and says why.
    pub(super) fn record(&mut self, cause: LedgerCause, units: Movement) -> Result<(), Stop> {
        match self.summary.counts.after(&units) {
            Ok(counts) => {
                self.summary.counts = counts;
                self.entries.push(LedgerEntry { cause, units });
                Ok(())
            }
            Err(MovementError::TooMany) => Err(StockError::TooManyUnits.into()),
            // What is reserved, allocated or in transit is backed by rows; less of it means that they are broken.
            Err(MovementError::TooFew(
                Compartment::Reserved | Compartment::Allocated | Compartment::InTransit,
            )) => Err(RowError::Contradiction {
                key: RowKey::Summary,
            }
            .into()),
            Err(MovementError::TooFew(compartment)) => Err(StockError::Insufficient {
                compartment,
                requested: units.get(compartment).unsigned_abs(),
                present: self.summary.counts.get(compartment),
                more_expired: self.has_expired(),
            }
            .into()),
        }
    }

    /// Writes a new live hold; its expiry goes into the index at the end.
    pub(super) fn open_hold(&mut self, id: ReservationId, hold: Hold) {
        self.put(RowKey::Hold(id), Row::Hold(HoldRow::Made(hold)));
        self.opened.push((hold.expires_unix_ms, id));
        self.summary.holds_count += 1;
    }

    /// Lists live holds in the expiry index, under the earliest time of them.
    pub(super) fn index(&mut self, page: u64, holds: &[(u64, ReservationId)]) {
        let Some(earliest) = holds.iter().map(|(expires, _)| *expires).min() else {
            return;
        };
        let holds = holds.iter().map(|(_, id)| *id).collect();
        self.put(
            RowKey::Expiry(earliest, page),
            Row::Expiry(ExpiryRow { holds }),
        );
        self.summary.next_expiry_unix_ms = earlier(self.summary.next_expiry_unix_ms, earliest);
    }

    /// Gives a hold its next status, and remembers when to forget it if this is its end. In the expiry index it stays:
    /// the sweep passes over what is not live any more.
    pub(super) fn advance(
        &mut self,
        id: ReservationId,
        before: Hold,
        status: HoldStatus,
    ) -> Result<Hold, RowError> {
        if before.status == HoldStatus::Held {
            self.opened.retain(|(_, opened)| *opened != id);
            let key = RowKey::Hold(id);
            let holds_count = self.summary.holds_count.checked_sub(1);
            self.summary.holds_count = holds_count.ok_or(RowError::Contradiction { key })?;
        }
        let hold = Hold { status, ..before };
        self.events.extend(StockEvent::of(id, &hold));
        self.put(RowKey::Hold(id), Row::Hold(HoldRow::Made(hold)));
        if status.is_ended() {
            self.forget_later(id, hold.prune_unix_ms(self.now_unix_ms));
        }
        Ok(hold)
    }

    /// Notes from when on the row of an ended or barred reservation may go.
    pub(super) fn forget_later(&mut self, id: ReservationId, prune_unix_ms: u64) {
        self.put(RowKey::Ended(prune_unix_ms, id), Row::Ended(EndedRow {}));
        self.summary.next_prune_unix_ms = earlier(self.summary.next_prune_unix_ms, prune_unix_ms);
    }

    /// Tells others of it, together with this plan's changes.
    pub(super) fn tell(&mut self, event: StockEvent) {
        self.events.push(event);
    }

    /// Clears away outbox rows that their reader has handled, as many as one plan may.
    pub(super) fn clear_outbox(&mut self, through: u64) -> StockAnswer {
        let end = through.saturating_add(1).min(self.summary.outbox_next);
        while self.summary.outbox_first < end && self.cleared_count < OUTBOX_CLEAR_MAX {
            self.drop_oldest_outbox_row();
            self.cleared_count += 1;
        }
        StockAnswer::Cleared {
            first: self.summary.outbox_first,
        }
    }

    fn drop_oldest_outbox_row(&mut self) {
        self.delete(RowKey::Outbox(self.summary.outbox_first));
        self.summary.outbox_first += 1;
    }

    /// Whether this plan writes a ledger page.
    pub(super) fn moves_units(&self) -> bool {
        !self.entries.is_empty()
    }

    /// Writes down what others should know, and pushes out what nobody cleared away in time.
    fn fill_outbox(&mut self) {
        let available = |summary: &Summary| summary.counts.available;
        let before = available(self.rows.summary());
        let edge = StockEvent::of_available(before, available(&self.summary));
        self.events.extend(edge);
        if self.events.is_empty() {
            return;
        }
        if self.summary.outbox_next - self.summary.outbox_first >= OUTBOX_ROWS_MAX {
            self.drop_oldest_outbox_row();
        }
        let row = OutboxRow {
            time_unix_ms: self.now_unix_ms,
            events: std::mem::take(&mut self.events),
        };
        self.put(RowKey::Outbox(self.summary.outbox_next), Row::Outbox(row));
        self.summary.outbox_next += 1;
    }

    /// The changes and the summary after them.
    pub(super) fn finish(mut self) -> (RowChanges, Summary) {
        let mut changes = RowChanges::default();
        if self.changed.is_empty() && self.entries.is_empty() {
            return (changes, *self.rows.summary());
        }
        self.summary.time_unix_ms = self.now_unix_ms;
        self.fill_outbox();
        let opened = std::mem::take(&mut self.opened);
        self.index(self.page(), &opened);
        if !self.entries.is_empty() {
            let page = LedgerPage {
                time_unix_ms: self.now_unix_ms,
                entries: self.entries,
            };
            changes
                .puts
                .insert(RowKey::Ledger(self.summary.ledger_next), Row::Ledger(page));
            self.summary.ledger_next += 1;
        }
        // Whoever changed the summary put it among the changes to have it written; this is what it came to.
        self.changed.remove(&RowKey::Summary);
        changes
            .puts
            .insert(RowKey::Summary, Row::Summary(self.summary));
        for (key, row) in self.changed {
            match row {
                Some(row) => {
                    changes.puts.insert(key, row);
                }
                None => {
                    changes.deletes.insert(key);
                }
            }
        }
        (changes, self.summary)
    }
}

fn earlier(known: Option<u64>, other: u64) -> Option<u64> {
    Some(known.map_or(other, |known| known.min(other)))
}
