//! The hints on this node's disk.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use metrics::gauge;
use parking_lot::Mutex;
use souk_kv_core::{
    causality::MergeMode,
    hint::{HintBudget, HintKey},
};
use souk_kv_proto::convert::causality::{decode_record, encode_record};
use souk_kv_storage::{Keyspace, Scan, StorageError, Store, WriteBatch};
use souk_ring::NodeId;
use tokio::sync::Notify;
use tracing::warn;

use crate::{
    error::RequestError,
    guard::KeyGuards,
    siblings::{Local, merged},
};

/// Rows read at once while counting at start.
const COUNT_PAGE: usize = 10_000;

/// Hints kept for one target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct HintTotals {
    pub(crate) count: u64,
    pub(crate) bytes: u64,
}

/// All hints of this node.
#[derive(Debug)]
pub(crate) struct HintSpace {
    store: Store,
    guards: Arc<KeyGuards>,
    totals: Mutex<Totals>,
    /// Told whenever a hint was kept.
    pub(super) kept: Notify,
}

#[derive(Debug)]
struct Totals {
    budget: HintBudget,
    by_target: BTreeMap<NodeId, HintTotals>,
}

/// A hint to deliver.
#[derive(Debug, Clone)]
pub(super) struct StoredHint {
    pub(super) key: HintKey,
    pub(super) record: Bytes,
}

impl HintSpace {
    /// Counts what is there.
    pub(crate) fn open(
        store: Store,
        guards: Arc<KeyGuards>,
        cap_bytes: u64,
    ) -> Result<Self, StorageError> {
        let mut by_target: BTreeMap<NodeId, HintTotals> = BTreeMap::new();
        let mut used = 0;
        let mut scan = Scan::all(Keyspace::Hints).limit(COUNT_PAGE);
        loop {
            let page = store.scan(&scan)?;
            for row in &page.rows {
                let Ok(key) = HintKey::decode(&row.key) else {
                    continue;
                };
                let bytes = size(&row.key, row.value.as_ref().map_or(0, Bytes::len));
                let totals = by_target.entry(key.target).or_default();
                totals.count += 1;
                totals.bytes += bytes;
                used += bytes;
            }
            match page.rows.last() {
                Some(last) if page.more => {
                    scan = Scan::all(Keyspace::Hints)
                        .limit(COUNT_PAGE)
                        .after(&last.key)
                }
                _ => break,
            }
        }
        let totals = Mutex::new(Totals {
            budget: HintBudget::new(cap_bytes, used),
            by_target,
        });
        Ok(Self {
            store,
            guards,
            totals,
            kept: Notify::new(),
        })
    }

    /// Keeps a record for an absent primary; returns when it is on disk.
    pub(crate) async fn keep(
        &self,
        target: NodeId,
        store_key: Bytes,
        record: Bytes,
    ) -> Result<(), RequestError> {
        let (arrived, mode) =
            decode_record(record.clone()).map_err(|cause| RequestError::Corrupt {
                what: "a hint sent by a peer",
                cause: cause.to_string(),
            })?;
        let key = HintKey {
            target,
            key: store_key,
        }
        .encode();
        let _guard = self.guards.lock(&key).await;
        let stored = self.read(&key)?;
        let old = stored.as_ref().map(|stored| size(&key, stored.len()));
        let local = match stored.map(decode_record) {
            None => Local {
                record: Default::default(),
                is_whole: true,
            },
            Some(Ok((record, _))) => Local {
                record,
                is_whole: true,
            },
            Some(Err(_)) => Local {
                record: Default::default(),
                is_whole: false,
            },
        };
        let Some(merged) = merged(local, arrived, record, mode) else {
            return Ok(());
        };
        let new = size(&key, merged.len());
        self.resize(target, old, Some(new))?;
        let mut batch = WriteBatch::new();
        batch.put(Keyspace::Hints, key, merged);
        if let Err(error) = self.store.commit(batch).await {
            // What it takes on disk is not known; the count is put right at the next start.
            self.resize(target, Some(new), old).ok();
            return Err(error.into());
        }
        self.kept.notify_waiters();
        Ok(())
    }

    /// What all hints for a key hold together, encoded; empty when there is none.
    pub(crate) fn read_any(&self, store_key: &[u8]) -> Result<Bytes, RequestError> {
        let targets: Vec<NodeId> = self.totals.lock().by_target.keys().copied().collect();
        let mut found: Option<(souk_kv_core::causality::Record, MergeMode)> = None;
        for target in targets {
            let key = HintKey {
                target,
                key: Bytes::copy_from_slice(store_key),
            }
            .encode();
            let Some(bytes) = self.read(&key)? else {
                continue;
            };
            let (record, mode) = decode_record(bytes).map_err(|cause| RequestError::Corrupt {
                what: "a stored hint",
                cause: cause.to_string(),
            })?;
            match &mut found {
                None => found = Some((record, mode)),
                Some((merged, _)) => {
                    merged.merge(&record, mode);
                }
            }
        }
        Ok(found.map_or_else(Bytes::new, |(record, mode)| encode_record(&record, mode)))
    }

    /// What is kept for each target.
    pub(crate) fn totals(&self) -> BTreeMap<NodeId, HintTotals> {
        self.totals.lock().by_target.clone()
    }

    /// Up to `limit` hints for a target, in key order, behind `after`.
    pub(super) fn page(
        &self,
        target: NodeId,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<StoredHint>, StorageError> {
        let mut scan = Scan::prefix(Keyspace::Hints, HintKey::prefix(target)).limit(limit);
        if let Some(after) = after {
            scan = scan.after(after);
        }
        let mut hints = Vec::new();
        for row in self.store.scan(&scan)?.rows {
            match (HintKey::decode(&row.key), row.value) {
                (Ok(key), Ok(record)) => hints.push(StoredHint { key, record }),
                (Ok(_), Err(cause)) => warn!(%cause, "a hint is damaged and cannot be delivered"),
                (Err(cause), _) => warn!(%cause, "a key in the hint space is damaged"),
            }
        }
        Ok(hints)
    }

    /// Removes a delivered hint, unless something was merged into it meanwhile.
    pub(super) async fn remove(&self, delivered: &StoredHint) -> Result<(), StorageError> {
        let key = delivered.key.encode();
        let _guard = self.guards.lock(&key).await;
        if self.store.get(Keyspace::Hints, &key)?.as_ref() != Some(&delivered.record) {
            return Ok(());
        }
        let bytes = size(&key, delivered.record.len());
        let mut batch = WriteBatch::new();
        batch.delete(Keyspace::Hints, key);
        self.store.commit(batch).await?;
        self.resize(delivered.key.target, Some(bytes), None).ok();
        Ok(())
    }

    fn read(&self, key: &[u8]) -> Result<Option<Bytes>, RequestError> {
        match self.store.get(Keyspace::Hints, key) {
            // A damaged hint is overwritten: what it held is on the nodes that took the write.
            Err(StorageError::Corrupt { .. }) => Ok(None),
            other => Ok(other?),
        }
    }

    fn resize(
        &self,
        target: NodeId,
        old: Option<u64>,
        new: Option<u64>,
    ) -> Result<(), RequestError> {
        let mut totals = self.totals.lock();
        totals
            .budget
            .resize(old.unwrap_or(0), new.unwrap_or(0))
            .map_err(|_| RequestError::Overloaded {
                what: "the hint space is full",
                retry_after_ms: 1000,
            })?;
        let entry = totals.by_target.entry(target).or_default();
        entry.bytes = (entry.bytes + new.unwrap_or(0)).saturating_sub(old.unwrap_or(0));
        entry.count =
            (entry.count + u64::from(new.is_some())).saturating_sub(u64::from(old.is_some()));
        if entry.count == 0 {
            totals.by_target.remove(&target);
        }
        gauge!("souk_hints_bytes").set(totals.budget.used_bytes() as f64);
        gauge!("souk_hints_count").set(
            totals
                .by_target
                .values()
                .map(|totals| totals.count)
                .sum::<u64>() as f64,
        );
        Ok(())
    }
}

fn size(key: &[u8], value_bytes: usize) -> u64 {
    (key.len() + value_bytes) as u64
}
