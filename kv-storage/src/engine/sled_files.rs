//! Makes sled's files durable, which sled itself does not.
//!
//! sled 0.34 answers a flush after `sync_file_range`, which starts and awaits the write of pages
//! but neither flushes the drive's cache nor the file's metadata; and it writes large values into
//! files of their own (`blobs/N`) without any sync. Both survive the death of the process and not
//! the loss of power.
//!
//! Place: used by [`super::SledEngine`] once per commit, after sled's own flush.
//! Invariants: after [`SledFiles::sync`], every byte that sled wrote before the call is on disk.
//! Not here: what happens inside sled when power is lost in the middle of a segment's reuse.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How young a directory's change time may be before we distrust it: file systems round it to
/// their clock tick, so that a second change may leave it as it was.
const TICK_MAX: Duration = Duration::from_millis(50);

/// The files of one database.
pub(super) struct SledFiles {
    log: File,
    blobs: PathBuf,
    /// Blobs that are known to be on disk.
    synced: BTreeSet<OsString>,
    blobs_changed: Option<SystemTime>,
}

impl SledFiles {
    /// Opens the files of the database in `path`, which exists.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut files = Self {
            log: File::open(path.join("db"))?,
            blobs: path.join("blobs"),
            synced: BTreeSet::new(),
            blobs_changed: None,
        };
        files.sync()?;
        File::open(path)?.sync_all()?;
        Ok(files)
    }

    /// Puts everything written so far on disk: blobs first, for the log points to them.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.sync_blobs()?;
        self.log.sync_data()
    }

    fn sync_blobs(&mut self) -> io::Result<()> {
        let changed = fs::metadata(&self.blobs)?.modified()?;
        let settled = changed.elapsed().is_ok_and(|age| age > TICK_MAX);
        if settled && self.blobs_changed == Some(changed) {
            return Ok(());
        }
        let mut present = BTreeSet::new();
        let mut fresh = false;
        for entry in fs::read_dir(&self.blobs)? {
            let name = entry?.file_name();
            if !self.synced.contains(&name) {
                match File::open(self.blobs.join(&name)) {
                    Ok(blob) => blob.sync_all()?,
                    // sled's own cleaner removed it meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                }
                fresh = true;
            }
            present.insert(name);
        }
        if fresh {
            File::open(&self.blobs)?.sync_all()?;
        }
        self.synced = present;
        self.blobs_changed = Some(changed);
        Ok(())
    }
}
