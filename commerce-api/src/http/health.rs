//! Probes and metrics.
//!
//! Shape: `/healthz` says that the process lives, `/readyz` that it can serve: the index is filled and the payment
//! provider answers. A shop whose provider is away still sells nothing, so it is not ready; everything else works.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Extensions, StatusCode};
use axum::response::{IntoResponse, Response};

use super::observe::metrics_handle;
use super::state::ShopState;

/// The process lives.
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// The shop can serve, or what it waits for.
pub async fn readyz(State(shop): State<Arc<ShopState>>) -> Response {
    let mut missing = Vec::new();
    if !shop.is_index_filled() {
        missing.push("the search index is being filled from the catalogue");
    }
    if !shop.checkout.desk.provider().is_ready().await {
        missing.push("the payment provider does not answer");
    }
    if missing.is_empty() {
        return "ready\n".into_response();
    }
    let text = format!("not ready: {}\n", missing.join("; "));
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

/// Metrics in Prometheus' text format.
pub async fn metrics(State(shop): State<Arc<ShopState>>, extensions: Extensions) -> Response {
    if !shop.lets_in(extensions.get()) {
        let text = "metrics are answered on the shop's own machine only\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    let text = metrics_handle()
        .map(|handle| handle.render())
        .unwrap_or_default();
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        text,
    )
        .into_response()
}
