//! Finishes what a crashed shop left behind.
//!
//! Place: one task per shop process, started by `crate::serve`; several processes may resume the same order.
//! Shape: every [`LOOK_EVERY`], drive each order on the pending list that is older than [`LEAVE_ALONE_FOR`].
//! Invariants: 1. an entry is struck off only when its order rests, or when no order came of it for
//! [`FORGET_AFTER`], which is longer than any request lives.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::driver::Checkout;
use super::pending::PendingOrder;
use super::saga;
use crate::clock::now_unix_ms;
use crate::fault::StoreFault;

/// How often the list is read.
pub const LOOK_EVERY: Duration = Duration::from_secs(3);
/// Younger orders are left to whoever is driving them.
pub const LEAVE_ALONE_FOR: Duration = Duration::from_secs(10);
/// An entry without an order is struck off after this time.
pub const FORGET_AFTER: Duration = Duration::from_secs(3_600);
/// Orders resumed at the same time, so that a slow payment does not hold up the others.
const ORDERS_AT_ONCE: usize = 16;
/// How long one order may keep the resumer busy before the next one's turn.
const TURN: Duration = Duration::from_secs(5);

/// Resumes unfinished orders until `stop`.
pub async fn run(checkout: Arc<Checkout>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        if let Err(error) = resume_due(&checkout, LEAVE_ALONE_FOR).await {
            tracing::warn!(%error, "unfinished checkouts cannot be listed");
        }
    }
}

/// Drives every listed order that is older than `leave_alone_for`. Returns how many came to rest.
///
/// # Errors
/// The list cannot be read.
pub async fn resume_due(
    checkout: &Checkout,
    leave_alone_for: Duration,
) -> Result<usize, StoreFault> {
    let now_unix_ms = now_unix_ms();
    let entries = checkout.pending.list().await?;
    metrics::gauge!("souk_shop_checkouts_pending").set(entries.len() as f64);
    let due = entries.into_iter().filter_map(|entry| {
        let age = Duration::from_millis(now_unix_ms.saturating_sub(entry.since_unix_ms));
        (age >= leave_alone_for).then_some((entry, age))
    });
    let resumed = due.map(|(entry, age)| async move {
        let result = resume(checkout, entry, age).await;
        result.unwrap_or_else(|error| {
            tracing::warn!(order_id = %entry.order_id, %error, "cannot resume a checkout");
            false
        })
    });
    let resumed: Vec<_> = resumed.collect();
    let rested = stream::iter(resumed).buffer_unordered(ORDERS_AT_ONCE);
    Ok(rested
        .filter(|rests| std::future::ready(*rests))
        .count()
        .await)
}

/// True when the order rests now.
async fn resume(
    checkout: &Checkout,
    entry: PendingOrder,
    age: Duration,
) -> Result<bool, StoreFault> {
    let order_id = entry.order_id;
    let Some(order) = checkout.orders.get(order_id).await? else {
        if age > FORGET_AFTER {
            checkout.pending.strike(order_id).await?;
        }
        return Ok(false);
    };
    let was_due = saga::next(&order.record).is_some();
    if was_due {
        tracing::info!(%order_id, stage = ?order.record.stage, "resuming a checkout");
    }
    let record = checkout.drive(order, Instant::now() + TURN).await;
    if saga::next(&record).is_some() {
        return Ok(false);
    }
    checkout.pending.strike(order_id).await?;
    Ok(was_due)
}
