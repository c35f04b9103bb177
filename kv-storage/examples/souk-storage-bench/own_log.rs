//! A prototype, measured: a log of our own in front of an engine that syncs nothing itself.
//!
//! The log is written in place, over blocks that the file has already, so that a sync moves data
//! only and waits for no journal of the file system. The engine takes the same group unsynced;
//! whenever half of the log is used, a thread syncs what the engine wrote, and that half is free
//! again. One thread forms groups of as many writes as there would be writers, without a queue, so
//! that the two ways to make a group durable are compared and nothing else.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use souk_kv_storage::EngineKind;

use crate::clock::Clock;
use crate::report::{Phase, Report};
use crate::rows::{row_key, value};
use crate::{Outcome, Subject};

const GROUP: u64 = 64;
const HALF_BYTES: u64 = 32 << 20;
/// Length, sum and number of a group in the log.
const HEAD_BYTES: usize = 16;

type Rows = Vec<(Vec<u8>, Vec<u8>)>;

pub(crate) fn measure(
    subject: &Subject,
    seconds: u64,
    rounds: u32,
    report: &mut Report,
) -> Outcome<()> {
    if subject.kind == EngineKind::Memory {
        return Ok(());
    }
    let own_journal = RawEngine::open(subject.kind, &subject.folder.join("own-journal"))?;
    let behind_log = RawEngine::open(subject.kind, &subject.folder.join("behind-log"))?;
    let mut log = OwnLog::create(&subject.folder.join("log"), behind_log.syncer())?;
    let time = Duration::from_secs(seconds) / rounds;
    let mut random = SmallRng::seed_from_u64(1);
    let mut sides = [Side::default(), Side::default()];
    for _ in 0..rounds {
        for (with_log, side) in [false, true].into_iter().zip(&mut sides) {
            let clock = Clock::start();
            let mut writes = 0;
            while clock.elapsed() < time {
                let rows = group(&mut random, subject);
                if with_log {
                    log.append(&rows)?;
                    behind_log.commit(&rows, false)?;
                } else {
                    own_journal.commit(&rows, true)?;
                }
                writes += GROUP;
            }
            side.add(&clock, writes);
        }
    }
    let names = ["groups, engine's own sync", "groups, log of our own"];
    for (name, side) in names.into_iter().zip(sides) {
        let Side {
            writes,
            seconds,
            cpu,
            rates,
        } = side;
        report.phases.push(Phase::new(
            &subject.engine,
            subject,
            name,
            writes,
            seconds,
            cpu,
        ));
        report.add_spread(subject, name, rates);
    }
    Ok(())
}

#[derive(Default)]
struct Side {
    writes: u64,
    seconds: f64,
    cpu: Duration,
    rates: Vec<f64>,
}

impl Side {
    fn add(&mut self, clock: &Clock, writes: u64) {
        let seconds = clock.elapsed().as_secs_f64();
        self.writes += writes;
        self.seconds += seconds;
        self.cpu += clock.cpu();
        self.rates.push(writes as f64 / seconds);
    }
}

fn group(random: &mut SmallRng, subject: &Subject) -> Rows {
    let row = |_| {
        let row = random.random_range(0..subject.rows);
        (row_key(row), value(row, subject.value_bytes))
    };
    (0..GROUP).map(row).collect()
}

/// Two halves, used in turns.
struct OwnLog {
    file: File,
    at: u64,
    number: u64,
    buffer: Vec<u8>,
    /// Asks for a sync of what the engine wrote, and hears when it is done.
    ask: Sender<()>,
    done: Receiver<()>,
    waits_for_sync: bool,
}

impl OwnLog {
    fn create(path: &Path, sync: impl Fn() -> Outcome<()> + Send + 'static) -> Outcome<Self> {
        let mut file = OpenOptions::new()
            .create_new(true)
            .read(true)
            .write(true)
            .open(path)?;
        file.write_all(&vec![0; 2 * HALF_BYTES as usize])?;
        file.sync_all()?;
        let (ask, asked) = channel();
        let (tell, done) = channel();
        std::thread::spawn(move || {
            while asked.recv().is_ok() {
                // A failure ends the thread, and the log hears that nobody is there.
                if sync().is_err() || tell.send(()).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            file,
            at: 0,
            number: 0,
            buffer: Vec::new(),
            ask,
            done,
            waits_for_sync: false,
        })
    }

    fn append(&mut self, rows: &Rows) -> Outcome<()> {
        self.buffer.clear();
        self.buffer.resize(HEAD_BYTES, 0);
        for (key, value) in rows {
            self.buffer.extend((key.len() as u16).to_le_bytes());
            self.buffer.extend((value.len() as u32).to_le_bytes());
            self.buffer.extend(key);
            self.buffer.extend(value);
        }
        self.number += 1;
        let len = self.buffer.len() as u32;
        self.buffer[..4].copy_from_slice(&len.to_le_bytes());
        self.buffer[8..HEAD_BYTES].copy_from_slice(&self.number.to_le_bytes());
        let sum = crc32fast::hash(&self.buffer[8..]);
        self.buffer[4..8].copy_from_slice(&sum.to_le_bytes());
        self.make_room()?;
        self.file.write_all_at(&self.buffer, self.at)?;
        self.file.sync_data()?;
        self.at += u64::from(len);
        Ok(())
    }

    /// Enters the other half when this one is full, once the engine has on disk what that one holds.
    fn make_room(&mut self) -> Outcome<()> {
        let half = self.at / HALF_BYTES;
        if self.at + self.buffer.len() as u64 <= (half + 1) * HALF_BYTES {
            return Ok(());
        }
        if std::mem::replace(&mut self.waits_for_sync, true) {
            self.done.recv()?;
        }
        self.ask.send(())?;
        self.at = if half == 0 { HALF_BYTES } else { 0 };
        Ok(())
    }
}

enum RawEngine {
    Fjall {
        path: PathBuf,
        database: fjall::Database,
        tree: fjall::Keyspace,
    },
    Sled {
        path: PathBuf,
        database: sled::Db,
    },
}

impl RawEngine {
    fn open(kind: EngineKind, path: &Path) -> Outcome<Self> {
        let path = path.to_owned();
        if kind == EngineKind::Sled {
            let database = sled::Config::new()
                .path(&path)
                .mode(sled::Mode::HighThroughput)
                .open()?;
            return Ok(Self::Sled { path, database });
        }
        let database = fjall::Database::builder(&path)
            .journal_compression(fjall::CompressionType::None)
            .open()?;
        let tree = database.keyspace("records", fjall::KeyspaceCreateOptions::default)?;
        Ok(Self::Fjall {
            path,
            database,
            tree,
        })
    }

    fn commit(&self, rows: &Rows, sync: bool) -> Outcome<()> {
        match self {
            Self::Fjall { database, tree, .. } => {
                let mode = if sync {
                    fjall::PersistMode::SyncData
                } else {
                    fjall::PersistMode::Buffer
                };
                let mut batch = fjall::OwnedWriteBatch::with_capacity(database.clone(), rows.len())
                    .durability(Some(mode));
                for (key, value) in rows {
                    batch.insert(tree, &key[..], &value[..]);
                }
                batch.commit()?;
            }
            Self::Sled { path, database } => {
                let mut batch = sled::Batch::default();
                for (key, value) in rows {
                    batch.insert(&key[..], &value[..]);
                }
                database.apply_batch(batch)?;
                if sync {
                    database.flush()?;
                    File::open(path.join("db"))?.sync_data()?;
                }
            }
        }
        Ok(())
    }

    /// Puts on disk what the engine has written, without holding up its writer.
    fn syncer(&self) -> impl Fn() -> Outcome<()> + Send + 'static {
        let (path, sled) = match self {
            Self::Fjall { path, .. } => (path.clone(), None),
            Self::Sled { path, database } => (path.clone(), Some(database.clone())),
        };
        move || {
            if let Some(database) = &sled {
                database.flush()?;
                return Ok(File::open(path.join("db"))?.sync_data()?);
            }
            for entry in fs::read_dir(&path)? {
                let file = entry?.path();
                if file.extension().is_some_and(|extension| extension == "jnl") {
                    match File::open(&file) {
                        Ok(journal) => journal.sync_data()?,
                        // Its rows are in tables by now.
                        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            Ok(())
        }
    }
}
