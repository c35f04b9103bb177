//! Point reads through the store in turns with reads by the engine alone, of equal copies.

use std::hint::black_box;
use std::time::Duration;

use souk_kv_storage::{EngineKind, Keyspace, Store, StoreOptions};

use crate::clock::{Clock, thread_cpu};
use crate::report::{Phase, Report};
use crate::rows::{load, random_rows, row_key};
use crate::{Outcome, Subject, copy_directory};

const TURN_READS: usize = 2_000;

/// Reads one key by the engine alone; `false` if it is missing.
type RawGet = Box<dyn Fn(&[u8]) -> Outcome<bool>>;

pub(crate) fn measure(
    runtime: &tokio::runtime::Runtime,
    subject: &Subject,
    report: &mut Report,
) -> Outcome<()> {
    if subject.kind == EngineKind::Memory {
        return Ok(());
    }
    let options = subject.options("reads");
    runtime.block_on(async {
        let store = Store::open(options.clone())?;
        load(&store, subject.rows, subject.value_bytes).await?;
        load(&store, subject.rows, subject.value_bytes).await?;
        store.close().await?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    })?;
    copy_directory(&subject.folder.join("reads"), &subject.folder.join("raw"))?;
    let store = Store::open(options.clone())?;
    let raw = raw(subject, &options)?;
    let keys: Vec<_> = random_rows(subject.rows).map(row_key).collect();
    let clock = Clock::start();
    let (mut raw_cpu, mut store_cpu) = (Duration::ZERO, Duration::ZERO);
    let mut ratios = Vec::new();
    for (turn, keys) in keys.chunks(TURN_READS).enumerate() {
        let raw_turn = || {
            let before = thread_cpu();
            for key in keys {
                raw(key)?.then_some(()).ok_or("a loaded row is missing")?;
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(thread_cpu() - before)
        };
        let store_turn = || {
            let before = thread_cpu();
            for key in keys {
                let value = store.get(Keyspace::Records, key)?;
                black_box(value.ok_or("a loaded row is missing")?);
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(thread_cpu() - before)
        };
        // Whoever goes second finds the keys in the processor's cache, so they take turns at that.
        let (own, bare) = if turn % 2 == 0 {
            let bare = raw_turn()?;
            (store_turn()?, bare)
        } else {
            let own = store_turn()?;
            (own, raw_turn()?)
        };
        raw_cpu += bare;
        store_cpu += own;
        ratios.push(own.as_secs_f64() / bare.as_secs_f64());
    }
    let seconds = clock.elapsed().as_secs_f64();
    let share = |cpu: Duration| seconds * cpu.as_secs_f64() / (raw_cpu + store_cpu).as_secs_f64();
    let engine = &subject.engine;
    let rows = subject.rows;
    for (name, cpu) in [("point reads", store_cpu), ("raw point reads", raw_cpu)] {
        report
            .phases
            .push(Phase::new(engine, subject, name, rows, share(cpu), cpu));
    }
    report.add_spread(subject, "point reads / raw, CPU", ratios);
    runtime.block_on(store.close())?;
    Ok(())
}

fn raw(subject: &Subject, options: &StoreOptions) -> Outcome<RawGet> {
    let cache_bytes = options.bounds.cache_bytes;
    let path = subject.folder.join("raw").join(subject.kind.name());
    if subject.kind == EngineKind::Sled {
        let database = sled::Config::new()
            .path(&path)
            .cache_capacity(cache_bytes)
            .open()?;
        return Ok(Box::new(move |key| {
            let key = [&[Keyspace::Records.tag()][..], key].concat();
            Ok(black_box(database.get(key)?).is_some())
        }));
    }
    let database = fjall::Database::builder(&path)
        .cache_size(cache_bytes)
        .open()?;
    let tree = database.keyspace("records", fjall::KeyspaceCreateOptions::default)?;
    Ok(Box::new(move |key| {
        // Held, so that the database lives as long as its reader.
        let _database = &database;
        Ok(black_box(tree.get(key)?).is_some())
    }))
}
