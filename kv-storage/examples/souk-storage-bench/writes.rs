//! Durable writes of many writers, in turns with the bare loops; and the latency of a lone one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use souk_kv_storage::{EngineKind, Keyspace, Store, WriteBatch};

use crate::bare::BareLog;
use crate::clock::Clock;
use crate::report::{Phase, Report, median};
use crate::rows::{load, row_key, value};
use crate::{Outcome, Subject};

const WRITERS: u64 = 64;
const LONE_WRITES: usize = 2_000;

/// One participant's rounds.
#[derive(Default)]
struct Rounds {
    rates: Vec<f64>,
    operations: u64,
    seconds: f64,
    cpu: Duration,
}

impl Rounds {
    fn add(&mut self, clock: &Clock, operations: u64) {
        let seconds = clock.elapsed().as_secs_f64();
        self.rates.push(operations as f64 / seconds);
        self.operations += operations;
        self.seconds += seconds;
        self.cpu += clock.cpu();
    }

    fn phase(&self, subject: &Subject, who: &str) -> Phase {
        Phase::new(
            who,
            subject,
            "durable writes",
            self.operations,
            self.seconds,
            self.cpu,
        )
    }
}

pub(crate) async fn measure(
    subject: &Subject,
    seconds: u64,
    rounds: u32,
    report: &mut Report,
) -> Outcome<()> {
    let store = Store::open(subject.options("writes"))?;
    load(&store, subject.rows, subject.value_bytes).await?;
    let time = Duration::from_secs(seconds) / rounds;
    let log = |in_place| BareLog::create(&subject.folder, subject.value_bytes, WRITERS, in_place);
    let (mut growing, mut in_place) = (log(false)?, log(true)?);
    let [mut bare, mut bare_in_place, mut own] = [(); 3].map(|()| Rounds::default());
    let groups_before = groups(&store)?;
    for round in 0..rounds {
        let clock = Clock::start();
        bare.add(&clock, growing.run(time)?);
        let clock = Clock::start();
        bare_in_place.add(&clock, in_place.run(time)?);
        let clock = Clock::start();
        own.add(&clock, write_for(&store, subject, time, round).await?);
    }
    let groups = groups(&store)? - groups_before;
    eprintln!(
        "{} {}: {:.1} writes a group, {:.0} groups/s",
        subject.engine,
        subject.value_bytes,
        own.operations as f64 / groups.max(1) as f64,
        groups as f64 / own.seconds,
    );
    report.phases.push(bare.phase(subject, "bare growing"));
    report
        .phases
        .push(bare_in_place.phase(subject, "bare in place"));
    report.phases.push(own.phase(subject, &subject.engine));
    for (name, taken) in [
        ("rounds of bare growing, writes/s", &bare),
        ("rounds of bare in place, writes/s", &bare_in_place),
        ("rounds of the store, writes/s", &own),
    ] {
        report.add_spread(subject, name, taken.rates.iter().copied());
    }
    if subject.kind != EngineKind::Memory
        && median(own.rates) > 1.1 * median(bare.rates).max(median(bare_in_place.rates))
    {
        report.disturbed(subject);
    }
    lone_writer(&store, subject, report).await?;
    store.close().await?;
    Ok(())
}

/// Writes with [`WRITERS`] tasks for `time`; returns how many writes were acknowledged.
async fn write_for(store: &Store, subject: &Subject, time: Duration, round: u32) -> Outcome<u64> {
    let end = Instant::now() + time;
    let operations = Arc::new(AtomicU64::new(0));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (store, operations) = (store.clone(), Arc::clone(&operations));
        let (rows, value_bytes) = (subject.rows, subject.value_bytes);
        writers.spawn(async move {
            let mut random = SmallRng::seed_from_u64(u64::from(round) << 32 | writer);
            while Instant::now() < end {
                let row = random.random_range(0..rows);
                let mut batch = WriteBatch::new();
                batch.put(Keyspace::Records, row_key(row), value(row, value_bytes));
                store.commit(batch).await?;
                operations.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, souk_kv_storage::StorageError>(())
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended??;
    }
    Ok(operations.load(Ordering::Relaxed))
}

/// What one writer alone waits for each write.
async fn lone_writer(store: &Store, subject: &Subject, report: &mut Report) -> Outcome<()> {
    let clock = Clock::start();
    let mut waits = Vec::with_capacity(LONE_WRITES);
    for row in 0..LONE_WRITES as u64 {
        let mut batch = WriteBatch::new();
        batch.put(
            Keyspace::Records,
            row_key(row),
            value(row, subject.value_bytes),
        );
        let started = Instant::now();
        store.commit(batch).await?;
        waits.push(started.elapsed().as_secs_f64() * 1e6);
    }
    let seconds = clock.elapsed().as_secs_f64();
    let writes = LONE_WRITES as u64;
    let phase = Phase::new(
        &subject.engine,
        subject,
        "lone writer",
        writes,
        seconds,
        clock.cpu(),
    );
    report.phases.push(phase);
    report.add_spread(subject, "lone write, µs", waits);
    Ok(())
}

/// Groups committed so far, by the store's own count. Each is one sync.
fn groups(store: &Store) -> Outcome<u64> {
    let number = store
        .get(Keyspace::Store, b"last_group")?
        .unwrap_or_default();
    Ok(number.as_ref().try_into().map_or(0, u64::from_be_bytes))
}
