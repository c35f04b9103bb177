//! Watches the room that is left, so that the engine never meets a full disk.
//!
//! An engine that runs out of space in the middle of a journal or a compaction stops for good. So
//! we stop earlier: below a reserve, ordinary writes are refused; what frees space in the end goes
//! on down to a quarter of it; and all resume by themselves when space returns.
//!
//! Place: asked by `crate::writer` before each group.
//! Invariants: a group that is refused here was not handed to the engine.

use std::path::PathBuf;

use crate::engine::MemoryDisk;
use crate::error::NotWritten;

/// Batches that free space may go down to this part of the reserve.
const RESERVE_FLOOR_DIVISOR: u64 = 4;

/// Where to look for free space.
pub(crate) enum SpaceSource {
    /// The file system of this directory.
    Path(PathBuf),
    /// A pretended disk, which may be unbounded.
    Memory(MemoryDisk),
}

/// The reserve and where it is measured.
pub(crate) struct SpaceGuard {
    source: SpaceSource,
    reserve_bytes: u64,
}

/// What one look at the disk allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Space {
    available_bytes: u64,
    reserve_bytes: u64,
}

impl SpaceGuard {
    pub(crate) fn new(source: SpaceSource, reserve_bytes: u64) -> Self {
        Self {
            source,
            reserve_bytes,
        }
    }

    /// Looks at the disk: one system call. A disk that cannot be asked counts as having room; the
    /// engine's own errors are then what stops us.
    pub(crate) fn look(&self) -> Space {
        let available_bytes = match &self.source {
            SpaceSource::Path(path) => fs4::available_space(path).unwrap_or(u64::MAX),
            SpaceSource::Memory(disk) => disk.available_bytes().unwrap_or(u64::MAX),
        };
        Space {
            available_bytes,
            reserve_bytes: self.reserve_bytes,
        }
    }
}

impl Space {
    /// Whether a batch of `bytes` may be written now. Counts it against what is left.
    pub(crate) fn admit(&mut self, bytes: u64, may_use_reserve: bool) -> Result<(), NotWritten> {
        let keep = match may_use_reserve {
            true => self.reserve_bytes / RESERVE_FLOOR_DIVISOR,
            false => self.reserve_bytes,
        };
        if self.available_bytes < keep.saturating_add(bytes) {
            let Self {
                available_bytes,
                reserve_bytes,
            } = *self;
            return Err(NotWritten::DiskFull {
                available_bytes,
                reserve_bytes,
            });
        }
        self.available_bytes -= bytes;
        Ok(())
    }

    pub(crate) fn available_bytes(&self) -> u64 {
        self.available_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_for_those_who_free_space() {
        fn check(available_bytes: u64, bytes: u64, may_use_reserve: bool, admitted: bool) {
            let mut space = Space {
                available_bytes,
                reserve_bytes: 100,
            };
            assert_eq!(space.admit(bytes, may_use_reserve).is_ok(), admitted);
        }
        check(110, 10, false, true);
        check(109, 10, false, false);
        check(109, 10, true, true);
        check(35, 10, true, true);
        check(34, 10, true, false);
        check(u64::MAX, 10, false, true);
    }

    #[test]
    fn batches_of_one_group_count_together() {
        let mut space = Space {
            available_bytes: 125,
            reserve_bytes: 100,
        };
        assert!(space.admit(20, false).is_ok());
        assert!(space.admit(20, false).is_err());
        assert!(space.admit(20, true).is_ok());
    }
}
