//! HTTP: requests in, JSON and problems out.
//!
//! Place: the outermost layer of the shop; the payment provider borrows its problem and extractor modules.
//! Source: RFC 9110 (HTTP), RFC 9457 (problems), OpenAPI 3.1, W3C Trace Context.
//! Shape: `problem` is every error answer, `extract` checks what comes in, one module for each group of routes,
//! `router` joins them, `openapi` describes them, `observe` logs and counts, `health` answers probes.
//! Invariants: 1. an error answer is always `application/problem+json`. 2. what the document promises is what the
//! handlers do: both come from the same annotations.
//! Not here: rules of the shop (each room of its own).

pub mod extract;
mod faults;
pub mod health;
pub mod idempotency;
pub mod observe;
pub mod openapi;
pub mod paging;
pub mod problem;
pub mod router;
mod routes;
pub mod state;
mod whole;

pub use problem::{Problem, ProblemKind};
pub use router::router;
