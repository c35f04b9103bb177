//! The limits: as many records as there are writers, one write, one sync, again and again; once at
//! the end of a growing file, once over blocks that the file has already, which spares the file
//! system its own journal.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use crate::Outcome;
use crate::clock::Clock;

const PREPARED_BYTES: usize = 64 << 20;

/// A log without a store.
pub(crate) struct BareLog {
    file: File,
    group: Vec<u8>,
    writers: u64,
    in_place: bool,
    room: usize,
}

impl BareLog {
    pub(crate) fn create(
        folder: &Path,
        value_bytes: usize,
        writers: u64,
        in_place: bool,
    ) -> Outcome<Self> {
        let name = if in_place { "bare-in-place" } else { "bare" };
        let mut file = File::create(folder.join(name))?;
        if in_place {
            file.write_all(&vec![0; PREPARED_BYTES])?;
            file.sync_all()?;
        }
        Ok(Self {
            file,
            group: vec![7; writers as usize * (value_bytes + 24)],
            writers,
            in_place,
            room: 0,
        })
    }

    /// Runs for `time`; returns how many records it wrote.
    pub(crate) fn run(&mut self, time: Duration) -> Outcome<u64> {
        let clock = Clock::start();
        let mut records = 0;
        while clock.elapsed() < time {
            if self.in_place && self.room < self.group.len() {
                self.file.seek(SeekFrom::Start(0))?;
                self.room = PREPARED_BYTES;
            }
            self.file.write_all(&self.group)?;
            self.file.sync_data()?;
            self.room = self.room.saturating_sub(self.group.len());
            records += self.writers;
        }
        Ok(records)
    }
}
