//! Disks: small ones of their own that can be filled, and the files of killed nodes, which can be damaged or lost.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use rand::Rng as _;
use rand::rngs::StdRng;

use super::mark::Mark;
use super::tool::run_words;
use crate::process::HarnessError;

/// Room on a disk of one's own.
const DISK_MIB: u64 = 512;
/// Free space below which nodes on such a disk refuse writes; bytes.
pub(super) const RESERVE_BYTES: u64 = 16 << 20;
const BALLAST: &str = "ballast";
const PIECE_BYTES: usize = 1 << 20;
/// How many places are tried for a byte that is worth changing.
const TRIES_MAX: u32 = 1_000;

/// A disk in memory for each node. Dropped, it removes them with what is on them.
#[derive(Debug)]
pub(super) struct Disks {
    folders: BTreeMap<String, PathBuf>,
}

impl Disks {
    pub(super) fn mount(mark: Mark, home: &Path, names: &[String]) -> Result<Disks, HarnessError> {
        let mut disks = Disks {
            folders: BTreeMap::new(),
        };
        for name in names {
            let folder = home.join(format!("disk-{name}"));
            std::fs::create_dir_all(&folder).map_err(HarnessError::file(&folder))?;
            let (source, target) = (mark.to_string(), folder.display().to_string());
            let size = format!("size={DISK_MIB}m");
            run_words(&["mount", "-t", "tmpfs", "-o", &size, &source, &target], "")?;
            disks.folders.insert(name.clone(), folder);
        }
        Ok(disks)
    }

    pub(super) fn of(&self, name: &str) -> Result<&Path, HarnessError> {
        let folder = self.folders.get(name).map(PathBuf::as_path);
        folder.ok_or_else(|| HarnessError::NoSuchServer {
            name: name.to_owned(),
        })
    }

    /// Takes all the room that is left. Returns how much that was, in bytes.
    pub(super) fn fill(&self, name: &str) -> Result<u64, HarnessError> {
        let path = self.of(name)?.join(BALLAST);
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let mut file = file.map_err(HarnessError::file(&path))?;
        let piece = vec![0xa5; PIECE_BYTES];
        let mut size = PIECE_BYTES;
        let mut filled = 0;
        while size > 0 {
            match file.write(&piece[..size]) {
                Ok(written) if written > 0 => filled += u64::try_from(written).unwrap_or(0),
                // Smaller pieces may still fit.
                _ => size /= 2,
            }
        }
        Ok(filled)
    }

    pub(super) fn free(&self, name: &str) -> Result<(), HarnessError> {
        let path = self.of(name)?.join(BALLAST);
        match std::fs::remove_file(&path) {
            Err(problem) if problem.kind() != std::io::ErrorKind::NotFound => {
                Err(HarnessError::file(path)(problem))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        for folder in self.folders.values() {
            // Lazily, as a dying process may still hold files; fails only when it is gone.
            run_words(&["umount", "-l", &folder.display().to_string()], "").ok();
        }
    }
}

/// Deletes everything below a folder, and the folder. Returns how many bytes of files that were.
pub(super) fn wipe(folder: &Path) -> Result<u64, HarnessError> {
    let lost = files_below(folder)
        .iter()
        .filter_map(|file| Some(file.metadata().ok()?.len()))
        .sum();
    std::fs::remove_dir_all(folder).map_err(HarnessError::file(folder))?;
    Ok(lost)
}

/// Flips a bit of a byte that is not zero, in a file of a killed node. Says where, or nothing if there is no such byte.
pub(super) fn flip_bit(folder: &Path, random: &mut StdRng) -> Result<Option<String>, HarnessError> {
    let mut files = files_below(folder);
    files.retain(|file| file.metadata().is_ok_and(|found| found.len() > 0));
    if files.is_empty() {
        return Ok(None);
    }
    for _ in 0..TRIES_MAX {
        let path = &files[random.random_range(0..files.len())];
        let (length, bit) = (length_of(path)?, random.random_range(0..8_u32));
        let at = random.random_range(0..length);
        let byte = read_byte(path, at)?;
        // Zeros are mostly room that was never used.
        if byte != 0 {
            let changed = byte ^ (1 << bit);
            overwrite(path, at, &[changed])?;
            let name = path.strip_prefix(folder).unwrap_or(path).display();
            return Ok(Some(format!(
                "{name}, byte {at}: {byte:#04x} became {changed:#04x}"
            )));
        }
    }
    Ok(None)
}

/// Files below a folder, in order of their names.
pub(super) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in folder.read_dir().into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files_below(&entry.path())),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found.sort();
    found
}

pub(super) fn length_of(path: &Path) -> Result<u64, HarnessError> {
    let found = path.metadata().map_err(HarnessError::file(path))?;
    Ok(found.len())
}

/// Writes over bytes of a file.
pub(super) fn overwrite(path: &Path, at: u64, bytes: &[u8]) -> Result<(), HarnessError> {
    let file = OpenOptions::new().write(true).open(path);
    let written = file.and_then(|mut file| {
        file.seek(SeekFrom::Start(at))?;
        file.write_all(bytes)
    });
    written.map_err(HarnessError::file(path))
}

fn read_byte(path: &Path, at: u64) -> Result<u8, HarnessError> {
    let mut byte = [0];
    let read = File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut byte)
    });
    read.map_err(HarnessError::file(path))?;
    Ok(byte[0])
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn one_bit_of_one_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep").join("file");
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        let mut random = StdRng::seed_from_u64(1);
        assert_eq!(flip_bit(folder.path(), &mut random).unwrap(), None);
        let mut bytes = vec![0; 100];
        bytes[40..60].fill(0x77);
        std::fs::write(&path, &bytes).unwrap();
        let told = flip_bit(folder.path(), &mut random).unwrap().unwrap();
        assert!(told.starts_with("deep/file, byte"), "{told}");
        let changed = std::fs::read(&path).unwrap();
        let flipped: u32 = bytes
            .iter()
            .zip(&changed)
            .map(|(a, b)| (a ^ b).count_ones())
            .sum();
        assert_eq!((flipped, changed.len()), (1, 100));
        assert_eq!(wipe(folder.path()).unwrap(), 100);
        assert!(!folder.path().exists());
    }
}
