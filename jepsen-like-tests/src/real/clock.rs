//! Clocks of their own: a library between each node and the system says what time of day it is, as a file tells it.
//!
//! Only the time of day is wrong; time that passes, by which requests and heartbeats are measured, is not.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::tool::write;
use crate::process::HarnessError;

/// In thousandths.
const RIGHT_PACE: i64 = 1_000;
/// Where packages put the library for processes with threads.
const LIBRARIES: [&str; 5] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
    "/usr/local/lib/faketime/libfaketimeMT.so.1",
];
/// Where the library keeps what processes share; the number of the process follows the name.
const SHARED: &str = "/dev/shm";
const SHARED_NAMES: [&str; 2] = ["faketime_shm_", "sem.faketime_sem_"];

/// The library, if it is installed.
pub(super) fn library() -> Option<&'static Path> {
    LIBRARIES
        .map(Path::new)
        .into_iter()
        .find(|path| path.is_file())
}

/// The clocks of a run.
#[derive(Clone, Debug)]
pub(super) struct Clocks {
    library: PathBuf,
    folder: PathBuf,
}

impl Clocks {
    /// Right clocks, for each of the names.
    pub(super) fn set_up(
        library: &Path,
        folder: &Path,
        names: &[String],
    ) -> Result<Clocks, HarnessError> {
        let clocks = Clocks {
            library: library.to_owned(),
            folder: folder.to_owned(),
        };
        for name in names {
            clocks.mend(name)?;
        }
        Ok(clocks)
    }

    /// The library to load before all others.
    pub(super) fn preload(&self) -> String {
        self.library.display().to_string()
    }

    /// What a node's environment has to hold.
    pub(super) fn variables(&self, name: &str) -> Vec<String> {
        let file = self.file(name).display().to_string();
        vec![
            format!("FAKETIME_TIMESTAMP_FILE={file}"),
            // Read at every look.
            "FAKETIME_NO_CACHE=1".to_owned(),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        ]
    }

    /// Wrong by so much, in milliseconds.
    pub(super) fn jump(&self, name: &str, error_ms: i64) -> Result<(), HarnessError> {
        self.say(name, &format!("{} x1.000", in_seconds(error_ms)))
    }

    /// At so many thousandths of the right pace from now on, for a node whose process is so old.
    pub(super) fn bend(
        &self,
        name: &str,
        per_mille: i64,
        age: Duration,
    ) -> Result<(), HarnessError> {
        let pace = per_mille.max(1);
        // The library counts from the beginning of the process, and what it is ahead by then is taken back here.
        let age_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        let ahead_ms = age_ms.saturating_mul(pace - RIGHT_PACE) / RIGHT_PACE;
        let (whole, part) = (pace / RIGHT_PACE, pace % RIGHT_PACE);
        self.say(
            name,
            &format!("{} x{whole}.{part:03}", in_seconds(-ahead_ms)),
        )
    }

    /// Right, and at the right pace.
    pub(super) fn mend(&self, name: &str) -> Result<(), HarnessError> {
        self.jump(name, 0)
    }

    fn say(&self, name: &str, what: &str) -> Result<(), HarnessError> {
        let file = self.file(name);
        // Readers see the old text or the new one, never half of it.
        let draft = file.with_extension("draft");
        write(&draft, &format!("{what}\n"))?;
        std::fs::rename(&draft, &file).map_err(HarnessError::file(&file))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("clock-{name}"))
    }
}

/// With a sign, as the library wants it.
fn in_seconds(offset_ms: i64) -> String {
    let (sign, size) = (
        if offset_ms < 0 { '-' } else { '+' },
        offset_ms.unsigned_abs(),
    );
    format!("{sign}{}.{:03}", size / 1_000, size % 1_000)
}

/// Removes what the library of killed processes left in the system's shared memory.
pub(super) fn tidy() {
    let entries = Path::new(SHARED).read_dir().into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let process = SHARED_NAMES
            .iter()
            .find_map(|start| name.strip_prefix(start));
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            // Fails only when somebody else was faster.
            std::fs::remove_file(entry.path()).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_told_by_files() {
        let folder = tempfile::tempdir().unwrap();
        let name = "n1".to_owned();
        let clocks = Clocks::set_up(Path::new("/lib"), folder.path(), &[name]).unwrap();
        let said = || std::fs::read_to_string(folder.path().join("clock-n1")).unwrap();
        assert_eq!(said(), "+0.000 x1.000\n");
        clocks.jump("n1", -90_061).unwrap();
        assert_eq!(said(), "-90.061 x1.000\n");
        clocks.jump("n1", 300).unwrap();
        assert_eq!(said(), "+0.300 x1.000\n");
        let age = Duration::from_millis(10_500);
        clocks.bend("n1", 1_500, age).unwrap();
        assert_eq!(said(), "-5.250 x1.500\n");
        clocks.bend("n1", 900, age).unwrap();
        assert_eq!(said(), "+1.050 x0.900\n");
        clocks.mend("n1").unwrap();
        assert_eq!(said(), "+0.000 x1.000\n");
    }
}
