//! Opening and closing: in which order house, engine, verdict and writer come and go.
//!
//! Place: behind [`crate::Store::open`] and [`crate::Store::close`].
//! Invariants: 1. the note of the last close is gone from disk before the engine opens. 2. a new
//! note is written only after the engine's last sync succeeded, while somebody vouches for the
//! data, and before the directory is given back. 3. whichever way a writer ends, those who wait
//! for it learn of it.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use tokio::sync::watch;

use crate::directory::DataDirectory;
use crate::engine::{Engine, EngineFindings, FjallEngine, MemoryDisk, MemoryEngine, SledEngine};
use crate::error::{OpenError, Unknown, WriteFailure};
use crate::marker::{CloseNote, look_at_files};
use crate::options::{Bounds, Place};
use crate::panics::panicked;
use crate::queue::CommitQueue;
use crate::space::{SpaceGuard, SpaceSource};
use crate::store::Shared;
use crate::writer::{self, GroupCommit, LAST_GROUP_KEY};
use crate::{EngineKind, Keyspace, Recovery, StoreOptions, frame};

/// Opens what the options name and starts its writer.
pub(crate) fn open(options: StoreOptions) -> Result<(Arc<Shared>, Recovery), OpenError> {
    options.check()?;
    match options.place.clone() {
        Place::Directory {
            path,
            engine: EngineKind::Memory,
        } => Err(OpenError::Engine {
            engine: EngineKind::Memory,
            path,
            detail: "it keeps nothing in directories".to_owned(),
        }),
        Place::Directory { path, engine } => {
            let asked = options.bounds.memtable_bytes;
            let directory = DataDirectory::open(&path, engine, asked)?;
            let made = directory.memtable_bytes();
            if made != asked && engine == EngineKind::Fjall {
                tracing::warn!(
                    made,
                    asked,
                    "memtables keep the size that the data directory was made with"
                );
            }
            open_directory(directory, engine, &options)
        }
        Place::Memory(disk) => open_memory(disk, &options),
    }
}

fn open_directory(
    directory: DataDirectory,
    kind: EngineKind,
    options: &StoreOptions,
) -> Result<(Arc<Shared>, Recovery), OpenError> {
    let note = directory
        .take_clean_marker()?
        .and_then(|note| CloseNote::decode(&note));
    let changed = note
        .as_ref()
        .and_then(|note| changed_file(&directory, note));
    let (engine, mut findings) = open_engine(&directory, kind, &options.bounds)?;
    findings.suspicion = findings.suspicion.or(changed);
    let opened = Opening::judge(engine.as_ref(), directory.existed(), note, findings);
    let space = SpaceSource::Path(directory.engine_path());
    let (shared, mut commits) = assemble(Arc::clone(&engine), &opened, space, options);
    let ending = Ending {
        shared: Arc::clone(&shared),
        home: Some(Home::Directory(directory)),
    };
    let spawned = std::thread::Builder::new()
        .name("souk-storage".to_owned())
        .spawn(move || {
            writer::run_blocking(&mut commits, engine.as_ref());
            ending.close(engine, commits.last_group);
        });
    spawned.map_err(|source| OpenError::Io {
        path: "souk-storage".into(),
        doing: "starting the writer thread",
        source,
    })?;
    Ok((shared, opened.recovery))
}

fn open_memory(
    disk: MemoryDisk,
    options: &StoreOptions,
) -> Result<(Arc<Shared>, Recovery), OpenError> {
    let runtime = tokio::runtime::Handle::try_current().map_err(|_| OpenError::NoRuntime)?;
    let existed = disk.format();
    let note = disk
        .take_clean_marker()
        .and_then(|note| CloseNote::decode(&note));
    let (engine, findings) = MemoryEngine::open(&disk);
    let engine = Arc::new(engine);
    let opened = Opening::judge(engine.as_ref(), existed, note, findings);
    let space = SpaceSource::Memory(disk.clone());
    let shared_engine = Arc::clone(&engine) as Arc<dyn Engine>;
    let (shared, mut commits) = assemble(shared_engine, &opened, space, options);
    let ending = Ending {
        shared: Arc::clone(&shared),
        home: Some(Home::Memory(disk.clone())),
    };
    runtime.spawn(async move {
        writer::run_async(&mut commits, &engine, &disk).await;
        ending.close(engine, commits.last_group);
    });
    Ok((shared, opened.recovery))
}

/// What differs from the note of the last close, before the engine touches anything.
fn changed_file(directory: &DataDirectory, note: &CloseNote) -> Option<String> {
    let now = look_at_files(&directory.engine_path()).unwrap_or_default();
    let path = note.first_difference(&now)?;
    Some(format!(
        "the file {path} is not as the last orderly close left it"
    ))
}

fn open_engine(
    directory: &DataDirectory,
    kind: EngineKind,
    bounds: &Bounds,
) -> Result<(Arc<dyn Engine>, EngineFindings), OpenError> {
    let path = directory.engine_path();
    fs::create_dir_all(&path).map_err(|source| OpenError::Io {
        path: path.clone(),
        doing: "creating the directory",
        source,
    })?;
    let open = || match kind {
        EngineKind::Sled => SledEngine::open(&path, bounds)
            .map(|(engine, findings)| (Arc::new(engine) as Arc<dyn Engine>, findings)),
        EngineKind::Fjall | EngineKind::Memory => FjallEngine::open(&path, bounds)
            .map(|(engine, findings)| (Arc::new(engine) as Arc<dyn Engine>, findings)),
    };
    // Both engines panic on some kinds of damage.
    let opened =
        catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(|panic| Err(panicked(&*panic)));
    opened.map_err(|detail| OpenError::Engine {
        engine: kind,
        path: path.clone(),
        detail,
    })
}

/// What an opening learned before the writer starts.
struct Opening {
    last_group: u64,
    recovery: Recovery,
}

impl Opening {
    fn judge(
        engine: &dyn Engine,
        existed: bool,
        note: Option<CloseNote>,
        mut findings: EngineFindings,
    ) -> Self {
        let last_group = last_group(engine).unwrap_or_else(|why| {
            findings.suspicion.get_or_insert(why);
            0
        });
        let recovery = Recovery::judge(existed, note, last_group, findings);
        match &recovery {
            Recovery::Clean => {}
            Recovery::Unclean => tracing::info!(last_group, "the last stop was not orderly"),
            Recovery::Suspect { why } => {
                tracing::error!(%why, "acknowledged writes may be missing from this store");
            }
        }
        Self {
            last_group,
            recovery,
        }
    }
}

/// The number of the last group that the engine shows; 0 for a new store.
fn last_group(engine: &dyn Engine) -> Result<u64, String> {
    let stored = engine
        .get(Keyspace::Store, LAST_GROUP_KEY)
        .map_err(|error| error.to_string())?;
    let Some(stored) = stored else { return Ok(0) };
    let number = frame::open(Keyspace::Store, LAST_GROUP_KEY, &stored)
        .map_err(|error| format!("the number of the last group is damaged: {error}"))?;
    let number = number.as_ref().try_into().map(u64::from_be_bytes);
    number.map_err(|_| "the number of the last group has a wrong length".to_owned())
}

fn assemble(
    engine: Arc<dyn Engine>,
    opened: &Opening,
    space: SpaceSource,
    options: &StoreOptions,
) -> (Arc<Shared>, GroupCommit) {
    let queue = Arc::new(CommitQueue::new(
        options.queue_requests_max,
        options.queue_bytes_max,
    ));
    let shared = Arc::new(Shared {
        engine: RwLock::new(Some(engine)),
        queue: Arc::clone(&queue),
        closed: watch::Sender::new(None),
        is_vouched_for: AtomicBool::new(true),
    });
    let space = SpaceGuard::new(space, options.disk_reserve_bytes);
    (
        shared,
        GroupCommit {
            queue,
            space,
            last_group: opened.last_group,
        },
    )
}

/// What the engine stands in.
enum Home {
    Directory(DataDirectory),
    Memory(MemoryDisk),
}

/// Held by a running writer. Dropped without [`Ending::close`], as when a simulated machine stops
/// or the writer panics, it refuses later writes; those that wait read their lost answer as
/// unknown.
struct Ending {
    shared: Arc<Shared>,
    home: Option<Home>,
}

impl Ending {
    /// The orderly way out.
    fn close(mut self, engine: Arc<impl Engine + ?Sized>, last_group: u64) {
        let synced = match self.shared.queue.poisoning() {
            Some(poisoned) => Err(WriteFailure::NotWritten(poisoned)),
            None => engine.close().map_err(|error| unknown(&error)),
        };
        // Waits for reads under way, then ends the engine's threads with its last owner, so that
        // its files stand still.
        drop(self.shared.engine.write().take());
        drop(engine);
        let result = synced.and_then(|()| self.leave_note(last_group));
        // Gives the directory back before anyone hears that the store is closed.
        self.home = None;
        self.shared.closed.send_replace(Some(result));
    }

    fn leave_note(&self, last_group: u64) -> Result<(), WriteFailure> {
        if !self.shared.is_vouched_for.load(Ordering::Acquire) {
            return Ok(());
        }
        match &self.home {
            Some(Home::Directory(directory)) => {
                let files = look_at_files(&directory.engine_path()).map_err(|e| unknown(&e))?;
                let note = CloseNote { last_group, files }.encode();
                directory
                    .set_clean_marker(&note)
                    .map_err(|error| unknown(&error))
            }
            Some(Home::Memory(disk)) => {
                disk.set_clean_marker(
                    CloseNote {
                        last_group,
                        ..CloseNote::default()
                    }
                    .encode(),
                );
                Ok(())
            }
            None => Ok(()),
        }
    }
}

fn unknown(error: &dyn std::error::Error) -> WriteFailure {
    let cause = error.to_string();
    tracing::error!(%cause, "the store did not close in order");
    WriteFailure::Unknown(Unknown::EngineFailed {
        cause: cause.into(),
    })
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.shared.queue.close();
        self.shared.queue.abandon();
        self.shared.closed.send_if_modified(|closed| {
            let gone = closed.is_none();
            if gone {
                *closed = Some(Err(WriteFailure::Unknown(Unknown::WriterGone)));
            }
            gone
        });
    }
}
