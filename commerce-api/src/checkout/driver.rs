//! Performs the steps of the saga: the only part of checkout that touches anything.
//!
//! Place: called by the checkout and fulfilment endpoints and by `super::resume`.
//! Shape: `place` finds or makes the order of a key and drives it; `drive` asks `super::saga` what is next,
//! performs it, and writes the result down by compare-and-set, until the order rests or time is up.
//! Invariants: 1. the order is on the pending list before it exists. 2. an unclear result is no result: the step is
//! performed again. 3. a lost compare-and-set means that another driver was faster: go on from its record.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use souk_cart::{AddTag, RemovalTag, Sku};
use souk_inventory::{
    Compartment, OrderId as StockOrderId, Quantity, ReservationId, StockCommand, StockError,
};
use tokio::time::Instant;

use super::pending::PendingOrders;
use super::quote::{QuoteError, quote};
use super::saga::{self, Step, StepResult};
use crate::carts::priced::product_id;
use crate::carts::{CartFault, CartHolds, SharedCarts};
use crate::catalog::{CatalogStore, Product};
use crate::clock::now_unix_ms;
use crate::fault::StoreFault;
use crate::ids::{CartId, CustomerId, OrderId, ProductId, digest};
use crate::money::{Currency, MoneyError};
use crate::orders::record::{Address, Failure, NewOrder, OrderLine, OrderRecord};
use crate::orders::store::{Change, StoredOrder};
use crate::orders::{CustomerIndex, OrderStore};
use crate::payment::PaymentDesk;
use crate::payment::desk::{Authorisation, PaymentFault};
use crate::stock::{STOCK_AT_ONCE, SharedStocks, StockFault, hold_expiry, reserve};

/// The first wait after an unclear step; it doubles up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// What a customer sends to check out. Also what an idempotency key stands for: its digest is stored with the order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckoutRequest {
    /// The cart to buy.
    pub cart_id: CartId,
    /// Who buys, if they say so.
    pub customer: Option<CustomerId>,
    /// The provider's name for the means of payment.
    pub payment_token: String,
    /// Where it goes.
    pub shipping_address: Address,
}

/// An order after checkout: placed, failed, or still pending.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The order.
    pub record: OrderRecord,
    /// It was there before this request.
    pub replayed: bool,
}

/// Why there is no order.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CheckoutError {
    /// What: the key stands for another request. Mend: use a new key for a new request.
    #[error("this Idempotency-Key was used for another checkout; use a new key for a new one")]
    KeyReused,
    /// What: the cart cannot be bought.
    #[error(transparent)]
    Quote(#[from] QuoteError),
    /// What: the total cannot be represented.
    #[error(transparent)]
    Money(#[from] MoneyError),
    /// What: too few copies of the cart answer to be sure of what is in it. Mend: try again shortly.
    #[error(
        "too few copies of cart `{cart_id}` answer to be sure of its contents; try again shortly"
    )]
    CartUncertain {
        /// The cart.
        cart_id: CartId,
    },
    /// What: the cart cannot be read.
    #[error(transparent)]
    Cart(#[from] CartFault),
    /// What: the store did not do as asked.
    #[error(transparent)]
    Store(#[from] StoreFault),
}

/// Everything checkout works with.
pub struct Checkout {
    /// The orders.
    pub orders: OrderStore,
    /// Orders by customer.
    pub customers: CustomerIndex,
    /// The list of unfinished orders.
    pub pending: PendingOrders,
    /// The carts.
    pub carts: SharedCarts,
    /// What is held for carts.
    pub cart_holds: CartHolds,
    /// The stock.
    pub stocks: SharedStocks,
    /// The products.
    pub catalog: CatalogStore,
    /// The payments.
    pub desk: PaymentDesk,
    /// What the shop sells in.
    pub currency: Currency,
    /// How long reserved units are kept while they are not paid.
    pub hold: Duration,
}

/// A step without a definite result.
#[derive(Debug, thiserror::Error)]
enum Unclear {
    #[error(transparent)]
    Stock(#[from] StockFault),
    #[error(transparent)]
    Payment(#[from] PaymentFault),
    #[error(transparent)]
    Cart(#[from] CartFault),
    #[error(transparent)]
    Store(#[from] StoreFault),
    #[error("stored data of the order makes no sense: {why}")]
    Nonsense { why: String },
}

impl Checkout {
    /// The order of `key`: made and driven until it rests, or until `patience` is over and it is still pending.
    ///
    /// # Errors
    /// Nothing was made, or (`Store` with an unknown outcome) it may have been: send the same request again.
    pub async fn place(
        &self,
        key: &str,
        request: &CheckoutRequest,
        patience: Duration,
    ) -> Result<Placed, CheckoutError> {
        let deadline = Instant::now() + patience;
        let order_id = OrderId::from_idempotency_key(key);
        let request_digest =
            digest(&serde_json::to_vec(request).expect("a request is made of texts"));
        let (order, replayed) = match self.orders.get(order_id).await? {
            Some(order) => (order, true),
            None => {
                let record = self.quoted(order_id, request_digest, request).await?;
                // First the list, then the order: whoever crashes in between leaves an entry too many.
                self.pending.enter(order_id, now_unix_ms()).await?;
                match self.orders.create(&record).await? {
                    Change::Made(order) => (order, false),
                    Change::Lost(order) => (order, true),
                }
            }
        };
        if order.record.request_digest != request_digest {
            return Err(CheckoutError::KeyReused);
        }
        let record = self.drive(order, deadline).await;
        Ok(Placed { record, replayed })
    }

    /// Drives an order until it rests or `deadline` has passed. Returns its last known record.
    pub async fn drive(&self, mut order: StoredOrder, deadline: Instant) -> OrderRecord {
        let mut backoff = BACKOFF_MIN;
        while let Some(step) = saga::next(&order.record) {
            match self.advance(&order, step).await {
                Ok(next) => {
                    order = next;
                    backoff = BACKOFF_MIN;
                    continue;
                }
                Err(unclear) => {
                    let order_id = order.record.order_id;
                    tracing::warn!(%order_id, ?step, error = %unclear, "step without a result");
                    metrics::counter!("souk_shop_checkout_unclear_total").increment(1);
                }
            }
            let wake = Instant::now() + backoff;
            if wake >= deadline {
                return order.record;
            }
            tokio::time::sleep_until(wake).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
            if let Ok(Some(newer)) = self.orders.get(order.record.order_id).await {
                order = newer;
            }
        }
        order.record
    }

    /// Performs one step and writes its result down. Returns the order as it then is, whoever moved it.
    async fn advance(&self, order: &StoredOrder, step: Step) -> Result<StoredOrder, Unclear> {
        let record = &order.record;
        let result = match step {
            Step::HoldStock => self.hold_stock(record).await?,
            Step::AuthorisePayment => self.authorise(record).await?,
            Step::BindStock => self.bind_stock(record).await?,
            Step::CapturePayment => self.capture(record).await?,
            Step::Tidy => self.tidy(record).await?,
            Step::ShipStock => self.ship_stock(record).await?,
            Step::Undo => self.undo(record).await?,
        };
        let next = saga::after(record, result, now_unix_ms()).ok_or_else(|| Unclear::Nonsense {
            why: format!("{step:?} ended oddly"),
        })?;
        let change = self
            .orders
            .update(&order.version, &next)
            .await?
            .into_order();
        if saga::next(&change.record).is_none() {
            self.strike_off(&change.record).await;
        }
        Ok(change)
    }

    async fn quoted(
        &self,
        order_id: OrderId,
        request_digest: uuid::Uuid,
        request: &CheckoutRequest,
    ) -> Result<OrderRecord, CheckoutError> {
        let seen = self.carts.view(&request.cart_id).await?;
        if seen.degraded {
            // What a single copy shows may lack the last item; selling less than was chosen is worse than waiting.
            return Err(CheckoutError::CartUncertain {
                cart_id: request.cart_id.clone(),
            });
        }
        let view = seen.view;
        let ids: Vec<Option<ProductId>> = view.lines().iter().map(product_id).collect();
        let products = self.products(&ids).await?;
        let lines = quote(request.cart_id.as_str(), &view, &products, self.currency)?;
        let now_unix_ms = now_unix_ms();
        let new = NewOrder {
            order_id,
            request_digest,
            cart_id: request.cart_id.clone(),
            customer: request.customer.clone(),
            shipping_address: request.shipping_address.clone(),
            payment_token: request.payment_token.clone(),
            lines,
            hold_expires_unix_ms: hold_expiry(now_unix_ms, self.hold),
        };
        Ok(OrderRecord::quoted(new, now_unix_ms)?)
    }

    /// The products of `ids`, in order; `None` where there is no such product or no id at all.
    ///
    /// # Errors
    /// The catalogue cannot be read.
    pub async fn products(
        &self,
        ids: &[Option<ProductId>],
    ) -> Result<Vec<Option<Product>>, StoreFault> {
        let known: Vec<ProductId> = ids.iter().flatten().cloned().collect();
        let mut found = self.catalog.get_many(&known).await?.into_iter();
        Ok(ids
            .iter()
            .map(|id| id.as_ref().and_then(|_| found.next().flatten()))
            .collect())
    }

    async fn hold_stock(&self, order: &OrderRecord) -> Result<StepResult, Unclear> {
        // Its own cart must not stand in its way.
        self.cart_holds.release(&order.cart_id).await?;
        let failures = self.for_each_line(order, |line| async move {
            let command = StockCommand::Reserve {
                reservation_id: reservation(order, line),
                quantity: units(line)?,
                expires_unix_ms: order.hold_expires_unix_ms,
            };
            match reserve(&self.stocks, &line.sku, command).await {
                Ok(_) => Ok(None),
                Err(StockFault::Refused(refusal)) => Ok(Some(hold_failure(line, &refusal))),
                Err(unclear @ StockFault::Store(_)) => Err(unclear.into()),
            }
        });
        Ok(first_failure(failures.await?))
    }

    async fn bind_stock(&self, order: &OrderRecord) -> Result<StepResult, Unclear> {
        let failures = self.for_each_line(order, |line| async move {
            let command = StockCommand::Confirm {
                reservation_id: reservation(order, line),
                order_id: stock_order(order),
            };
            match self.stocks.command(&line.sku, command).await {
                Ok(_) => Ok(None),
                // Whatever the stock's reason, the units are not held for this order any more.
                Err(StockFault::Refused(_)) => Ok(Some(Failure::HoldExpired)),
                Err(unclear @ StockFault::Store(_)) => Err(unclear.into()),
            }
        });
        Ok(first_failure(failures.await?))
    }

    async fn authorise(&self, order: &OrderRecord) -> Result<StepResult, Unclear> {
        let key = order.payment_key();
        let answer = self
            .desk
            .authorise(order.order_id, key, order.total, &order.payment_token)
            .await?;
        Ok(match answer {
            Authorisation::Authorised { payment_id } => StepResult::Authorised { payment_id },
            Authorisation::Declined { detail } => {
                StepResult::Refused(Failure::PaymentDeclined { detail })
            }
        })
    }

    async fn capture(&self, order: &OrderRecord) -> Result<StepResult, Unclear> {
        let payment_id = order
            .payment_id
            .as_deref()
            .ok_or_else(|| Unclear::Nonsense {
                why: "an allocated order without a payment".to_owned(),
            })?;
        Ok(
            match self.desk.capture(order.payment_key(), payment_id).await? {
                Ok(()) => StepResult::Done,
                Err(detail) => StepResult::Refused(Failure::PaymentDeclined { detail }),
            },
        )
    }

    async fn tidy(&self, order: &OrderRecord) -> Result<StepResult, Unclear> {
        let lines = order
            .lines
            .iter()
            .map(bought)
            .collect::<Result<Vec<_>, Unclear>>()?;
        let tag = RemovalTag::from_bytes(order.order_id.part("tidy").into_bytes());
        self.carts
            .remove_ordered(&order.cart_id, tag, lines)
            .await?;
        self.customers.add(order).await?;
        Ok(StepResult::Done)
    }

    async fn ship_stock(&self, order: &OrderRecord) -> Result<StepResult, Unclear> {
        let shipped = self.for_each_line(order, |line| async move {
            let command = StockCommand::Ship {
                reservation_id: reservation(order, line),
                order_id: stock_order(order),
            };
            self.stocks.command(&line.sku, command).await?;
            Ok(None)
        });
        shipped.await?;
        Ok(StepResult::Done)
    }

    /// Cancels every reservation, also those that were never made: a late driver finds them barred.
    async fn undo(&self, order: &OrderRecord) -> Result<StepResult, Unclear> {
        let cancelled = self.for_each_line(order, |line| async move {
            let command = StockCommand::Cancel {
                reservation_id: reservation(order, line),
                order_id: stock_order(order),
            };
            match self.stocks.command(&line.sku, command).await {
                Ok(_) | Err(StockFault::Refused(StockError::HoldEnded { .. })) => Ok(None),
                Err(unclear) => Err(unclear.into()),
            }
        });
        cancelled.await?;
        if let Some(payment_id) = &order.payment_id {
            self.desk.void(order.payment_key(), payment_id).await?;
        }
        Ok(StepResult::Done)
    }

    /// Runs `work` for every line, several at once; the first unclear one ends it.
    async fn for_each_line<'a, F, R>(
        &'a self,
        order: &'a OrderRecord,
        work: F,
    ) -> Result<Vec<Option<Failure>>, Unclear>
    where
        F: Fn(&'a OrderLine) -> R,
        R: Future<Output = Result<Option<Failure>, Unclear>> + Send + 'a,
    {
        let works: Vec<_> = order.lines.iter().map(work).collect();
        stream::iter(works)
            .buffered(STOCK_AT_ONCE)
            .try_collect()
            .await
    }

    /// Strikes a resting order off the list; what fails here, the resumer does later.
    async fn strike_off(&self, order: &OrderRecord) {
        if let Err(error) = self.pending.strike(order.order_id).await {
            tracing::debug!(order_id = %order.order_id, %error, "left on the pending list");
        }
    }
}

fn first_failure(failures: Vec<Option<Failure>>) -> StepResult {
    failures
        .into_iter()
        .flatten()
        .next()
        .map_or(StepResult::Done, StepResult::Refused)
}

fn hold_failure(line: &OrderLine, refusal: &StockError) -> Failure {
    match refusal {
        StockError::Insufficient {
            compartment: Compartment::Available,
            ..
        }
        | StockError::TooManyHolds => Failure::OutOfStock {
            sku: line.sku.clone(),
            requested: line.quantity,
        },
        _ => Failure::HoldExpired,
    }
}

fn reservation(order: &OrderRecord, line: &OrderLine) -> ReservationId {
    ReservationId::from_bytes(order.reservation_id(&line.sku).into_bytes())
}

fn stock_order(order: &OrderRecord) -> StockOrderId {
    StockOrderId::from_bytes(order.order_id.as_uuid().into_bytes())
}

fn units(line: &OrderLine) -> Result<Quantity, Unclear> {
    Quantity::new(line.quantity).map_err(|error| Unclear::Nonsense {
        why: error.to_string(),
    })
}

fn bought(line: &OrderLine) -> Result<(Sku, Vec<AddTag>), Unclear> {
    let nonsense = |why: String| Unclear::Nonsense { why };
    let sku = Sku::new(line.sku.as_str()).map_err(|error| nonsense(error.to_string()))?;
    let tags = line.cart_tags.iter().map(|tag| tag.parse());
    let tags = tags.collect::<Result<Vec<AddTag>, _>>();
    Ok((sku, tags.map_err(|error| nonsense(error.to_string()))?))
}
