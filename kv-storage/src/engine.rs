//! What an ordered key-value engine has to do for us, and the engines that do it.
//!
//! Place: between [`crate::Store`], which frames, checks and queues, and the engine crates.
//! Shape: bytes in, bytes out; no protocol, no clocks, no framing. One caller at a time commits,
//! any number read.
//! Invariants: 1. a commit is atomic across keyspaces. 2. a commit with [`Persist::Disk`] is on
//! disk when it returns, power cut included. 3. nobody reads a change before its commit returns.
//! 4. an error out of a commit means unknown, unless it says refused.
//! Not here: batching (`crate::writer`), the data directory around an engine (`crate::directory`).

mod fjall;
mod fjall_journal;
mod fjall_manifest;
mod memory;
mod memory_disk;
mod sled;
mod sled_files;

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use crate::batch::Change;
use crate::{KeyRange, Keyspace};

pub use self::fjall::FjallEngine;
pub use self::memory::MemoryEngine;
pub use self::memory_disk::MemoryDisk;
pub use self::sled::SledEngine;

/// Called with each key and stored value in order; `Break` ends the scan. It must not call back
/// into the engine: some engines hold a lock meanwhile.
pub type RowVisitor<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// How far a commit goes before it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persist {
    /// To the disk: it survives a power cut.
    Disk,
    /// To the operating system: it survives the process, until the next sync not a power cut.
    System,
}

/// Which engine keeps the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EngineKind {
    /// A log-structured merge tree (the crate `fjall`).
    Fjall,
    /// A log-structured B+ tree (the crate `sled`).
    Sled,
    /// The in-memory twin, for tests and simulation.
    Memory,
}

impl EngineKind {
    /// The name in configuration and in the `FORMAT` file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fjall => "fjall",
            Self::Sled => "sled",
            Self::Memory => "memory",
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for EngineKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        [Self::Fjall, Self::Sled, Self::Memory]
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| format!("no engine is called `{name}`: use fjall, sled or memory"))
    }
}

/// What an engine reports when it fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The engine had stopped before; nothing of this call was handed over.
    #[error("the engine had stopped: {0}")]
    Refused(Arc<str>),
    /// Stored bytes do not fit their checksum.
    #[error("{0}")]
    Corrupt(Arc<str>),
    /// Anything else. After a commit: unknown.
    #[error("{0}")]
    Failed(Arc<str>),
}

impl EngineError {
    pub(crate) fn failed(cause: impl fmt::Display) -> Self {
        Self::Failed(cause.to_string().into())
    }
}

/// Sizes an engine knows of itself, in bytes. Zero where an engine has no such thing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Everything on disk.
    pub disk_bytes: u64,
    /// The part of it that is journal.
    pub journal_bytes: u64,
    /// Cached blocks or pages in memory; of sled its bound, for it does not tell.
    pub cache_bytes: u64,
    /// Changes in memory that are not yet in tables.
    pub memtable_bytes: u64,
    /// Work that waits: memtables to flush and compactions under way.
    pub backlog_count: u64,
    /// Tables that the fullest keyspace has yet to compact. fjall slows writes down from 20 on.
    pub compaction_lag_tables: u64,
}

/// An ordered key-value engine with atomic batches over keyspaces.
pub trait Engine: Send + Sync + 'static {
    /// Which one this is.
    fn kind(&self) -> EngineKind;

    /// The stored bytes of a key. Whoever finds one change of a batch finds all of it from then on.
    ///
    /// # Errors
    /// [`EngineError`] if the engine cannot read.
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// Walks the keys of `range` in order as they were at one moment.
    ///
    /// # Errors
    /// [`EngineError`] if the engine cannot read on; rows before the trouble were visited.
    fn scan(&self, range: &KeyRange, visit: &mut RowVisitor<'_>) -> Result<(), EngineError>;

    /// Applies `changes`, ordered by keyspace and key, each key once, as a whole.
    ///
    /// # Errors
    /// [`EngineError::Refused`] if nothing was handed over; otherwise the outcome is unknown.
    fn commit(&self, changes: &[Change], persist: Persist) -> Result<(), EngineError>;

    /// Puts on disk what was committed with [`Persist::System`].
    ///
    /// # Errors
    /// [`EngineError`]; never try again after one.
    fn sync(&self) -> Result<(), EngineError>;

    /// Its sizes, cheap enough to ask every second.
    fn stats(&self) -> EngineStats;

    /// Puts everything on disk and stops background work, as far as that is possible before the
    /// engine is dropped. The last call.
    ///
    /// # Errors
    /// [`EngineError`] if the last state may not be on disk.
    fn close(&self) -> Result<(), EngineError>;
}

/// What an engine found when it opened existing files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct EngineFindings {
    /// Signs that something acknowledged may be gone.
    pub(crate) suspicion: Option<String>,
}
