//! Stock as the shop uses it: one fulfilment centre, commands by SKU.
//!
//! Place: between checkout, fulfilment, import and `souk_inventory`, which has the rules and the store.
//! Shape: `Stocks` is what the shop asks, `StockShelf` answers from `souk_inventory`'s store.
//! Not here: counting units, expiry, idempotency (`souk_inventory`).

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use souk_inventory::store::{
    ClientStock, StockBucket, StockStore, StockStoreError, StockStoreOptions,
};
use souk_inventory::{
    Centre, HOLD_MAX_MS, Sku, StockAnswer, StockCommand, StockCounts, StockError, StockId,
};
use souk_kv_client::Client;

use crate::buckets::STOCK;
use crate::fault::StoreFault;
use crate::ids::ProductId;

/// Stock commands of one customer under way at the same time.
pub(crate) const STOCK_AT_ONCE: usize = 16;
/// Tries of one reservation while the stock says that units come free.
const SWEEP_TRIES: u32 = 8;

/// The one fulfilment centre of this shop.
pub const CENTRE: &str = "main";

/// A stock command that was not carried out.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StockFault {
    /// What: the stock's rules forbid it; nothing was changed.
    #[error(transparent)]
    Refused(#[from] StockError),
    /// What: the store did not do as asked.
    #[error(transparent)]
    Store(#[from] StoreFault),
}

/// What the shop asks of a stock store.
pub trait Stocks: Send + Sync + 'static {
    /// The counts of one article; `None` when nothing was ever received.
    fn counts<'a>(
        &'a self,
        sku: &'a ProductId,
    ) -> BoxFuture<'a, Result<Option<StockCounts>, StockFault>>;
    /// Carries out one command. Every command carries its own id, so that a retry counts once.
    fn command<'a>(
        &'a self,
        sku: &'a ProductId,
        command: StockCommand,
    ) -> BoxFuture<'a, Result<StockAnswer, StockFault>>;
}

/// A stock store that is shared by every room of the shop.
pub type SharedStocks = Arc<dyn Stocks>;

/// When a hold made now runs out; never later than a stock takes.
pub(crate) fn hold_expiry(now_unix_ms: u64, hold: Duration) -> u64 {
    let hold_ms = u64::try_from(hold.as_millis()).unwrap_or(u64::MAX);
    now_unix_ms.saturating_add(hold_ms.min(HOLD_MAX_MS))
}

/// Reserves; while units of holds that ran out are coming free, at once again.
pub(crate) async fn reserve(
    stocks: &SharedStocks,
    sku: &ProductId,
    command: StockCommand,
) -> Result<StockAnswer, StockFault> {
    let mut tries = 0;
    loop {
        let answer = stocks.command(sku, command.clone()).await;
        tries += 1;
        match answer {
            Err(StockFault::Refused(StockError::Insufficient {
                more_expired: true, ..
            })) if tries < SWEEP_TRIES => {}
            answer => return answer,
        }
    }
}

/// The stock of `souk_inventory`'s store, as the shop asks for it.
#[derive(Clone)]
pub struct StockShelf<B = ClientStock> {
    store: StockStore<B>,
    centre: Centre,
}

impl StockShelf {
    /// The stock in the cluster of `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self::over(ClientStock::new(client, STOCK))
    }
}

impl<B: StockBucket> StockShelf<B> {
    /// The stock in `bucket`.
    #[must_use]
    pub fn over(bucket: B) -> Self {
        let centre = Centre::new(CENTRE).expect("the name is short and plain");
        Self {
            store: StockStore::new(bucket, StockStoreOptions::default()),
            centre,
        }
    }

    fn id(&self, sku: &ProductId) -> Result<StockId, StockFault> {
        let sku = Sku::new(sku.as_str()).map_err(|error| StoreFault::Unreadable {
            what: "SKU",
            why: error.to_string(),
        })?;
        Ok(StockId {
            sku,
            centre: self.centre.clone(),
        })
    }
}

impl<B: StockBucket> Stocks for StockShelf<B> {
    fn counts<'a>(
        &'a self,
        sku: &'a ProductId,
    ) -> BoxFuture<'a, Result<Option<StockCounts>, StockFault>> {
        Box::pin(async move {
            let counts = self.store.total(&self.id(sku)?).await;
            counts.map_err(|error| fault("read the stock", error))
        })
    }

    fn command<'a>(
        &'a self,
        sku: &'a ProductId,
        command: StockCommand,
    ) -> BoxFuture<'a, Result<StockAnswer, StockFault>> {
        Box::pin(async move {
            let answer = self.store.run(&self.id(sku)?, command).await;
            answer.map_err(|error| fault("change the stock", error))
        })
    }
}

fn fault(doing: &'static str, error: StockStoreError) -> StockFault {
    match error {
        StockStoreError::Refused(refusal) => StockFault::Refused(refusal),
        StockStoreError::Rows { source, .. } => StoreFault::Unreadable {
            what: "stock",
            why: source.to_string(),
        }
        .into(),
        error => {
            let outcome = error.outcome();
            StoreFault::from_outcome(doing, outcome, None, Arc::new(error)).into()
        }
    }
}
