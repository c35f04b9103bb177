//! What can go wrong with storage, and what a caller may believe afterwards.
//!
//! Place: pure; every public call of this crate answers with [`StorageError`].
//! Invariants: a write is `NotWritten` only if no byte of it was handed to the engine; from that
//! moment on, any trouble is `Unknown`: it may be on disk, now or after a restart.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::{EngineKind, Gap, Keyspace};

/// What a caller may believe of a failed write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteOutcome {
    /// Nothing was written, now or later.
    NotApplied,
    /// It may have been written, and may appear after a restart. Read before trying again.
    Unknown,
}

/// Anything that storage refuses or fails at.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StorageError {
    /// The store did not open.
    #[error(transparent)]
    Open(#[from] Arc<OpenError>),
    /// What: stored bytes fail their checksum. Why: a damaged disk or a bug beneath us.
    /// Mend: read from another replica and write the record again.
    #[error(
        "the value of {keyspace} key {key:?} is damaged on disk ({detail}): read it from another replica and write it again"
    )]
    Corrupt {
        /// Where.
        keyspace: Keyspace,
        /// Which key.
        key: Bytes,
        /// What was seen.
        detail: Arc<str>,
    },
    /// What: the engine could not read on. Why: a damaged file or an I/O error.
    /// Mend: scrub the node; the other replicas have the rows.
    #[error("reading {keyspace} failed ({detail}): check the disk, then scrub this node")]
    Read {
        /// Where.
        keyspace: Keyspace,
        /// What was seen.
        detail: Arc<str>,
    },
    /// What: a range of keys could not be read. Why: a block of the engine is damaged, or an I/O
    /// error. Mend: read those keys from another replica; a walk goes on at the end of the gap.
    #[error(
        "{gap} of {keyspace} cannot be read ({detail}): read them from another replica, then scrub this node"
    )]
    Gap {
        /// Where.
        keyspace: Keyspace,
        /// Which keys.
        gap: Gap,
        /// What was seen.
        detail: Arc<str>,
    },
    /// Refused before anything was handed to the engine.
    #[error(transparent)]
    NotWritten(#[from] NotWritten),
    /// Handed to the engine, and no proof of success came back.
    #[error(transparent)]
    Unknown(#[from] Unknown),
    /// A read of a closed store.
    #[error("the store is closed: open it again")]
    Closed,
}

/// A write that was refused whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotWritten {
    /// More is waiting than the queue's bounds allow. Back off and try again.
    #[error(
        "the write queue is full ({requests} requests, {bytes} bytes wait): back off and retry"
    )]
    QueueFull {
        /// Requests waiting.
        requests: usize,
        /// Bytes waiting.
        bytes: u64,
    },
    /// The disk has no room left above its reserve. Free space; no restart is needed.
    #[error(
        "the disk is full ({available_bytes} bytes left, {reserve_bytes} are kept in reserve): free space or add a node, writes resume by themselves"
    )]
    DiskFull {
        /// Bytes left for this store.
        available_bytes: u64,
        /// Bytes kept back.
        reserve_bytes: u64,
    },
    /// An earlier write failed beneath the engine. Nothing is accepted until the node is mended.
    #[error(
        "the store stopped writing after a failure ({cause}): check the disk, then restart the node; if it stops again, a file is damaged: start it with an empty data directory, and it learns from the others; reads go on"
    )]
    Poisoned {
        /// The first failure.
        cause: Arc<str>,
    },
    /// The store is closed or closing.
    #[error("the store is closed to writes")]
    Closed,
    /// A key outside 1 to [`crate::KEY_BYTES_MAX`] bytes.
    #[error("a key of {keyspace} has {len} bytes: 1 to 65535 are allowed")]
    KeyLength {
        /// Where.
        keyspace: Keyspace,
        /// Its length in bytes.
        len: usize,
    },
    /// More than [`crate::BATCH_BYTES_MAX`] in one batch. Split it.
    #[error("the batch has {bytes} bytes, at most {bytes_max} are allowed: split it")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The bound.
        bytes_max: u64,
    },
    /// A write to [`Keyspace::Store`] from outside.
    #[error("the keyspace `store` is written by the store alone")]
    Reserved,
}

/// A write that may or may not be on disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// The engine failed during the commit. The store takes no more writes: a failed sync is
    /// never retried, because the kernel may have dropped the pages that it reported once.
    #[error(
        "the commit failed in the engine ({cause}), the write may or may not be on disk: check the disk and restart the node"
    )]
    EngineFailed {
        /// What the engine said.
        cause: Arc<str>,
    },
    /// The writer ended before it answered.
    #[error("the writer ended before it answered, the write may or may not be on disk")]
    WriterGone,
}

/// Why a store did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file or directory could not be used.
    #[error("{path}: {doing} failed: {source}", path = path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process has the directory open.
    #[error("{path} is in use by another process: stop that node, or name another data directory", path = path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The data is newer than this build.
    #[error("{path} has storage format {found}, this build knows up to {known}: use a newer build", path = path.display())]
    Newer {
        /// The directory.
        path: PathBuf,
        /// Version found.
        found: u32,
        /// Newest version known here.
        known: u32,
    },
    /// The data belongs to another engine.
    #[error("{path} was made by the engine {found}, the configuration says {asked}: set the engine back, or name an empty directory", path = path.display())]
    OtherEngine {
        /// The directory.
        path: PathBuf,
        /// Engine of the data.
        found: EngineKind,
        /// Engine asked for.
        asked: EngineKind,
    },
    /// The `FORMAT` file is damaged or not ours.
    #[error("{path} is not a storage format file ({detail}): restore it from a copy, or name another data directory", path = path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The directory has files, but none of ours.
    #[error("{path} is not empty and not a data directory: name an empty or a new one", path = path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
    },
    /// An option is out of its range.
    #[error("storage option {name} is {value}: {range}")]
    Option {
        /// The option.
        name: &'static str,
        /// Its value.
        value: u64,
        /// What is allowed.
        range: &'static str,
    },
    /// The engine refused its own files.
    #[error("{engine} could not open {path} ({detail}): the files are damaged; move them away, start the node empty, and let it refill from its peers", path = path.display())]
    Engine {
        /// Which engine.
        engine: EngineKind,
        /// Its directory.
        path: PathBuf,
        /// What it said.
        detail: String,
    },
    /// No runtime to run the in-memory writer on.
    #[error("an in-memory store needs a running tokio runtime: open it inside one")]
    NoRuntime,
}

impl StorageError {
    /// What a caller may believe of a write that got this error; `None` if it was no write.
    pub fn outcome(&self) -> Option<WriteOutcome> {
        match self {
            Self::NotWritten(_) => Some(WriteOutcome::NotApplied),
            Self::Unknown(_) => Some(WriteOutcome::Unknown),
            Self::Open(_)
            | Self::Corrupt { .. }
            | Self::Read { .. }
            | Self::Gap { .. }
            | Self::Closed => None,
        }
    }

    /// Whether the same write, sent again later, may succeed without anyone mending anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NotWritten(refusal) => refusal.is_retryable(),
            Self::Open(_)
            | Self::Corrupt { .. }
            | Self::Read { .. }
            | Self::Gap { .. }
            | Self::Unknown(_)
            | Self::Closed => false,
        }
    }
}

impl NotWritten {
    /// Whether the same write, sent again later, may succeed.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::QueueFull { .. } | Self::DiskFull { .. } => true,
            Self::Poisoned { .. }
            | Self::Closed
            | Self::KeyLength { .. }
            | Self::TooLarge { .. }
            | Self::Reserved => false,
        }
    }
}

impl From<OpenError> for StorageError {
    fn from(error: OpenError) -> Self {
        Self::Open(Arc::new(error))
    }
}

/// A failed write as the writer passes it to everyone in a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WriteFailure {
    NotWritten(NotWritten),
    Unknown(Unknown),
}

impl From<WriteFailure> for StorageError {
    fn from(failure: WriteFailure) -> Self {
        match failure {
            WriteFailure::NotWritten(refusal) => Self::NotWritten(refusal),
            WriteFailure::Unknown(unknown) => Self::Unknown(unknown),
        }
    }
}
