//! Turns the rows that were read and a batch of commands into the rows to write and an answer for each command.
//!
//! A plan first forgets ended holds that are old enough and releases those that ran out, a bounded number of each, then
//! runs the commands in order, each on the state that the one before left. The whole becomes one conditional write: a
//! hundred callers waiting for one hot article cost one ballot, not a hundred.
//!
//! Place: pure; used by `crate::store`.
//! Shape: at most two rows for each command (hold, its end), and one summary, one ledger page, one row of the expiry
//! index and one outbox row for the whole batch, whatever the number of holds.
//! Invariants: 1. a refused command changes nothing, except that a hold it finds expired is released. 2. a batch answers as the same commands one by one would at the
//! same time. 3. no changes at all when nothing happened, so that replays and refusals need no write.
//! Not here: reading rows and writing changes, retries (`crate::store`).

mod draft;
mod holds;
mod shorten;
mod sweep;
mod units;

use std::collections::{BTreeMap, BTreeSet};

use crate::answer::StockAnswer;
use crate::command::StockCommand;
use crate::counts::{Compartment, Movement};
use crate::error::{RowError, StockError};
use crate::ledger::{LedgerCause, SHORTEN_MAX};
use crate::outbox::OUTBOX_CLEAR_MAX;
use crate::rows::{EXPIRY_ROWS_MAX, Row, RowKey, StockRows};
use crate::summary::Summary;
use draft::{Draft, Stop};

/// Most rows that one plan changes: what the store takes in one conditional write.
pub const CHANGES_MAX: usize = 1024;

/// Most commands in one plan.
pub const COMMANDS_MAX: usize = 140;

/// Most holds that one write looks through for those that ran out. As a hold costs one command, releasing keeps up with
/// reserving.
pub const SWEEP_MAX: usize = 140;

/// Most ended holds that one write forgets. It keeps up with reserving for the same reason.
pub const PRUNE_MAX: usize = 140;

const _: () = {
    assert!(SWEEP_MAX >= COMMANDS_MAX && PRUNE_MAX >= COMMANDS_MAX);
    // A command or a release touches a hold and its end; forgetting drops both. The sweep drops rows of the expiry index
    // and writes some of them anew. To that come one summary, one ledger page, one row of the expiry index, an outbox
    // row and the one that it pushes out, the pages torn out with their checkpoint, and the outbox rows cleared away.
    let whole_batch = 5 + SHORTEN_MAX + 1 + OUTBOX_CLEAR_MAX as usize + 2 * EXPIRY_ROWS_MAX;
    assert!(2 * (COMMANDS_MAX + SWEEP_MAX + PRUNE_MAX) + whole_batch <= CHANGES_MAX);
};

/// Most live holds of one stock.
pub const HOLDS_MAX: u64 = 200_000;

/// The rows to write, all in one conditional write or none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowChanges {
    /// Rows to create or replace.
    pub puts: BTreeMap<RowKey, Row>,
    /// Rows to delete; each of them exists.
    pub deletes: BTreeSet<RowKey>,
}

impl RowChanges {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.puts.is_empty() && self.deletes.is_empty()
    }

    /// How many rows change.
    pub fn len(&self) -> usize {
        self.puts.len() + self.deletes.len()
    }
}

/// What a batch of commands comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StockPlan {
    /// The rows to write. The answers count only once they are written.
    pub changes: RowChanges,
    /// The summary after the write.
    pub summary: Summary,
    /// One answer for each command, in their order.
    pub answers: Vec<Result<StockAnswer, StockError>>,
}

/// Plans a batch of commands on one stock.
///
/// `rows` holds the summary, [`StockCommand::row`] of every command, and the fronts of the two indexes where
/// [`StockRows::wants_expiring`] and [`StockRows::wants_ended`] ask for them, with the holds of [`StockRows::wants_holds`];
/// likewise the oldest ledger pages, which may be left out. `clock_unix_ms` is the proposer's clock in
/// Unix milliseconds; the commands are judged at the later of it and the stock's own time.
///
/// # Errors
/// [`RowError`] when a row was not read or contradicts another. Nothing may be written then.
///
/// # Panics
/// With more than [`COMMANDS_MAX`] commands: the caller forms the batches.
pub fn plan(
    rows: &StockRows,
    commands: &[StockCommand],
    clock_unix_ms: u64,
) -> Result<StockPlan, RowError> {
    assert!(
        commands.len() <= COMMANDS_MAX,
        "{} commands in one plan",
        commands.len()
    );
    let mut draft = Draft::new(rows, clock_unix_ms);
    sweep::forget_ended(&mut draft);
    let released_count = sweep::release_expired(&mut draft)?;
    let mut answers = Vec::with_capacity(commands.len());
    for command in commands {
        answers.push(match run(&mut draft, command, released_count) {
            Ok(answer) => Ok(answer),
            Err(Stop::Refused(refusal)) => Err(refusal),
            Err(Stop::Rows(broken)) => return Err(broken),
        });
    }
    shorten::tear_out(&mut draft);
    let (changes, summary) = draft.finish();
    Ok(StockPlan {
        changes,
        summary,
        answers,
    })
}

fn run(
    draft: &mut Draft<'_>,
    command: &StockCommand,
    released_count: usize,
) -> Result<StockAnswer, Stop> {
    use StockCommand as C;
    match command {
        C::Reserve {
            reservation_id,
            quantity,
            expires_unix_ms,
        } => holds::reserve(draft, *reservation_id, *quantity, *expires_unix_ms),
        C::Confirm {
            reservation_id,
            order_id,
        } => holds::confirm(draft, *reservation_id, *order_id),
        C::Release { reservation_id } => holds::release(draft, *reservation_id),
        C::Cancel {
            reservation_id,
            order_id,
        } => holds::cancel(draft, *reservation_id, *order_id),
        C::Ship {
            reservation_id,
            order_id,
        } => holds::ship(draft, *reservation_id, *order_id),
        C::Receive {
            command_id,
            quantity,
        } => {
            let units = Movement::arrive(Compartment::Available, quantity.get().into());
            units::record(
                draft,
                command,
                *command_id,
                LedgerCause::Receive(*command_id),
                units,
            )
        }
        C::Damage {
            command_id,
            quantity,
        } => {
            let units = Movement::shift(
                Compartment::Available,
                Compartment::Damaged,
                quantity.get().into(),
            );
            units::record(
                draft,
                command,
                *command_id,
                LedgerCause::Damage(*command_id),
                units,
            )
        }
        C::Discard {
            command_id,
            quantity,
        } => {
            let units = Movement::leave(Compartment::Damaged, quantity.get().into());
            units::record(
                draft,
                command,
                *command_id,
                LedgerCause::Discard(*command_id),
                units,
            )
        }
        C::Adjust {
            command_id,
            difference,
        } => {
            let units = Movement::change(Compartment::Available, *difference);
            units::record(
                draft,
                command,
                *command_id,
                LedgerCause::Adjust(*command_id),
                units,
            )
        }
        C::Return {
            return_id,
            order_id,
            quantity,
        } => units::take_back(draft, *return_id, *order_id, *quantity),
        C::Inspect {
            return_id,
            sellable,
        } => units::inspect(draft, *return_id, *sellable),
        C::TransferOut {
            transfer_id,
            to,
            quantity,
        } => units::transfer_out(draft, *transfer_id, to, *quantity),
        C::TransferIn {
            transfer_id,
            from,
            quantity,
        } => units::transfer_in(draft, *transfer_id, from, *quantity),
        C::TransferArrived { transfer_id } => units::transfer_arrived(draft, *transfer_id),
        C::PassOn {
            reservation_id,
            to,
            expires_unix_ms,
        } => holds::pass_on(draft, *reservation_id, *to, *expires_unix_ms),
        C::Split { shards } => units::split(draft, *shards),
        C::ClearOutbox { through } => Ok(draft.clear_outbox(*through)),
        C::Sweep => Ok(StockAnswer::Swept {
            released_count,
            more: draft.has_expired(),
        }),
    }
}
