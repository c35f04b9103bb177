//! Stock in a register bucket: waiting commands of one stock go out together as one conditional write.
//!
//! ```text
//! run() ─┐
//! run() ─┼─> queue of one stock ──> driver: read what is missing, plan, write if nothing changed ──> answers
//! run() ─┘         (while one write is under way, the next batch gathers)
//! ```
//!
//! The first command of an idle stock starts its driver, a task that ends when its queue is empty. While it runs it
//! remembers the summary that it wrote last, so a batch of new reservations needs no read at all: the write's own
//! conditions say that the summary is still that one and that the ids are new. A guess that fails costs one more round,
//! never a wrong answer.
//!
//! Place: I/O, behind the feature `store`; talks to `souk_kv_client` through [`StockBucket`].
//! Invariants: 1. every write names the summary's version, so writes of one stock happen one after another, whoever
//! sends them. 2. a refusal is given only from rows that were read after the summary, or together with a write that
//! confirms them, and never while an earlier write of it may still land. 3. a command in doubt is answered from its own
//! row, so sending it again counts once.
//! Not here: what commands do (`crate::plan`), retries of single requests (`souk_kv_client`).

mod batch;
mod bucket;
mod error;
mod queue;
mod split;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use souk_kv_client::{RequestError, Versioned};

pub use bucket::{ClientStock, RowPage, StockBucket, stock_bucket};
pub use error::StockStoreError;

use crate::error::RowError;
use crate::{
    HoldRow, LedgerCheckpoint, LedgerPage, OutboxRow, ReservationId, Row, RowKey, StockAnswer,
    StockCommand, StockId, Summary,
};
use queue::Queues;
use split::Splits;

/// Most ledger pages that one call of [`StockStore::ledger`] reads.
pub const LEDGER_PAGES_MAX: usize = 1_000;

/// How the store behaves.
#[derive(Debug, Clone)]
pub struct StockStoreOptions {
    /// Deadline of a batch over all its rounds, 1 ms to 60 s. Default 5 s.
    pub batch_timeout: Duration,
    /// Deadline of a single read or write, at most `batch_timeout`: a write in doubt has to leave time for settling it.
    /// Default 2 s.
    pub request_timeout: Duration,
    /// Most commands that wait for one stock, at least 1; further ones are refused at once. Default 10,000.
    pub queue_max: usize,
    /// The clock by which holds expire.
    pub clock: StockClock,
    /// Seeds the pauses between rounds, so that a simulated run can be repeated; none (the default) takes the seed from
    /// the operating system.
    pub seed: Option<u64>,
}

impl Default for StockStoreOptions {
    fn default() -> Self {
        Self {
            batch_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(2),
            queue_max: 10_000,
            clock: StockClock::default(),
            seed: None,
        }
    }
}

/// A clock in Unix milliseconds; by default the system's, which counts as 0 when it is set before 1970.
#[derive(Clone)]
pub struct StockClock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl StockClock {
    /// A clock that a simulation controls.
    pub fn new(now_unix_ms: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now_unix_ms))
    }

    fn now_unix_ms(&self) -> u64 {
        (self.0)()
    }
}

impl Default for StockClock {
    fn default() -> Self {
        Self::new(|| {
            let since = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
    }
}

impl fmt::Debug for StockClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StockClock")
    }
}

/// Stocks by their ids. Clones share their queues; one process should use clones of one store, so that its commands
/// meet in one batch instead of outrunning each other.
#[derive(Debug)]
pub struct StockStore<B = ClientStock> {
    shared: Arc<Shared<B>>,
}

impl<B> Clone for StockStore<B> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

#[derive(Debug)]
struct Shared<B> {
    bucket: B,
    options: StockStoreOptions,
    queues: Queues,
    splits: Splits,
    chance: Mutex<SmallRng>,
}

impl<B: StockBucket> StockStore<B> {
    /// Stocks in this bucket. Commands need a tokio runtime to run in.
    pub fn new(bucket: B, options: StockStoreOptions) -> Self {
        let queues = Queues::new(options.queue_max);
        let chance = options
            .seed
            .map_or_else(SmallRng::from_os_rng, SmallRng::seed_from_u64)
            .into();
        Self {
            shared: Arc::new(Shared {
                bucket,
                options,
                queues,
                splits: Splits::default(),
                chance,
            }),
        }
    }

    /// Runs one command in the stock or shard that is named.
    async fn run_here(
        &self,
        stock: &StockId,
        command: StockCommand,
    ) -> Result<StockAnswer, StockStoreError> {
        let (answer, is_first) = self.shared.queues.push(stock, command)?;
        if is_first {
            tokio::spawn(queue::drive(Arc::clone(&self.shared), stock.clone()));
        }
        answer.await.unwrap_or_else(|_| {
            Err(StockStoreError::Stopped {
                stock: stock.clone(),
            })
        })
    }

    /// The summary of one stock or shard; the default one when it was never written.
    ///
    /// # Errors
    /// [`StockStoreError::Request`] when it could not be read, [`StockStoreError::Rows`] when it makes no sense.
    pub async fn summary(&self, stock: &StockId) -> Result<Summary, StockStoreError> {
        let row = self.row(stock, RowKey::Summary).await?;
        read_summary(stock, row)
    }

    /// The summaries of many stocks, each with its own answer, in their order.
    pub async fn summaries(&self, stocks: &[StockId]) -> Vec<Result<Summary, StockStoreError>> {
        let rows: Vec<_> = stocks
            .iter()
            .map(|stock| (stock, RowKey::Summary))
            .collect();
        let read = self
            .shared
            .bucket
            .get(&rows, self.shared.options.request_timeout)
            .await;
        stocks
            .iter()
            .zip(read)
            .map(|(stock, row)| {
                read_summary(stock, row.map_err(|source| request_error(stock, source))?)
            })
            .collect()
    }

    /// What stands under the ids of reservations in one stock or shard, in the order of the ids from `first` on, at most
    /// `limit` of them.
    ///
    /// # Errors
    /// As for [`StockStore::summary`].
    pub async fn reservations(
        &self,
        stock: &StockId,
        first: ReservationId,
        limit: usize,
    ) -> Result<Vec<(ReservationId, HoldRow)>, StockStoreError> {
        let from = Some(RowKey::Hold(first));
        self.scan(stock, RowKey::HOLD_PREFIX, from, limit, |key, row| {
            match (key, row) {
                (RowKey::Hold(id), Row::Hold(hold)) => Some((id, hold)),
                _ => None,
            }
        })
        .await
    }

    /// Ledger pages with their numbers, from `first` on, at most `limit` and at most [`LEDGER_PAGES_MAX`]; fewer when
    /// there are no more. Pages that were torn out are missing; [`StockStore::ledger_checkpoint`] has their sum.
    ///
    /// # Errors
    /// As for [`StockStore::summary`].
    pub async fn ledger(
        &self,
        stock: &StockId,
        first: u64,
        limit: usize,
    ) -> Result<Vec<(u64, LedgerPage)>, StockStoreError> {
        let limit = limit.clamp(1, LEDGER_PAGES_MAX);
        let from = Some(RowKey::Ledger(first));
        self.scan(
            stock,
            RowKey::LEDGER_PREFIX,
            from,
            limit,
            |key, row| match (key, row) {
                (RowKey::Ledger(number), Row::Ledger(page)) => Some((number, page)),
                _ => None,
            },
        )
        .await
    }

    /// What the ledger pages that were torn out add up to; all zero when there are none.
    ///
    /// Read it after the pages and again before them to know that none was torn out in between.
    ///
    /// # Errors
    /// As for [`StockStore::summary`].
    pub async fn ledger_checkpoint(
        &self,
        stock: &StockId,
    ) -> Result<LedgerCheckpoint, StockStoreError> {
        let key = RowKey::Checkpoint;
        let Some(row) = self.row(stock, key).await? else {
            return Ok(LedgerCheckpoint::default());
        };
        match Row::from_bytes(key, &row.value.data) {
            Ok(Row::Checkpoint(checkpoint)) => Ok(checkpoint),
            Ok(_) => Err(rows_error(stock, RowError::Contradiction { key })),
            Err(broken) => Err(rows_error(stock, broken)),
        }
    }

    /// Outbox rows with their numbers, from `first` on, at most `limit`. When the first one that comes has a greater
    /// number than asked for, those between are gone: they were cleared away, or pushed out because nobody did.
    ///
    /// # Errors
    /// As for [`StockStore::summary`].
    pub async fn outbox(
        &self,
        stock: &StockId,
        first: u64,
        limit: usize,
    ) -> Result<Vec<(u64, OutboxRow)>, StockStoreError> {
        let from = Some(RowKey::Outbox(first));
        self.scan(
            stock,
            RowKey::OUTBOX_PREFIX,
            from,
            limit,
            |key, row| match (key, row) {
                (RowKey::Outbox(number), Row::Outbox(row)) => Some((number, row)),
                _ => None,
            },
        )
        .await
    }

    /// Rows of one kind, as `read` takes them.
    async fn scan<T>(
        &self,
        stock: &StockId,
        prefix: &str,
        from: Option<RowKey>,
        limit: usize,
        read: impl Fn(RowKey, Row) -> Option<T>,
    ) -> Result<Vec<T>, StockStoreError> {
        let timeout = self.shared.options.request_timeout;
        let page = self
            .shared
            .bucket
            .scan(stock, prefix, from, limit, timeout)
            .await;
        let page = page.map_err(|source| request_error(stock, source))?;
        let read = |(key, value): &(bytes::Bytes, bytes::Bytes)| {
            let key = RowKey::from_bytes(key)?;
            read(key, Row::from_bytes(key, value)?).ok_or(RowError::Contradiction { key })
        };
        page.rows
            .iter()
            .map(read)
            .collect::<Result<_, _>>()
            .map_err(|broken| rows_error(stock, broken))
    }

    async fn row(
        &self,
        stock: &StockId,
        key: RowKey,
    ) -> Result<Option<Versioned>, StockStoreError> {
        let read = self
            .shared
            .bucket
            .get(&[(stock, key)], self.shared.options.request_timeout)
            .await;
        let row = read
            .into_iter()
            .next()
            .ok_or_else(|| rows_error(stock, RowError::NotRead { key }))?;
        row.map_err(|source| request_error(stock, source))
    }
}

fn read_summary(stock: &StockId, row: Option<Versioned>) -> Result<Summary, StockStoreError> {
    let Some(row) = row else {
        return Ok(Summary::default());
    };
    Summary::from_bytes(&row.value.data).map_err(|broken| rows_error(stock, broken))
}

fn request_error(stock: &StockId, source: RequestError) -> StockStoreError {
    let outcome = source.outcome();
    StockStoreError::Request {
        stock: stock.clone(),
        outcome,
        source,
    }
}

fn rows_error(stock: &StockId, source: RowError) -> StockStoreError {
    StockStoreError::Rows {
        stock: stock.clone(),
        outcome: souk_kv_client::Outcome::NotApplied,
        source: Arc::new(source),
    }
}
