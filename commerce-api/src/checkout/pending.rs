//! The list of orders that may be unfinished, so that any shop process can finish what a crashed one began.
//!
//! Place: over `crate::kv`; written by `super::driver`, read by `super::resume`.
//! Shape: bucket `checkout-pending`: (`shard-NN`, order id) holds the time of the entry.
//! Invariants: 1. an entry is written before its order moves, and removed after the order has come to rest. An entry
//! too many costs one read; an entry too few would leave stock held, so there is never one too few.

use souk_kv_client::{Context, Key, ScanQuery};

use crate::buckets::CHECKOUT_PENDING;
use crate::catalog::Shard;
use crate::fault::StoreFault;
use crate::ids::OrderId;
use crate::kv::{SharedKv, json};

/// Shards of the list.
const SHARDS: u8 = 16;
/// Entries read of one shard in one round; the others wait for the next.
const ENTRIES_MAX: u32 = 200;

/// The list.
#[derive(Clone)]
pub struct PendingOrders {
    kv: SharedKv,
}

/// One entry.
#[derive(Clone, Copy, Debug)]
pub struct PendingOrder {
    /// The order.
    pub order_id: OrderId,
    /// When it was entered, in Unix milliseconds by the clock of who did.
    pub since_unix_ms: u64,
}

impl PendingOrders {
    /// The list behind `kv`.
    #[must_use]
    pub fn new(kv: SharedKv) -> Self {
        Self { kv }
    }

    /// Enters an order.
    ///
    /// # Errors
    /// The store refuses or does not answer; the order must not be moved then.
    pub async fn enter(&self, order_id: OrderId, now_unix_ms: u64) -> Result<(), StoreFault> {
        let value = json(now_unix_ms.to_string().into_bytes());
        let written = self
            .kv
            .put(&key(order_id), value, &Context::default())
            .await;
        written
            .map(|_| ())
            .map_err(|error| StoreFault::from_request("note the checkout", error))
    }

    /// Strikes an order off that has come to rest.
    ///
    /// # Errors
    /// The store refuses or does not answer; the resumer strikes it off later.
    pub async fn strike(&self, order_id: OrderId) -> Result<(), StoreFault> {
        // The list is last-writer-wins: the later stamp decides, so nothing has to be read first.
        let deleted = self.kv.delete(&key(order_id), &Context::default()).await;
        deleted
            .map(|_| ())
            .map_err(|error| StoreFault::from_request("strike off the checkout", error))
    }

    /// The entries, up to a bound per shard.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn list(&self) -> Result<Vec<PendingOrder>, StoreFault> {
        let mut entries = Vec::new();
        for shard in Shard::all(SHARDS) {
            let mut query = ScanQuery::new(CHECKOUT_PENDING, shard.partition_key());
            query.limit = ENTRIES_MAX;
            let page = self.kv.scan(&query).await;
            let page =
                page.map_err(|error| StoreFault::from_request("list unfinished checkouts", error))?;
            entries.extend(page.rows.into_iter().filter_map(|row| {
                let order_id = std::str::from_utf8(&row.sort_key).ok()?.parse().ok()?;
                let value = row.values.into_iter().next()?;
                let since_unix_ms = std::str::from_utf8(&value.data).ok()?.parse().ok()?;
                Some(PendingOrder {
                    order_id,
                    since_unix_ms,
                })
            }));
        }
        Ok(entries)
    }
}

fn key(order_id: OrderId) -> Key {
    let id = order_id.to_string();
    Key::new(
        CHECKOUT_PENDING,
        Shard::of(&id, SHARDS).partition_key(),
        &id,
    )
}
