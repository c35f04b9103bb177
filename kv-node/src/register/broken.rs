//! Groups of which something was found damaged on this node's disk.
//!
//! Place: asked by the acceptor before each vote; emptied by `teaching`.
//! Invariants: 1. a group is in it from the moment that damage was seen, in memory at once and on disk soon after;
//! until it is on disk the damage itself stops every vote that meets it. 2. it leaves in the
//! batch that makes it whole.

use std::collections::BTreeMap;

use metrics::{counter, gauge};
use parking_lot::Mutex;
use souk_kv_storage::{Keyspace, Scan, StorageError, Store, WriteBatch};
use souk_ring::LayoutEpoch;
use tracing::{error, warn};

use crate::keys::{self, GroupKey};

/// The groups, and the epoch in which each was found damaged.
#[derive(Debug)]
pub(super) struct BrokenGroups {
    store: Store,
    groups: Mutex<BTreeMap<GroupKey, LayoutEpoch>>,
}

impl BrokenGroups {
    /// `epoch` is the present one: a note that cannot be read counts as made under it.
    pub(super) fn open(store: Store, epoch: LayoutEpoch) -> Result<Self, StorageError> {
        let mut groups = BTreeMap::new();
        let mut scan = Scan::prefix(Keyspace::Meta, keys::META_BROKEN);
        loop {
            let page = store.scan(&scan)?;
            let last = page.rows.last().map(|row| row.key.clone());
            for row in page.rows {
                let name = row.key.slice(keys::META_BROKEN.len()..);
                let epoch = row
                    .value
                    .ok()
                    .and_then(|bytes| bytes.as_ref().try_into().ok())
                    .map_or(epoch, |bytes| LayoutEpoch(u64::from_be_bytes(bytes)));
                match GroupKey::from_record_prefix(&name) {
                    Some(key) => {
                        groups.insert(key, epoch);
                    }
                    None => warn!(?name, "a note of a damaged group cannot be read"),
                }
            }
            match last {
                Some(last) if page.more => {
                    scan = Scan::prefix(Keyspace::Meta, keys::META_BROKEN).after(last);
                }
                _ => break,
            }
        }
        gauge!("souk_register_groups_damaged").set(groups.len() as f64);
        Ok(Self {
            store,
            groups: Mutex::new(groups),
        })
    }

    pub(super) fn contains(&self, key: &GroupKey) -> bool {
        let groups = self.groups.lock();
        !groups.is_empty() && groups.contains_key(key)
    }

    /// All of them, and when they were found.
    pub(super) fn all(&self) -> Vec<(GroupKey, LayoutEpoch)> {
        let groups = self.groups.lock();
        groups
            .iter()
            .map(|(key, epoch)| (key.clone(), *epoch))
            .collect()
    }

    /// Puts a group in.
    pub(super) fn note(&self, key: &GroupKey, epoch: LayoutEpoch) {
        {
            let mut groups = self.groups.lock();
            if groups.contains_key(key) {
                return;
            }
            groups.insert(key.clone(), epoch);
            gauge!("souk_register_groups_damaged").set(groups.len() as f64);
        }
        counter!("souk_register_damage_total").increment(1);
        error!(group = ?key, "the copy of a register group is damaged: it votes no more until it is learnt anew");
        let mut batch = WriteBatch::new();
        batch.put(
            Keyspace::Meta,
            keys::meta_broken(key),
            epoch.0.to_be_bytes().to_vec(),
        );
        let commit = self.store.submit(batch.using_reserve());
        tokio::spawn(async move {
            if let Err(cause) = commit.await {
                error!(%cause, "damage of a register group could not be written down");
            }
        });
    }

    /// What keeps a damaged group in: no batch that removes the damage itself goes without it.
    pub(super) fn keep(&self, key: &GroupKey, batch: &mut WriteBatch) {
        if let Some(epoch) = self.groups.lock().get(key) {
            let epoch = epoch.0.to_be_bytes().to_vec();
            batch.put(Keyspace::Meta, keys::meta_broken(key), epoch);
        }
    }

    /// What takes a group out, as part of the batch that makes it whole.
    pub(super) fn mend(&self, key: &GroupKey, batch: &mut WriteBatch) {
        if self.contains(key) {
            batch.delete(Keyspace::Meta, keys::meta_broken(key));
        }
    }

    /// To be called once that batch is durable.
    pub(super) fn mended(&self, key: &GroupKey) {
        let mut groups = self.groups.lock();
        groups.remove(key);
        gauge!("souk_register_groups_damaged").set(groups.len() as f64);
    }
}
