//! Health and metrics over plain HTTP, for probes and scrapers.
//!
//! `/healthz` says that the process runs, `/readyz` whether it takes requests (and why not), `/metrics`
//! what it counted, in Prometheus' text format; in a cluster with certificates to callers on this machine only.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use axum::{
    Router,
    extract::{ConnectInfo, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use souk_kv_storage::NotWritten;
use tracing::warn;

use crate::{core::NodeCore, members::Voice};

/// Upper ends of the histograms of seconds.
const SECONDS: [f64; 14] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
];

static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Starts counting, once per process.
pub(crate) fn start_counting() -> Option<&'static PrometheusHandle> {
    RECORDER
        .get_or_init(|| {
            let builder = PrometheusBuilder::new()
                .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
                .expect("the buckets are not empty");
            match builder.install_recorder() {
                Ok(handle) => Some(handle),
                Err(cause) => {
                    warn!(%cause, "metrics are counted by somebody else in this process");
                    None
                }
            }
        })
        .as_ref()
}

/// The routes of a node's HTTP port.
pub(crate) fn routes(core: Arc<NodeCore>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(core)
}

async fn ready(State(core): State<Arc<NodeCore>>) -> impl IntoResponse {
    let stopped_writing = || match core.store.stats().ok()?.refusal? {
        refusal @ (NotWritten::Poisoned { .. } | NotWritten::Closed) => Some(refusal.to_string()),
        _ => None,
    };
    match core.not_ready().or_else(stopped_writing) {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(reason) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: {reason}\n"),
        ),
    }
}

async fn metrics(
    State(core): State<Arc<NodeCore>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
) -> Response {
    // This port knows no certificates: what is not for everybody stays on the machine.
    if core.is_guarded() && !from.ip().is_loopback() {
        let text =
            "metrics are answered on the node's own machine only: run the scraper's agent there\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    if let Ok(stats) = core.store.stats() {
        metrics::gauge!("souk_disk_bytes").set(stats.engine.disk_bytes as f64);
        metrics::gauge!("souk_journal_bytes").set(stats.engine.journal_bytes as f64);
        metrics::gauge!("souk_memtable_bytes").set(stats.engine.memtable_bytes as f64);
        metrics::gauge!("souk_cache_bytes").set(stats.engine.cache_bytes as f64);
        metrics::gauge!("souk_compaction_lag_tables")
            .set(stats.engine.compaction_lag_tables as f64);
        metrics::gauge!("souk_storage_backlog_count").set(stats.engine.backlog_count as f64);
        metrics::gauge!("souk_storage_queue_requests").set(stats.queue_requests as f64);
        metrics::gauge!("souk_storage_queue_bytes").set(stats.queue_bytes as f64);
    }
    let unix_ms = core.cluster.environment.unix_ms();
    metrics::gauge!("souk_time_of_day_seconds").set(unix_ms as f64 / 1_000.0);
    let may_vote = u8::from(core.members.voice() == Voice::Sure);
    metrics::gauge!("souk_layout_epoch").set(core.cluster.layout().epoch().0 as f64);
    metrics::gauge!("souk_may_vote").set(f64::from(may_vote));
    let in_work = core.admission.in_work();
    metrics::gauge!("souk_requests_in_work").set(in_work.operations as f64);
    metrics::gauge!("souk_requests_in_work_bytes").set(in_work.bytes as f64);
    let layout = core.cluster.layout();
    for member in layout
        .members()
        .values()
        .filter(|member| member.id != core.cluster.node)
    {
        let is_up = u8::from(core.cluster.is_up(member.id));
        metrics::gauge!("souk_peer_up", "peer" => member.name.to_string()).set(f64::from(is_up));
    }
    let text = start_counting()
        .map(PrometheusHandle::render)
        .unwrap_or_default();
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        text,
    )
        .into_response()
}
