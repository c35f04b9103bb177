//! The commands that bring units in, take them out, or change what they are fit for.
//!
//! Place: pure; called by [`super::plan`].
//! Invariants: 1. each leaves a row under its id in the same write, for ever, so it counts once for ever.
//! 2. a transfer's units are on hand at the sender, or in transit there, until the sender knows that they arrived.
//! Not here: reservations (`super::holds`).

use super::draft::{Draft, Stop};
use crate::answer::StockAnswer;
use crate::command::StockCommand;
use crate::counts::{Compartment, Movement};
use crate::error::{RowError, StockError};
use crate::ids::{CommandId, OrderId, ReturnId, TransferId};
use crate::ledger::LedgerCause;
use crate::names::{Centre, Quantity, SHARDS_MAX};
use crate::outbox::StockEvent;
use crate::rows::{CommandRecord, ReturnRow, Row, RowKey, TransferDirection, TransferRow};

/// Receive, Damage, Discard and Adjust: one movement, under a command id.
pub(super) fn record(
    draft: &mut Draft<'_>,
    command: &StockCommand,
    id: CommandId,
    cause: LedgerCause,
    units: Movement,
) -> Result<StockAnswer, Stop> {
    let key = RowKey::Command(id);
    match draft.row(key)? {
        Some(Row::Command(known)) if known.command == *command => {
            Ok(StockAnswer::Recorded { page: known.page })
        }
        Some(Row::Command(_)) => Err(StockError::IdReused { key }.into()),
        Some(_) => Err(RowError::Contradiction { key }.into()),
        None => {
            draft.record(cause, units)?;
            let page = draft.page();
            draft.put(
                key,
                Row::Command(CommandRecord {
                    command: command.clone(),
                    page,
                }),
            );
            Ok(StockAnswer::Recorded { page })
        }
    }
}

/// Return: units come back and wait for inspection.
pub(super) fn take_back(
    draft: &mut Draft<'_>,
    id: ReturnId,
    order_id: OrderId,
    quantity: Quantity,
) -> Result<StockAnswer, Stop> {
    if let Some(known) = find_return(draft, id)? {
        return if (known.order_id, known.quantity) == (order_id, quantity) {
            Ok(StockAnswer::Recorded { page: known.page })
        } else {
            Err(StockError::IdReused {
                key: RowKey::Return(id),
            }
            .into())
        };
    }
    draft.record(
        LedgerCause::Return(id),
        Movement::arrive(Compartment::Damaged, quantity.get().into()),
    )?;
    let page = draft.page();
    draft.put(
        RowKey::Return(id),
        Row::Return(ReturnRow {
            order_id,
            quantity,
            page,
            inspected: None,
        }),
    );
    Ok(StockAnswer::Recorded { page })
}

/// Inspect: the sellable part of a return becomes available.
pub(super) fn inspect(
    draft: &mut Draft<'_>,
    id: ReturnId,
    sellable: u32,
) -> Result<StockAnswer, Stop> {
    let key = RowKey::Return(id);
    let known = find_return(draft, id)?.ok_or(StockError::NothingToComplete { key })?;
    match known.inspected {
        Some((found, page)) if found == sellable => Ok(StockAnswer::Recorded { page }),
        Some(_) => Err(StockError::IdReused { key }.into()),
        None if sellable > known.quantity.get() => Err(StockError::InspectedTooMany {
            sellable,
            returned: known.quantity.get(),
        }
        .into()),
        None => {
            let units = Movement::shift(
                Compartment::Damaged,
                Compartment::Available,
                sellable.into(),
            );
            draft.record(LedgerCause::Inspect(id), units)?;
            let page = draft.page();
            draft.put(
                key,
                Row::Return(ReturnRow {
                    inspected: Some((sellable, page)),
                    ..known
                }),
            );
            Ok(StockAnswer::Recorded { page })
        }
    }
}

/// TransferOut: available units leave and are in transit.
pub(super) fn transfer_out(
    draft: &mut Draft<'_>,
    id: TransferId,
    to: &Centre,
    quantity: Quantity,
) -> Result<StockAnswer, Stop> {
    let units = Movement::shift(
        Compartment::Available,
        Compartment::InTransit,
        quantity.get().into(),
    );
    let is_new = find_transfer(draft, id)?.is_none();
    let answer = transfer(
        draft,
        id,
        LedgerCause::TransferOut(id),
        units,
        TransferDirection::Out,
        to,
        quantity,
    )?;
    if is_new {
        draft.tell(StockEvent::TransferSent {
            transfer_id: id,
            to: to.clone(),
            quantity,
        });
    }
    Ok(answer)
}

/// TransferIn: units from another centre become available.
pub(super) fn transfer_in(
    draft: &mut Draft<'_>,
    id: TransferId,
    from: &Centre,
    quantity: Quantity,
) -> Result<StockAnswer, Stop> {
    let units = Movement::arrive(Compartment::Available, quantity.get().into());
    transfer(
        draft,
        id,
        LedgerCause::TransferIn(id),
        units,
        TransferDirection::In,
        from,
        quantity,
    )
}

/// Split: from now on the stock has shards. Allowed while no reservation is remembered, since the shard that each one is
/// looked for in changes.
pub(super) fn split(draft: &mut Draft<'_>, shards: u8) -> Result<StockAnswer, Stop> {
    let present = draft.summary.shards;
    if present == shards && shards > 1 {
        return Ok(StockAnswer::Split { shards });
    }
    let counts = &draft.summary.counts;
    let is_remembering = draft.summary.holds_count > 0
        || draft.summary.next_prune_unix_ms.is_some()
        || counts.reserved + counts.allocated > 0;
    if present > 1 || is_remembering || !(2..=SHARDS_MAX).contains(&shards) {
        return Err(StockError::NotSplittable {
            shards,
            present,
            why: if is_remembering {
                "it remembers reservations"
            } else {
                "that is not 2 to 64 from 1"
            },
        }
        .into());
    }
    draft.summary.shards = shards;
    let summary = draft.summary;
    draft.put(RowKey::Summary, Row::Summary(summary));
    Ok(StockAnswer::Split { shards })
}

/// TransferArrived: the units are the other centre's now.
pub(super) fn transfer_arrived(draft: &mut Draft<'_>, id: TransferId) -> Result<StockAnswer, Stop> {
    let key = RowKey::Transfer(id);
    let known = find_transfer(draft, id)?.ok_or(StockError::NothingToComplete { key })?;
    match (known.direction, known.arrived_page) {
        (TransferDirection::In, _) => Err(StockError::NothingToComplete { key }.into()),
        (TransferDirection::Out, Some(page)) => Ok(StockAnswer::Recorded { page }),
        (TransferDirection::Out, None) => {
            let units = Movement::leave(Compartment::InTransit, known.quantity.get().into());
            draft.record(LedgerCause::TransferArrived(id), units)?;
            let page = draft.page();
            draft.put(
                key,
                Row::Transfer(TransferRow {
                    arrived_page: Some(page),
                    ..known
                }),
            );
            Ok(StockAnswer::Recorded { page })
        }
    }
}

/// Records one end of a transfer once.
fn transfer(
    draft: &mut Draft<'_>,
    id: TransferId,
    cause: LedgerCause,
    units: Movement,
    direction: TransferDirection,
    other: &Centre,
    quantity: Quantity,
) -> Result<StockAnswer, Stop> {
    if let Some(known) = find_transfer(draft, id)? {
        return if (known.direction, &known.other, known.quantity) == (direction, other, quantity) {
            Ok(StockAnswer::Recorded { page: known.page })
        } else {
            Err(StockError::IdReused {
                key: RowKey::Transfer(id),
            }
            .into())
        };
    }
    draft.record(cause, units)?;
    let page = draft.page();
    let row = TransferRow {
        direction,
        other: other.clone(),
        quantity,
        page,
        arrived_page: None,
    };
    draft.put(RowKey::Transfer(id), Row::Transfer(row));
    Ok(StockAnswer::Recorded { page })
}

fn find_return(draft: &Draft<'_>, id: ReturnId) -> Result<Option<ReturnRow>, RowError> {
    let key = RowKey::Return(id);
    match draft.row(key)? {
        None => Ok(None),
        Some(Row::Return(row)) => Ok(Some(*row)),
        Some(_) => Err(RowError::Contradiction { key }),
    }
}

fn find_transfer(draft: &Draft<'_>, id: TransferId) -> Result<Option<TransferRow>, RowError> {
    let key = RowKey::Transfer(id);
    match draft.row(key)? {
        None => Ok(None),
        Some(Row::Transfer(row)) => Ok(Some(row.clone())),
        Some(_) => Err(RowError::Contradiction { key }),
    }
}
