//! What the clients work on: the buckets, the rows, and what is known of each row.
//!
//! A slot per row keeps the newest context (plain rows) or version (conditional rows) that some answer
//! brought, as a service would keep it between a read and the write that follows.
//!
//! Invariants: 1. after `prepare` every row is there. 2. every successful compare-and-set adds one to the
//! row's number, so that the hot row's number tells whether one was lost or done twice.

use bytes::{Buf as _, BufMut as _, BytesMut};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use parking_lot::Mutex;
use souk_kv_client::{
    BucketConfig, BucketMode, CasOutcome, Client, Context, Key, Put, ReadOptions, RequestError,
    Value, Versioned, WriteOptions,
};

use super::tally::Tally;
use super::{BenchArgs, PlainMode, Workload};
use crate::failure::Failure;
use crate::show::Progress;

/// Keys per batch while loading.
const LOAD_BATCH: u32 = 250;
/// Batches, or conditional writes, under way at the same time while loading.
const LOAD_CONCURRENCY: usize = 32;

/// Rows and what is known of them.
#[derive(Debug)]
pub(crate) struct Field {
    client: Client,
    bucket: &'static str,
    value_bytes: usize,
    slots: Vec<Mutex<Slot>>,
    hot_at_start: u64,
}

/// What the last answer told of a row.
#[derive(Debug, Clone, Default)]
struct Slot {
    context: Context,
    row: Option<Versioned>,
}

impl Field {
    /// The row that all clients of `cas-hot` write.
    pub(crate) const HOT: u32 = 0;

    /// Creates the bucket and the rows that are missing.
    ///
    /// # Errors
    /// When the cluster refuses one of them.
    pub(crate) async fn prepare(client: Client, args: &BenchArgs) -> Result<Self, Failure> {
        let (bucket, mode) = match args.mode {
            _ if args.workload.is_conditional() => ("bench-cas", BucketMode::Register),
            PlainMode::Siblings => ("bench", BucketMode::Siblings),
            PlainMode::Lww => ("bench-lww", BucketMode::Lww),
        };
        let config = BucketConfig {
            name: bucket.to_owned(),
            mode: mode.into(),
            ..BucketConfig::default()
        };
        client.admin().create_bucket(config).await?;
        let rows = if args.workload == Workload::CasHot {
            1
        } else {
            args.keys
        };
        let slots = (0..rows).map(|_| Mutex::default()).collect();
        let value_bytes = args.value_bytes as usize;
        let mut field = Self {
            client,
            bucket,
            value_bytes,
            slots,
            hot_at_start: 0,
        };
        if args.workload.is_conditional() {
            field.load_conditional(rows).await?;
            field.hot_at_start = field.number_of(Self::HOT);
        } else {
            field.load_plain(rows).await?;
        }
        Ok(field)
    }

    async fn load_plain(&self, rows: u32) -> Result<(), Failure> {
        let progress = Progress::begin(format!("loading {}", self.bucket));
        let batches = (0..rows)
            .step_by(LOAD_BATCH as usize)
            .map(|first| first..rows.min(first + LOAD_BATCH));
        let mut loads = stream::iter(batches.map(|batch| self.load_batch(batch.collect())))
            .buffer_unordered(LOAD_CONCURRENCY);
        let mut done = 0;
        while let Some(count) = loads.try_next().await? {
            done += count;
            progress.set(done, u64::from(rows));
        }
        progress.end(format_args!("{done} keys"));
        Ok(())
    }

    /// Learns the contexts, and writes the rows that are missing.
    async fn load_batch(&self, indexes: Vec<u32>) -> Result<u64, RequestError> {
        let keys: Vec<Key> = indexes.iter().map(|index| self.key(*index)).collect();
        let mut missing = Vec::new();
        for (index, read) in indexes
            .iter()
            .zip(self.client.get_many(&keys, ReadOptions::default()).await)
        {
            let read = read?;
            let right_size = |value: &Value| value.data.len() == self.value_bytes;
            if read.values.len() != 1 || !read.values.iter().all(right_size) {
                missing.push(*index);
            }
            self.slot(*index).lock().context = read.context;
        }
        if !missing.is_empty() {
            self.write_many(&missing)
                .await
                .into_iter()
                .collect::<Result<Vec<()>, _>>()?;
        }
        Ok(indexes.len() as u64)
    }

    async fn load_conditional(&self, rows: u32) -> Result<(), Failure> {
        let progress = Progress::begin(format!("loading {}", self.bucket));
        let mut loads = stream::iter((0..rows).map(|index| self.load_row(index)))
            .buffer_unordered(LOAD_CONCURRENCY);
        let mut done = 0;
        while let Some(()) = loads.try_next().await? {
            done += 1;
            progress.set(done, u64::from(rows));
        }
        progress.end(format_args!("{done} rows"));
        Ok(())
    }

    async fn load_row(&self, index: u32) -> Result<(), RequestError> {
        let value = self.value(0);
        let outcome = self
            .client
            .put_if_absent(&self.key(index), value.clone(), WriteOptions::default())
            .await?;
        self.slot(index).lock().row = match outcome {
            CasOutcome::Applied { version } => version.map(|version| Versioned { value, version }),
            CasOutcome::Conflict { current } => current,
        };
        Ok(())
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
    pub(crate) async fn write_many(&self, indexes: &[u32]) -> Vec<Result<(), RequestError>> {
        let put = |index: &u32| Put {
            key: self.key(*index),
            value: self.value(0),
            context: self.slot(*index).lock().context.clone(),
        };
        let puts = indexes.iter().map(put).collect();
        let answers = self.client.put_many(puts, WriteOptions::default()).await;
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
        let allowed = tally.all_applied..=tally.all_applied + tally.all_unknown;
        if allowed.contains(&grown) {
            return Ok(());
        }
        Err(Failure::BenchCheck {
            grown,
            applied: tally.all_applied,
            unknown: tally.all_unknown,
        })
    }

    fn number_of(&self, index: u32) -> u64 {
        self.slot(index)
            .lock()
            .row
            .as_ref()
            .map_or(0, |row| number_in(&row.value))
    }

    fn slot(&self, index: u32) -> &Mutex<Slot> {
        &self.slots[index as usize]
    }

    fn key(&self, index: u32) -> Key {
        Key::new(self.bucket, format!("key-{index:08}"), "")
    }

    /// A number, filled up to the size wanted.
    fn value(&self, number: u64) -> Value {
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
