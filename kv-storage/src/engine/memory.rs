//! The in-memory twin: the same promises as the durable engines, on a [`MemoryDisk`].
//!
//! Place: an [`Engine`] for simulation and tests; deterministic, without threads.
//! Shape: a commit is two steps, [`MemoryEngine::stage`] (into the page cache) and
//! [`MemoryEngine::finish`] (sync, then visible), so that a writer can let simulated time pass,
//! and a power cut happen, between them.
//! Invariants: readers see a batch only after its sync, or at once with [`Persist::System`].
//! Not here: how a crash treats unsynced bytes (`super::memory_disk`).

use std::collections::BTreeSet;

use bytes::Bytes;
use parking_lot::RwLock;

use super::memory_disk::{Tables, put};
use super::{
    Engine, EngineError, EngineFindings, EngineKind, EngineStats, MemoryDisk, Persist, RowVisitor,
};
use crate::batch::Change;
use crate::{KeyRange, Keyspace};

/// One opening of a [`MemoryDisk`].
pub struct MemoryEngine {
    disk: MemoryDisk,
    generation: u64,
    visible: RwLock<Tables>,
}

impl MemoryEngine {
    /// Recovers what the disk holds. Engines opened earlier on it become ghosts.
    pub(crate) fn open(disk: &MemoryDisk) -> (Self, EngineFindings) {
        let recovered = disk.state.lock().recover();
        let engine = Self {
            disk: disk.clone(),
            generation: recovered.generation,
            visible: RwLock::new(recovered.tables),
        };
        let suspicion = recovered
            .hole_at
            .map(|at| format!("the log is damaged at byte {at}, and good records follow"));
        (engine, EngineFindings { suspicion })
    }

    /// Writes changes into the page cache. Nobody sees them yet.
    pub(crate) fn stage(&self, changes: &[Change]) -> Result<(), EngineError> {
        let mut state = self.disk.state.lock();
        if !state.is_current(self.generation) {
            return Err(EngineError::Refused(
                "the disk was reopened or lost power".into(),
            ));
        }
        state.append(changes);
        Ok(())
    }

    /// Syncs if asked, and makes the staged `changes` visible.
    pub(crate) fn finish(&self, changes: &[Change], persist: Persist) -> Result<(), EngineError> {
        let mut state = self.disk.state.lock();
        if !state.is_current(self.generation) {
            return Err(EngineError::Failed(
                "the disk lost power during the commit".into(),
            ));
        }
        if persist == Persist::Disk {
            state.sync().map_err(EngineError::failed)?;
        }
        state.mend(changes);
        let mut visible = self.visible.write();
        for change in changes {
            put(
                &mut visible,
                change.keyspace,
                change.key.clone(),
                change.value.clone(),
            );
        }
        state.fold(&visible);
        Ok(())
    }
}

/// A stored value as the disk returns it: with a flipped bit where it is damaged.
fn as_read(
    damaged: &BTreeSet<(Keyspace, Bytes)>,
    keyspace: Keyspace,
    key: &[u8],
    value: Bytes,
) -> Bytes {
    if damaged.is_empty() || !damaged.contains(&(keyspace, Bytes::copy_from_slice(key))) {
        return value;
    }
    let mut bytes = value.to_vec();
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
    bytes.into()
}

impl Engine for MemoryEngine {
    fn kind(&self) -> EngineKind {
        EngineKind::Memory
    }

    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let damaged = self.disk.state.lock().damaged();
        let value = self.visible.read()[keyspace.index()].get(key).cloned();
        Ok(value.map(|value| as_read(&damaged, keyspace, key, value)))
    }

    fn scan(&self, range: &KeyRange, visit: &mut RowVisitor<'_>) -> Result<(), EngineError> {
        let damaged = self.disk.state.lock().damaged();
        let visible = self.visible.read();
        let bounds = (range.start.clone(), range.end.clone());
        let mut rows = visible[range.keyspace.index()].range(bounds);
        while let Some((key, value)) = if range.reverse {
            rows.next_back()
        } else {
            rows.next()
        } {
            let value = as_read(&damaged, range.keyspace, key, value.clone());
            if visit(key, &value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn commit(&self, changes: &[Change], persist: Persist) -> Result<(), EngineError> {
        self.stage(changes)?;
        self.finish(changes, persist)
    }

    fn sync(&self) -> Result<(), EngineError> {
        let mut state = self.disk.state.lock();
        if !state.is_current(self.generation) {
            return Err(EngineError::Failed(
                "the disk was reopened or lost power".into(),
            ));
        }
        state.sync().map_err(EngineError::failed)
    }

    fn stats(&self) -> EngineStats {
        let state = self.disk.state.lock();
        EngineStats {
            disk_bytes: state.used_bytes(),
            journal_bytes: state.log_bytes(),
            ..EngineStats::default()
        }
    }

    fn close(&self) -> Result<(), EngineError> {
        self.sync()
    }
}
