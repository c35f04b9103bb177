//! Keeps the units of a cart for a while, when its customer asks.
//!
//! The picture: the shop assistant lays the goods aside under your name until a quarter past. It is a courtesy, not a
//! purchase: checkout takes the goods back from the shelf first, and then buys like anybody else.
//!
//! Place: over `crate::kv` and `crate::stock`; asked by the cart endpoints, ended by checkout.
//! Shape: bucket `cart-holds`, last writer wins: (cart, `hold`) names what is held. Filling a cart asks for nothing, so that
//! carts take items while no stock can be reached.
//! Invariants: 1. what may be held is written down before it is held. 2. a hold that is asked for anew takes the place of the
//! one before. 3. whatever gets lost on the way, units come free when their hold runs out, judged by the stock.
//! Not here: the binding hold of a checkout (`crate::checkout`).

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use souk_cart::CartLine;
use souk_inventory::{Quantity, ReservationId, StockCommand};
use souk_kv_client::{Context, Key};
use uuid::Uuid;

use crate::buckets::CART_HOLDS;
use crate::carts::SeenCart;
use crate::carts::priced::product_id;
use crate::clock::now_unix_ms;
use crate::fault::StoreFault;
use crate::ids::{CartId, ProductId, digest};
use crate::kv::{SharedKv, json};
use crate::stock::{STOCK_AT_ONCE, SharedStocks, StockFault, hold_expiry, reserve};

/// The sort key of the record within its cart.
const ROW: &str = "hold";

/// What is held for a cart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HeldCart {
    /// The cart.
    pub cart_id: String,
    /// When the units come free again, in milliseconds since 1970.
    pub held_until_unix_ms: u64,
    /// One line an article, in the order of their SKUs.
    pub lines: Vec<HeldLine>,
}

/// One article of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HeldLine {
    /// The article.
    pub sku: String,
    /// Units in the cart.
    #[schema(minimum = 1)]
    pub quantity: u64,
    /// They are held. If not, there were too few of them.
    pub held: bool,
}

/// The record of a hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    hold_id: Uuid,
    skus: Vec<ProductId>,
}

impl Record {
    fn reservation(&self, sku: &ProductId) -> ReservationId {
        let name = format!("cart-hold/{}/{sku}", self.hold_id);
        ReservationId::from_bytes(digest(name.as_bytes()).into_bytes())
    }
}

/// Holds and lets go.
#[derive(Clone)]
pub struct CartHolds {
    kv: SharedKv,
    stocks: SharedStocks,
    hold: Duration,
}

impl CartHolds {
    /// Units are held for `hold`, at most [`souk_inventory::HOLD_MAX_MS`] milliseconds; zero switches it off.
    #[must_use]
    pub fn new(kv: SharedKv, stocks: SharedStocks, hold: Duration) -> Self {
        Self { kv, stocks, hold }
    }

    /// Holds what is in the cart, in place of what was held for it before. An article of which there are too few is not
    /// held; the others are.
    ///
    /// # Errors
    /// The store or the stock does not answer: some of it may be held, until it runs out.
    pub async fn hold(&self, cart_id: &CartId, seen: &SeenCart) -> Result<HeldCart, StockFault> {
        self.release(cart_id).await?;
        let lines = seen.view.lines();
        let skus = lines.iter().filter_map(product_id).collect();
        let record = Record {
            hold_id: Uuid::new_v4(),
            skus,
        };
        self.write(cart_id, &record).await?;
        let expires_unix_ms = hold_expiry(now_unix_ms(), self.hold);
        let holding: Vec<_> = lines
            .iter()
            .map(|line| self.hold_line(&record, line, expires_unix_ms))
            .collect();
        Ok(HeldCart {
            cart_id: cart_id.to_string(),
            held_until_unix_ms: expires_unix_ms,
            lines: stream::iter(holding)
                .buffered(STOCK_AT_ONCE)
                .try_collect()
                .await?,
        })
    }

    async fn hold_line(
        &self,
        record: &Record,
        line: &CartLine,
        expires_unix_ms: u64,
    ) -> Result<HeldLine, StockFault> {
        let units = u32::try_from(line.quantity).ok();
        let held = match (
            product_id(line),
            units.and_then(|units| Quantity::new(units).ok()),
        ) {
            (Some(sku), Some(quantity)) => {
                let command = StockCommand::Reserve {
                    reservation_id: record.reservation(&sku),
                    quantity,
                    expires_unix_ms,
                };
                is_done(reserve(&self.stocks, &sku, command).await)?
            }
            _ => false,
        };
        Ok(HeldLine {
            sku: line.sku.to_string(),
            quantity: line.quantity,
            held,
        })
    }

    /// Whether the shop holds carts at all.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.hold.is_zero()
    }

    /// Lets go of what is held for a cart. What is not held, or not any more, is no error.
    ///
    /// # Errors
    /// The store or the stock does not answer: some of it may still be held, until it runs out.
    pub async fn release(&self, cart_id: &CartId) -> Result<(), StockFault> {
        let key = key(cart_id);
        let read = self.kv.get(&key).await;
        let read = read.map_err(|error| StoreFault::from_request("look for a hold", error))?;
        let Some(value) = read.values.into_iter().next() else {
            return Ok(());
        };
        let record: Record =
            serde_json::from_slice(&value.data).map_err(|error| StoreFault::Unreadable {
                what: "hold of a cart",
                why: error.to_string(),
            })?;
        let releasing: Vec<_> = record
            .skus
            .iter()
            .map(|sku| async {
                let reservation_id = record.reservation(sku);
                let command = StockCommand::Release { reservation_id };
                is_done(self.stocks.command(sku, command).await)
            })
            .collect();
        let _: Vec<bool> = stream::iter(releasing)
            .buffered(STOCK_AT_ONCE)
            .try_collect()
            .await?;
        let deleted = self.kv.delete(&key, &read.context).await;
        deleted.map_err(|error| StoreFault::from_request("end a hold", error))?;
        Ok(())
    }

    async fn write(&self, cart_id: &CartId, record: &Record) -> Result<(), StoreFault> {
        let bytes = serde_json::to_vec(record).expect("a hold is made of texts");
        let written = self
            .kv
            .put(&key(cart_id), json(bytes), &Context::default())
            .await;
        written
            .map(drop)
            .map_err(|error| StoreFault::from_request("note a hold", error))
    }
}

fn key(cart_id: &CartId) -> Key {
    Key::new(CART_HOLDS, cart_id.as_str(), ROW)
}

/// Whether the stock did it. That its rules forbid it is an answer, too.
fn is_done<T>(answer: Result<T, StockFault>) -> Result<bool, StockFault> {
    match answer {
        Ok(_) => Ok(true),
        Err(StockFault::Refused(_)) => Ok(false),
        Err(unclear @ StockFault::Store(_)) => Err(unclear),
    }
}
