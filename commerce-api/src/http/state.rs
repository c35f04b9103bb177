//! What every handler can reach.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::ConnectInfo;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::problem::{Problem, ProblemKind};
use crate::carts::SharedCarts;
use crate::catalog::CatalogStore;
use crate::checkout::Checkout;
use crate::money::Currency;
use crate::orders::{CustomerIndex, OrderStore};
use crate::recommend::RecommendationStore;
use crate::reviews::ReviewStore;
use crate::search::SearchIndex;
use crate::stock::SharedStocks;

/// How long a checkout waits for its turn.
const TURN_PATIENCE: Duration = Duration::from_secs(2);

/// The shop, as handlers see it.
pub struct ShopState {
    /// The products.
    pub catalog: CatalogStore,
    /// Their index.
    pub index: Arc<SearchIndex>,
    /// What is bought together.
    pub recommendations: RecommendationStore,
    /// What customers say.
    pub reviews: ReviewStore,
    /// The carts.
    pub carts: SharedCarts,
    /// The stock.
    pub stocks: SharedStocks,
    /// Checkout and all it works with.
    pub checkout: Arc<Checkout>,
    /// The orders.
    pub orders: OrderStore,
    /// Orders by customer.
    pub customers: CustomerIndex,
    /// What the shop sells in.
    pub currency: Currency,
    /// The bearer token of the admin calls; `None` switches them off.
    pub admin_token: Option<String>,
    /// Metrics and admin calls are answered to callers on this machine only.
    pub keeps_to_itself: bool,
    /// Checkouts at the same time.
    pub checkout_permits: Semaphore,
    /// The index has been filled.
    pub index_filled: AtomicBool,
}

impl ShopState {
    /// Whether a caller may use what is not for customers.
    #[must_use]
    pub fn lets_in(&self, caller: Option<&ConnectInfo<SocketAddr>>) -> bool {
        !self.keeps_to_itself || caller.is_some_and(|ConnectInfo(from)| from.ip().is_loopback())
    }

    /// A turn at the checkout, which has its own capacity so that nothing else can starve it, nor it anything else.
    ///
    /// # Errors
    /// Too many are at it.
    pub async fn checkout_turn(&self) -> Result<SemaphorePermit<'_>, Problem> {
        let turn = tokio::time::timeout(TURN_PATIENCE, self.checkout_permits.acquire()).await;
        turn.ok().and_then(Result::ok).ok_or_else(|| {
            Problem::new(
                ProblemKind::Overloaded,
                "too many checkouts at once; try again shortly",
            )
            .retry_after(TURN_PATIENCE)
        })
    }

    /// Whether searches see the whole catalogue.
    #[must_use]
    pub fn is_index_filled(&self) -> bool {
        self.index_filled.load(Ordering::Acquire)
    }
}
