//! One shop process: wiring, start and stop.
//!
//! Place: the outermost function of this crate; called by `souk shop`.
//! Shape: connect, make missing buckets, fill the index, then serve and follow until told to stop.
//! Invariants: 1. nothing is kept in the process that another shop process could not rebuild from the store.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use souk_cart::store::{CartStore, CartStoreOptions, ClientCarts};
use souk_inventory::{CART_HOLD_MS, CHECKOUT_HOLD_MS};
use souk_kv_client::{BearerFiles, Client, ClientError, ClientOptions, RequestError};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::buckets::{self, CARTS};
use crate::carts::{CartHolds, SharedCarts};
use crate::catalog::CatalogStore;
use crate::checkout::pending::PendingOrders;
use crate::checkout::{Checkout, resume};
use crate::http::observe::metrics_handle;
use crate::http::router;
use crate::http::state::ShopState;
use crate::kv::SharedKv;
use crate::money::Currency;
use crate::orders::{CustomerIndex, OrderStore};
use crate::payment::{PaymentDesk, ProviderClient, ProviderError};
use crate::recommend::RecommendationStore;
use crate::reviews::ReviewStore;
use crate::search::sync::SearchSync;
use crate::search::{SearchIndex, SearchIndexError};
use crate::stock::{SharedStocks, StockShelf};

/// How long a first start waits for the cluster to make buckets.
const BUCKETS_PATIENCE: Duration = Duration::from_secs(60);
/// The wait between two tries of it.
const BUCKETS_RETRY: Duration = Duration::from_millis(500);
/// How long requests under way may go on after the shop was told to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// How a shop runs.
#[derive(Clone, Debug)]
pub struct ShopOptions {
    /// Where it listens.
    pub listen: SocketAddr,
    /// `host:port` of one or more nodes of the cluster.
    pub endpoints: Vec<String>,
    /// The certificates that the shop shows the cluster; `None` for a cluster without any.
    pub certificates: Option<BearerFiles>,
    /// File with the token that the shop shows beside them.
    pub token_file: Option<PathBuf>,
    /// The payment provider, for example `http://127.0.0.1:8090`.
    pub payment_url: String,
    /// What it sells in.
    pub currency: Currency,
    /// The bearer token of the admin calls; `None` switches them off. In a cluster with certificates they are answered
    /// on this machine only, as metrics are.
    pub admin_token: Option<String>,
    /// Requests served at once, from 1; more are turned away with 503.
    pub requests_max: usize,
    /// Checkouts at once, from 1; more wait for their turn.
    pub checkouts_max: usize,
    /// How long a checkout keeps the units that it reserved while it is not paid, at most
    /// [`souk_inventory::HOLD_MAX_MS`] milliseconds. Default 10 minutes.
    pub checkout_hold: Duration,
    /// How long the units of a cart are kept when its customer asks, at most
    /// [`souk_inventory::HOLD_MAX_MS`] milliseconds; zero switches it off. Default 15 minutes.
    pub cart_hold: Duration,
}

impl ShopOptions {
    /// A shop at `listen` over the cluster of `endpoints`, with usual limits and without admin calls.
    #[must_use]
    pub fn new(listen: SocketAddr, endpoints: Vec<String>, payment_url: String) -> Self {
        Self {
            listen,
            endpoints,
            certificates: None,
            token_file: None,
            payment_url,
            currency: Currency::USD,
            admin_token: None,
            requests_max: 512,
            checkouts_max: 64,
            checkout_hold: Duration::from_millis(CHECKOUT_HOLD_MS),
            cart_hold: Duration::from_millis(CART_HOLD_MS),
        }
    }
}

/// Why a shop does not run.
#[derive(Debug, thiserror::Error)]
pub enum ShopError {
    /// What: the cluster does not answer.
    #[error(transparent)]
    Connect(#[from] ClientError),
    /// What: the buckets cannot be made. Mend: see the reason; are all nodes up?
    #[error("the shop's buckets cannot be made; are the nodes up and agreed on a layout?")]
    Buckets(#[source] RequestError),
    /// What: the address of the payment provider is unusable. Mend: give an HTTP URL.
    #[error(
        "the payment provider's address is unusable; give an HTTP URL such as http://127.0.0.1:8090"
    )]
    Payment(#[source] ProviderError),
    /// What: the search index cannot be made.
    #[error(transparent)]
    Search(#[from] SearchIndexError),
    /// What: the address cannot be listened on. Mend: stop what uses it, or choose another.
    #[error("the shop cannot listen on {listen}; stop what uses it or choose another")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Runs a shop until `shutdown` resolves.
///
/// # Errors
/// It cannot start: cluster, payment address or own address are unusable.
pub async fn serve(
    options: ShopOptions,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ShopError> {
    let listen = options.listen;
    let unusable = |source| ShopError::Listen { listen, source };
    // Before anything else, so that a port in use is told at once and probes get an answer early.
    let listener = TcpListener::bind(listen).await.map_err(unusable)?;
    let _ = metrics_handle();
    let client = Client::connect(ClientOptions {
        name: "souk-shop".to_owned(),
        certificates: options.certificates.clone(),
        token_file: options.token_file.clone(),
        ..ClientOptions::new(options.endpoints.clone())
    });
    let client = client.await?;
    create_buckets(&client).await?;
    let shop = assemble(&options, client)?;
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    tasks.spawn(follow_catalogue(Arc::clone(&shop), stop.clone()));
    tasks.spawn(resume::run(Arc::clone(&shop.checkout), stop.clone()));
    tasks.close();
    tracing::info!(%listen, "shop listening");
    let stop_on_shutdown = {
        let stop = stop.clone();
        async move {
            shutdown.await;
            stop.cancel();
        }
    };
    let service = router(shop, options.requests_max)
        .into_make_service_with_connect_info::<std::net::SocketAddr>();
    let served = axum::serve(listener, service)
        .with_graceful_shutdown(stop_on_shutdown)
        .into_future();
    // Followers of an order keep their connection open for minutes; a stop does not wait for those.
    let result = tokio::select! {
        result = served => result.map_err(unusable),
        () = async { stop.cancelled().await; tokio::time::sleep(STOP_PATIENCE).await } => Ok(()),
    };
    stop.cancel();
    tasks.wait().await;
    result
}

async fn create_buckets(client: &Client) -> Result<(), ShopError> {
    let deadline = tokio::time::Instant::now() + BUCKETS_PATIENCE;
    loop {
        match buckets::create_missing(client).await {
            Ok(()) => return Ok(()),
            Err(error) if error.is_retryable() && tokio::time::Instant::now() < deadline => {
                tracing::info!(%error, "waiting for the cluster to make the buckets");
                tokio::time::sleep(BUCKETS_RETRY).await;
            }
            Err(error) => return Err(ShopError::Buckets(error)),
        }
    }
}

fn assemble(options: &ShopOptions, client: Client) -> Result<Arc<ShopState>, ShopError> {
    let provider = ProviderClient::new(&options.payment_url).map_err(ShopError::Payment)?;
    let carts = ClientCarts::new(client.clone(), CARTS);
    let parts = Parts {
        kv: Arc::new(client.clone()),
        carts: Arc::new(CartStore::new(carts, CartStoreOptions::default())),
        stocks: Arc::new(StockShelf::new(client)),
        provider,
    };
    Ok(parts.assemble(options)?)
}

/// What a shop is made of that reaches outside.
pub(crate) struct Parts {
    pub(crate) kv: SharedKv,
    pub(crate) carts: SharedCarts,
    pub(crate) stocks: SharedStocks,
    pub(crate) provider: ProviderClient,
}

impl Parts {
    pub(crate) fn assemble(
        self,
        options: &ShopOptions,
    ) -> Result<Arc<ShopState>, SearchIndexError> {
        let Self {
            kv,
            carts,
            stocks,
            provider,
        } = self;
        let catalog = CatalogStore::new(Arc::clone(&kv));
        let orders = OrderStore::new(Arc::clone(&kv));
        let customers = CustomerIndex::new(Arc::clone(&kv));
        let cart_holds = CartHolds::new(Arc::clone(&kv), Arc::clone(&stocks), options.cart_hold);
        let checkout = Checkout {
            orders: orders.clone(),
            customers: customers.clone(),
            pending: PendingOrders::new(Arc::clone(&kv)),
            carts: Arc::clone(&carts),
            cart_holds,
            stocks: Arc::clone(&stocks),
            catalog: catalog.clone(),
            desk: PaymentDesk::new(Arc::clone(&kv), provider),
            currency: options.currency,
            hold: options.checkout_hold,
        };
        Ok(Arc::new(ShopState {
            catalog,
            index: Arc::new(SearchIndex::new()?),
            recommendations: RecommendationStore::new(Arc::clone(&kv)),
            reviews: ReviewStore::new(kv),
            carts,
            stocks,
            checkout: Arc::new(checkout),
            orders,
            customers,
            currency: options.currency,
            admin_token: options.admin_token.clone(),
            keeps_to_itself: options.certificates.is_some(),
            checkout_permits: Semaphore::new(options.checkouts_max),
            index_filled: AtomicBool::new(false),
        }))
    }
}

/// Fills the index, trying until it works, then follows the catalogue.
async fn follow_catalogue(shop: Arc<ShopState>, stop: CancellationToken) {
    let mut sync = SearchSync::new(shop.catalog.clone(), Arc::clone(&shop.index));
    loop {
        match sync.sweep().await {
            Ok(changed) => {
                tracing::info!(products = changed, "search index filled");
                shop.index_filled.store(true, Ordering::Release);
                return sync.run(stop).await;
            }
            Err(error) => tracing::warn!(%error, "the search index cannot be filled yet"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(BUCKETS_RETRY) => {}
        }
    }
}

#[cfg(test)]
#[path = "shop_test.rs"]
mod tests;
