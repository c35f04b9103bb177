//! One order: what was asked, what was promised, and how far it is.
//!
//! Place: pure; one row of the `orders` bucket; moved along by `crate::checkout::saga`.
//! Shape: JSON with a format number. Prices are fixed when the record is made and never change after.
//! Invariants: 1. `total` is the sum of the lines. 2. lines name each SKU once. 3. `events` only grows.
//! Not here: the rules that move an order along (`crate::checkout::saga`).

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ids::{CartId, CustomerId, OrderId, ProductId};
use crate::money::{Money, MoneyError};

/// The stored format; a newer one is refused.
const FORMAT: u32 = 1;

/// One order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderRecord {
    format: u32,
    /// The order.
    pub order_id: OrderId,
    /// Digest of the request that made it: another body under the same idempotency key is refused by it.
    pub request_digest: Uuid,
    /// The cart it was made from.
    pub cart_id: CartId,
    /// Who buys, if they said so.
    pub customer: Option<CustomerId>,
    /// Where it goes.
    pub shipping_address: Address,
    /// The provider's name for the means of payment; no card number ever passes through the shop.
    pub payment_token: String,
    /// What is bought, at which price, one line a SKU.
    pub lines: Vec<OrderLine>,
    /// The sum of the lines.
    pub total: Money,
    /// When the hold on the stock ends, in Unix milliseconds. Fixed here, so that every retry asks for the same hold.
    pub hold_expires_unix_ms: u64,
    /// How far the order is.
    pub stage: Stage,
    /// The provider's name for the payment, once authorised.
    pub payment_id: Option<String>,
    /// How it was shipped.
    pub shipment: Option<Shipment>,
    /// What happened, in order.
    pub events: Vec<Event>,
    /// When the record was made, in Unix milliseconds.
    pub created_unix_ms: u64,
}

/// One SKU of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderLine {
    /// What.
    pub sku: ProductId,
    /// Its title when it was bought.
    pub title: String,
    /// How many units, from 1.
    pub quantity: u32,
    /// The price of one unit.
    pub unit_price: Money,
    /// Tags of the cart's adds that this line took, as 32 hexadecimal digits each: exactly these leave the cart.
    pub cart_tags: Vec<String>,
}

/// Where an order goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Address {
    /// The person or firm.
    #[schema(min_length = 1, max_length = 200)]
    pub name: String,
    /// Street and number, up to four lines.
    #[schema(schema_with = address_lines)]
    pub lines: Vec<String>,
    /// The town.
    #[schema(min_length = 1, max_length = 100)]
    pub city: String,
    /// The postal code; empty where there is none.
    #[serde(default)]
    #[schema(max_length = 20)]
    pub postal_code: String,
    /// ISO 3166-1 alpha-2, such as `DE`.
    #[schema(pattern = "^[A-Z]{2}$")]
    pub country: String,
}

/// The lines of an address, each of them bounded, which the attribute above cannot say.
fn address_lines() -> utoipa::openapi::schema::Array {
    let line = utoipa::openapi::ObjectBuilder::new()
        .schema_type(utoipa::openapi::schema::Type::String)
        .min_length(Some(1))
        .max_length(Some(200));
    utoipa::openapi::schema::ArrayBuilder::new()
        .items(line)
        .min_items(Some(1))
        .max_items(Some(4))
        .build()
}

/// A parcel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Shipment {
    /// Who carries it.
    #[schema(min_length = 1, max_length = 100)]
    pub carrier: String,
    /// The carrier's number for it.
    #[schema(min_length = 1, max_length = 100)]
    pub tracking_number: String,
}

/// How far an order is. Each stage names what is known to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "at", rename_all = "snake_case", deny_unknown_fields)]
pub enum Stage {
    /// Lines and prices are fixed. Next: hold the stock.
    Quoted,
    /// Every unit is held, and the payment's key is on record. Next: ask for the money.
    Reserved,
    /// The money is authorised. Next: bind the held units to the order.
    Authorised,
    /// Every unit is bound to the order. Next: take the money.
    Allocated,
    /// The money is taken: the order exists. Next: tidy the cart, list the order under its customer.
    Paid,
    /// Everything about the purchase is done. Next: a person ships it.
    Placed,
    /// A shipment is announced. Next: take its units out of the stock.
    Shipping,
    /// The units have left.
    Shipped,
    /// The customer has them.
    Delivered,
    /// The purchase failed. Next: give back the stock, let go of the money.
    Undoing {
        /// Why.
        failure: Failure,
    },
    /// The purchase failed, and nothing of it is left.
    Failed {
        /// Why.
        failure: Failure,
    },
}

/// Why a purchase failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "reason", rename_all = "snake_case", deny_unknown_fields)]
pub enum Failure {
    /// Too few units of one product.
    OutOfStock {
        /// Which.
        #[schema(value_type = String)]
        sku: ProductId,
        /// Units asked for.
        requested: u32,
    },
    /// The hold on the stock ran out before the payment was through.
    HoldExpired,
    /// The provider refused the payment.
    PaymentDeclined {
        /// What it said.
        detail: String,
    },
}

/// Where an order stands, as its customer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OrderStatus {
    /// Being processed; it will become placed or failed.
    Pending,
    /// Paid, waiting for its shipment.
    Placed,
    /// On its way.
    Shipped,
    /// Arrived.
    Delivered,
    /// Refused; nothing was charged.
    Failed,
}

/// Something that happened to an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// When, in Unix milliseconds.
    pub at_unix_ms: u64,
    /// What.
    pub kind: EventKind,
}

/// What can happen to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// Lines and prices were fixed.
    Received,
    /// Every unit is held.
    StockReserved,
    /// The payment was authorised.
    PaymentAuthorised,
    /// The units are bound to the order.
    StockAllocated,
    /// The payment was taken.
    PaymentCaptured,
    /// The order is placed.
    Placed,
    /// A shipment was announced.
    ShipmentCreated,
    /// The parcel left.
    Shipped,
    /// The parcel arrived.
    Delivered,
    /// The purchase failed.
    Failed,
    /// Stock and money of the failed purchase were released.
    Released,
}

/// What a new order is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct NewOrder {
    /// The order.
    pub order_id: OrderId,
    /// Digest of the request.
    pub request_digest: Uuid,
    /// The cart.
    pub cart_id: CartId,
    /// Who buys.
    pub customer: Option<CustomerId>,
    /// Where it goes.
    pub shipping_address: Address,
    /// The means of payment.
    pub payment_token: String,
    /// What is bought; not empty, each SKU once.
    pub lines: Vec<OrderLine>,
    /// When the hold ends, in Unix milliseconds.
    pub hold_expires_unix_ms: u64,
}

impl OrderRecord {
    /// A quoted order.
    ///
    /// # Errors
    /// The total does not fit, or lines have different currencies.
    pub fn quoted(new: NewOrder, now_unix_ms: u64) -> Result<Self, MoneyError> {
        let currency = new
            .lines
            .first()
            .map(|line| line.unit_price.currency)
            .unwrap_or_default();
        let total = new
            .lines
            .iter()
            .try_fold(Money::zero(currency), |sum, line| {
                sum.checked_add(line.unit_price.checked_times(line.quantity)?)
            })?;
        Ok(Self {
            format: FORMAT,
            order_id: new.order_id,
            request_digest: new.request_digest,
            cart_id: new.cart_id,
            customer: new.customer,
            shipping_address: new.shipping_address,
            payment_token: new.payment_token,
            lines: new.lines,
            total,
            hold_expires_unix_ms: new.hold_expires_unix_ms,
            stage: Stage::Quoted,
            payment_id: None,
            shipment: None,
            events: vec![Event {
                at_unix_ms: now_unix_ms,
                kind: EventKind::Received,
            }],
            created_unix_ms: now_unix_ms,
        })
    }

    /// Where the order stands.
    #[must_use]
    pub fn status(&self) -> OrderStatus {
        match &self.stage {
            Stage::Quoted | Stage::Reserved | Stage::Authorised | Stage::Allocated => {
                OrderStatus::Pending
            }
            Stage::Paid | Stage::Placed | Stage::Shipping => OrderStatus::Placed,
            Stage::Shipped => OrderStatus::Shipped,
            Stage::Delivered => OrderStatus::Delivered,
            // Not failed yet: what was held may still have to be given back.
            Stage::Undoing { .. } => OrderStatus::Pending,
            Stage::Failed { .. } => OrderStatus::Failed,
        }
    }

    /// Why the order failed, once that is certain.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        match &self.stage {
            Stage::Failed { failure } => Some(failure),
            _ => None,
        }
    }

    /// The key under which the provider knows this order's payment. It follows from the order's id, so it is on
    /// record before any call is made.
    #[must_use]
    pub fn payment_key(&self) -> Uuid {
        self.order_id.part("payment")
    }

    /// The id of this order's hold on `sku`.
    #[must_use]
    pub fn reservation_id(&self, sku: &ProductId) -> Uuid {
        self.order_id.part(&format!("hold/{sku}"))
    }

    /// Notes that something happened. Time never runs backwards within one order.
    pub fn record(&mut self, kind: EventKind, now_unix_ms: u64) {
        let last = self.events.last().map_or(0, |event| event.at_unix_ms);
        self.events.push(Event {
            at_unix_ms: now_unix_ms.max(last),
            kind,
        });
    }

    /// The stored form.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an order has text keys and whole numbers only")
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// The bytes are no order, or were written by a newer shop.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, OrderUnreadable> {
        let record: OrderRecord =
            serde_json::from_slice(bytes).map_err(|error| OrderUnreadable {
                why: error.to_string(),
            })?;
        if record.format > FORMAT {
            return Err(OrderUnreadable {
                why: format!("format {} is newer", record.format),
            });
        }
        Ok(record)
    }
}

/// What: stored bytes are no order this shop knows. Mend: upgrade this shop if a newer one wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a stored order cannot be read ({why}); upgrade this shop if a newer one wrote it")]
pub struct OrderUnreadable {
    why: String,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::money::Currency;

    /// An order of `quantities[i]` units of `sku-i` at 100 minor units each.
    pub(crate) fn order(key: &str, quantities: &[u32]) -> OrderRecord {
        let lines = quantities
            .iter()
            .enumerate()
            .map(|(number, quantity)| OrderLine {
                sku: format!("sku-{number}").parse().unwrap(),
                title: format!("Thing {number}"),
                quantity: *quantity,
                unit_price: Money::new(100, Currency::USD),
                cart_tags: Vec::new(),
            });
        let new = NewOrder {
            order_id: OrderId::from_idempotency_key(key),
            request_digest: Uuid::nil(),
            cart_id: "c".parse().unwrap(),
            customer: None,
            shipping_address: Address {
                name: "A".into(),
                lines: vec!["B 1".into()],
                city: "C".into(),
                postal_code: String::new(),
                country: "DE".into(),
            },
            payment_token: "tok_ok".into(),
            lines: lines.collect(),
            hold_expires_unix_ms: 600_000,
        };
        OrderRecord::quoted(new, 1_000).unwrap()
    }

    #[test]
    fn adds_up_its_lines() {
        assert_eq!(order("k", &[2, 3]).total, Money::new(500, Currency::USD));
    }

    #[test]
    fn survives_its_stored_form() {
        let mut record = order("k", &[1]);
        record.stage = Stage::Failed {
            failure: Failure::HoldExpired,
        };
        assert_eq!(OrderRecord::from_bytes(&record.to_bytes()).unwrap(), record);
        record.format = FORMAT + 1;
        assert!(OrderRecord::from_bytes(&record.to_bytes()).is_err());
        assert!(OrderRecord::from_bytes(b"[]").is_err());
    }

    #[test]
    fn its_clock_never_runs_backwards() {
        let mut record = order("k", &[1]);
        record.record(EventKind::StockReserved, 5);
        assert_eq!(record.events[1].at_unix_ms, 1_000);
    }
}
