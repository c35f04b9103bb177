//! Speaks to the payment provider over HTTP.
//!
//! Place: used by `super::desk`; knows the provider's interface and nothing of orders.
//! Shape: one call, one time limit; answers are definite or [`ProviderError::Unclear`]. After several unclear
//! answers in a row the client stops asking for a while (a circuit breaker), so that checkouts wait on nothing.
//! Invariants: 1. only a 2xx or 4xx answer of the provider is definite. 2. a call that got no answer is followed
//! by a question under its key, never by a guess.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use reqwest::{Client, Method, StatusCode};
use serde::Deserialize;
use uuid::Uuid;

use crate::money::Money;
use crate::payment_provider::book::{Payment, PaymentStatus};

/// How long one call may take.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// Unclear answers in a row after which the circuit opens.
const FAILURES_MAX: u32 = 5;
/// How long an open circuit refuses calls.
const OPEN_FOR: Duration = Duration::from_secs(3);

/// A connection to the provider.
pub struct ProviderClient {
    http: Client,
    base: String,
    failures: AtomicU32,
    open_until: Mutex<Option<Instant>>,
}

/// Why the provider did not do as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// What: a definite no. Mend: what `detail` says.
    #[error("the payment provider refused: {detail}")]
    Refused {
        /// What it said.
        detail: String,
    },
    /// What: no definite answer. Mend: ask again under the same key; it may have been done.
    #[error("the payment provider gave no clear answer ({why}); ask again under the same key")]
    Unclear {
        /// What went wrong.
        why: String,
    },
}

/// The part of a problem document that says why.
#[derive(Deserialize)]
struct Refusal {
    detail: String,
}

impl ProviderClient {
    /// A client of the provider at `base`, for example `http://127.0.0.1:8090`.
    ///
    /// # Errors
    /// The address is no HTTP URL, or the HTTP library cannot start.
    pub fn new(base: &str) -> Result<Self, ProviderError> {
        let unusable = |why: String| ProviderError::Unclear { why };
        let base = base.trim_end_matches('/').to_owned();
        reqwest::Url::parse(&base).map_err(|error| unusable(format!("`{base}`: {error}")))?;
        let http = Client::builder()
            .timeout(CALL_TIMEOUT)
            .connect_timeout(Duration::from_secs(1))
            .build()
            .map_err(|error| unusable(error.to_string()))?;
        Ok(Self {
            http,
            base,
            failures: AtomicU32::new(0),
            open_until: Mutex::new(None),
        })
    }

    /// Asks to authorise `amount` under `key`. The answer may be a declined payment.
    ///
    /// # Errors
    /// The provider refuses the request itself, or gives no clear answer even when asked by the key.
    pub async fn authorise(
        &self,
        key: Uuid,
        amount: Money,
        token: &str,
    ) -> Result<Payment, ProviderError> {
        let body = serde_json::json!({
            "amount_minor": amount.amount_minor,
            "currency": amount.currency,
            "token": token,
        });
        let key = key.to_string();
        match self
            .call(Method::POST, "/v1/payments", Some(&key), Some(body))
            .await
        {
            Err(ProviderError::Unclear { why }) => match self.by_key(&key).await {
                Ok(Some(payment)) => Ok(payment),
                // Not there yet does not mean that it will not come: the request may still be on its way.
                Ok(None) | Err(_) => Err(ProviderError::Unclear { why }),
            },
            answer => answer,
        }
    }

    /// Takes the money of an authorised payment.
    ///
    /// # Errors
    /// It cannot be taken any more, or there is no clear answer.
    pub async fn capture(&self, payment_id: &str) -> Result<Payment, ProviderError> {
        self.call(
            Method::POST,
            &format!("/v1/payments/{payment_id}/capture"),
            None,
            None,
        )
        .await
    }

    /// Lets go of a payment that was not captured.
    ///
    /// # Errors
    /// It was captured, or there is no clear answer.
    pub async fn void(&self, payment_id: &str) -> Result<Payment, ProviderError> {
        let path = format!("/v1/payments/{payment_id}/void");
        let payment = self.call(Method::POST, &path, None, None).await?;
        match payment.status {
            PaymentStatus::Voided | PaymentStatus::Declined => Ok(payment),
            status => Err(ProviderError::Unclear {
                why: format!("still {status:?}"),
            }),
        }
    }

    /// Whether the provider answers at all.
    pub async fn is_ready(&self) -> bool {
        let answer = self.http.get(format!("{}/readyz", self.base)).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    async fn by_key(&self, key: &str) -> Result<Option<Payment>, ProviderError> {
        let request = self
            .http
            .get(format!("{}/v1/payments/by-key/{key}", self.base));
        let unclear = |error: reqwest::Error| ProviderError::Unclear {
            why: error.to_string(),
        };
        let answer = request.send().await.map_err(unclear)?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let answer = answer.error_for_status().map_err(unclear)?;
        answer.json().await.map(Some).map_err(unclear)
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: Option<serde_json::Value>,
    ) -> Result<Payment, ProviderError> {
        self.check_circuit()?;
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let result = match request.send().await {
            Ok(answer) => read(answer).await,
            Err(error) => Err(ProviderError::Unclear {
                why: error.to_string(),
            }),
        };
        self.count(&result);
        result
    }

    fn check_circuit(&self) -> Result<(), ProviderError> {
        match *self.open_until.lock() {
            Some(until) if Instant::now() < until => Err(ProviderError::Unclear {
                why: "it failed several times in a row and is given a rest".to_owned(),
            }),
            _ => Ok(()),
        }
    }

    fn count(&self, result: &Result<Payment, ProviderError>) {
        match result {
            Ok(_) | Err(ProviderError::Refused { .. }) => {
                self.failures.store(0, Ordering::Relaxed);
            }
            Err(ProviderError::Unclear { .. }) => {
                metrics::counter!("souk_shop_payment_unclear_total").increment(1);
                if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= FAILURES_MAX {
                    self.failures.store(0, Ordering::Relaxed);
                    *self.open_until.lock() = Some(Instant::now() + OPEN_FOR);
                }
            }
        }
    }
}

async fn read(answer: reqwest::Response) -> Result<Payment, ProviderError> {
    let status = answer.status();
    let unclear = |error: reqwest::Error| ProviderError::Unclear {
        why: error.to_string(),
    };
    if status.is_success() {
        return answer.json().await.map_err(unclear);
    }
    if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS {
        let refusal: Refusal = answer.json().await.map_err(unclear)?;
        return Err(ProviderError::Refused {
            detail: refusal.detail,
        });
    }
    Err(ProviderError::Unclear {
        why: format!("it answered {status}"),
    })
}
