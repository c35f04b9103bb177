//! Every error answer of the shop, in one form.
//!
//! Source: RFC 9457 (Problem Details for HTTP APIs).
//! Shape: a kind gives status, code and title; the detail names the thing and says how to mend it.
//! Invariants: 1. one kind has one status and one code. 2. a detail never shows what another customer did, nor the
//! inside of the store beyond its error code.

use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::observe::current_request_id;

/// What kind of problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// The request is malformed: path, query, header or JSON.
    BadRequest,
    /// No or an unknown bearer token.
    Unauthenticated,
    /// The token does not suffice, or the shop has no token configured.
    Forbidden,
    /// There is no such thing or no such address.
    NotFound,
    /// The address does not take this method.
    MethodNotAllowed,
    /// The thing is not in a state that allows this.
    Conflict,
    /// The thing changed since its entity tag was read.
    PreconditionFailed,
    /// The body is larger than the shop reads.
    TooLarge,
    /// The body is not JSON by its content type.
    UnsupportedMediaType,
    /// The request is well formed, but its content is not acceptable.
    Unprocessable,
    /// The customer's means of payment was refused.
    PaymentDeclined,
    /// The idempotency key was used for another request.
    KeyReused,
    /// Too little stock.
    OutOfStock,
    /// A write has to name the entity tag it replaces.
    PreconditionRequired,
    /// The shop is busy.
    Overloaded,
    /// The store or the payment provider cannot be reached now.
    Unavailable,
    /// The store did not answer in time; the change may or may not have been made.
    OutcomeUnknown,
    /// A broken promise inside the shop.
    Internal,
}

impl ProblemKind {
    /// Status, code and title.
    #[must_use]
    pub fn facts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::BadRequest => (
                StatusCode::BAD_REQUEST,
                "bad_request",
                "The request is malformed",
            ),
            Self::Unauthenticated => (
                StatusCode::UNAUTHORIZED,
                "unauthenticated",
                "A bearer token is needed",
            ),
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "This is not allowed"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found", "There is no such thing"),
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "This address does not take this method",
            ),
            Self::Conflict => (
                StatusCode::CONFLICT,
                "conflict",
                "The present state forbids this",
            ),
            Self::PreconditionFailed => (
                StatusCode::PRECONDITION_FAILED,
                "precondition_failed",
                "It changed since you read it",
            ),
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_large",
                "The body is too large",
            ),
            Self::UnsupportedMediaType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "The body has to be JSON",
            ),
            Self::Unprocessable => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "unprocessable",
                "The content is not acceptable",
            ),
            Self::PaymentDeclined => (
                StatusCode::PAYMENT_REQUIRED,
                "payment_declined",
                "The payment was declined",
            ),
            Self::KeyReused => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency_key_reused",
                "The idempotency key belongs to another request",
            ),
            Self::OutOfStock => (
                StatusCode::CONFLICT,
                "out_of_stock",
                "There is not enough in stock",
            ),
            Self::PreconditionRequired => (
                StatusCode::PRECONDITION_REQUIRED,
                "precondition_required",
                "Name what you replace",
            ),
            Self::Overloaded => (
                StatusCode::SERVICE_UNAVAILABLE,
                "overloaded",
                "The shop is busy",
            ),
            Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "The shop cannot do this now",
            ),
            Self::OutcomeUnknown => (
                StatusCode::GATEWAY_TIMEOUT,
                "outcome_unknown",
                "The change may or may not have been made",
            ),
            Self::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "The shop made a mistake",
            ),
        }
    }
}

/// An error answer.
#[derive(Clone, Debug)]
pub struct Problem {
    kind: ProblemKind,
    detail: String,
    /// Boxed, because results carry problems everywhere and few of them need this.
    rare: Box<Rare>,
}

/// What only some problems carry.
#[derive(Clone, Debug, Default)]
struct Rare {
    code: Option<&'static str>,
    order_id: Option<String>,
    retry_after: Option<Duration>,
    allow: Option<HeaderValue>,
}

/// The body of an error answer.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// A name for the kind of problem, as a URI reference.
    #[serde(rename = "type")]
    pub problem_type: String,
    /// The kind of problem in words.
    pub title: String,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// What happened here, and how to mend it.
    pub detail: String,
    /// This occurrence, as a URI reference.
    pub instance: String,
    /// The kind of problem, for programs.
    pub code: String,
    /// The request, as the logs know it.
    pub request_id: String,
    /// The order concerned, if one was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub order_id: Option<String>,
}

impl Problem {
    /// A problem of `kind`; `detail` says what happened and how to mend it.
    #[must_use]
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            rare: Box::default(),
        }
    }

    /// The same with a code finer than its kind's.
    #[must_use]
    pub fn with_code(mut self, code: &'static str) -> Self {
        self.rare.code = Some(code);
        self
    }

    /// The same, naming the order concerned.
    #[must_use]
    pub fn about_order(mut self, order_id: impl ToString) -> Self {
        self.rare.order_id = Some(order_id.to_string());
        self
    }

    /// The same, saying when trying again makes sense.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.rare.retry_after = Some(wait);
        self
    }

    /// The same, listing the methods that the address takes.
    #[must_use]
    pub fn allowing(mut self, methods: HeaderValue) -> Self {
        self.rare.allow = Some(methods);
        self
    }

    /// What kind of problem.
    #[must_use]
    pub fn kind(&self) -> ProblemKind {
        self.kind
    }

    /// What happened, and how to mend it.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    fn body(&self) -> (StatusCode, ProblemBody) {
        let (status, kind_code, title) = self.kind.facts();
        let code = self.rare.code.unwrap_or(kind_code);
        let request_id = current_request_id();
        let body = ProblemBody {
            problem_type: format!("/problems/{code}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: self.detail.clone(),
            instance: format!("urn:souk:request:{request_id}"),
            code: code.to_owned(),
            request_id,
            order_id: self.rare.order_id.clone(),
        };
        (status, body)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, body) = self.body();
        if self.kind == ProblemKind::Internal {
            tracing::error!(
                code = body.code,
                detail = body.detail,
                "the shop made a mistake"
            );
        }
        let bytes = serde_json::to_vec(&body).expect("a problem is made of texts");
        let mut response = (status, bytes).into_response();
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(wait) = self.rare.retry_after {
            let seconds = wait
                .as_secs()
                .max(u64::from(wait.subsec_nanos() > 0))
                .max(1);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(methods) = self.rare.allow {
            headers.insert(axum::http::header::ALLOW, methods);
        }
        if self.kind == ProblemKind::Unauthenticated {
            let scheme = HeaderValue::from_static("Bearer");
            headers.insert(axum::http::header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    async fn render(problem: Problem) -> (Response<()>, serde_json::Value) {
        let (parts, body) = problem.into_response().into_parts();
        let bytes = to_bytes(body, 1 << 16).await.unwrap();
        (
            Response::from_parts(parts, ()),
            serde_json::from_slice(&bytes).unwrap(),
        )
    }

    #[tokio::test]
    async fn carries_all_members() {
        let problem = Problem::new(ProblemKind::OutOfStock, "2 of `x` asked for")
            .about_order("o-1")
            .retry_after(Duration::from_millis(10));
        let (response, body) = render(problem).await;
        assert_eq!(response.status(), 409);
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json"
        );
        assert_eq!(response.headers()["retry-after"], "1");
        assert_eq!(body["type"], "/problems/out_of_stock");
        assert_eq!(body["status"], 409);
        assert_eq!(body["detail"], "2 of `x` asked for");
        assert_eq!(body["order_id"], "o-1");
        for member in ["title", "instance", "code", "request_id"] {
            assert!(body[member].is_string(), "{member}");
        }
    }

    #[tokio::test]
    async fn a_missing_token_names_the_scheme() {
        let (response, body) = render(Problem::new(ProblemKind::Unauthenticated, "sign in")).await;
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        assert!(body.get("order_id").is_none());
    }
}
