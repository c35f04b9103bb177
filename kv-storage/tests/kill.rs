//! Real processes, killed without warning, on real files: whatever was acknowledged is there.
//!
//! A writer process (this test binary, started again with an environment variable) commits batches
//! and prints a line after each acknowledgement; the parent kills it at a moment chosen by seed and
//! checks what the next opening finds. Several kills hit one directory in turn, so that recoveries
//! of recoveries are tried as well.
//!
//! The suite makes 100 runs for each engine. More, with another seed:
//! `SOUK_KILL_RUNS=2000 SOUK_KILL_SEED=7 cargo test -p souk-kv-storage --release --test kill`

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use souk_kv_storage::{
    Durability, EngineKind, Keyspace, Recovery, Scan, Store, StoreOptions, WriteBatch,
};

const WRITERS: u32 = 8;
/// Each turn deletes the row of this many turns ago.
const ROWS_KEPT: u64 = 16;
/// Kills of one directory before a fresh one is taken.
const RUNS_PER_DIRECTORY: u64 = 10;
const WRITER_VARIABLE: &str = "SOUK_KILL_WRITER";

fn options(path: &Path, engine: EngineKind) -> StoreOptions {
    let mut options = StoreOptions::directory(path, engine);
    // Small, so that flushes and compactions are hit too.
    options.bounds.memtable_bytes = 1 << 20;
    options.disk_reserve_bytes = 0;
    options
}

/// Held while a process is started and while a store is open in this one: a child inherits open
/// files for a moment, and with them the engines' locks.
static NO_FORK_WHILE_OPEN: Mutex<()> = Mutex::new(());

fn no_fork_while_open() -> MutexGuard<'static, ()> {
    // A failed test of the other engine is its own affair.
    NO_FORK_WHILE_OPEN
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

fn row_key(writer: u32, turn: u64) -> Vec<u8> {
    [&writer.to_be_bytes()[..], &turn.to_be_bytes()[..]].concat()
}

/// Sizes vary from nothing to several pages; some are large enough for sled's separate files.
fn row_value(writer: u32, turn: u64) -> Vec<u8> {
    let mut random = SmallRng::seed_from_u64(u64::from(writer) << 32 | turn);
    let len = match random.random_range(0..200) {
        0 => random.random_range(100_000..300_000),
        1..20 => random.random_range(2_000..20_000),
        _ => random.random_range(0..500),
    };
    vec![random.random(); len]
}

/// One turn: a new row, an old row's delete, and the count of turns in another keyspace.
fn turn_batch(writer: u32, turn: u64) -> WriteBatch {
    let mut batch = WriteBatch::new();
    batch.put(
        Keyspace::Records,
        row_key(writer, turn),
        row_value(writer, turn),
    );
    if let Some(old) = turn.checked_sub(ROWS_KEPT) {
        batch.delete(Keyspace::Records, row_key(writer, old));
    }
    batch.put(
        Keyspace::Meta,
        writer.to_be_bytes().to_vec(),
        turn.to_be_bytes().to_vec(),
    );
    batch
}

fn turns_done(store: &Store, writer: u32) -> u64 {
    let value = store
        .get(Keyspace::Meta, &writer.to_be_bytes())
        .expect("get");
    value.map_or(0, |value| {
        u64::from_be_bytes(value.as_ref().try_into().expect("eight bytes"))
    })
}

/// The writer process. As a test of its own, without the variable, it has nothing to do.
#[test]
fn writer_process() {
    let Ok(task) = std::env::var(WRITER_VARIABLE) else {
        return;
    };
    let mut words = task.splitn(3, ' ');
    let mut word = || words.next().expect("engine, durability and path");
    let (engine, durability, path) = (word(), word(), word());
    // What is left to the operating system survives the death of a process as well.
    let durability = match durability {
        "synced" => Durability::Synced,
        _ => Durability::Interval(Duration::from_millis(20)),
    };
    let options = options(Path::new(path), engine.parse().expect("an engine"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("runtime").block_on(async move {
        let store = Store::open(options).expect("open");
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let store = store.clone();
                tokio::spawn(async move {
                    let mut turn = turns_done(&store, writer);
                    while turn < u64::MAX {
                        turn += 1;
                        let batch = turn_batch(writer, turn);
                        store.commit_with(batch, durability).await.expect("commit");
                        let line = format!("ack {writer} {turn}\n");
                        // One write: a line is in the pipe whole or not at all.
                        std::io::stdout()
                            .write_all(line.as_bytes())
                            .expect("the parent reads");
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.expect("writes until killed");
        }
    });
}

/// The last acknowledged turn of each writer.
type Acknowledged = BTreeMap<u32, u64>;

struct Writer {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Writer {
    fn start(path: &Path, engine: EngineKind, durability: &str) -> Self {
        let _guard = no_fork_while_open();
        let mut child = Command::new(std::env::current_exe().expect("this binary"))
            .args([
                "--exact",
                "writer_process",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(
                WRITER_VARIABLE,
                format!("{engine} {durability} {}", path.display()),
            )
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("start the writer");
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, lines }
    }

    /// Waits for the first acknowledgement, then kills after `delay`, and reads what was said.
    fn kill_after(mut self, delay: Duration, acknowledged: &mut Acknowledged) {
        let mut first = String::new();
        while !first.starts_with("ack ") {
            first.clear();
            let read = self.lines.read_line(&mut first).expect("read");
            assert!(read > 0, "the writer ended before it wrote anything");
        }
        // Someone has to empty the pipe meanwhile, or the writer would stand still.
        let mut lines = self.lines;
        let reader = std::thread::spawn(move || {
            let mut rest = String::new();
            lines.read_to_string(&mut rest).expect("read");
            rest
        });
        std::thread::sleep(delay);
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
        let said = first + &reader.join().expect("reader");
        for line in said.lines().filter_map(|line| line.strip_prefix("ack ")) {
            let (writer, turn) = line.split_once(' ').expect("two numbers");
            acknowledged.insert(writer.parse().expect("writer"), turn.parse().expect("turn"));
        }
    }
}

/// Everything acknowledged is there, and no batch is half there.
fn verify(store: &Store, acknowledged: &Acknowledged) {
    for writer in 0..WRITERS {
        let done = turns_done(store, writer);
        let promised = acknowledged.get(&writer).copied().unwrap_or(0);
        assert!(
            done >= promised,
            "writer {writer}: {promised} acknowledged, {done} found"
        );
        let scan = Scan::prefix(Keyspace::Records, writer.to_be_bytes());
        let page = store.scan(&scan).expect("scan");
        let first = done.saturating_sub(ROWS_KEPT - 1).max(1);
        let expected: Vec<u64> = (first..=done).collect();
        let found: Vec<u64> = page
            .rows
            .iter()
            .map(|row| u64::from_be_bytes(row.key[4..].try_into().expect("eight bytes")))
            .collect();
        assert_eq!(found, expected, "writer {writer} after turn {done}");
        for (row, turn) in page.rows.into_iter().zip(expected) {
            assert!(
                row.value.expect("intact") == row_value(writer, turn),
                "row {writer} {turn}"
            );
        }
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable)
        .ok()
        .map_or(default, |text| text.parse().expect("a number"))
}

fn kill_runs(engine: EngineKind) {
    let seed = number("SOUK_KILL_SEED", 1);
    let runs = number("SOUK_KILL_RUNS", 100);
    let mut random = SmallRng::seed_from_u64(seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("runtime");
    let (mut unclean, mut turns) = (0, 0);
    let mut ground: Option<(tempfile::TempDir, PathBuf, Acknowledged)> = None;
    for run in 0..runs {
        if run % RUNS_PER_DIRECTORY == 0 {
            let folder = tempfile::tempdir().expect("folder");
            let path = folder.path().join("data");
            ground = Some((folder, path, Acknowledged::new()));
        }
        let (_, path, acknowledged) = ground.as_mut().expect("made in the first run");
        let delay = Duration::from_micros(random.random_range(0..30_000));
        let durability = if random.random_bool(0.7) {
            "synced"
        } else {
            "interval"
        };
        Writer::start(path, engine, durability).kill_after(delay, acknowledged);
        // Sometimes the next writer itself recovers; sometimes we do, and look.
        if random.random_bool(0.3) && (run + 1) % RUNS_PER_DIRECTORY != 0 {
            continue;
        }
        let label = format!("{engine}, seed {seed}, run {run}");
        let _guard = no_fork_while_open();
        let store = Store::open(options(path, engine)).unwrap_or_else(|e| panic!("{label}: {e}"));
        assert_eq!(store.recovery(), &Recovery::Unclean, "{label}");
        verify(&store, acknowledged);
        unclean += 1;
        turns += acknowledged.values().sum::<u64>();
        runtime
            .block_on(store.close())
            .unwrap_or_else(|e| panic!("{label}: {e}"));
    }
    assert!(unclean * 2 > runs, "most runs were looked at");
    assert!(
        turns > runs * 10,
        "the writers wrote: {turns} turns in {runs} runs"
    );
}

#[test]
fn fjall_keeps_what_it_acknowledged() {
    kill_runs(EngineKind::Fjall);
}

#[test]
fn sled_keeps_what_it_acknowledged() {
    kill_runs(EngineKind::Sled);
}
