//! One batch of commands on one stock: rounds of reading, planning and writing until every command has its answer.
//!
//! Place: I/O; used by `super::queue`.
//! Shape: one round for new reservations while the driver knows the summary; after a lost race one more, with the rows
//! that the refusal brought along; after a doubt everything is read again.
//! Invariants: 1. a write carries conditions on the summary and on the row of each command, changed or not, so that it
//! proves the guesses that its answers stand on. 2. without a write, answers stand on a summary read in this round and
//! on rows read after it. 3. a write in doubt is settled before anything is refused: either the summary has another
//! version by now, which it cannot pass any more, or a write of our own gives it one.
//! Not here: which commands form a batch (`super::queue`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use souk_kv_client::{
    Condition, Outcome, RequestError, RowOperation, TransactOutcome, Value, Version, Versioned,
};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::{Shared, StockBucket, StockStoreError};
use crate::{
    EXPIRY_ROWS_MAX, PRUNE_MAX, ReservationId, Row, RowChanges, RowError, RowKey, SHORTEN_MAX,
    STOCK_CONTENT_TYPE, StockAnswer, StockCommand, StockError, StockId, StockPlan, StockRows,
    Summary, plan,
};

/// Most rounds of one batch, beside its deadline. Releasing a full stock of expired holds takes fewer.
const ROUNDS_MAX: u32 = 4_096;

/// Longest pause before another round, in milliseconds.
const PAUSE_MAX_MS: u64 = 32;

/// Sorts before every other id.
const FIRST_ID: ReservationId = ReservationId::from_bytes([0; 16]);

/// A command and where its answer goes.
#[derive(Debug)]
pub(super) struct Waiting {
    command: StockCommand,
    answer: oneshot::Sender<Result<StockAnswer, StockStoreError>>,
}

impl Waiting {
    pub(super) fn new(
        command: StockCommand,
        answer: oneshot::Sender<Result<StockAnswer, StockStoreError>>,
    ) -> Self {
        Self { command, answer }
    }

    /// Whether somebody still waits for the answer.
    pub(super) fn is_wanted(&self) -> bool {
        !self.answer.is_closed()
    }

    fn tell(self, answer: Result<StockAnswer, StockStoreError>) {
        // A caller that has given up hears nothing; that is no failure.
        let _ = self.answer.send(answer);
    }
}

/// The summary as last heard of: none in the version when the stock has no rows.
#[derive(Debug, Clone)]
struct KnownSummary {
    summary: Summary,
    version: Option<Version>,
}

/// What a row is taken to be.
#[derive(Debug, Clone)]
enum KnownRow {
    Read(Option<Versioned>),
    /// Not read: the command's id is new, as good as always.
    Guessed,
}

/// Why a round ended without answers.
enum Setback {
    /// Plan again; what is known has been corrected.
    Again,
    /// Fail the batch.
    Fail(Box<StockStoreError>),
}

/// Runs the batches of one stock, one after another.
pub(super) struct Driver<'a, B> {
    shared: &'a Shared<B>,
    stock: &'a StockId,
    summary: Option<KnownSummary>,
    rows: BTreeMap<RowKey, KnownRow>,
    /// Whether the summary was read in this round, before the rows.
    is_fresh: bool,
    /// Whether this batch reads every row instead of guessing.
    is_careful: bool,
    /// The version that a write in doubt asked for: it can still land while the summary has that version.
    doubt: Option<Option<Version>>,
    /// Whether a write that was in doubt may have landed and nobody has looked since: a failure then is no refusal.
    may_be_done: bool,
    deadline: Instant,
}

impl<'a, B: StockBucket> Driver<'a, B> {
    pub(super) fn new(shared: &'a Shared<B>, stock: &'a StockId) -> Self {
        Self {
            shared,
            stock,
            summary: None,
            rows: BTreeMap::new(),
            is_fresh: false,
            is_careful: false,
            doubt: None,
            may_be_done: false,
            deadline: Instant::now(),
        }
    }

    /// Answers every command of the batch.
    pub(super) async fn run(&mut self, mut batch: Vec<Waiting>) {
        self.deadline = Instant::now() + self.shared.options.batch_timeout;
        self.rows.clear();
        (self.is_fresh, self.is_careful) = (false, false);
        (self.doubt, self.may_be_done) = (None, false);
        let mut rounds = 0;
        while !batch.is_empty() {
            if rounds >= ROUNDS_MAX || Instant::now() >= self.deadline {
                let outcome = self.outcome_without_answer(Outcome::NotApplied);
                let contended = StockStoreError::Contended {
                    stock: self.stock.clone(),
                    outcome,
                    rounds,
                };
                return self.fail(batch, &contended);
            }
            rounds += 1;
            match self.round(&batch).await {
                Ok(answers) => batch = deliver(batch, answers),
                Err(Setback::Again) => self.pause(rounds).await,
                Err(Setback::Fail(error)) => return self.fail(batch, &error),
            }
        }
    }

    fn fail(&mut self, batch: Vec<Waiting>, error: &StockStoreError) {
        // Whatever went wrong, the next batch trusts nothing of it.
        self.forget();
        for waiting in batch {
            waiting.tell(Err(error.clone()));
        }
    }

    /// Reads what is missing, plans, and writes if anything changes.
    async fn round(
        &mut self,
        batch: &[Waiting],
    ) -> Result<Vec<Result<StockAnswer, StockError>>, Setback> {
        let commands: Vec<StockCommand> = batch
            .iter()
            .map(|waiting| waiting.command.clone())
            .collect();
        let summary = self.read_summary().await?;
        self.read_rows(&commands).await?;
        let clock_unix_ms = self.shared.options.clock.now_unix_ms();
        let rows = self.stock_rows(&summary, clock_unix_ms).await?;
        let planned = match plan(&rows, &commands, clock_unix_ms) {
            Ok(planned) => planned,
            Err(broken) => return Err(self.doubt_rows(&summary, broken).await),
        };
        if !planned.changes.is_empty() {
            return self.write(&summary, planned).await;
        }
        if self.doubt.is_some() {
            // A write that may still land must not make a liar of this answer: give the summary a new version.
            let touch = RowChanges {
                puts: BTreeMap::from([(RowKey::Summary, Row::Summary(planned.summary))]),
                ..RowChanges::default()
            };
            return self
                .write(
                    &summary,
                    StockPlan {
                        changes: touch,
                        ..planned
                    },
                )
                .await;
        }
        if self.stands_on_reading() {
            return Ok(planned.answers);
        }
        self.forget();
        Err(Setback::Again)
    }

    /// Whether everything known was read, the summary before the rows.
    fn stands_on_reading(&self) -> bool {
        let is_read = |row: &KnownRow| matches!(row, KnownRow::Read(_));
        self.is_fresh && self.rows.values().all(is_read)
    }

    /// Judges rows that make no sense together: they are broken only if no write came between the readings.
    async fn doubt_rows(&mut self, known: &KnownSummary, broken: RowError) -> Setback {
        let stood_on_reading = self.stands_on_reading();
        self.forget();
        match self.read_summary().await {
            Ok(now) if stood_on_reading && now.version == known.version => self.broken(broken),
            Ok(_) => Setback::Again,
            Err(setback) => setback,
        }
    }

    async fn read_summary(&mut self) -> Result<KnownSummary, Setback> {
        if let Some(known) = &self.summary {
            return Ok(known.clone());
        }
        let read = self
            .shared
            .bucket
            .get(&[(self.stock, RowKey::Summary)], self.time_left())
            .await;
        let row = read.into_iter().next().ok_or_else(|| {
            self.broken(RowError::NotRead {
                key: RowKey::Summary,
            })
        })?;
        let row = row.map_err(|source| self.unreachable(source))?;
        let known = self.known_summary(row)?;
        if self
            .doubt
            .as_ref()
            .is_some_and(|asked| *asked != known.version)
        {
            self.doubt = None;
        }
        self.is_fresh = true;
        Ok(self.summary.insert(known).clone())
    }

    /// Reads the rows of the commands, except those whose absence the write itself can prove.
    async fn read_rows(&mut self, commands: &[StockCommand]) -> Result<(), Setback> {
        let keys: BTreeSet<RowKey> = commands.iter().filter_map(StockCommand::row).collect();
        let named: BTreeSet<RowKey> = commands
            .iter()
            .filter(|command| !makes_its_row(command))
            .filter_map(StockCommand::row)
            .collect();
        let mut missing = Vec::new();
        for key in keys
            .into_iter()
            .filter(|key| !self.rows.contains_key(key))
            .collect::<Vec<_>>()
        {
            if self.is_careful || named.contains(&key) {
                missing.push((self.stock, key));
            } else {
                self.rows.insert(key, KnownRow::Guessed);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let read = self.shared.bucket.get(&missing, self.time_left()).await;
        for ((_, key), row) in missing.iter().zip(read) {
            let row = row.map_err(|source| self.unreachable(source))?;
            self.rows.insert(*key, KnownRow::Read(row));
        }
        Ok(())
    }

    /// Everything known, as the planner takes it, with the fronts of the indexes where something is due.
    async fn stock_rows(
        &self,
        known: &KnownSummary,
        clock_unix_ms: u64,
    ) -> Result<StockRows, Setback> {
        let mut rows = StockRows::new(Some(known.summary));
        for (key, row) in &self.rows {
            let value = match row {
                KnownRow::Read(Some(row)) => Some(row.value.data.as_ref()),
                KnownRow::Read(None) | KnownRow::Guessed => None,
            };
            rows.insert(*key, value)
                .map_err(|broken| self.broken(broken))?;
        }
        if rows.wants_expiring(clock_unix_ms) {
            // Nothing live lies before it; rows that were deleted do, and are not worth looking at.
            let from = known.summary.next_expiry_unix_ms;
            let from = from.map(|time| RowKey::Expiry(time, 0));
            let page = self
                .scan(RowKey::EXPIRY_PREFIX, from, EXPIRY_ROWS_MAX)
                .await?;
            let pairs = page
                .rows
                .iter()
                .map(|(key, value)| (key.as_ref(), value.as_ref()));
            rows.insert_expiring(pairs, page.complete)
                .map_err(|broken| self.broken(broken))?;
            self.read_expiring(&mut rows, clock_unix_ms).await?;
        }
        if rows.wants_ended(clock_unix_ms) {
            let from = known.summary.next_prune_unix_ms;
            let from = from.map(|time| RowKey::Ended(time, FIRST_ID));
            let page = self.scan(RowKey::ENDED_PREFIX, from, PRUNE_MAX + 1).await?;
            let keys = page.rows.iter().map(|(key, _)| key.as_ref());
            rows.insert_ended(keys, page.complete)
                .map_err(|broken| self.broken(broken))?;
        }
        if rows.wants_oldest() {
            self.read_oldest(&mut rows).await?;
        }
        Ok(rows)
    }

    /// Reads the holds that the sweep looks through. Those that a command names are known, or guessed with a condition.
    async fn read_expiring(&self, rows: &mut StockRows, clock_unix_ms: u64) -> Result<(), Setback> {
        let mut keys = rows.wants_holds(clock_unix_ms);
        keys.retain(|key| !self.rows.contains_key(key));
        if keys.is_empty() {
            return Ok(());
        }
        let asked: Vec<_> = keys.iter().map(|key| (self.stock, *key)).collect();
        let read = self.shared.bucket.get(&asked, self.time_left()).await;
        for (key, row) in keys.iter().zip(read) {
            let row = row.map_err(|source| self.unreachable(source))?;
            let value = row.as_ref().map(|row| row.value.data.as_ref());
            rows.insert(*key, value)
                .map_err(|broken| self.broken(broken))?;
        }
        Ok(())
    }

    /// Reads the ledger pages that may be torn out, and what those before them add up to.
    async fn read_oldest(&self, rows: &mut StockRows) -> Result<(), Setback> {
        let asked = [(self.stock, RowKey::Checkpoint)];
        let read = self.shared.bucket.get(&asked, self.time_left()).await;
        let checkpoint = read.into_iter().next().ok_or_else(|| {
            self.broken(RowError::NotRead {
                key: RowKey::Checkpoint,
            })
        })?;
        let checkpoint = checkpoint.map_err(|source| self.unreachable(source))?;
        let from = Some(RowKey::Ledger(rows.summary().ledger_first));
        let page = self.scan(RowKey::LEDGER_PREFIX, from, SHORTEN_MAX).await?;
        let pairs = page
            .rows
            .iter()
            .map(|(key, value)| (key.as_ref(), value.as_ref()));
        let checkpoint = checkpoint.as_ref().map(|row| row.value.data.as_ref());
        match rows.insert_oldest(checkpoint, pairs) {
            // Somebody else tears pages out at this moment; this write is going to be refused, or can do without.
            Err(RowError::Contradiction { .. }) => Ok(()),
            read => read.map_err(|broken| self.broken(broken)),
        }
    }

    async fn scan(
        &self,
        prefix: &str,
        from: Option<RowKey>,
        limit: usize,
    ) -> Result<super::RowPage, Setback> {
        let page = self
            .shared
            .bucket
            .scan(self.stock, prefix, from, limit, self.time_left())
            .await;
        page.map_err(|source| self.unreachable(source))
    }

    async fn write(
        &mut self,
        known: &KnownSummary,
        planned: StockPlan,
    ) -> Result<Vec<Result<StockAnswer, StockError>>, Setback> {
        let (keys, operations) = self.operations(known, &planned.changes);
        match self
            .shared
            .bucket
            .transact(self.stock, operations, self.time_left())
            .await
        {
            Ok(TransactOutcome::Applied { versions }) => {
                (self.doubt, self.may_be_done) = (None, false);
                self.shared.splits.learn(self.stock, &planned.summary);
                self.rows.clear();
                self.is_fresh = false;
                let version = versions.into_iter().next().flatten();
                // An answer without the version is of no use for the next condition; then read it.
                self.summary = version.map(|version| KnownSummary {
                    summary: planned.summary,
                    version: Some(version),
                });
                Ok(planned.answers)
            }
            Ok(TransactOutcome::NotApplied { failed }) => {
                self.is_fresh = false;
                let known: Option<Vec<_>> = failed
                    .into_iter()
                    .map(|row| Some((*keys.get(row.operation)?, row.current)))
                    .collect();
                self.learn(known.unwrap_or_default())?;
                Err(Setback::Again)
            }
            Err(failure) if failure.outcome() == Outcome::NotApplied => {
                Err(self.unreachable(failure))
            }
            Err(failure) => {
                tracing::debug!(stock = %self.stock, error = &failure as &dyn std::error::Error, "write in doubt");
                self.doubt = Some(known.version.clone());
                self.may_be_done = true;
                self.forget();
                Err(Setback::Again)
            }
        }
    }

    /// The operations of a write, the summary first, and the rows that they belong to.
    fn operations(
        &self,
        known: &KnownSummary,
        changes: &RowChanges,
    ) -> (Vec<RowKey>, Vec<RowOperation>) {
        let condition = |key: &RowKey| match key {
            RowKey::Summary => expected(known.version.as_ref()),
            key => match self.rows.get(key) {
                Some(KnownRow::Read(row)) => expected(row.as_ref().map(|row| &row.version)),
                Some(KnownRow::Guessed) => Condition::Missing,
                // The summary's version speaks for these; the ledger is worth a second lock.
                None if !matches!(key, RowKey::Ledger(_)) => Condition::Any,
                None if changes.deletes.contains(key) => Condition::Present,
                None => Condition::Missing,
            },
        };
        let unchanged =
            |key: &&RowKey| !changes.puts.contains_key(key) && !changes.deletes.contains(key);
        let put = |(key, row): (&RowKey, &Row)| {
            let value = Value::new(STOCK_CONTENT_TYPE, row.to_bytes());
            (
                *key,
                RowOperation::put(key.to_bytes(), condition(key), value),
            )
        };
        let puts = changes.puts.iter().map(put);
        let deletes = changes
            .deletes
            .iter()
            .map(|key| (*key, RowOperation::delete(key.to_bytes(), condition(key))));
        let checks = self.rows.keys().filter(unchanged);
        let checks = checks.map(|key| (*key, RowOperation::check(key.to_bytes(), condition(key))));
        // Every change puts the summary, and its key is the smallest, so it comes first.
        puts.chain(deletes).chain(checks).unzip()
    }

    /// Takes in the rows that made a write fail. With nothing to learn from, everything is read again.
    fn learn(&mut self, rows: Vec<(RowKey, Option<Versioned>)>) -> Result<(), Setback> {
        let mut is_useful = false;
        for (key, current) in rows {
            if key == RowKey::Summary {
                let known = self.known_summary(current)?;
                if self
                    .doubt
                    .as_ref()
                    .is_some_and(|asked| *asked != known.version)
                {
                    self.doubt = None;
                }
                self.summary = Some(known);
                is_useful = true;
            } else if let Some(row) = self.rows.get_mut(&key) {
                *row = KnownRow::Read(current);
                is_useful = true;
            }
        }
        if !is_useful {
            self.forget();
        }
        Ok(())
    }

    /// Trusts nothing any more: the next round reads everything, the summary first and no row older than it.
    fn forget(&mut self) {
        self.summary = None;
        self.rows.clear();
        self.is_fresh = false;
        self.is_careful = true;
    }

    fn known_summary(&self, row: Option<Versioned>) -> Result<KnownSummary, Setback> {
        let Some(row) = row else {
            return Ok(KnownSummary {
                summary: Summary::default(),
                version: None,
            });
        };
        let summary = Summary::from_bytes(&row.value.data).map_err(|broken| self.broken(broken))?;
        self.shared.splits.learn(self.stock, &summary);
        Ok(KnownSummary {
            summary,
            version: Some(row.version),
        })
    }

    /// Waits before another round: not at all after the first setback, then for a random while that grows.
    async fn pause(&self, rounds: u32) {
        if rounds > 1 {
            let longest = PAUSE_MAX_MS.min(1 << rounds.min(16));
            let pause_ms = self.shared.chance.lock().random_range(0..=longest);
            sleep(Duration::from_millis(pause_ms)).await;
        }
    }

    fn time_left(&self) -> Duration {
        // A deadline that has passed still needs a positive timeout; the request then fails by itself.
        self.deadline
            .saturating_duration_since(Instant::now())
            .clamp(
                Duration::from_millis(1),
                self.shared.options.request_timeout,
            )
    }

    fn outcome_without_answer(&self, outcome: Outcome) -> Outcome {
        if self.may_be_done {
            Outcome::Unknown
        } else {
            outcome
        }
    }

    fn unreachable(&self, source: RequestError) -> Setback {
        let outcome = self.outcome_without_answer(source.outcome());
        Setback::Fail(Box::new(StockStoreError::Request {
            stock: self.stock.clone(),
            outcome,
            source,
        }))
    }

    fn broken(&self, broken: RowError) -> Setback {
        let outcome = self.outcome_without_answer(Outcome::NotApplied);
        Setback::Fail(Box::new(StockStoreError::Rows {
            stock: self.stock.clone(),
            outcome,
            source: Arc::new(broken),
        }))
    }
}

/// Hands out the answers; what lacks units only because expired holds wait for their release stays for another round.
fn deliver(batch: Vec<Waiting>, answers: Vec<Result<StockAnswer, StockError>>) -> Vec<Waiting> {
    let mut left = Vec::new();
    for (waiting, answer) in batch.into_iter().zip(answers) {
        match answer {
            Err(StockError::Insufficient {
                more_expired: true, ..
            }) => left.push(waiting),
            answer => waiting.tell(answer.map_err(StockStoreError::from)),
        }
    }
    left
}

/// Whether a command normally comes with a new id, so that its row is not worth a read.
fn makes_its_row(command: &StockCommand) -> bool {
    match command {
        StockCommand::Receive { .. }
        | StockCommand::Reserve { .. }
        | StockCommand::Return { .. }
        | StockCommand::Damage { .. }
        | StockCommand::Discard { .. }
        | StockCommand::Adjust { .. }
        | StockCommand::TransferOut { .. }
        | StockCommand::TransferIn { .. } => true,
        StockCommand::Confirm { .. }
        | StockCommand::Release { .. }
        | StockCommand::Cancel { .. }
        | StockCommand::Ship { .. }
        | StockCommand::Inspect { .. }
        | StockCommand::TransferArrived { .. }
        | StockCommand::PassOn { .. }
        | StockCommand::Split { .. }
        | StockCommand::ClearOutbox { .. }
        | StockCommand::Sweep => false,
    }
}

fn expected(version: Option<&Version>) -> Condition {
    version.map_or(Condition::Missing, |version| {
        Condition::Version(version.clone())
    })
}
