//! Measures the engines behind the store, beside a bare append-and-fdatasync loop as the limit.
//!
//! `cargo run --release -p souk-kv-storage --example souk-storage-bench -- --value-bytes 256`
//!
//! One row of the table per phase and engine. Processor time is of the whole process, background
//! threads included. Needs a quiet machine: a sync takes a fraction of a millisecond, and a thread
//! that has to wait for a processor behind others takes several. An engine syncs once for at most
//! as many writes as there are writers, just as the bare loop does, so an engine that comes out
//! ahead of it was measured under other conditions; such a run says that it was disturbed.

use std::error::Error;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use souk_kv_storage::{EngineKind, Keyspace, Scan, Store, StoreOptions, WriteBatch};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const WRITERS: u64 = 64;
const LOAD_BATCH: u64 = 500;
const SCAN_ROWS: usize = 100;
const SCANS: u64 = 2_000;

/// Measures storage engines.
#[derive(Parser)]
struct Arguments {
    /// Engines to measure; all if none is named.
    #[arg(long, value_parser = ["fjall", "sled", "memory"])]
    engine: Vec<String>,
    /// Bytes of a value; both usual sizes if none is named.
    #[arg(long)]
    value_bytes: Vec<usize>,
    /// Rows that are loaded.
    #[arg(long, default_value_t = 100_000)]
    rows: u64,
    /// Seconds of durable writes, for each engine and for the bare loop.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Where to write; a temporary directory in it is used and removed.
    #[arg(long, default_value = ".")]
    folder: PathBuf,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// One measured phase.
struct Phase {
    engine: String,
    value_bytes: usize,
    name: &'static str,
    operations: u64,
    seconds: f64,
    cpu_us_per_operation: f64,
}

impl Phase {
    fn rate(&self) -> f64 {
        self.operations as f64 / self.seconds
    }
}

/// What a store weighs after all phases.
struct Weight {
    engine: String,
    value_bytes: usize,
    disk_bytes: u64,
    memory_bytes: u64,
    restart_ms: f64,
}

fn main() -> Outcome<()> {
    let arguments = Arguments::parse();
    let names = if arguments.engine.is_empty() {
        vec!["fjall".to_owned(), "sled".to_owned()]
    } else {
        arguments.engine.clone()
    };
    let sizes = if arguments.value_bytes.is_empty() {
        vec![256, 1024]
    } else {
        arguments.value_bytes.clone()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let mut phases = Vec::new();
    let mut weights = Vec::new();
    for &value_bytes in &sizes {
        let folder = tempfile::tempdir_in(&arguments.folder)?;
        for in_place in [false, true] {
            phases.push(bare_log(
                folder.path(),
                value_bytes,
                arguments.seconds,
                in_place,
            )?);
        }
        for name in &names {
            let mut bench = Bench {
                options: options(name, folder.path())?,
                engine: name.clone(),
                value_bytes,
                rows: arguments.rows,
                phases: Vec::new(),
            };
            weights.push(runtime.block_on(bench.run(arguments.seconds))?);
            raw_reads(&mut bench)?;
            phases.append(&mut bench.phases);
        }
    }
    let disturbed = disturbed(&phases);
    for engine in &disturbed {
        eprintln!(
            "DISTURBED: {engine} wrote faster than the bare loop, which no engine can; the rates \
             of this run do not rank engines, repeat it on a quiet machine"
        );
    }
    if arguments.json {
        print_json(&phases, &weights, &disturbed)
    } else {
        print_table(&phases, &weights)
    }
    Ok(())
}

fn options(engine: &str, folder: &Path) -> Outcome<StoreOptions> {
    let kind: EngineKind = engine.parse()?;
    Ok(match kind {
        EngineKind::Memory => StoreOptions::memory(souk_kv_storage::MemoryDisk::new()),
        EngineKind::Fjall | EngineKind::Sled => StoreOptions::directory(folder.join(engine), kind),
    })
}

/// The limits: as many records as there are writers, one write, one sync, again and again; once
/// at the end of a growing file, once over blocks that the file has already, which spares the
/// file system its own journal.
fn bare_log(folder: &Path, value_bytes: usize, seconds: u64, in_place: bool) -> Outcome<Phase> {
    const PREPARED_BYTES: usize = 64 << 20;
    let mut file = File::create(folder.join("bare.log"))?;
    let group = vec![7; WRITERS as usize * (value_bytes + 24)];
    let mut room = usize::MAX;
    if in_place {
        file.write_all(&vec![0; PREPARED_BYTES])?;
        file.sync_all()?;
        room = 0;
    }
    let clock = Clock::start();
    let mut operations = 0;
    while clock.elapsed() < Duration::from_secs(seconds) {
        if in_place && room < group.len() {
            file.seek(SeekFrom::Start(0))?;
            room = PREPARED_BYTES;
        }
        file.write_all(&group)?;
        file.sync_data()?;
        room -= group.len();
        operations += WRITERS;
    }
    let name = if in_place {
        "bare log in place"
    } else {
        "bare log growing"
    };
    Ok(clock.phase(name, value_bytes, "durable writes", operations))
}

struct Bench {
    options: StoreOptions,
    engine: String,
    value_bytes: usize,
    rows: u64,
    phases: Vec<Phase>,
}

impl Bench {
    async fn run(&mut self, seconds: u64) -> Outcome<Weight> {
        let store = Store::open(self.options.clone())?;
        self.load(&store, "load").await?;
        self.durable_writes(&store, seconds).await?;
        self.point_reads(&store)?;
        self.scans(&store)?;
        for _ in 0..3 {
            self.load(&store, "overwrite").await?;
        }
        let memory_bytes = resident_bytes()?;
        store.close().await?;
        let started = Instant::now();
        let store = Store::open(self.options.clone())?;
        let restart_ms = started.elapsed().as_secs_f64() * 1e3;
        let disk_bytes = store.stats()?.engine.disk_bytes;
        store.close().await?;
        Ok(Weight {
            engine: self.engine.clone(),
            value_bytes: self.value_bytes,
            disk_bytes,
            memory_bytes,
            restart_ms,
        })
    }

    async fn load(&mut self, store: &Store, name: &'static str) -> Outcome<()> {
        let clock = Clock::start();
        for first in (0..self.rows).step_by(LOAD_BATCH as usize) {
            let mut batch = WriteBatch::new();
            for row in first..(first + LOAD_BATCH).min(self.rows) {
                batch.put(
                    Keyspace::Records,
                    row_key(row),
                    value(row, self.value_bytes),
                );
            }
            store.commit(batch).await?;
        }
        self.phases
            .push(clock.phase(&self.engine, self.value_bytes, name, self.rows));
        Ok(())
    }

    async fn durable_writes(&mut self, store: &Store, seconds: u64) -> Outcome<()> {
        let groups_before = groups(store)?;
        let clock = Clock::start();
        let end = Instant::now() + Duration::from_secs(seconds);
        let operations = Arc::new(AtomicU64::new(0));
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            let (store, operations) = (store.clone(), Arc::clone(&operations));
            let (rows, value_bytes) = (self.rows, self.value_bytes);
            writers.spawn(async move {
                let mut random = SmallRng::seed_from_u64(writer);
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
        let done = operations.load(Ordering::Relaxed);
        let groups = groups(store)? - groups_before;
        let seconds = clock.elapsed().as_secs_f64();
        eprintln!(
            "{}: {done} writes in {groups} groups: {:.1} a group, {:.0} groups/s",
            self.engine,
            done as f64 / groups.max(1) as f64,
            groups as f64 / seconds,
        );
        self.phases
            .push(clock.phase(&self.engine, self.value_bytes, "durable writes", done));
        Ok(())
    }

    fn point_reads(&mut self, store: &Store) -> Outcome<()> {
        let clock = Clock::start();
        for row in random_rows(self.rows) {
            store
                .get(Keyspace::Records, &row_key(row))?
                .ok_or("a loaded row is missing")?;
        }
        self.phases
            .push(clock.phase(&self.engine, self.value_bytes, "point reads", self.rows));
        Ok(())
    }

    fn scans(&mut self, store: &Store) -> Outcome<()> {
        let clock = Clock::start();
        for row in random_rows(self.rows).take(SCANS as usize) {
            let scan = Scan::range(Keyspace::Records, row_key(row)..).limit(SCAN_ROWS);
            store.scan(&scan)?;
        }
        self.phases
            .push(clock.phase(&self.engine, self.value_bytes, "scans of 100", SCANS));
        Ok(())
    }
}

/// Point reads of the same files by the engine alone, to see what the store adds.
fn raw_reads(bench: &mut Bench) -> Outcome<()> {
    let souk_kv_storage::Place::Directory { path, engine } = &bench.options.place else {
        return Ok(());
    };
    let cache_bytes = bench.options.bounds.cache_bytes;
    let path = path.join(engine.name());
    let clock;
    match engine {
        EngineKind::Fjall => {
            let database = fjall::Database::builder(&path)
                .cache_size(cache_bytes)
                .open()?;
            let tree = database.keyspace("records", fjall::KeyspaceCreateOptions::default)?;
            clock = Clock::start();
            for row in random_rows(bench.rows) {
                tree.get(row_key(row))?.ok_or("a loaded row is missing")?;
            }
        }
        EngineKind::Sled => {
            let database = sled::Config::new()
                .path(&path)
                .cache_capacity(cache_bytes)
                .open()?;
            clock = Clock::start();
            for row in random_rows(bench.rows) {
                let key = [&[Keyspace::Records.tag()][..], &row_key(row)].concat();
                database.get(key)?.ok_or("a loaded row is missing")?;
            }
        }
        EngineKind::Memory => return Ok(()),
    }
    bench.phases.push(clock.phase(
        &bench.engine,
        bench.value_bytes,
        "raw point reads",
        bench.rows,
    ));
    Ok(())
}

/// Groups committed so far, by the store's own count. Each is one sync.
fn groups(store: &Store) -> Outcome<u64> {
    let number = store
        .get(Keyspace::Store, b"last_group")?
        .unwrap_or_default();
    Ok(number.as_ref().try_into().map_or(0, u64::from_be_bytes))
}

fn row_key(row: u64) -> Vec<u8> {
    // Spread like hashed keys, so that neighbours in time are none in order.
    row.wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .to_be_bytes()
        .to_vec()
}

/// Half noise, half repetition: about as compressible as small documents.
fn value(row: u64, bytes: usize) -> Vec<u8> {
    let mut value = vec![b'.'; bytes];
    SmallRng::seed_from_u64(row).fill(&mut value[..bytes / 2]);
    value
}

fn random_rows(rows: u64) -> impl Iterator<Item = u64> {
    let mut random = SmallRng::seed_from_u64(9);
    (0..rows).map(move |_| random.random_range(0..rows))
}

/// Wall clock and processor time since a moment.
struct Clock {
    started: Instant,
    cpu: Duration,
}

impl Clock {
    fn start() -> Self {
        Self {
            started: Instant::now(),
            cpu: cpu_time(),
        }
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn phase(
        &self,
        engine: &str,
        value_bytes: usize,
        name: &'static str,
        operations: u64,
    ) -> Phase {
        let cpu = cpu_time().saturating_sub(self.cpu);
        Phase {
            engine: engine.to_owned(),
            value_bytes,
            name,
            operations,
            seconds: self.elapsed().as_secs_f64(),
            cpu_us_per_operation: cpu.as_secs_f64() * 1e6 / operations.max(1) as f64,
        }
    }
}

/// Processor time of this process so far, in steps of 10 ms; zero where `/proc` is missing.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in parentheses may hold spaces; user and system ticks are fields 14 and 15.
    let fields = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(11)
        .take(2);
    let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

fn resident_bytes() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap_or("0 kB");
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

/// Durable engines that beat the faster bare loop of their value size by more than noise.
fn disturbed(phases: &[Phase]) -> Vec<String> {
    const NOISE: f64 = 1.1;
    let rate = Phase::rate;
    let durable = |phase: &&Phase| phase.name == "durable writes" && phase.engine != "memory";
    let limit = |value_bytes| {
        let bare = phases
            .iter()
            .filter(durable)
            .filter(|phase| phase.engine.starts_with("bare"));
        bare.filter(|phase| phase.value_bytes == value_bytes)
            .map(rate)
            .fold(0.0, f64::max)
    };
    phases
        .iter()
        .filter(durable)
        .filter(|phase| !phase.engine.starts_with("bare"))
        .filter(|phase| rate(phase) > NOISE * limit(phase.value_bytes))
        .map(|phase| format!("{} at {} bytes", phase.engine, phase.value_bytes))
        .collect()
}

fn print_table(phases: &[Phase], weights: &[Weight]) {
    println!("| engine | value bytes | phase | operations/s | CPU µs each |");
    println!("|---|---:|---|---:|---:|");
    for phase in phases {
        let rate = phase.rate();
        let Phase {
            engine,
            value_bytes,
            name,
            cpu_us_per_operation: cpu,
            ..
        } = phase;
        println!("| {engine} | {value_bytes} | {name} | {rate:.0} | {cpu:.1} |");
    }
    println!();
    println!("| engine | value bytes | disk MiB | resident MiB | restart ms |");
    println!("|---|---:|---:|---:|---:|");
    for weight in weights {
        let Weight {
            engine,
            value_bytes,
            restart_ms,
            ..
        } = weight;
        let (disk, memory) = (weight.disk_bytes >> 20, weight.memory_bytes >> 20);
        println!("| {engine} | {value_bytes} | {disk} | {memory} | {restart_ms:.0} |");
    }
}

fn print_json(phases: &[Phase], weights: &[Weight], disturbed: &[String]) {
    let phases: Vec<_> = phases
        .iter()
        .map(|phase| {
            json!({
                "engine": phase.engine,
                "value_bytes": phase.value_bytes,
                "phase": phase.name,
                "operations": phase.operations,
                "seconds": phase.seconds,
                "operations_per_s": phase.rate(),
                "cpu_us_per_operation": phase.cpu_us_per_operation,
            })
        })
        .collect();
    let weights: Vec<_> = weights
        .iter()
        .map(|weight| {
            json!({
                "engine": weight.engine,
                "value_bytes": weight.value_bytes,
                "disk_bytes": weight.disk_bytes,
                "resident_bytes": weight.memory_bytes,
                "restart_ms": weight.restart_ms,
            })
        })
        .collect();
    println!(
        "{}",
        json!({ "phases": phases, "stores": weights, "disturbed": disturbed })
    );
}
