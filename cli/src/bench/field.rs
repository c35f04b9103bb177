//! What the clients work on: rows, and what is known of each.
//!
//! A slot per row keeps the newest context (plain rows) or version (conditional rows) that some answer
//! brought, as a service would keep it between a read and the write that follows.
//!
//! Invariant: every successful compare-and-set adds one to the row's number, so that the hot row's number
//! tells whether one was lost or done twice.

use bytes::{Buf as _, BufMut as _, BytesMut};
use parking_lot::Mutex;
use souk_kv_client::{
    CasOutcome, Client, Context, Key, Put, ReadOptions, RequestError, Value, Versioned,
    WriteOptions,
};

use super::Workload;
use super::tally::Tally;
use crate::failure::Failure;

/// Rows and what is known of them.
#[derive(Debug)]
pub(crate) struct Field {
    pub(super) client: Client,
    pub(super) bucket: &'static str,
    pub(super) value_bytes: usize,
    slots: Vec<Mutex<Slot>>,
    hot_at_start: u64,
}

/// What the last answer told of a row.
#[derive(Debug, Clone, Default)]
pub(super) struct Slot {
    pub(super) context: Context,
    pub(super) row: Option<Versioned>,
}

impl Field {
    /// The row that all clients of `cas-hot` write.
    pub(crate) const HOT: u32 = 0;

    /// So many rows of a bucket, of which nothing is known yet.
    pub(super) fn new(client: Client, bucket: &'static str, rows: u32, value_bytes: u32) -> Self {
        let slots = (0..rows).map(|_| Mutex::default()).collect();
        Self {
            client,
            bucket,
            value_bytes: value_bytes as usize,
            slots,
            hot_at_start: 0,
        }
    }

    /// From here on increments of the hot row are counted.
    pub(super) fn begin(&mut self) {
        self.hot_at_start = self.number_of(Self::HOT);
    }

    /// Reads a row and remembers its context.
    pub(crate) async fn read(&self, index: u32) -> Result<(), RequestError> {
        let read = self
            .client
            .get(&self.key(index), ReadOptions::default())
            .await?;
        self.slot(index).lock().context = read.context;
        Ok(())
    }

    /// Writes a row in the context that was last heard of.
    pub(crate) async fn write(&self, index: u32) -> Result<(), RequestError> {
        let context = self.slot(index).lock().context.clone();
        let key = self.key(index);
        let written = self
            .client
            .put(&key, self.value(0), &context, WriteOptions::default())
            .await;
        self.remember(index, written.map(|written| written.context))
            .await
    }

    /// Writes several rows; one result per row.
    pub(crate) async fn write_many(
        &self,
        indexes: &[u32],
        options: WriteOptions,
    ) -> Vec<Result<(), RequestError>> {
        let put = |index: &u32| Put {
            key: self.key(*index),
            value: self.value(0),
            context: self.slot(*index).lock().context.clone(),
        };
        let puts = indexes.iter().map(put).collect();
        let answers = self.client.put_many(puts, options).await;
        let mut results = Vec::with_capacity(indexes.len());
        for (index, written) in indexes.iter().zip(answers) {
            results.push(
                self.remember(*index, written.map(|written| written.context))
                    .await,
            );
        }
        results
    }

    /// After a failure the row may hold a write that no context here covers; a read finds out.
    async fn remember(
        &self,
        index: u32,
        written: Result<Context, RequestError>,
    ) -> Result<(), RequestError> {
        match written {
            Ok(context) => {
                self.slot(index).lock().context = context;
                Ok(())
            }
            Err(error) => {
                // When this read fails too, the next one tries again.
                self.read(index).await.ok();
                Err(error)
            }
        }
    }

    /// Adds one to a row's number, trying again as long as others come first.
    pub(crate) async fn cas(&self, index: u32, tally: &mut Tally) -> Result<(), RequestError> {
        let key = self.key(index);
        loop {
            let known = self.slot(index).lock().row.clone();
            let outcome = match known {
                Some(row) => {
                    let next = self.value(number_in(&row.value) + 1);
                    let outcome = self
                        .client
                        .put_if_version(&key, &row.version, next.clone(), WriteOptions::default())
                        .await?;
                    (outcome, next)
                }
                None => {
                    let first = self.value(1);
                    (
                        self.client
                            .put_if_absent(&key, first.clone(), WriteOptions::default())
                            .await?,
                        first,
                    )
                }
            };
            match outcome {
                (CasOutcome::Applied { version }, value) => {
                    self.slot(index).lock().row =
                        version.map(|version| Versioned { value, version });
                    return Ok(());
                }
                (CasOutcome::Conflict { current }, _) => {
                    tally.conflict();
                    self.slot(index).lock().row = current;
                }
            }
        }
    }

    /// For the hot row: it must have grown by as many as were applied, plus some of the unknown ones.
    ///
    /// # Errors
    /// When a compare-and-set was lost or done twice, or the row cannot be read.
    pub(crate) async fn check(&self, workload: Workload, tally: &Tally) -> Result<(), Failure> {
        if workload != Workload::CasHot {
            return Ok(());
        }
        let read = self
            .client
            .get(&self.key(Self::HOT), ReadOptions::default())
            .await?;
        let now = read.values.first().map_or(0, number_in);
        let grown = now.saturating_sub(self.hot_at_start);
        if tally.explains(grown) {
            return Ok(());
        }
        Err(Failure::BenchCheck {
            grown,
            applied: tally.all_applied,
            unknown: tally.all_unknown,
        })
    }

    pub(super) fn number_of(&self, index: u32) -> u64 {
        self.slot(index)
            .lock()
            .row
            .as_ref()
            .map_or(0, |row| number_in(&row.value))
    }

    pub(super) fn slot(&self, index: u32) -> &Mutex<Slot> {
        &self.slots[index as usize]
    }

    pub(super) fn key(&self, index: u32) -> Key {
        Key::new(self.bucket, format!("key-{index:08}"), "")
    }

    /// A number, filled up to the size wanted.
    pub(super) fn value(&self, number: u64) -> Value {
        let mut data = BytesMut::with_capacity(self.value_bytes);
        data.put_u64(number);
        data.resize(self.value_bytes, b'.');
        Value::bytes(data.freeze())
    }
}

/// The number that a value begins with; 0 when it is too short to hold one.
fn number_in(value: &Value) -> u64 {
    let mut data: &[u8] = &value.data;
    data.try_get_u64().unwrap_or(0)
}
