//! What can be asked of a stock.
//!
//! Place: pure; the input of [`crate::plan()`].
//! Invariants: 1. every command but split, clearing and sweep names exactly one row beside the summary, so its cost does not grow with
//! the stock. 2. the id in that row makes the command count once: the same id with the same content is answered again,
//! with another content it is refused.
//! Not here: what each one does (`crate::plan`).

use serde::{Deserialize, Serialize};

use crate::ids::{CommandId, OrderId, ReservationId, ReturnId, TransferId};
use crate::names::{Centre, Quantity};
use crate::rows::RowKey;

/// One command for one stock. Quantities are units; the compartments are those of [`crate::Compartment`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum StockCommand {
    /// New units come in from outside: available + quantity.
    Receive {
        /// The receipt.
        command_id: CommandId,
        /// The units.
        quantity: Quantity,
    },
    /// Holds available units until a given instant.
    Reserve {
        /// The reservation.
        reservation_id: ReservationId,
        /// The units; all of them or none.
        quantity: Quantity,
        /// When the hold runs out, in Unix milliseconds: later than now by at most [`crate::HOLD_MAX_MS`].
        expires_unix_ms: u64,
    },
    /// Binds a hold to an order, before it runs out.
    Confirm {
        /// The reservation.
        reservation_id: ReservationId,
        /// The order.
        order_id: OrderId,
    },
    /// Gives up a hold. A reservation that does not exist yet is barred, so that a late Reserve holds nothing.
    Release {
        /// The reservation.
        reservation_id: ReservationId,
    },
    /// Calls an order off before its shipment, whether its reservation was confirmed yet or not.
    Cancel {
        /// The reservation.
        reservation_id: ReservationId,
        /// The order.
        order_id: OrderId,
    },
    /// The units of an allocation leave for the customer.
    Ship {
        /// The reservation.
        reservation_id: ReservationId,
        /// The order.
        order_id: OrderId,
    },
    /// Units come back from a customer and wait for inspection, counted as damaged.
    Return {
        /// The return.
        return_id: ReturnId,
        /// The order that they belonged to.
        order_id: OrderId,
        /// The units.
        quantity: Quantity,
    },
    /// A return was inspected: `sellable` of its units become available, the others stay damaged.
    Inspect {
        /// The return.
        return_id: ReturnId,
        /// Units fit for sale, at most the units returned.
        sellable: u32,
    },
    /// Available units turn out damaged.
    Damage {
        /// The report.
        command_id: CommandId,
        /// The units.
        quantity: Quantity,
    },
    /// Damaged units are thrown away.
    Discard {
        /// The report.
        command_id: CommandId,
        /// The units.
        quantity: Quantity,
    },
    /// A count of the shelf found more available units than the books (positive) or fewer (negative).
    Adjust {
        /// The count.
        command_id: CommandId,
        /// The difference in units.
        difference: i64,
    },
    /// Available units leave for another centre and are in transit until it has them.
    TransferOut {
        /// The transfer.
        transfer_id: TransferId,
        /// The centre that they go to.
        to: Centre,
        /// The units.
        quantity: Quantity,
    },
    /// Units come in from another centre: available + quantity.
    TransferIn {
        /// The transfer.
        transfer_id: TransferId,
        /// The centre that they come from.
        from: Centre,
        /// The units.
        quantity: Quantity,
    },
    /// The other centre has recorded the transfer: its units are no longer in transit here.
    TransferArrived {
        /// The transfer.
        transfer_id: TransferId,
    },
    /// Divides a stock that remembers no reservation into so many shards, itself being the first; once.
    Split {
        /// How many, 2 to [`crate::SHARDS_MAX`].
        shards: u8,
    },
    /// Sends a reservation that this shard has too few units for to another one, and remembers where.
    PassOn {
        /// The reservation.
        reservation_id: ReservationId,
        /// The number of the shard that it is sent to.
        to: u8,
        /// When the hold would have run out, in Unix milliseconds: no Reserve is taken later.
        expires_unix_ms: u64,
    },
    /// Clears away outbox rows up to and with this number, at most [`crate::OUTBOX_CLEAR_MAX`] of them.
    ClearOutbox {
        /// The last row that the reader has handled.
        through: u64,
    },
    /// Releases holds that ran out, as every write does; for a stock that nobody writes to.
    Sweep,
}

impl StockCommand {
    /// The one row, beside the summary, that decides this command.
    pub fn row(&self) -> Option<RowKey> {
        match self {
            Self::Reserve { reservation_id, .. }
            | Self::Confirm { reservation_id, .. }
            | Self::Release { reservation_id }
            | Self::PassOn { reservation_id, .. }
            | Self::Cancel { reservation_id, .. }
            | Self::Ship { reservation_id, .. } => Some(RowKey::Hold(*reservation_id)),
            Self::Receive { command_id, .. }
            | Self::Damage { command_id, .. }
            | Self::Discard { command_id, .. }
            | Self::Adjust { command_id, .. } => Some(RowKey::Command(*command_id)),
            Self::Return { return_id, .. } | Self::Inspect { return_id, .. } => {
                Some(RowKey::Return(*return_id))
            }
            Self::TransferOut { transfer_id, .. }
            | Self::TransferIn { transfer_id, .. }
            | Self::TransferArrived { transfer_id } => Some(RowKey::Transfer(*transfer_id)),
            Self::Split { .. } | Self::ClearOutbox { .. } | Self::Sweep => None,
        }
    }
}
