//! Writes that power failed under: bytes of a journal behind the last sync that may have succeeded become zeros.
//!
//! Killing a process loses nothing that it wrote, as the kernel has it. So syncs are made to fail first, until the storage
//! says that it stopped: the last batch of its journal is then the one whose sync failed, as a batch is synced before the
//! next one is written, and a disk may have kept any part of it. The node is killed, and the rest from some place of that
//! batch on is zeros. Nothing before it is touched: it was synced, and perhaps acknowledged.
//!
//! Only fjall's journals are known here: a batch ends with a trailer, and zeros are behind the last one.
//! Limits: a stop that another file's sync caused would be taken for the journal's; other files are synced once in many
//! thousand batches.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use rand::Rng as _;
use rand::rngs::StdRng;

use super::disk::{files_below, overwrite};
use crate::process::HarnessError;

const JOURNAL: &str = "jnl";
/// Behind every batch.
const TRAILER: &[u8; 4] = b"FJL\x03";
const PIECE_BYTES: u64 = 64 << 10;

/// Where the journals of a node end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct JournalEnds(BTreeMap<PathBuf, u64>);

impl JournalEnds {
    /// As they are now.
    pub(super) fn of(folder: &Path) -> Result<JournalEnds, HarnessError> {
        let mut ends = BTreeMap::new();
        for path in files_below(folder) {
            if path.extension().is_some_and(|ending| ending == JOURNAL) {
                let end = end_of(&path)?;
                ends.insert(path, end);
            }
        }
        Ok(JournalEnds(ends))
    }

    /// The journal that was written behind these ends, and where its last batch begins and ends now.
    pub(super) fn last_batch(&self) -> Result<Option<(&Path, u64, u64)>, HarnessError> {
        for (path, &end) in self.0.iter().rev() {
            // One that is gone was folded into tables.
            if path.exists() {
                let now = end_of(path)?;
                if now > end {
                    return Ok(Some((path, begin_of_last(path, end, now)?, now)));
                }
            }
        }
        Ok(None)
    }
}

/// Tears a batch that was never synced at some place. Returns how many bytes were lost.
pub(super) fn tear(
    path: &Path,
    begin: u64,
    end: u64,
    random: &mut StdRng,
) -> Result<u64, HarnessError> {
    let at = random.random_range(begin..end);
    let zeros = vec![0; usize::try_from(end - at).unwrap_or(usize::MAX)];
    overwrite(path, at, &zeros)?;
    Ok(end - at)
}

/// Behind the last trailer that is not the one at the very end; not before `lower`, which lies in the last batch when there
/// is no trailer behind it.
fn begin_of_last(path: &Path, lower: u64, end: u64) -> Result<u64, HarnessError> {
    let width = u64::try_from(TRAILER.len()).unwrap_or(0);
    let from = lower.saturating_sub(width);
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::Start(from))?;
        file.take(end - from).read_to_end(&mut bytes)
    });
    read.map_err(HarnessError::file(path))?;
    let body = &bytes[..bytes.len().saturating_sub(1)];
    let found = body
        .windows(TRAILER.len())
        .rposition(|four| four == TRAILER);
    let found = found.map(|at| from + u64::try_from(at).unwrap_or(0) + width);
    Ok(found.unwrap_or(lower).max(lower))
}

/// Where the last byte lies that is not zero, plus one.
fn end_of(path: &Path) -> Result<u64, HarnessError> {
    let problem = HarnessError::file(path);
    let find = || -> std::io::Result<u64> {
        let mut file = File::open(path)?;
        let mut upper = file.metadata()?.len();
        let mut piece = Vec::new();
        while upper > 0 {
            let lower = upper.saturating_sub(PIECE_BYTES);
            file.seek(SeekFrom::Start(lower))?;
            piece.clear();
            file.by_ref().take(upper - lower).read_to_end(&mut piece)?;
            if let Some(last) = piece.iter().rposition(|byte| *byte != 0) {
                return Ok(lower + u64::try_from(last).unwrap_or(0) + 1);
            }
            upper = lower;
        }
        Ok(0)
    };
    find().map_err(problem)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    fn batch(letter: u8, length: usize) -> Vec<u8> {
        [vec![letter; length], TRAILER.to_vec()].concat()
    }

    #[test]
    fn only_the_last_batch_is_torn() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("3.jnl");
        let write = |batches: &[Vec<u8>]| {
            let mut bytes = batches.concat();
            bytes.resize(200_000, 0);
            std::fs::write(&path, &bytes).unwrap();
            bytes
        };
        write(&[batch(1, 996)]);
        let ends = JournalEnds::of(folder.path()).unwrap();
        assert_eq!(ends.last_batch().unwrap(), None);
        // One batch more, and then another one, of which nobody was told that it is safe.
        write(&[batch(1, 996), batch(2, 96)]);
        let found = ends.last_batch().unwrap();
        assert_eq!(found, Some((path.as_path(), 1_000, 1_100)));
        let bytes = write(&[batch(1, 996), batch(2, 96), batch(3, 46)]);
        let (journal, begin, end) = ends.last_batch().unwrap().unwrap();
        assert_eq!((journal, begin, end), (path.as_path(), 1_100, 1_150));
        let lost = tear(&path, begin, end, &mut StdRng::seed_from_u64(3)).unwrap();
        assert!((1..=50).contains(&lost));
        let torn = std::fs::read(&path).unwrap();
        let left = usize::try_from(end - lost).unwrap();
        assert_eq!(torn[..left], bytes[..left]);
        assert!(torn[left..].iter().all(|byte| *byte == 0));
        assert_eq!(torn.len(), 200_000);
    }

    #[test]
    fn a_batch_that_was_only_half_written_before_is_torn_behind_that() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.jnl");
        std::fs::write(&path, vec![5; 300]).unwrap();
        let ends = JournalEnds::of(folder.path()).unwrap();
        std::fs::write(&path, batch(5, 496)).unwrap();
        let found = ends.last_batch().unwrap();
        assert_eq!(found, Some((path.as_path(), 300, 500)));
    }
}
