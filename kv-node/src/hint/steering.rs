//! What operators want of the delivery of hints: paused, or now.
//!
//! Place: part of the hint space; the admin API changes it, the handoff of each target asks it.
//! Invariants: 1. a pause is on disk before it is answered, and outlives a restart. 2. pausing drops nothing.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use souk_kv_storage::{Keyspace, StorageError, Store, WriteBatch};
use souk_ring::NodeId;
use tokio::sync::Notify;

use crate::keys;

/// The wishes for all targets.
#[derive(Debug)]
pub(crate) struct Steering {
    store: Store,
    wishes: Mutex<BTreeMap<NodeId, Wish>>,
    /// Told whenever a wish changed.
    pub(super) changed: Notify,
}

#[derive(Debug, Clone, Copy, Default)]
struct Wish {
    is_paused: bool,
    /// One round, whatever else holds it up.
    deliver_now: bool,
}

impl Steering {
    /// Reads which of the targets are paused.
    pub(super) fn open(store: Store, targets: &BTreeSet<NodeId>) -> Result<Self, StorageError> {
        let mut wishes: BTreeMap<NodeId, Wish> = BTreeMap::new();
        for &target in targets {
            let is_paused = match store.get(Keyspace::Meta, &keys::meta_hints_paused(target)) {
                // Only a pause leaves a row, whatever became of it.
                Err(StorageError::Corrupt { .. }) => true,
                stored => stored?.is_some(),
            };
            wishes.entry(target).or_default().is_paused = is_paused;
        }
        Ok(Self {
            store,
            wishes: Mutex::new(wishes),
            changed: Notify::new(),
        })
    }

    /// Whether hints for a target wait for an operator.
    pub(crate) fn is_paused(&self, target: NodeId) -> bool {
        self.wishes
            .lock()
            .get(&target)
            .is_some_and(|wish| wish.is_paused)
    }

    /// Stops delivery to a target after what is on its way, or lets it go on; returns when that is on disk.
    pub(crate) async fn set_paused(
        &self,
        target: NodeId,
        is_paused: bool,
    ) -> Result<(), StorageError> {
        let key = keys::meta_hints_paused(target);
        let mut batch = WriteBatch::new();
        if is_paused {
            batch.put(Keyspace::Meta, key, &b"paused"[..]);
        } else {
            batch.delete(Keyspace::Meta, key);
        }
        self.store.commit(batch).await?;
        self.wishes.lock().entry(target).or_default().is_paused = is_paused;
        self.changed.notify_waiters();
        Ok(())
    }

    /// Asks for one round of delivery, whether or not the target seems up and delivery is paused.
    pub(crate) fn deliver_now(&self, target: NodeId) {
        self.wishes.lock().entry(target).or_default().deliver_now = true;
        self.changed.notify_waiters();
    }

    /// Whether a round was asked for; then it is given.
    pub(super) fn take_deliver_now(&self, target: NodeId) -> bool {
        self.wishes
            .lock()
            .get_mut(&target)
            .is_some_and(|wish| std::mem::take(&mut wish.deliver_now))
    }
}

#[cfg(test)]
mod tests {
    use souk_kv_storage::{MemoryDisk, StoreOptions};

    use super::*;

    const TARGET: NodeId = NodeId(3);

    fn open(disk: &MemoryDisk) -> Steering {
        let store = Store::open(StoreOptions::memory(disk.clone())).expect("it opens");
        Steering::open(store, &[TARGET].into()).expect("it can be read")
    }

    #[tokio::test]
    async fn a_pause_outlives_a_restart() {
        let disk = MemoryDisk::new();
        let steering = open(&disk);
        assert!(!steering.is_paused(TARGET));
        steering.set_paused(TARGET, true).await.expect("room");
        assert!(steering.is_paused(TARGET) && !steering.is_paused(NodeId(4)));
        drop(steering);
        let steering = open(&disk);
        assert!(steering.is_paused(TARGET));
        steering.set_paused(TARGET, false).await.expect("room");
        drop(steering);
        assert!(!open(&disk).is_paused(TARGET));
    }

    #[tokio::test]
    async fn one_wish_is_one_round() {
        let steering = open(&MemoryDisk::new());
        assert!(!steering.take_deliver_now(TARGET));
        steering.deliver_now(TARGET);
        assert!(steering.take_deliver_now(TARGET));
        assert!(!steering.take_deliver_now(TARGET));
    }
}
