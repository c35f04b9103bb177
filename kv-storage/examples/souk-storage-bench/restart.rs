//! The time to open again: after an orderly close, and on files as a sudden end leaves them.

use std::time::{Duration, Instant};

use souk_kv_storage::{EngineKind, Recovery, Store, StoreOptions};

use crate::clock::Clock;
use crate::report::{Opening, Report, Weight, resident_bytes};
use crate::rows::load;
use crate::{Outcome, Subject, copy_directory};

/// How often the journals are looked at.
const GLANCE: Duration = Duration::from_millis(20);
/// Time that the engine's background work is given to come to rest before its files are copied.
const REST: Duration = Duration::from_secs(60);

pub(crate) fn measure(
    runtime: &tokio::runtime::Runtime,
    subject: &Subject,
    report: &mut Report,
) -> Outcome<()> {
    if subject.kind == EngineKind::Memory {
        return Ok(());
    }
    let options = subject.options("orderly");
    let store = Store::open(options.clone())?;
    let watched = runtime.block_on(watch_journal(&store, subject));
    let journal_peak_bytes = watched?;
    let started = Instant::now();
    while store.stats()?.engine.backlog_count > 0 && started.elapsed() < REST {
        std::thread::sleep(Duration::from_millis(100));
    }
    // Files that stand still while the process runs are what its sudden end leaves behind.
    copy_directory(
        &subject.folder.join("orderly"),
        &subject.folder.join("sudden"),
    )?;
    runtime.block_on(store.close())?;
    drop(store);

    let (store, restart_sudden) = timed_open(subject.options("sudden"))?;
    if store.recovery() != &Recovery::Unclean {
        return Err(format!("{:?} after a sudden end", store.recovery()).into());
    }
    runtime.block_on(store.close())?;
    drop(store);
    let (store, restart) = timed_open(options)?;
    let disk_bytes = store.stats()?.engine.disk_bytes;
    report.weights.push(Weight {
        engine: subject.engine.clone(),
        value_bytes: subject.value_bytes,
        rows: subject.rows,
        disk_bytes,
        journal_peak_bytes: Some(journal_peak_bytes),
        memory_bytes: resident_bytes()?,
        restart,
        restart_sudden: Some(restart_sudden),
    });
    runtime.block_on(store.close())?;
    Ok(())
}

/// Loads every row; says how long the journals were at most, seen every few milliseconds.
async fn watch_journal(store: &Store, subject: &Subject) -> Outcome<u64> {
    let mut loaded = std::pin::pin!(load(store, subject.rows, subject.value_bytes));
    let mut peak = 0;
    loop {
        match tokio::time::timeout(GLANCE, &mut loaded).await {
            Ok(loaded) => return loaded.map(|()| peak),
            Err(_) => peak = peak.max(store.stats()?.engine.journal_bytes),
        }
    }
}

/// Opens a store and says what that took.
pub(crate) fn timed_open(options: StoreOptions) -> Outcome<(Store, Opening)> {
    let clock = Clock::start();
    let store = Store::open(options)?;
    let opening = Opening {
        ms: clock.elapsed().as_secs_f64() * 1e3,
        cpu_ms: clock.cpu().as_secs_f64() * 1e3,
    };
    Ok((store, opening))
}
