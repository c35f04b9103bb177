//! After the purchase: the parcel leaves, the parcel arrives.
//!
//! Place: called by the admin endpoints; moves orders along with `crate::checkout`'s driver.
//! Shape: shipping announces the shipment on the order, then takes the bound units out of the stock (a saga step,
//! so that a crash in between is resumed); delivery is one change of the record.
//! Invariants: 1. one shipment per order; announcing the same again changes nothing, another one is refused.

use std::time::Duration;

use tokio::time::Instant;

use crate::checkout::Checkout;
use crate::clock::now_unix_ms;
use crate::fault::StoreFault;
use crate::ids::OrderId;
use crate::orders::record::{EventKind, OrderRecord, OrderStatus, Shipment, Stage};
use crate::orders::store::{Change, StoredOrder};

/// Tries to move an order while others move it too.
const TRIES_MAX: u32 = 8;
/// How long shipping may take before the resumer goes on with it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why an order was not moved.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FulfilmentError {
    /// What: no such order. Mend: check the id.
    #[error("there is no order {order_id}; check the id")]
    NoOrder {
        /// The order asked for.
        order_id: OrderId,
    },
    /// What: the order is not at that point. Mend: see where it stands.
    #[error("order {order_id} is {status:?}; it has to be {needed} first")]
    NotYet {
        /// The order.
        order_id: OrderId,
        /// Where it stands.
        status: OrderStatus,
        /// Where it has to stand.
        needed: &'static str,
    },
    /// What: it was shipped otherwise. Mend: see its tracking.
    #[error("order {order_id} has another shipment already; see its tracking")]
    OtherShipment {
        /// The order.
        order_id: OrderId,
    },
    /// What: the store did not do as asked.
    #[error(transparent)]
    Store(#[from] StoreFault),
}

/// Announces the shipment of a placed order and takes its units out of the stock.
///
/// # Errors
/// The order is missing, not placed, or shipped otherwise; or the store fails.
pub async fn ship(
    checkout: &Checkout,
    order_id: OrderId,
    shipment: Shipment,
) -> Result<OrderRecord, FulfilmentError> {
    let order = change(checkout, order_id, |record| {
        match (&record.stage, &record.shipment) {
            (Stage::Placed, _) => {
                let mut next = record.clone();
                next.stage = Stage::Shipping;
                next.shipment = Some(shipment.clone());
                next.record(EventKind::ShipmentCreated, now_unix_ms());
                Ok(Some(next))
            }
            (_, Some(present)) if *present == shipment => Ok(None),
            (_, Some(_)) => Err(FulfilmentError::OtherShipment { order_id }),
            (_, None) => Err(FulfilmentError::NotYet {
                order_id,
                status: record.status(),
                needed: "placed",
            }),
        }
    });
    let order = order.await?;
    Ok(checkout.drive(order, Instant::now() + PATIENCE).await)
}

/// Notes that a shipped order has arrived.
///
/// # Errors
/// The order is missing or not shipped; or the store fails.
pub async fn deliver(
    checkout: &Checkout,
    order_id: OrderId,
) -> Result<OrderRecord, FulfilmentError> {
    let order = change(checkout, order_id, |record| match record.stage {
        Stage::Shipped => {
            let mut next = record.clone();
            next.stage = Stage::Delivered;
            next.record(EventKind::Delivered, now_unix_ms());
            Ok(Some(next))
        }
        Stage::Delivered => Ok(None),
        _ => Err(FulfilmentError::NotYet {
            order_id,
            status: record.status(),
            needed: "shipped",
        }),
    });
    Ok(order.await?.record)
}

/// Moves an order by `decide`: to a new record, to nothing new (`None`), or not at all.
async fn change(
    checkout: &Checkout,
    order_id: OrderId,
    decide: impl Fn(&OrderRecord) -> Result<Option<OrderRecord>, FulfilmentError>,
) -> Result<StoredOrder, FulfilmentError> {
    let order = checkout.orders.get(order_id).await?;
    let mut order = order.ok_or(FulfilmentError::NoOrder { order_id })?;
    for _ in 0..TRIES_MAX {
        let Some(next) = decide(&order.record)? else {
            return Ok(order);
        };
        // On the list before it moves: a crash after the move is resumed.
        checkout.pending.enter(order_id, now_unix_ms()).await?;
        match checkout.orders.update(&order.version, &next).await? {
            Change::Made(order) => return Ok(order),
            Change::Lost(newer) => order = newer,
        }
    }
    Err(StoreFault::Contended {
        doing: "move the order",
    }
    .into())
}
