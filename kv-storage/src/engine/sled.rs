//! The log-structured B+ tree behind [`crate::Store`]: sled, one tree for all keyspaces.
//!
//! Place: an [`Engine`]; driven by one writer.
//! Shape: a key in the tree is the keyspace's tag and our key. One tree, because sled's batches
//! are atomic within a tree, and its transactions over several trees cost a lock on each.
//! Invariants: 1. one flush at a time, under the commit lock: sled's `flush_async` deadlocks when
//! several tasks use it. 2. a flush is followed by a sync of the files (`super::sled_files`).
//! 3. sled shows a change as soon as it is applied, before any sync; until ours returns, readers
//! see the *before-images* of the keys in flight. Acceptors answer from reads, so a value that
//! power could still take back must not be read.
//! Traps: 1. iterators are no snapshots; a scan therefore holds the lock that hands over
//! before-images, and no commit changes rows under it. 2. space of old values is given back by
//! sled's flusher thread alone, hence it stays on.
//! Not here: group commit (`crate::writer`).

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::path::Path;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use sled::IVec;

use super::sled_files::SledFiles;
use super::{Engine, EngineError, EngineFindings, EngineKind, EngineStats, Persist, RowVisitor};
use crate::batch::Change;
use crate::options::Bounds;
use crate::{KeyRange, Keyspace};

/// How often sled's flusher writes buffers and gives space back.
const FLUSHER_MS: u64 = 500;

/// Values of the keys in flight as they were before; `None` was no value.
type BeforeImages = BTreeMap<Vec<u8>, Option<IVec>>;

/// The open tree.
pub struct SledEngine {
    database: sled::Db,
    files: Mutex<SledFiles>,
    before: RwLock<BeforeImages>,
    cache_bytes: u64,
}

impl SledEngine {
    /// Opens or creates the database in `path`.
    pub(crate) fn open(path: &Path, bounds: &Bounds) -> Result<(Self, EngineFindings), String> {
        let database = sled::Config::new()
            .path(path)
            .cache_capacity(bounds.cache_bytes)
            .flush_every_ms(Some(FLUSHER_MS))
            .mode(sled::Mode::HighThroughput)
            .open()
            .map_err(|error| error.to_string())?;
        let files = SledFiles::open(path).map_err(|error| error.to_string())?;
        let engine = Self {
            database,
            files: Mutex::new(files),
            before: RwLock::default(),
            cache_bytes: bounds.cache_bytes,
        };
        Ok((engine, EngineFindings::default()))
    }

    /// Makes readers see the present values of `changes` until [`Self::uncover`].
    fn cover(&self, changes: &[Change]) -> Result<(), EngineError> {
        let mut images = BeforeImages::new();
        for change in changes {
            let key = tree_key(change.keyspace, &change.key);
            let value = self.database.get(&key).map_err(engine_error)?;
            images.insert(key, value);
        }
        *self.before.write() = images;
        Ok(())
    }

    fn uncover(&self) {
        self.before.write().clear();
    }

    fn flush(&self, files: &mut SledFiles) -> Result<(), EngineError> {
        self.database.flush().map_err(engine_error)?;
        files.sync().map_err(EngineError::failed)
    }
}

impl Engine for SledEngine {
    fn kind(&self) -> EngineKind {
        EngineKind::Sled
    }

    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let key = tree_key(keyspace, key);
        let before = self.before.read();
        let value = match before.get(&key) {
            Some(image) => image.clone(),
            None => self.database.get(&key).map_err(engine_error)?,
        };
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(&self, range: &KeyRange, visit: &mut RowVisitor<'_>) -> Result<(), EngineError> {
        let bounds = tree_range(range);
        let before = self.before.read();
        let mut images = before.range(bounds.clone());
        let mut rows = self.database.range(bounds);
        let mut next_image = || {
            if range.reverse {
                images.next_back()
            } else {
                images.next()
            }
        };
        let mut next_row = || {
            let row = if range.reverse {
                rows.next_back()
            } else {
                rows.next()
            };
            row.transpose().map_err(engine_error)
        };
        let (mut image, mut row) = (next_image(), next_row()?);
        // A merge of two ordered streams; where both have a key, the image counts.
        loop {
            let image_first = match (&image, &row) {
                (None, None) => return Ok(()),
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (Some((covered, _)), Some((key, _))) => {
                    if covered.as_slice() == &key[..] {
                        row = next_row()?;
                        true
                    } else {
                        (covered.as_slice() < &key[..]) != range.reverse
                    }
                }
            };
            let flow = if image_first {
                let shown = image.and_then(|(key, value)| Some((key, value.as_ref()?)));
                let flow = shown.map(|(key, value)| visit(&key[1..], value));
                image = next_image();
                flow
            } else {
                let flow = row.map(|(key, value)| visit(&key[1..], &value));
                row = next_row()?;
                flow
            };
            if flow == Some(ControlFlow::Break(())) {
                return Ok(());
            }
        }
    }

    fn commit(&self, changes: &[Change], persist: Persist) -> Result<(), EngineError> {
        let mut batch = sled::Batch::default();
        for change in changes {
            let key = tree_key(change.keyspace, &change.key);
            match &change.value {
                Some(value) => batch.insert(key, &value[..]),
                None => batch.remove(key),
            }
        }
        let mut files = self.files.lock();
        match persist {
            Persist::System => {
                self.database.apply_batch(batch).map_err(engine_error)?;
                // Out of sled's own buffers, so that the death of the process takes nothing.
                self.database.flush().map_err(engine_error).map(|_| ())
            }
            Persist::Disk => {
                self.cover(changes)?;
                self.database.apply_batch(batch).map_err(engine_error)?;
                self.flush(&mut files)?;
                // After an error the images stay: nobody may see what may not be on disk.
                self.uncover();
                Ok(())
            }
        }
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.flush(&mut self.files.lock())
    }

    fn stats(&self) -> EngineStats {
        EngineStats {
            disk_bytes: self.database.size_on_disk().unwrap_or(0),
            // sled does not tell what it uses of its cache; this is the bound.
            cache_bytes: self.cache_bytes,
            ..EngineStats::default()
        }
    }

    fn close(&self) -> Result<(), EngineError> {
        self.sync()
    }
}

fn tree_key(keyspace: Keyspace, key: &[u8]) -> Vec<u8> {
    let mut tree_key = Vec::with_capacity(1 + key.len());
    tree_key.push(keyspace.tag());
    tree_key.extend_from_slice(key);
    tree_key
}

fn tree_range(range: &KeyRange) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let tag = range.keyspace.tag();
    let place = |key: &Bytes| tree_key(range.keyspace, key);
    let start = match range.start.as_ref().map(place) {
        Bound::Unbounded => Bound::Included(vec![tag]),
        bound => bound,
    };
    let end = match range.end.as_ref().map(place) {
        Bound::Unbounded => Bound::Excluded(vec![tag + 1]),
        bound => bound,
    };
    (start, end)
}

fn engine_error(error: sled::Error) -> EngineError {
    let detail = error.to_string().into();
    match error {
        sled::Error::Corruption { .. } => EngineError::Corrupt(detail),
        _ => EngineError::Failed(detail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(key: &str, value: Option<&str>) -> Change {
        let value = value.map(|value| Bytes::copy_from_slice(value.as_bytes()));
        Change {
            keyspace: Keyspace::Records,
            key: Bytes::copy_from_slice(key.as_bytes()),
            value,
        }
    }

    fn rows(engine: &SledEngine, reverse: bool) -> Vec<(String, String)> {
        let range = KeyRange {
            keyspace: Keyspace::Records,
            start: Bound::Unbounded,
            end: Bound::Unbounded,
            reverse,
        };
        let mut rows = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut visit = |key: &[u8], value: &[u8]| {
            rows.push((text(key), text(value)));
            ControlFlow::Continue(())
        };
        engine.scan(&range, &mut visit).expect("scan");
        rows
    }

    /// After a commit whose sync failed, readers see the state before it, for good.
    #[test]
    fn what_was_not_synced_is_not_seen() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("sled");
        let (engine, _) = SledEngine::open(&path, &Bounds::default()).expect("open");
        let old = [
            change("b", Some("old")),
            change("d", Some("old")),
            change("f", Some("old")),
        ];
        engine.commit(&old, Persist::Disk).expect("commit");
        let before = rows(&engine, false);
        assert_eq!(before.len(), 3);
        std::fs::remove_dir(path.join("blobs")).expect("makes the next sync fail");
        let new = [
            change("a", Some("new")),
            change("b", Some("new")),
            change("c", Some("new")),
            change("d", None),
            change("g", Some("new")),
        ];
        engine
            .commit(&new, Persist::Disk)
            .expect_err("the sync failed");
        assert_eq!(rows(&engine, false), before);
        assert_eq!(
            rows(&engine, true),
            before.into_iter().rev().collect::<Vec<_>>()
        );
        let get = |key: &str| engine.get(Keyspace::Records, key.as_bytes()).expect("get");
        assert_eq!(get("a"), None);
        assert_eq!(get("b").as_deref(), Some(&b"old"[..]));
        assert_eq!(get("d").as_deref(), Some(&b"old"[..]));
    }
}
