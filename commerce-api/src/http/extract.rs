//! Checks what comes in, so that handlers see only what is well formed.
//!
//! Shape: twins of axum's extractors whose refusals are problems.
//! Invariants: 1. a body is read only up to the limit and only as JSON. 2. an unknown field or parameter is refused:
//! a misspelled one would otherwise be ignored in silence.

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{Method, header};
use serde::de::DeserializeOwned;

use super::problem::{Problem, ProblemKind};

/// A JSON body.
#[derive(Clone, Copy, Debug)]
pub struct ApiJson<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for ApiJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match axum::Json::<T>::from_request(request, state).await {
            Ok(axum::Json(body)) => Ok(Self(body)),
            Err(rejection) => Err(refuse_body(&rejection)),
        }
    }
}

fn refuse_body(rejection: &JsonRejection) -> Problem {
    let text = rejection.body_text();
    match rejection {
        JsonRejection::MissingJsonContentType(_) => Problem::new(
            ProblemKind::UnsupportedMediaType,
            "send the body as JSON with `Content-Type: application/json`",
        ),
        // Well-formed JSON with a wrong field: 422, as for every other unacceptable content.
        JsonRejection::JsonDataError(_) => Problem::new(ProblemKind::Unprocessable, text),
        JsonRejection::JsonSyntaxError(_) => Problem::new(ProblemKind::BadRequest, text),
        _ if rejection.status() == 413 => Problem::new(
            ProblemKind::TooLarge,
            "the body is larger than the shop reads; the limit is in the documentation",
        ),
        _ => Problem::new(ProblemKind::BadRequest, text),
    }
}

/// Values from the path.
#[derive(Clone, Copy, Debug)]
pub struct ApiPath<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for ApiPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path: Result<Path<T>, PathRejection> = Path::from_request_parts(parts, state).await;
        path.map(|Path(values)| Self(values)).map_err(|rejection| {
            Problem::new(
                ProblemKind::BadRequest,
                format!("in the path: {}", rejection.body_text()),
            )
        })
    }
}

/// Values from the query string.
#[derive(Clone, Copy, Debug)]
pub struct ApiQuery<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for ApiQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query: Result<Query<T>, QueryRejection> = Query::from_request_parts(parts, state).await;
        query
            .map(|Query(values)| Self(values))
            .map_err(|rejection| {
                Problem::new(
                    ProblemKind::BadRequest,
                    format!("in the query string: {}", rejection.body_text()),
                )
            })
    }
}

/// The answer for an address that does not exist.
pub async fn no_such_address(method: Method, uri: axum::http::Uri) -> Problem {
    Problem::new(
        ProblemKind::NotFound,
        format!(
            "{method} {} leads nowhere; see /api/v1/openapi.json",
            uri.path()
        ),
    )
    .with_code("no_such_address")
}

/// Turns the plain 405 of the router into a problem, keeping its `Allow` header.
pub async fn method_problem(
    request: Request,
    next: axum::middleware::Next,
) -> axum::response::Response {
    use axum::response::IntoResponse;
    let method = request.method().clone();
    let response = next.run(request).await;
    let is_plain =
        response.status() == 405 && !response.headers().contains_key(header::CONTENT_TYPE);
    if !is_plain {
        return response;
    }
    let allow = response.headers().get(header::ALLOW).cloned();
    let problem = Problem::new(
        ProblemKind::MethodNotAllowed,
        format!("{method} is not taken here; the `Allow` header lists what is"),
    );
    match allow {
        Some(methods) => problem.allowing(methods).into_response(),
        None => problem.into_response(),
    }
}
