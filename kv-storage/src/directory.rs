//! The house of a durable engine: a directory that one process owns.
//!
//! Place: opened by [`crate::Store`] before the engine, released after it.
//! Shape: `FORMAT` (see `crate::format`), `LOCK` (held while open),
//! `CLEAN` (see `crate::marker`), and one folder named after the engine.
//! Invariants: 1. owner-only rights. 2. one process at a time. 3. data of a newer version or of
//! another engine is never touched.
//! Not here: what is inside the engine's folder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::EngineKind;
use crate::error::OpenError;
use crate::format::{self, Format};

const FORMAT: &str = "FORMAT";
const LOCK: &str = "LOCK";
const CLEAN: &str = "CLEAN";

/// An owned data directory. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct DataDirectory {
    path: PathBuf,
    format: Format,
    existed: bool,
    lock: File,
}

impl DataDirectory {
    /// Creates or takes the directory at `path`. `memtable_bytes` is for a new one; an older one
    /// keeps what it was made with.
    pub(crate) fn open(
        path: &Path,
        engine: EngineKind,
        memtable_bytes: u64,
    ) -> Result<Self, OpenError> {
        create_owner_only(path)?;
        let lock = lock(path)?;
        let found = read_optional(&path.join(FORMAT))?;
        let existed = found.is_some();
        let format = match found {
            Some(text) => bring_up(path, &text, engine)?,
            None => {
                refuse_foreign(path)?;
                let format = Format {
                    engine,
                    memtable_bytes,
                };
                write_durably(path, FORMAT, format.encode().as_bytes())?;
                format
            }
        };
        Ok(Self {
            path: path.to_owned(),
            format,
            existed,
            lock,
        })
    }

    /// Whether a store was here before.
    pub(crate) fn existed(&self) -> bool {
        self.existed
    }

    /// The bound of a memtable that the directory was made with.
    pub(crate) fn memtable_bytes(&self) -> u64 {
        self.format.memtable_bytes
    }

    /// The engine's own folder.
    pub(crate) fn engine_path(&self) -> PathBuf {
        self.path.join(self.format.engine.name())
    }

    /// Takes the marker of an orderly close away, durably, before anything is written.
    pub(crate) fn take_clean_marker(&self) -> Result<Option<Vec<u8>>, OpenError> {
        let file = self.path.join(CLEAN);
        let marker = match fs::read(&file) {
            Ok(marker) => marker,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error(&file, "reading")(error)),
        };
        fs::remove_file(&file).map_err(io_error(&file, "removing"))?;
        sync_directory(&self.path)?;
        Ok(Some(marker))
    }

    pub(crate) fn set_clean_marker(&self, marker: &[u8]) -> Result<(), OpenError> {
        write_durably(&self.path, CLEAN, marker)
    }
}

impl Drop for DataDirectory {
    /// Unlocks rather than only closes: a child process that another thread is starting may hold a
    /// copy of the file for a moment, and the lock belongs to all copies together.
    fn drop(&mut self) {
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, path = %self.path.display(), "unlocking failed");
        }
    }
}

/// Reads the page of a directory that was here before, and writes it again if it is an older one.
fn bring_up(path: &Path, text: &[u8], engine: EngineKind) -> Result<Format, OpenError> {
    let read = Format::decode(path, text, engine)?;
    if read.version < format::VERSION {
        write_durably(path, FORMAT, read.format.encode().as_bytes())?;
        tracing::info!(path = %path.display(), from = read.version, to = format::VERSION, "the data directory was brought up");
    }
    Ok(read.format)
}

fn create_owner_only(path: &Path) -> Result<(), OpenError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(path)
        .map_err(io_error(path, "creating the directory"))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let rights = fs::Permissions::from_mode(0o700);
        fs::set_permissions(path, rights).map_err(io_error(path, "making it owner-only"))?;
    }
    Ok(())
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let file = path.join(LOCK);
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&file)
        .map_err(io_error(&file, "opening"))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(error)) => Err(io_error(&file, "locking")(error)),
    }
}

/// A directory without `FORMAT` may hold our lock, and a half-written `FORMAT` of a first start
/// that was interrupted; anything else is not ours to write into.
fn refuse_foreign(path: &Path) -> Result<(), OpenError> {
    for entry in fs::read_dir(path).map_err(io_error(path, "listing"))? {
        let name = entry.map_err(io_error(path, "listing"))?.file_name();
        if name != LOCK && name != *temporary(FORMAT) {
            return Err(OpenError::Foreign {
                path: path.to_owned(),
            });
        }
    }
    Ok(())
}

fn read_optional(file: &Path) -> Result<Option<Vec<u8>>, OpenError> {
    match fs::read(file) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error(file, "reading")(error)),
    }
}

fn temporary(name: &str) -> std::ffi::OsString {
    format!("{name}.new").into()
}

/// Writes a file so that it is there whole or not at all, whatever happens.
fn write_durably(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), OpenError> {
    let draft = folder.join(temporary(name));
    let file = folder.join(name);
    let write = || {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut draft_file = options.open(&draft)?;
        draft_file.write_all(bytes)?;
        draft_file.sync_all()?;
        fs::rename(&draft, &file)
    };
    write().map_err(io_error(&file, "writing"))?;
    sync_directory(folder)
}

fn sync_directory(path: &Path) -> Result<(), OpenError> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(io_error(path, "syncing"))
}

fn io_error<'a>(path: &'a Path, doing: &'static str) -> impl FnOnce(io::Error) -> OpenError + 'a {
    move |source| OpenError::Io {
        path: path.to_owned(),
        doing,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path) -> Result<DataDirectory, OpenError> {
        DataDirectory::open(path, EngineKind::Fjall, 32 << 20)
    }

    #[test]
    fn a_directory_is_made_once_and_found_again() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("a/b");
        assert!(!open(&path).expect("first").existed());
        assert!(open(&path).expect("second").existed());
    }

    #[cfg(unix)]
    #[test]
    fn a_directory_is_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("data");
        fs::create_dir(&path).expect("create");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("rights");
        let _open = open(&path).expect("open");
        assert_eq!(
            fs::metadata(&path).expect("metadata").permissions().mode() & 0o777,
            0o700
        );
    }

    #[test]
    fn a_second_owner_is_refused_until_the_first_leaves() {
        let folder = tempfile::tempdir().expect("folder");
        let first = open(folder.path()).expect("first");
        assert!(matches!(open(folder.path()), Err(OpenError::Locked { .. })));
        drop(first);
        open(folder.path()).expect("after");
    }

    #[test]
    fn a_copy_of_the_lock_elsewhere_does_not_outlive_the_owner() {
        let folder = tempfile::tempdir().expect("folder");
        let first = open(folder.path()).expect("first");
        let copy = first
            .lock
            .try_clone()
            .expect("as a starting child would inherit it");
        drop(first);
        open(folder.path()).expect("after");
        drop(copy);
    }

    #[test]
    fn foreign_and_damaged_directories_are_refused() {
        fn check(files: &[(&str, &str)], fits: impl Fn(&OpenError) -> bool) {
            let folder = tempfile::tempdir().expect("folder");
            for (name, text) in files {
                fs::write(folder.path().join(name), text).expect("write");
            }
            let error = open(folder.path()).expect_err("refused");
            assert!(fits(&error), "{error}");
            for (name, text) in files {
                let now = fs::read_to_string(folder.path().join(name)).expect("read");
                assert_eq!(now, *text, "it is left as it was");
            }
        }
        check(&[("letter.txt", "dear")], |e| {
            matches!(e, OpenError::Foreign { .. })
        });
        check(&[("FORMAT", "")], |e| matches!(e, OpenError::Format { .. }));
    }

    /// The page is written again in the newest version, and what it says holds for good.
    #[test]
    fn an_older_directory_is_brought_up_once() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join(FORMAT);
        let first = "souk storage\nversion = 1\nengine = fjall\ncrc32 = 33e30014\n";
        fs::write(&file, first).expect("write");
        let usual = 32 << 20;
        for asked in [usual, 1 << 20] {
            let directory = DataDirectory::open(folder.path(), EngineKind::Fjall, asked);
            let directory = directory.expect("an older version");
            assert_eq!(
                (directory.existed(), directory.memtable_bytes()),
                (true, usual)
            );
            let text = fs::read_to_string(&file).expect("read");
            assert!(text.contains("version = 2\n"), "{text}");
        }
    }

    #[test]
    fn a_marker_is_taken_once() {
        let folder = tempfile::tempdir().expect("folder");
        let directory = open(folder.path()).expect("open");
        assert_eq!(directory.take_clean_marker().expect("none"), None);
        directory.set_clean_marker(b"bye").expect("set");
        assert_eq!(
            directory.take_clean_marker().expect("one"),
            Some(b"bye".to_vec())
        );
        assert_eq!(directory.take_clean_marker().expect("none"), None);
    }
}
