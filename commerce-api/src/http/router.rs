//! Joins the handlers and wraps them in what every request passes through.
//!
//! Shape, from the outside in: id, log and metrics; panics become problems; time and concurrency limits; body limit;
//! the handler.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::sync::Semaphore;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{method_problem, no_such_address};
use super::observe::{observe, panicked};
use super::problem::{Problem, ProblemKind};
use super::routes::{admin, carts, orders, products, reviews};
use super::state::ShopState;
use super::{health, openapi};

/// The largest body, in bytes.
pub const BODY_BYTES_MAX: usize = 256 * 1024;
/// How long a request may take before the caller is told to come back. Longer than the patience of a checkout.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The shop's whole interface. `requests_max` requests are served at once; more are turned away early.
pub fn router(shop: Arc<ShopState>, requests_max: usize) -> Router {
    let (api, document) = api().split_for_parts();
    let document: Arc<OpenApi> = Arc::new(openapi::completed(document));
    let limits = Arc::new(Semaphore::new(requests_max));
    api.route(
        "/api/v1/openapi.json",
        get(move || {
            let document = Arc::clone(&document);
            async move { Json((*document).clone()) }
        }),
    )
    .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
    .layer(middleware::from_fn_with_state(limits, limited))
    .route("/healthz", get(health::healthz))
    .route("/readyz", get(health::readyz))
    .route("/metrics", get(health::metrics))
    .fallback(no_such_address)
    .layer(middleware::from_fn(method_problem))
    .layer(CatchPanicLayer::custom(panicked))
    .layer(middleware::from_fn(observe))
    .with_state(shop)
}

/// The document as it is served, for tools and tests.
#[must_use]
pub fn document() -> OpenApi {
    openapi::completed(api().split_for_parts().1)
}

fn api() -> OpenApiRouter<Arc<ShopState>> {
    OpenApiRouter::new()
        .routes(routes!(products::search))
        .routes(routes!(products::product, admin::put_product))
        .routes(routes!(products::also_bought))
        .routes(routes!(products::stock))
        .routes(routes!(reviews::list))
        .routes(routes!(reviews::put))
        .routes(routes!(carts::add))
        .routes(routes!(carts::show))
        .routes(routes!(carts::change, carts::remove))
        .routes(routes!(carts::hold, carts::let_go))
        .routes(routes!(orders::checkout))
        .routes(routes!(orders::order))
        .routes(routes!(orders::tracking))
        .routes(routes!(orders::customer_orders))
        .routes(routes!(admin::receive))
        .routes(routes!(admin::ship))
        .routes(routes!(admin::deliver))
}

/// Turns requests away when too many are being served, and ends those that take too long.
async fn limited(State(limits): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    let Ok(_permit) = limits.try_acquire() else {
        return Problem::new(
            ProblemKind::Overloaded,
            "too many requests at once; try again shortly",
        )
        .retry_after(Duration::from_secs(1))
        .into_response();
    };
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(
            ProblemKind::OutcomeUnknown,
            "it took too long; look whether it was done before you try again",
        )
        .into_response(),
    }
}
