//! Measures the engines behind the store, beside a bare append-and-fdatasync loop as the limit.
//!
//! ```text
//! cargo run --release -p souk-kv-storage --example souk-storage-bench -- --value-bytes 256
//! cargo run --release -p souk-kv-storage --example souk-storage-bench -- restart --rows 4000000
//! ```
//!
//! What is compared is measured in turns, round by round, so that a change of the machine's mood
//! meets both sides: the bare loop and the durable writes of an engine; raw reads and reads
//! through the store, of equal copies of one state. Processor time is of the whole process,
//! background threads included; of reads, of the reading thread.
//!
//! Rates need a quiet machine: a sync takes a fraction of a millisecond, and a thread that has to
//! wait for a processor behind others takes several. Where there is none, many short rounds help:
//! disturbance only ever adds time, so the best tenth of the rounds, p90 of their rates, is nearest
//! to what a quiet machine shows. Real-time priority is no way out: engines spin on their locks, and
//! a spinning real-time thread keeps the one it waits for from running. An engine syncs once for at
//! most as many writes as there are writers, just as the bare loop does, so an engine that comes out
//! ahead of it was measured under other conditions; such a run says that it was disturbed.

mod bare;
mod clock;
mod own_log;
mod reads;
mod report;
mod restart;
mod rows;
mod stores;
mod writes;

use std::error::Error;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use souk_kv_storage::{EngineKind, StoreOptions};

use crate::report::Report;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Measures storage engines.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: Option<What>,
    /// Engines to measure; fjall and sled if none is named.
    #[arg(long, global = true, value_parser = ["fjall", "sled", "memory"])]
    engine: Vec<String>,
    /// Bytes of a value; both usual sizes if none is named.
    #[arg(long, global = true)]
    value_bytes: Vec<usize>,
    /// Rows that are loaded.
    #[arg(long, global = true, default_value_t = 100_000)]
    rows: u64,
    /// Seconds of durable writes, for each engine and for each bare loop.
    #[arg(long, global = true, default_value_t = 5)]
    seconds: u64,
    /// Turns in which these seconds are taken.
    #[arg(long, global = true, default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Where to write; a temporary directory in it is used and removed.
    #[arg(long, global = true, default_value = ".")]
    folder: PathBuf,
    /// Print JSON instead of tables.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand, Clone, Copy, PartialEq, Eq)]
enum What {
    /// Every phase; the same as naming none.
    All,
    /// Durable writes only, beside the bare loops.
    Writes,
    /// Point reads only, beside the raw engine.
    Reads,
    /// Groups of writes made durable by the engine, and by a prototype of a log of our own.
    OwnLog,
    /// Load, then the time to open again, after an orderly close and after a sudden end.
    Restart,
}

fn main() -> Outcome<()> {
    let arguments = Arguments::parse();
    let or = |given: &[String], usual: &[&str]| -> Vec<String> {
        match given {
            [] => usual.iter().map(|name| (*name).to_owned()).collect(),
            given => given.to_vec(),
        }
    };
    let engines = or(&arguments.engine, &["fjall", "sled"]);
    let sizes = match &arguments.value_bytes[..] {
        [] => vec![256, 1024],
        sizes => sizes.to_vec(),
    };
    let what = arguments.what.unwrap_or(What::All);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let mut report = Report::default();
    for &value_bytes in &sizes {
        for engine in &engines {
            let folder = tempfile::tempdir_in(&arguments.folder)?;
            let subject = Subject {
                engine: engine.clone(),
                kind: engine.parse()?,
                value_bytes,
                rows: arguments.rows,
                folder: folder.path().to_owned(),
            };
            if matches!(what, What::All | What::Writes) {
                let (seconds, rounds) = (arguments.seconds, arguments.rounds);
                runtime.block_on(writes::measure(&subject, seconds, rounds, &mut report))?;
            }
            if what == What::All {
                runtime.block_on(stores::measure(&subject, &mut report))?;
            }
            if matches!(what, What::All | What::Reads) {
                reads::measure(&runtime, &subject, &mut report)?;
            }
            if what == What::OwnLog {
                let (seconds, rounds) = (arguments.seconds, arguments.rounds);
                own_log::measure(&subject, seconds, rounds, &mut report)?;
            }
            if what == What::Restart {
                restart::measure(&runtime, &subject, &mut report)?;
            }
        }
    }
    report.print(arguments.json);
    Ok(())
}

/// What is measured: one engine with one size of values, each phase in a folder of its own.
struct Subject {
    engine: String,
    kind: EngineKind,
    value_bytes: usize,
    rows: u64,
    folder: PathBuf,
}

impl Subject {
    fn options(&self, name: &str) -> StoreOptions {
        match self.kind {
            EngineKind::Memory => StoreOptions::memory(souk_kv_storage::MemoryDisk::new()),
            EngineKind::Fjall | EngineKind::Sled => {
                StoreOptions::directory(self.folder.join(name), self.kind)
            }
        }
    }
}

/// Copies a directory with everything below it.
fn copy_directory(from: &Path, to: &Path) -> Outcome<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy_directory(&source, &target)?;
        } else {
            std::fs::copy(&source, &target)?;
        }
    }
    Ok(())
}
