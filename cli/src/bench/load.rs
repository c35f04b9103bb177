//! Makes the bucket and the rows that clients will work on.
//!
//! Invariant: after `Field::prepare` every row is there, and its context or version is known.

use std::time::Duration;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use souk_kv_client::{
    BucketConfig, BucketMode, CasOutcome, Client, Key, ReadOptions, RequestError, Value, Versioned,
    WriteOptions,
};

use super::field::Field;
use super::{BenchArgs, PlainMode, Workload};
use crate::failure::Failure;
use crate::show::Progress;

/// Keys per batch while loading.
const LOAD_BATCH: u32 = 100;
/// Batches, or conditional writes, under way at the same time while loading.
const LOAD_CONCURRENCY: usize = 16;
/// Time for one of them: loading is not measured, and may well keep a small machine busy.
const LOAD_TIMEOUT: Duration = Duration::from_secs(30);

impl Field {
    /// Creates the bucket and the rows that are missing.
    ///
    /// # Errors
    /// When the cluster refuses one of them.
    pub(crate) async fn prepare(client: Client, args: &BenchArgs) -> Result<Self, Failure> {
        let (bucket, mode) = match args.mode {
            _ if args.workload().is_conditional() => ("bench-cas", BucketMode::Register),
            PlainMode::Siblings => ("bench", BucketMode::Siblings),
            PlainMode::Lww => ("bench-lww", BucketMode::Lww),
        };
        let config = BucketConfig {
            name: bucket.to_owned(),
            mode: mode.into(),
            ..BucketConfig::default()
        };
        client.admin().create_bucket(config).await?;
        let rows = if args.workload() == Workload::CasHot {
            1
        } else {
            args.keys
        };
        let mut field = Self::new(client, bucket, rows, args.value_bytes);
        if args.workload().is_conditional() {
            field.load_conditional(rows).await?;
        } else {
            field.load_plain(rows).await?;
        }
        field.begin();
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
            .zip(self.client.get_many(&keys, patient_read()).await)
        {
            let read = read?;
            let right_size = |value: &Value| value.data.len() == self.value_bytes;
            if read.values.len() != 1 || !read.values.iter().all(right_size) {
                missing.push(*index);
            }
            self.slot(*index).lock().context = read.context;
        }
        if !missing.is_empty() {
            self.write_many(&missing, patient_write())
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
            .put_if_absent(&self.key(index), value.clone(), patient_write())
            .await?;
        self.slot(index).lock().row = match outcome {
            CasOutcome::Applied { version } => version.map(|version| Versioned { value, version }),
            CasOutcome::Conflict { current } => current,
        };
        Ok(())
    }
}

fn patient_read() -> ReadOptions {
    ReadOptions {
        timeout: Some(LOAD_TIMEOUT),
        ..ReadOptions::default()
    }
}

fn patient_write() -> WriteOptions {
    WriteOptions {
        timeout: Some(LOAD_TIMEOUT),
        ..WriteOptions::default()
    }
}
