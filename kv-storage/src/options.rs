//! How a store is opened, and every bound it keeps.
//!
//! Place: filled from `cluster.toml` by the node; checked when the store opens.
//! Invariants: every queue, cache and log of this crate has a named bound here or beside its type.

use std::path::PathBuf;
use std::time::Duration;

use crate::engine::MemoryDisk;
use crate::error::OpenError;
use crate::{BATCH_BYTES_MAX, EngineKind};

/// When an acknowledged write is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Acknowledged means on disk.
    #[default]
    Synced,
    /// Acknowledged means handed to the operating system; on disk within this time. A power cut
    /// loses what was acknowledged since the last sync; the death of the process alone does not.
    /// Values are moved into [`INTERVAL_MIN`] to [`INTERVAL_MAX`].
    Interval(Duration),
}

/// Shortest interval between syncs.
pub const INTERVAL_MIN: Duration = Duration::from_millis(1);
/// Longest interval between syncs.
pub const INTERVAL_MAX: Duration = Duration::from_secs(10);

/// Where the data lives.
#[derive(Clone)]
pub enum Place {
    /// A directory of this machine, kept by a durable engine.
    Directory {
        /// The directory; created if missing, owner-only.
        path: PathBuf,
        /// [`EngineKind::Fjall`] or [`EngineKind::Sled`].
        engine: EngineKind,
    },
    /// A pretended disk.
    Memory(MemoryDisk),
}

/// Sizes of an engine's memory and files, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// Cache of blocks or pages. 1 MiB to 1 TiB, default 64 MiB.
    pub cache_bytes: u64,
    /// Changes of one keyspace in memory before they are flushed to a table; up to five such
    /// memtables may exist for a moment. fjall only, fixed when the store is created.
    /// 1 MiB to 1 GiB, default 32 MiB.
    pub memtable_bytes: u64,
    /// Journals on disk before memtables are flushed to shorten them; what a restart replays.
    /// fjall only. 64 MiB to 64 GiB, default 256 MiB.
    pub journal_bytes: u64,
}

/// Everything [`crate::Store::open`] needs to know.
#[derive(Clone)]
pub struct StoreOptions {
    /// Where the data lives.
    pub place: Place,
    /// The engine's sizes.
    pub bounds: Bounds,
    /// Batches that may wait for the writer. 1 to 1,000,000, default 8,192.
    pub queue_requests_max: usize,
    /// Bytes that may wait for the writer. [`BATCH_BYTES_MAX`] to 4 GiB, default 128 MiB.
    pub queue_bytes_max: u64,
    /// Free disk space, in bytes, below which ordinary writes are refused; deletes and batches
    /// marked [`crate::WriteBatch::using_reserve`] go on down to a quarter of it. It also is the
    /// room in which the engine compacts. 0 to 1 TiB, default 256 MiB.
    pub disk_reserve_bytes: u64,
}

impl StoreOptions {
    /// The defaults, in `path`, with `engine`.
    pub fn directory(path: impl Into<PathBuf>, engine: EngineKind) -> Self {
        Self::at(Place::Directory {
            path: path.into(),
            engine,
        })
    }

    /// The defaults, on a pretended disk, without a reserve.
    pub fn memory(disk: MemoryDisk) -> Self {
        Self {
            disk_reserve_bytes: 0,
            ..Self::at(Place::Memory(disk))
        }
    }

    fn at(place: Place) -> Self {
        Self {
            place,
            bounds: Bounds::default(),
            queue_requests_max: 8_192,
            queue_bytes_max: 128 << 20,
            disk_reserve_bytes: 256 << 20,
        }
    }

    /// Refuses values out of range.
    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let check = |name, value, min: u64, max: u64, range| {
            let fits = (min..=max).contains(&value);
            if fits {
                Ok(())
            } else {
                Err(OpenError::Option { name, value, range })
            }
        };
        let Bounds {
            cache_bytes,
            memtable_bytes,
            journal_bytes,
        } = self.bounds;
        check(
            "cache_bytes",
            cache_bytes,
            1 << 20,
            1 << 40,
            "use 1 MiB to 1 TiB",
        )?;
        check(
            "memtable_bytes",
            memtable_bytes,
            1 << 20,
            1 << 30,
            "use 1 MiB to 1 GiB",
        )?;
        check(
            "journal_bytes",
            journal_bytes,
            64 << 20,
            64 << 30,
            "use 64 MiB to 64 GiB",
        )?;
        let requests = self.queue_requests_max as u64;
        check(
            "queue_requests_max",
            requests,
            1,
            1_000_000,
            "use 1 to 1000000",
        )?;
        let bytes = self.queue_bytes_max;
        check(
            "queue_bytes_max",
            bytes,
            BATCH_BYTES_MAX,
            4 << 30,
            "use 64 MiB to 4 GiB",
        )?;
        check(
            "disk_reserve_bytes",
            self.disk_reserve_bytes,
            0,
            1 << 40,
            "use up to 1 TiB",
        )
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            cache_bytes: 64 << 20,
            memtable_bytes: 32 << 20,
            journal_bytes: 256 << 20,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_out_of_range_are_named() {
        fn check(change: impl Fn(&mut StoreOptions), name: Option<&str>) {
            let mut options = StoreOptions::memory(MemoryDisk::new());
            change(&mut options);
            let found = match options.check() {
                Ok(()) => None,
                Err(OpenError::Option { name, .. }) => Some(name),
                Err(other) => panic!("{other}"),
            };
            assert_eq!(found, name);
        }
        check(|_| (), None);
        check(|o| o.bounds.cache_bytes = 0, Some("cache_bytes"));
        check(
            |o| o.bounds.memtable_bytes = 2 << 30,
            Some("memtable_bytes"),
        );
        check(|o| o.bounds.journal_bytes = 1, Some("journal_bytes"));
        check(|o| o.queue_requests_max = 0, Some("queue_requests_max"));
        check(|o| o.queue_bytes_max = 1, Some("queue_bytes_max"));
        check(
            |o| o.disk_reserve_bytes = 2 << 40,
            Some("disk_reserve_bytes"),
        );
    }
}
