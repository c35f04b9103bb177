//! Orders in the store: one register group each, changed only by compare-and-set.
//!
//! Place: over `crate::kv`; used by checkout, fulfilment and the order endpoints.
//! Shape: bucket `orders`: (order id, `order`) holds the record.
//! Invariants: 1. an order is made once, whoever tries. 2. a change that lost a race changes nothing and gets the
//! record that won. 3. a write without an answer is looked up before it is called failed.

use souk_kv_client::{
    Condition, Key, Outcome, RequestError, RowOperation, TransactOutcome, Transaction, Version,
};

use super::record::OrderRecord;
use crate::buckets::ORDERS;
use crate::fault::StoreFault;
use crate::ids::OrderId;
use crate::kv::{SharedKv, json};

/// The sort key of the record within its group.
const ROW: &str = "order";

/// The orders in the store.
#[derive(Clone)]
pub struct OrderStore {
    kv: SharedKv,
}

/// An order and the version to change it by.
#[derive(Clone, Debug)]
pub struct StoredOrder {
    /// The order.
    pub record: OrderRecord,
    /// Of this record; another record has another.
    pub version: Version,
}

/// What a conditional write came to.
#[derive(Clone, Debug)]
pub enum Change {
    /// It is written; here it is with its new version.
    Made(StoredOrder),
    /// Another writer was first; here is what it wrote.
    Lost(StoredOrder),
}

impl Change {
    /// The order as it now is, whoever wrote it.
    #[must_use]
    pub fn into_order(self) -> StoredOrder {
        match self {
            Self::Made(order) | Self::Lost(order) => order,
        }
    }
}

impl OrderStore {
    /// The orders behind `kv`.
    #[must_use]
    pub fn new(kv: SharedKv) -> Self {
        Self { kv }
    }

    /// One order.
    ///
    /// # Errors
    /// The store cannot be read, or holds what is no order.
    pub async fn get(&self, id: OrderId) -> Result<Option<StoredOrder>, StoreFault> {
        let read = self.kv.get(&Key::new(ORDERS, id.to_string(), ROW)).await;
        let read = read.map_err(|error| StoreFault::from_request("read the order", error))?;
        match (read.values.into_iter().next(), read.version) {
            (Some(value), Some(version)) => Ok(Some(StoredOrder {
                record: decode(&value.data)?,
                version,
            })),
            _ => Ok(None),
        }
    }

    /// Makes an order unless there is one.
    ///
    /// # Errors
    /// The store refuses, or the outcome stays unknown even after looking.
    pub async fn create(&self, record: &OrderRecord) -> Result<Change, StoreFault> {
        self.write(record, Condition::Missing, "make the order")
            .await
    }

    /// Replaces the record of `version` with `record`.
    ///
    /// # Errors
    /// The store refuses, or the outcome stays unknown even after looking.
    pub async fn update(
        &self,
        version: &Version,
        record: &OrderRecord,
    ) -> Result<Change, StoreFault> {
        self.write(
            record,
            Condition::Version(version.clone()),
            "update the order",
        )
        .await
    }

    async fn write(
        &self,
        record: &OrderRecord,
        condition: Condition,
        doing: &'static str,
    ) -> Result<Change, StoreFault> {
        let value = json(record.to_bytes());
        let operation = RowOperation::put(ROW, condition, value);
        let transaction = Transaction::new(ORDERS, record.order_id.to_string(), vec![operation]);
        match self.kv.transact(&transaction).await {
            Ok(TransactOutcome::Applied { versions }) => {
                match versions.into_iter().next().flatten() {
                    Some(version) => Ok(Change::Made(StoredOrder {
                        record: record.clone(),
                        version,
                    })),
                    None => self.look(record, doing).await,
                }
            }
            Ok(TransactOutcome::NotApplied { failed }) => {
                match failed.into_iter().next().and_then(|failed| failed.current) {
                    Some(current) => {
                        let record = decode(&current.value.data)?;
                        Ok(Change::Lost(StoredOrder {
                            record,
                            version: current.version,
                        }))
                    }
                    None => self.look(record, doing).await,
                }
            }
            Err(error) if error.outcome() == Outcome::NotApplied => {
                Err(StoreFault::from_request(doing, error))
            }
            Err(error) => self.look_after(record, doing, error).await,
        }
    }

    /// What stands there now, compared with what was to be written.
    async fn look(&self, wanted: &OrderRecord, doing: &'static str) -> Result<Change, StoreFault> {
        match self.get(wanted.order_id).await? {
            Some(order) if order.record == *wanted => Ok(Change::Made(order)),
            Some(order) => Ok(Change::Lost(order)),
            None => Err(StoreFault::Contended { doing }),
        }
    }

    /// As [`Self::look`], after a write whose outcome is unknown. Only finding our own record, or one that rests on
    /// it, settles the matter; finding the old one does not, because the write may still be under way.
    async fn look_after(
        &self,
        wanted: &OrderRecord,
        doing: &'static str,
        error: RequestError,
    ) -> Result<Change, StoreFault> {
        match self.get(wanted.order_id).await {
            Ok(Some(order)) if order.record == *wanted => Ok(Change::Made(order)),
            Ok(Some(order)) if order.record.events.len() >= wanted.events.len() => {
                Ok(Change::Lost(order))
            }
            _ => Err(StoreFault::from_request(doing, error)),
        }
    }
}

fn decode(bytes: &[u8]) -> Result<OrderRecord, StoreFault> {
    OrderRecord::from_bytes(bytes).map_err(|error| StoreFault::Unreadable {
        what: "order",
        why: error.to_string(),
    })
}
