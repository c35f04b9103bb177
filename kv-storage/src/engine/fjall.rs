//! The log-structured merge tree behind [`crate::Store`]: fjall, one keyspace for each of ours.
//!
//! Place: an [`Engine`]; driven by one writer.
//! Invariants: a batch goes to the journal, is synced (`fdatasync`, once), and only then becomes
//! readable; that order is fjall's own. It becomes readable row by row, though: reads take a snapshot, which
//! shows no batch before the whole of it.
//! Traps: 1. two changes of one key in one batch get one sequence number, hence the merged,
//! unique list. 2. a journal that is damaged in the middle is cut off there in silence; we read
//! it first (`super::fjall_journal`), and the lists of tables, whose checksums fjall does not compare
//! (`super::fjall_manifest`). 3. `Keyspace::get` and `Keyspace::range` show the newest state of each row, be the
//! batch that it belongs to applied to its end or not.
//! Not here: group commit (`crate::writer`); fjall has none.

use std::path::Path;

use bytes::Bytes;
use fjall::{
    CompressionType, Database, Keyspace as Tree, KeyspaceCreateOptions, PersistMode, Readable,
};

use super::{Engine, EngineError, EngineFindings, EngineKind, EngineStats, Persist, RowVisitor};
use super::{fjall_journal, fjall_manifest};
use crate::batch::Change;
use crate::options::Bounds;
use crate::{KeyRange, Keyspace};

/// The open database and its keyspaces, in tag order.
pub struct FjallEngine {
    database: Database,
    trees: [Tree; Keyspace::ALL.len()],
}

impl FjallEngine {
    /// Opens or creates the database in `path`, and says what its journals looked like before.
    pub(crate) fn open(path: &Path, bounds: &Bounds) -> Result<(Self, EngineFindings), String> {
        // Both look at every file: the second may have more to log.
        let manifest = fjall_manifest::inspect(path)?;
        let journal = fjall_journal::inspect(path)?;
        let findings = EngineFindings {
            suspicion: manifest.or(journal),
        };
        let database = Database::builder(path)
            .cache_size(bounds.cache_bytes)
            .max_journaling_size(bounds.journal_bytes)
            // Values are small and the journal is short-lived: processor time is dearer here.
            .journal_compression(CompressionType::None)
            .open()
            .map_err(|error| error.to_string())?;
        let mut trees = Vec::with_capacity(Keyspace::ALL.len());
        for keyspace in Keyspace::ALL {
            let options =
                || KeyspaceCreateOptions::default().max_memtable_size(bounds.memtable_bytes);
            trees.push(
                database
                    .keyspace(keyspace.name(), options)
                    .map_err(|e| e.to_string())?,
            );
        }
        let Ok(trees) = trees.try_into() else {
            return Err("a keyspace is missing".to_owned());
        };
        Ok((Self { database, trees }, findings))
    }

    fn tree(&self, keyspace: Keyspace) -> &Tree {
        &self.trees[keyspace.index()]
    }
}

impl Engine for FjallEngine {
    fn kind(&self) -> EngineKind {
        EngineKind::Fjall
    }

    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let tree = self.tree(keyspace);
        let value = self
            .database
            .snapshot()
            .get(tree, key)
            .map_err(engine_error)?;
        // Copied: a value may be a view into a whole block, which it would keep in memory.
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(&self, range: &KeyRange, visit: &mut RowVisitor<'_>) -> Result<(), EngineError> {
        let bounds = (range.start.clone(), range.end.clone());
        let mut rows = self
            .database
            .snapshot()
            .range(self.tree(range.keyspace), bounds);
        while let Some(row) = if range.reverse {
            rows.next_back()
        } else {
            rows.next()
        } {
            let (key, value) = row.into_inner().map_err(engine_error)?;
            if visit(&key, &value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn commit(&self, changes: &[Change], persist: Persist) -> Result<(), EngineError> {
        let mode = match persist {
            Persist::Disk => PersistMode::SyncData,
            Persist::System => PersistMode::Buffer,
        };
        let mut batch = fjall::OwnedWriteBatch::with_capacity(self.database.clone(), changes.len())
            .durability(Some(mode));
        for change in changes {
            let tree = self.tree(change.keyspace);
            match &change.value {
                Some(value) => batch.insert(tree, &change.key[..], &value[..]),
                None => batch.remove(tree, &change.key[..]),
            }
        }
        batch.commit().map_err(engine_error)
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.database
            .persist(PersistMode::SyncData)
            .map_err(engine_error)
    }

    fn stats(&self) -> EngineStats {
        EngineStats {
            disk_bytes: self.database.disk_space().unwrap_or(0),
            journal_bytes: self.database.journal_disk_space().unwrap_or(0),
            cache_bytes: self.database.cache_size(),
            memtable_bytes: self.database.write_buffer_size(),
            backlog_count: (self.database.outstanding_flushes()
                + self.database.active_compactions()) as u64,
            compaction_lag_tables: self.trees.iter().map(waiting_tables).max().unwrap_or(0),
        }
    }

    fn close(&self) -> Result<(), EngineError> {
        self.database
            .persist(PersistMode::SyncAll)
            .map_err(engine_error)
    }
}

/// New tables lie in level 0 until they are compacted.
fn waiting_tables(tree: &Tree) -> u64 {
    tree.l0_table_count() as u64
}

fn engine_error(error: fjall::Error) -> EngineError {
    let detail = error.to_string().into();
    match error {
        // fjall asks for its poison before it writes; its own failures come as other errors.
        fjall::Error::Poisoned => EngineError::Refused(detail),
        fjall::Error::Storage(
            fjall::LsmError::ChecksumMismatch { .. }
            | fjall::LsmError::Decompress(_)
            | fjall::LsmError::InvalidTag(_)
            | fjall::LsmError::InvalidTrailer
            | fjall::LsmError::InvalidHeader(_),
        ) => EngineError::Corrupt(detail),
        _ => EngineError::Failed(detail),
    }
}
