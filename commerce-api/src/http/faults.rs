//! What the rooms' errors mean to an HTTP client.
//!
//! Shape: one `From` for each error; what the client can mend is 4xx, what it can only wait for is 503, what may
//! have happened all the same is 504.

use std::time::Duration;

use souk_inventory::StockError;

use super::problem::{Problem, ProblemKind};
use crate::carts::CartFault;
use crate::catalog::product::ProductError;
use crate::checkout::CheckoutError;
use crate::checkout::quote::QuoteError;
use crate::fault::StoreFault;
use crate::fulfilment::FulfilmentError;
use crate::orders::record::Failure;
use crate::search::SearchIndexError;
use crate::stock::StockFault;

impl From<StoreFault> for Problem {
    fn from(fault: StoreFault) -> Self {
        tracing::warn!(
            error = &fault as &dyn std::error::Error,
            "the store did not do as asked"
        );
        let (kind, wait) = match &fault {
            // The only part of a request that reaches the store unread is a cursor.
            StoreFault::Malformed { .. } => {
                let detail = "`cursor` is none that this list gave; start without one";
                return Problem::new(ProblemKind::BadRequest, detail);
            }
            StoreFault::Unavailable { retry_after, .. } => (ProblemKind::Unavailable, *retry_after),
            StoreFault::Contended { .. } => (ProblemKind::Unavailable, None),
            StoreFault::Unknown { .. } => (ProblemKind::OutcomeUnknown, None),
            StoreFault::Unreadable { .. } => (ProblemKind::Internal, None),
        };
        Problem::new(kind, fault.to_string()).retry_after(wait.unwrap_or(Duration::from_secs(1)))
    }
}

impl From<CartFault> for Problem {
    fn from(fault: CartFault) -> Self {
        match fault {
            CartFault::Refused(refusal @ souk_cart::CartError::NotInCart { .. }) => {
                Problem::new(ProblemKind::NotFound, refusal.to_string()).with_code(refusal.code())
            }
            CartFault::Refused(refusal @ souk_cart::CartError::TagReused { .. }) => {
                Problem::new(ProblemKind::KeyReused, refusal.to_string())
            }
            CartFault::Refused(refusal) => {
                Problem::new(ProblemKind::Conflict, refusal.to_string()).with_code(refusal.code())
            }
            CartFault::Store(fault) => fault.into(),
        }
    }
}

impl From<StockFault> for Problem {
    fn from(fault: StockFault) -> Self {
        match fault {
            StockFault::Refused(refusal @ StockError::IdReused { .. }) => {
                Problem::new(ProblemKind::KeyReused, refusal.to_string())
            }
            StockFault::Refused(refusal) => {
                Problem::new(ProblemKind::Conflict, refusal.to_string()).with_code(refusal.code())
            }
            StockFault::Store(fault) => fault.into(),
        }
    }
}

impl From<QuoteError> for Problem {
    fn from(error: QuoteError) -> Self {
        let code = match &error {
            QuoteError::Empty { .. } => "cart_empty",
            QuoteError::NotSold { .. } => "not_sold",
            QuoteError::TooMany { .. } => "too_many_units",
            QuoteError::Currency { .. } => "currency_mixed",
            QuoteError::Free => "order_free",
        };
        Problem::new(ProblemKind::Conflict, error.to_string()).with_code(code)
    }
}

impl From<CheckoutError> for Problem {
    fn from(error: CheckoutError) -> Self {
        match error {
            CheckoutError::KeyReused => Problem::new(ProblemKind::KeyReused, error.to_string()),
            CheckoutError::Quote(error) => error.into(),
            CheckoutError::Money(error) => {
                Problem::new(ProblemKind::Conflict, error.to_string()).with_code("total_too_large")
            }
            CheckoutError::CartUncertain { .. } => {
                Problem::new(ProblemKind::Unavailable, error.to_string())
                    .retry_after(Duration::from_secs(1))
            }
            CheckoutError::Cart(fault) => fault.into(),
            CheckoutError::Store(fault) => fault.into(),
        }
    }
}

impl From<FulfilmentError> for Problem {
    fn from(error: FulfilmentError) -> Self {
        match error {
            FulfilmentError::NoOrder { .. } => {
                Problem::new(ProblemKind::NotFound, error.to_string()).with_code("order_not_found")
            }
            FulfilmentError::NotYet { .. } | FulfilmentError::OtherShipment { .. } => {
                Problem::new(ProblemKind::Conflict, error.to_string())
            }
            FulfilmentError::Store(fault) => fault.into(),
        }
    }
}

impl From<ProductError> for Problem {
    fn from(error: ProductError) -> Self {
        Problem::new(ProblemKind::Unprocessable, error.to_string()).with_code("product_invalid")
    }
}

impl From<SearchIndexError> for Problem {
    fn from(error: SearchIndexError) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, "search failed");
        Problem::new(ProblemKind::Internal, error.to_string())
    }
}

/// What a failed purchase is to the customer.
pub(super) fn purchase_failed(order_id: impl ToString, failure: &Failure) -> Problem {
    let problem = match failure {
        Failure::OutOfStock { sku, requested } => Problem::new(
            ProblemKind::OutOfStock,
            format!("fewer than {requested} units of `{sku}` are available; order fewer"),
        ),
        Failure::HoldExpired => Problem::new(
            ProblemKind::Conflict,
            "the hold on the stock ran out before the payment was through; check out again with a new key",
        )
        .with_code("hold_expired"),
        Failure::PaymentDeclined { detail } => Problem::new(
            ProblemKind::PaymentDeclined,
            format!("{detail}; nothing was charged; check out again with a new key"),
        ),
    };
    problem.about_order(order_id)
}
