//! The bare disk: append a block, sync, again. No store can acknowledge durable writes one by one any faster.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::CompareError;
use crate::figure::{Counter, Figure};

/// What is appended before each sync, in bytes: one page.
const BLOCK_BYTES: usize = 4_096;

/// A file on the disk that all systems use.
#[derive(Debug)]
pub(crate) struct Disk {
    path: PathBuf,
    file: File,
}

impl Disk {
    /// Makes the file.
    pub(crate) fn new(home: &Path) -> Result<Self, CompareError> {
        let path = home.join("disk");
        match File::create(&path) {
            Ok(file) => Ok(Self { path, file }),
            Err(source) => Err(CompareError::File { path, source }),
        }
    }

    /// Appends and syncs for so long.
    pub(crate) fn run(&mut self, time: Duration) -> Result<Figure, CompareError> {
        let block = [b'.'; BLOCK_BYTES];
        let mut counter = Counter::new();
        let begun = Instant::now();
        while begun.elapsed() < time {
            let began = Instant::now();
            let synced = self
                .file
                .write_all(&block)
                .and_then(|()| self.file.sync_data());
            synced.map_err(|source| CompareError::File {
                path: self.path.clone(),
                source,
            })?;
            counter.succeed(began.elapsed());
        }
        Ok(counter.figure(begun.elapsed()))
    }
}
