//! Gives each request an id, a log line and a place in the metrics.
//!
//! Source: W3C Trace Context (`traceparent`).
//! Shape: one middleware around everything, so that even unknown addresses and panics are seen.
//! Invariants: 1. every answer carries `x-request-id`. 2. metric labels are route templates, never raw paths:
//! a scanner cannot fill the memory with label values.

use std::any::Any;
use std::sync::OnceLock;
use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing::Instrument;
use uuid::Uuid;

use super::problem::{Problem, ProblemKind};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A caller's request id is taken over up to this length; longer ones are replaced.
const REQUEST_ID_CHARS_MAX: usize = 128;
const BUCKETS_SECONDS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];

tokio::task_local! {
    static REQUEST: String;
}

/// The id of the request that this task answers; empty outside of one.
#[must_use]
pub fn current_request_id() -> String {
    REQUEST.try_with(Clone::clone).unwrap_or_default()
}

/// Wraps a request: id, span, log line, metrics.
pub async fn observe(request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let method = request.method().clone();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let span = tracing::info_span!(
        "request",
        request_id = %id,
        %method,
        %route,
        traceparent = tracing::field::Empty,
    );
    if let Some(trace) = traceparent(request.headers()) {
        span.record("traceparent", trace);
    }
    let started = Instant::now();
    let answer = REQUEST
        .scope(id.clone(), next.run(request))
        .instrument(span.clone());
    let mut response = answer.await;
    let seconds = started.elapsed().as_secs_f64();
    let status = response.status().as_u16();
    span.in_scope(|| {
        tracing::info!(status, elapsed_ms = (seconds * 1_000.0) as u64, "answered");
    });
    let labels = [
        ("method", method.as_str().to_owned()),
        ("route", route),
        ("status", status.to_string()),
    ];
    metrics::counter!("souk_shop_requests_total", &labels).increment(1);
    metrics::histogram!("souk_shop_request_seconds", &labels).record(seconds);
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// The answer to a panic in a handler: our mistake, told as a problem.
#[must_use]
pub fn panicked(cause: Box<dyn Any + Send>) -> Response {
    let text = cause
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| cause.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    tracing::error!(panic = text, "a handler panicked");
    Problem::new(
        ProblemKind::Internal,
        "the shop made a mistake; report the request id",
    )
    .into_response()
}

/// The metrics of this process. The recorder is global, so it is installed once, whoever asks first; a process
/// that already has another recorder renders nothing here.
#[must_use]
pub fn metrics_handle() -> Option<&'static PrometheusHandle> {
    static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            PrometheusBuilder::new()
                .set_buckets(&BUCKETS_SECONDS)
                .ok()?
                .install_recorder()
                .ok()
        })
        .as_ref()
}

fn request_id(headers: &HeaderMap) -> String {
    headers
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|id| (1..=REQUEST_ID_CHARS_MAX).contains(&id.len()))
        .filter(|id| id.bytes().all(|byte| byte.is_ascii_graphic()))
        .map_or_else(|| Uuid::now_v7().simple().to_string(), str::to_owned)
}

/// The caller's trace, if the header has the form of version 00.
fn traceparent(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get("traceparent")?.to_str().ok()?;
    let mut parts = text.split('-');
    let lengths: Vec<usize> = parts.by_ref().map(str::len).collect();
    let hex = text
        .bytes()
        .all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    (lengths == [2, 32, 16, 2] && hex).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        headers
    }

    #[test]
    fn keeps_a_sensible_request_id_and_replaces_others() {
        assert_eq!(request_id(&headers("x-request-id", "abc-1")), "abc-1");
        for bad in ["", "a b", &"x".repeat(129)] {
            assert_ne!(request_id(&headers("x-request-id", bad)), bad);
        }
    }

    #[test]
    fn takes_only_well_formed_traces() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(traceparent(&headers("traceparent", good)), Some(good));
        for bad in ["", "00-xyz-1-1", "00", &format!("{good}-extra")] {
            assert_eq!(traceparent(&headers("traceparent", bad)), None, "{bad}");
        }
    }
}
