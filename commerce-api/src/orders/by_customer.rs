//! The orders of a customer, newest first.
//!
//! Place: over `crate::kv`; written when a checkout is tidied up, read by the customer's order list.
//! Shape: bucket `orders-by-customer`: (customer, creation time and order id) holds a short entry.
//! Invariants: 1. writing an entry again writes the same bytes under the same key. 2. an entry may be late or missing
//! for a moment, never wrong: it only points to the order.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use souk_kv_client::{Context, Key, ScanQuery};

use super::record::OrderRecord;
use crate::buckets::ORDERS_BY_CUSTOMER;
use crate::fault::StoreFault;
use crate::ids::{CustomerId, OrderId};
use crate::kv::{SharedKv, json, next_cursor};
use crate::money::Money;

/// What the list shows of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomerOrder {
    /// The order.
    pub order_id: OrderId,
    /// What it cost.
    pub total: Money,
    /// Lines in it.
    pub lines_count: usize,
    /// When it was made, in Unix milliseconds.
    pub created_unix_ms: u64,
}

/// One page of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomerOrders {
    /// Newest first.
    pub orders: Vec<CustomerOrder>,
    /// For the next page; `None` on the last.
    pub next: Option<String>,
}

/// The lists of all customers.
#[derive(Clone)]
pub struct CustomerIndex {
    kv: SharedKv,
}

impl CustomerIndex {
    /// The lists behind `kv`.
    #[must_use]
    pub fn new(kv: SharedKv) -> Self {
        Self { kv }
    }

    /// Lists `order` under its customer; an order without one is listed nowhere.
    ///
    /// # Errors
    /// The store refuses or does not answer.
    pub async fn add(&self, order: &OrderRecord) -> Result<(), StoreFault> {
        let Some(customer) = &order.customer else {
            return Ok(());
        };
        let entry = CustomerOrder {
            order_id: order.order_id,
            total: order.total,
            lines_count: order.lines.len(),
            created_unix_ms: order.created_unix_ms,
        };
        // Thirteen digits of milliseconds last until the year 2286.
        let sort_key = format!("{:013}-{}", order.created_unix_ms, order.order_id);
        let key = Key::new(ORDERS_BY_CUSTOMER, customer.as_str(), sort_key);
        let bytes = serde_json::to_vec(&entry).expect("an entry has whole numbers and texts only");
        let written = self.kv.put(&key, json(bytes), &Context::default()).await;
        written
            .map(|_| ())
            .map_err(|error| StoreFault::from_request("list the order", error))
    }

    /// A page of `limit` orders, newest first, older than `cursor`.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn list(
        &self,
        customer: &CustomerId,
        limit: u32,
        cursor: Option<String>,
    ) -> Result<CustomerOrders, StoreFault> {
        let mut query = ScanQuery::new(ORDERS_BY_CUSTOMER, customer.as_str());
        query.limit = limit;
        query.reverse = true;
        query.end = cursor.map(Bytes::from).unwrap_or_default();
        let page = self.kv.scan(&query).await;
        let page = page.map_err(|error| StoreFault::from_request("list orders", error))?;
        let next = next_cursor(&page);
        let values = page
            .rows
            .into_iter()
            .filter_map(|row| row.values.into_iter().next());
        let orders = values
            .map(|value| serde_json::from_slice(&value.data))
            .collect::<Result<_, _>>();
        let orders = orders.map_err(|error| StoreFault::Unreadable {
            what: "list entry",
            why: error.to_string(),
        })?;
        Ok(CustomerOrders { orders, next })
    }
}
