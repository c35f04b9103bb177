//! Load, scans, overwriting, and what a store weighs after that.

use souk_kv_storage::{Keyspace, Scan, Store};

use crate::clock::Clock;
use crate::report::{Phase, Report, Weight, resident_bytes};
use crate::restart::timed_open;
use crate::rows::{load, random_rows, row_key};
use crate::{Outcome, Subject};

const SCAN_ROWS: usize = 100;
const SCANS: u64 = 2_000;

pub(crate) async fn measure(subject: &Subject, report: &mut Report) -> Outcome<()> {
    let options = subject.options("stores");
    let store = Store::open(options.clone())?;
    let mut phase = |name, clock: &Clock, operations| {
        let seconds = clock.elapsed().as_secs_f64();
        let phase = Phase::new(
            &subject.engine,
            subject,
            name,
            operations,
            seconds,
            clock.cpu(),
        );
        report.phases.push(phase);
    };
    let clock = Clock::start();
    load(&store, subject.rows, subject.value_bytes).await?;
    phase("load", &clock, subject.rows);
    let clock = Clock::start();
    for row in random_rows(subject.rows).take(SCANS as usize) {
        let scan = Scan::range(Keyspace::Records, row_key(row)..).limit(SCAN_ROWS);
        store.scan(&scan)?;
    }
    phase("scans of 100", &clock, SCANS);
    let clock = Clock::start();
    for _ in 0..3 {
        load(&store, subject.rows, subject.value_bytes).await?;
    }
    phase("overwrite three times", &clock, 3 * subject.rows);
    let memory_bytes = resident_bytes()?;
    store.close().await?;
    let (store, restart) = timed_open(options)?;
    let disk_bytes = store.stats()?.engine.disk_bytes;
    store.close().await?;
    report.weights.push(Weight {
        engine: subject.engine.clone(),
        value_bytes: subject.value_bytes,
        rows: subject.rows,
        disk_bytes,
        journal_peak_bytes: None,
        memory_bytes,
        restart,
        restart_sudden: None,
    });
    Ok(())
}
