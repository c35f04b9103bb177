//! What comes next for an order, and what each result makes of it.
//!
//! Place: pure; driven by `super::driver`.
//! Source: Garcia-Molina and Salem, "Sagas", SIGMOD 1987: a chain of steps, each with its undoing.
//! Shape: the forward path and the one way back.
//!
//! ```text
//! Quoted ─hold─> Reserved ─authorise─> Authorised ─bind─> Allocated ─capture─> Paid ─tidy─> Placed
//!    │short          │declined             │expired            │refused           Placed ─ship─> Shipped
//!    └───────────────┴──────────┬──────────┴───────────────────┘
//!                            Undoing ─release units, void payment─> Failed
//! ```
//!
//! Invariants:
//! 1. Every effect carries an id that follows from the order's id, so performing it twice is performing it once.
//! 2. A stage is left only on a definite result. An unclear one (a timeout) leaves the stage as it is, and the
//!    same effect is performed again: never guess what a payment provider did.
//! 3. Which way an order goes is decided by the conditional write of its record. A driver that lost that race
//!    may still perform an old effect; the stock bars it (`souk_inventory` keeps ended reservations) and the
//!    provider answers as before, so nothing comes of it.
//! 4. Money is captured only after every unit is bound to the order, and an order that holds bound units and
//!    captured money can only be `Paid`.
//!
//! Not here: performing effects, retrying, time limits (`super::driver`).

use crate::orders::record::{EventKind, Failure, OrderRecord, Stage};

/// What has to be done next for an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Hold every line's units until the order's expiry; all or a definite failure.
    HoldStock,
    /// Ask the provider to authorise the total under the order's payment key.
    AuthorisePayment,
    /// Bind every held unit to the order.
    BindStock,
    /// Take the authorised money.
    CapturePayment,
    /// Take the bought lines out of the cart and list the order under its customer.
    Tidy,
    /// Take the bound units out of the stock.
    ShipStock,
    /// Release whatever is held or bound, and let go of the payment.
    Undo,
}

/// The definite result of a step. Anything else is no result, and the step stays due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepResult {
    /// It is done.
    Done,
    /// The payment is authorised under this provider's name.
    Authorised {
        /// The provider's name for the payment.
        payment_id: String,
    },
    /// It cannot be done, now or later.
    Refused(Failure),
}

/// The step that `order` is waiting for; `None` when only a person can move it on, or nothing can.
#[must_use]
pub fn next(order: &OrderRecord) -> Option<Step> {
    match &order.stage {
        Stage::Quoted => Some(Step::HoldStock),
        Stage::Reserved => Some(Step::AuthorisePayment),
        Stage::Authorised => Some(Step::BindStock),
        Stage::Allocated => Some(Step::CapturePayment),
        Stage::Paid => Some(Step::Tidy),
        Stage::Shipping => Some(Step::ShipStock),
        Stage::Undoing { .. } => Some(Step::Undo),
        Stage::Placed | Stage::Shipped | Stage::Delivered | Stage::Failed { .. } => None,
    }
}

/// The order after its due step ended with `result`; `None` when the result does not belong to the stage,
/// which says that the driver has a bug or an old record.
#[must_use]
pub fn after(order: &OrderRecord, result: StepResult, now_unix_ms: u64) -> Option<OrderRecord> {
    let mut order = order.clone();
    let (stage, event) = match (&order.stage, result) {
        (Stage::Quoted, StepResult::Done) => (Stage::Reserved, EventKind::StockReserved),
        (Stage::Reserved, StepResult::Authorised { payment_id }) => {
            order.payment_id = Some(payment_id);
            (Stage::Authorised, EventKind::PaymentAuthorised)
        }
        (Stage::Authorised, StepResult::Done) => (Stage::Allocated, EventKind::StockAllocated),
        (Stage::Allocated, StepResult::Done) => (Stage::Paid, EventKind::PaymentCaptured),
        (Stage::Paid, StepResult::Done) => (Stage::Placed, EventKind::Placed),
        (Stage::Shipping, StepResult::Done) => (Stage::Shipped, EventKind::Shipped),
        (
            Stage::Quoted | Stage::Reserved | Stage::Authorised | Stage::Allocated,
            StepResult::Refused(failure),
        ) => (Stage::Undoing { failure }, EventKind::Failed),
        (Stage::Undoing { failure }, StepResult::Done) => (
            Stage::Failed {
                failure: failure.clone(),
            },
            EventKind::Released,
        ),
        _ => return None,
    };
    order.stage = stage;
    order.record(event, now_unix_ms);
    Some(order)
}

#[cfg(test)]
#[path = "saga_test.rs"]
mod tests;
