//! The provider's HTTP interface.
//!
//! Shape: `POST /v1/payments` (with `Idempotency-Key`), `GET /v1/payments/by-key/{key}`, `GET /v1/payments/{id}`,
//! `POST /v1/payments/{id}/capture|void|refund`, and `/healthz`, `/readyz`.
//! Invariants: 1. one lock orders all changes; a change is on disk before the lock is let go, so no answer and no
//! later change ever runs ahead of the journal.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::net::TcpListener;
use uuid::Uuid;

use super::book::{Book, BookError, Payment, TokenBehaviour};
use super::journal::{Journal, JournalError};
use crate::http::extract::{ApiJson, ApiPath, method_problem, no_such_address};
use crate::http::idempotency::IdempotencyKey;
use crate::http::observe::observe;
use crate::http::problem::{Problem, ProblemKind};
use crate::money::{Currency, Money};

/// How late a slow token's answer comes.
const SLOW_FOR: Duration = Duration::from_millis(1_500);
/// How long the first answer to a silent token is held back: longer than any caller waits.
const SILENT_FOR: Duration = Duration::from_secs(120);

/// Serves the provider until `shutdown` resolves.
///
/// `data_file` keeps every payment; it is made when missing.
///
/// # Errors
/// The file cannot be used, or the address cannot be listened on.
pub async fn serve(
    listen: SocketAddr,
    data_file: PathBuf,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ProviderServeError> {
    let (journal, book) = Journal::open(&data_file)?;
    let bind_failed = |source| ProviderServeError::Listen { listen, source };
    let listener = TcpListener::bind(listen).await.map_err(bind_failed)?;
    let provider = Arc::new(Provider {
        inner: Mutex::new(Inner { book, journal }),
    });
    tracing::info!(%listen, data_file = %data_file.display(), "payment provider listening");
    axum::serve(listener, router(provider))
        .with_graceful_shutdown(shutdown)
        .await
        .map_err(bind_failed)
}

/// Why the provider does not run.
#[derive(Debug, thiserror::Error)]
pub enum ProviderServeError {
    /// What: its file cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// What: the address cannot be listened on. Mend: stop what uses it, or choose another.
    #[error("the payment provider cannot listen on {listen}; stop what uses it or choose another")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

struct Provider {
    inner: Mutex<Inner>,
}

struct Inner {
    book: Book,
    journal: Journal,
}

impl Provider {
    /// Makes a change, writes it down if it is one, and only then lets others see it.
    /// Blocks on the disk; callers use a blocking thread.
    fn change(
        &self,
        decide: impl FnOnce(&Book) -> Result<Payment, BookError>,
    ) -> Result<(Payment, bool), Problem> {
        let mut inner = self.inner.lock();
        let payment = decide(&inner.book).map_err(refuse)?;
        let is_new = inner.book.get(payment.id) != Ok(&payment);
        if is_new {
            inner.journal.append(&payment).map_err(|error| {
                tracing::error!(%error, "the journal cannot be written");
                Problem::new(
                    ProblemKind::Unavailable,
                    "the provider cannot write; try again later",
                )
            })?;
            inner.book.restore(payment.clone());
        }
        Ok((payment, is_new))
    }
}

fn refuse(error: BookError) -> Problem {
    let kind = match &error {
        BookError::NoPayment => ProblemKind::NotFound,
        BookError::KeyReused => ProblemKind::KeyReused,
        BookError::Amount | BookError::RefundTotal { .. } => ProblemKind::Unprocessable,
        BookError::WrongStatus { .. } | BookError::CaptureRefused => ProblemKind::Conflict,
    };
    Problem::new(kind, error.to_string())
}

fn router(provider: Arc<Provider>) -> Router {
    Router::new()
        .route("/v1/payments", post(create))
        .route("/v1/payments/by-key/{key}", get(by_key))
        .route("/v1/payments/{id}", get(by_id))
        .route("/v1/payments/{id}/capture", post(capture))
        .route("/v1/payments/{id}/void", post(void))
        .route("/v1/payments/{id}/refund", post(refund))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(|| async { "ready\n" }))
        .fallback(no_such_address)
        .layer(middleware::from_fn(method_problem))
        .layer(middleware::from_fn(observe))
        .with_state(provider)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateBody {
    amount_minor: i64,
    currency: Currency,
    token: String,
}

async fn create(
    State(provider): State<Arc<Provider>>,
    headers: HeaderMap,
    ApiJson(body): ApiJson<CreateBody>,
) -> Result<Response, Problem> {
    let key = IdempotencyKey::required(&headers)?;
    let behaviour = TokenBehaviour::of(&body.token);
    let amount = Money::new(body.amount_minor, body.currency);
    let (payment, is_new) = on_disk(move || {
        provider.change(|book| book.authorise(Uuid::now_v7(), key.as_str(), amount, &body.token))
    })
    .await?;
    match behaviour {
        TokenBehaviour::Slow => tokio::time::sleep(SLOW_FOR).await,
        TokenBehaviour::Silent if is_new => tokio::time::sleep(SILENT_FOR).await,
        _ => {}
    }
    let status = if is_new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, Json(payment)).into_response())
}

async fn by_key(
    State(provider): State<Arc<Provider>>,
    ApiPath(key): ApiPath<String>,
) -> Result<Json<Payment>, Problem> {
    let payment = provider.inner.lock().book.by_key(&key).cloned();
    payment.map(Json).ok_or_else(|| {
        Problem::new(
            ProblemKind::NotFound,
            "no payment was ever asked for under this key",
        )
    })
}

async fn by_id(
    State(provider): State<Arc<Provider>>,
    ApiPath(id): ApiPath<Uuid>,
) -> Result<Json<Payment>, Problem> {
    let payment = provider.inner.lock().book.get(id).cloned();
    payment.map(Json).map_err(refuse)
}

async fn capture(
    State(provider): State<Arc<Provider>>,
    ApiPath(id): ApiPath<Uuid>,
) -> Result<Json<Payment>, Problem> {
    Ok(Json(
        on_disk(move || provider.change(|book| book.capture(id)))
            .await?
            .0,
    ))
}

async fn void(
    State(provider): State<Arc<Provider>>,
    ApiPath(id): ApiPath<Uuid>,
) -> Result<Json<Payment>, Problem> {
    Ok(Json(
        on_disk(move || provider.change(|book| book.void(id)))
            .await?
            .0,
    ))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RefundBody {
    /// Minor units given back in all, earlier refunds included.
    total_minor: i64,
}

async fn refund(
    State(provider): State<Arc<Provider>>,
    ApiPath(id): ApiPath<Uuid>,
    ApiJson(body): ApiJson<RefundBody>,
) -> Result<Json<Payment>, Problem> {
    let change = move || provider.change(|book| book.refund(id, body.total_minor));
    Ok(Json(on_disk(change).await?.0))
}

/// Runs what waits for the disk away from the threads that serve the network.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| {
        Err(Problem::new(
            ProblemKind::Internal,
            "the provider made a mistake; ask by your key",
        ))
    })
}
