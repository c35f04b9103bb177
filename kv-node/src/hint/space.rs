//! The hints on this node's disk.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    ops::Bound,
    sync::Arc,
};

use bytes::Bytes;
use metrics::{counter, gauge};
use parking_lot::Mutex;
use souk_kv_core::{
    causality::{MergeMode, Record},
    hint::{HintBudget, HintKey},
};
use souk_kv_proto::{
    convert::causality::{decode_record, encode_record},
    mutant,
    peer::StoredRow,
};
use souk_kv_storage::{Keyspace, Scan, StorageError, Store, WriteBatch};
use souk_ring::NodeId;
use tokio::sync::Notify;
use tracing::warn;

use crate::{
    clock::Environment,
    error::RequestError,
    guard::KeyGuards,
    hint::Steering,
    keys,
    siblings::{Local, merged},
};

/// Rows read at once while counting at start.
const COUNT_PAGE: usize = 10_000;

/// Hints kept for one target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct HintTotals {
    pub(crate) count: u64,
    pub(crate) bytes: u64,
    /// Since when there has always been one; the oldest is not older. By this node's clock, in Unix milliseconds.
    pub(crate) since_unix_ms: u64,
}

/// Hints that an operator gave up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Dropped {
    pub(crate) count: u64,
    pub(crate) bytes: u64,
    /// There are more of them.
    pub(crate) more: bool,
}

/// All hints of this node.
#[derive(Debug)]
pub(crate) struct HintSpace {
    store: Store,
    guards: Arc<KeyGuards>,
    environment: Environment,
    totals: Mutex<Totals>,
    steering: Steering,
    /// Told whenever a hint was kept.
    pub(super) kept: Notify,
}

#[derive(Debug)]
struct Totals {
    budget: HintBudget,
    by_target: BTreeMap<NodeId, HintTotals>,
}

/// Some hints for one target.
#[derive(Debug, Default)]
pub(super) struct HintPage {
    pub(super) hints: Vec<StoredHint>,
    /// Hints that fail their checksum.
    pub(super) damaged: Vec<HintKey>,
    /// Behind which key the next page starts; `None` after the last hint.
    pub(super) next: Option<Bytes>,
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
        environment: Environment,
        members: impl Iterator<Item = NodeId>,
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
                if mutant!("hints-forgotten") {
                    let mut batch = WriteBatch::new();
                    batch.delete(Keyspace::Hints, row.key.clone());
                    drop(store.submit(batch));
                    continue;
                }
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
        for (target, totals) in &mut by_target {
            totals.since_unix_ms = waiting_since(&store, *target)?;
        }
        let targets = members.chain(by_target.keys().copied()).collect();
        let steering = Steering::open(store.clone(), &targets)?;
        let totals = Mutex::new(Totals {
            budget: HintBudget::new(cap_bytes, used),
            by_target,
        });
        Ok(Self {
            store,
            guards,
            environment,
            totals,
            steering,
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
        let (local, old) = match self.store.get(Keyspace::Hints, &key) {
            Ok(Some(stored)) if stored == record => return Ok(()),
            Ok(stored) => {
                let old = stored.as_ref().map(|stored| size(&key, stored.len()));
                (Local::of(stored), old)
            }
            // Overwritten: what it held is on the nodes that took the write.
            Err(StorageError::Corrupt { .. }) => (Local::damaged(), Some(size(&key, 0))),
            Err(cause) => return Err(cause.into()),
        };
        let Some((_, merged)) = merged(local, arrived, record, mode) else {
            return Ok(());
        };
        let new = size(&key, merged.len());
        let is_first = self.resize(target, old, Some(new))?;
        let mut batch = WriteBatch::new();
        batch.put(Keyspace::Hints, key, merged);
        if let Some(since_unix_ms) = is_first {
            let since = Bytes::copy_from_slice(&since_unix_ms.to_be_bytes());
            batch.put(Keyspace::Meta, keys::meta_hints_since(target), since);
        }
        if let Err(error) = self.store.commit(batch).await {
            // What it takes on disk is not known; the count is put right at the next start.
            self.resize(target, Some(new), old).ok();
            return Err(error.into());
        }
        self.kept.notify_waiters();
        Ok(())
    }

    /// What all hints for a key hold together, encoded; empty when there is none. A damaged one is an
    /// error: without it the answer might lack a write that counts on it.
    pub(crate) fn read_any(&self, store_key: &[u8]) -> Result<Bytes, RequestError> {
        let mut found: Option<(Record, MergeMode)> = None;
        for key in self.keys_of(store_key) {
            let Some(bytes) = self.store.get(Keyspace::Hints, &key)? else {
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

    /// What the hints for rows of one partition key hold together, for all targets: up to `limit` rows from `start`
    /// on (exclusive `end`), or backwards, and whether there are more. A damaged one is an error.
    pub(crate) fn scan_any(
        &self,
        prefix: &[u8],
        (start, end): (Bound<Bytes>, Bound<Bytes>),
        limit: usize,
        reverse: bool,
    ) -> Result<(Vec<StoredRow>, bool), RequestError> {
        let targets: Vec<NodeId> = self.totals.lock().by_target.keys().copied().collect();
        let mut found: BTreeMap<Bytes, (Record, MergeMode)> = BTreeMap::new();
        let mut more = false;
        for target in targets {
            let of_target = |bound: &Bound<Bytes>| {
                bound.as_ref().map(|key| {
                    let key = key.clone();
                    HintKey { target, key }.encode()
                })
            };
            let range = (of_target(&start), of_target(&end));
            let mut scan = Scan::range(Keyspace::Hints, range).limit(limit);
            if reverse {
                scan = scan.reversed();
            }
            let page = self.store.scan(&scan)?;
            more |= page.more;
            for row in page.rows {
                let Ok(key) = HintKey::decode(&row.key) else {
                    continue;
                };
                let (record, mode) =
                    decode_record(row.value?).map_err(|cause| RequestError::Corrupt {
                        what: "a stored hint",
                        cause: cause.to_string(),
                    })?;
                let sort_key = key.key.slice(prefix.len()..);
                match found.entry(sort_key) {
                    Entry::Vacant(entry) => {
                        entry.insert((record, mode));
                    }
                    Entry::Occupied(mut entry) => {
                        entry.get_mut().0.merge(&record, mode);
                    }
                }
            }
        }
        more |= found.len() > limit;
        let row = |(sort_key, (record, mode)): (Bytes, (Record, MergeMode))| StoredRow {
            key: sort_key,
            record: encode_record(&record, mode),
        };
        let rows = if reverse {
            found.into_iter().rev().take(limit).map(row).collect()
        } else {
            found.into_iter().take(limit).map(row).collect()
        };
        Ok((rows, more))
    }

    /// What operators want of the delivery.
    pub(crate) fn steering(&self) -> &Steering {
        &self.steering
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
    ) -> Result<HintPage, StorageError> {
        let mut scan = Scan::prefix(Keyspace::Hints, HintKey::prefix(target)).limit(limit);
        if let Some(after) = after {
            scan = scan.after(after);
        }
        let mut found = HintPage::default();
        let page = self.store.scan(&scan)?;
        if page.more {
            found.next = page.rows.last().map(|row| row.key.clone());
        }
        for row in page.rows {
            match (HintKey::decode(&row.key), row.value) {
                (Ok(key), Ok(record)) => found.hints.push(StoredHint { key, record }),
                (Ok(key), Err(_)) => found.damaged.push(key),
                (Err(cause), _) => warn!(%cause, "a key in the hint space is damaged"),
            }
        }
        Ok(found)
    }

    /// Drops a hint that fails its checksum: there is nothing in it to deliver. False if it was
    /// written anew meanwhile.
    pub(super) async fn discard_damaged(&self, damaged: &HintKey) -> Result<bool, StorageError> {
        let key = damaged.encode();
        let _guard = self.guards.lock(&key).await;
        match self.store.get(Keyspace::Hints, &key) {
            Err(StorageError::Corrupt { .. }) => {}
            Err(cause) => return Err(cause),
            Ok(_) => return Ok(false),
        }
        let bytes = size(&key, 0);
        let mut batch = WriteBatch::new();
        batch.delete(Keyspace::Hints, key);
        self.store.commit(batch).await?;
        self.resize(damaged.target, Some(bytes), None).ok();
        counter!("souk_hints_damaged_total").increment(1);
        warn!(
            target_node = damaged.target.0,
            "a hint was damaged and is dropped: its target gets the write from the nodes that took it"
        );
        Ok(true)
    }

    /// Whether a hint lies here as it was read.
    pub(super) fn still_holds(&self, hint: &StoredHint) -> Result<bool, StorageError> {
        let held = self.store.get(Keyspace::Hints, &hint.key.encode())?;
        Ok(held.as_ref() == Some(&hint.record))
    }

    /// Under which keys hints for a record may lie.
    fn keys_of(&self, store_key: &[u8]) -> Vec<Bytes> {
        let key = Bytes::copy_from_slice(store_key);
        let totals = self.totals.lock();
        let of_target = |&target: &NodeId| {
            let key = key.clone();
            HintKey { target, key }.encode()
        };
        totals.by_target.keys().map(of_target).collect()
    }

    /// Whether any hint for a key lies here, damaged ones included.
    pub(crate) fn holds_any(&self, store_key: &[u8]) -> Result<bool, StorageError> {
        for key in self.keys_of(store_key) {
            match self.store.get(Keyspace::Hints, &key) {
                Ok(None) => {}
                Ok(Some(_)) | Err(StorageError::Corrupt { .. }) => return Ok(true),
                Err(cause) => return Err(cause),
            }
        }
        Ok(false)
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

    /// Gives up at most `limit` hints for a target.
    pub(crate) async fn drop_some(
        &self,
        target: NodeId,
        limit: usize,
    ) -> Result<Dropped, StorageError> {
        let scan = Scan::prefix(Keyspace::Hints, HintKey::prefix(target)).limit(limit);
        let page = self.store.scan(&scan)?;
        let keys: Vec<Bytes> = page.rows.into_iter().map(|row| row.key).collect();
        let _guards = self.guards.lock_all(keys.iter().map(|key| &key[..])).await;
        let mut dropped = Dropped {
            more: page.more,
            ..Dropped::default()
        };
        let mut batch = WriteBatch::new();
        for key in keys {
            // Looked at again: it may have been delivered meanwhile, or have grown.
            let bytes = match self.store.get(Keyspace::Hints, &key) {
                Ok(Some(value)) => size(&key, value.len()),
                Ok(None) => continue,
                Err(StorageError::Corrupt { .. }) => size(&key, 0),
                Err(cause) => return Err(cause),
            };
            batch.delete(Keyspace::Hints, key);
            dropped.count += 1;
            dropped.bytes += bytes;
        }
        if dropped.count == 0 {
            return Ok(dropped);
        }
        self.store.commit(batch).await?;
        let mut totals = self.totals.lock();
        let Totals { budget, by_target } = &mut *totals;
        budget.release(dropped.bytes);
        if let Some(entry) = by_target.get_mut(&target) {
            entry.count = entry.count.saturating_sub(dropped.count);
            entry.bytes = entry.bytes.saturating_sub(dropped.bytes);
        }
        totals.settle(target);
        counter!("souk_hints_dropped_total").increment(dropped.count);
        Ok(dropped)
    }

    /// Counts a hint anew; since when hints are waiting if this is the first one.
    fn resize(
        &self,
        target: NodeId,
        old: Option<u64>,
        new: Option<u64>,
    ) -> Result<Option<u64>, RequestError> {
        let mut totals = self.totals.lock();
        let Totals { budget, by_target } = &mut *totals;
        budget
            .resize(old.unwrap_or(0), new.unwrap_or(0))
            .map_err(|_| RequestError::Overloaded {
                what: "the hint space is full",
                retry_after_ms: 1000,
            })?;
        let entry = by_target.entry(target).or_default();
        let is_first = entry.count == 0 && new.is_some();
        if is_first {
            entry.since_unix_ms = self.environment.unix_ms();
        }
        let since = entry.since_unix_ms;
        entry.bytes = (entry.bytes + new.unwrap_or(0)).saturating_sub(old.unwrap_or(0));
        entry.count =
            (entry.count + u64::from(new.is_some())).saturating_sub(u64::from(old.is_some()));
        totals.settle(target);
        Ok(is_first.then_some(since))
    }
}

impl Totals {
    /// Forgets a target without hints, and tells the metrics.
    fn settle(&mut self, target: NodeId) {
        if let Some(entry) = self.by_target.get(&target)
            && entry.count == 0
        {
            // What damage made uncountable goes with the last hint.
            self.budget.release(entry.bytes);
            self.by_target.remove(&target);
        }
        let count: u64 = self.by_target.values().map(|totals| totals.count).sum();
        gauge!("souk_hints_bytes").set(self.budget.used_bytes() as f64);
        gauge!("souk_hints_count").set(count as f64);
    }
}

/// As it was written down with the first hint; 0 if it was not, or is damaged.
fn waiting_since(store: &Store, target: NodeId) -> Result<u64, StorageError> {
    let stored = match store.get(Keyspace::Meta, &keys::meta_hints_since(target)) {
        // Nobody is worse off for not knowing it.
        Err(StorageError::Corrupt { .. }) => None,
        stored => stored?,
    };
    let bytes = stored.and_then(|stored| stored.first_chunk().copied());
    Ok(bytes.map_or(0, u64::from_be_bytes))
}

fn size(key: &[u8], value_bytes: usize) -> u64 {
    (key.len() + value_bytes) as u64
}

#[cfg(test)]
mod tests {
    use souk_kv_core::causality::{
        ActorId, ContentType, Dot, Mint, NewWrite, Observed, Record, RequestId, Stamp, Value,
    };
    use souk_kv_storage::{MemoryDisk, StoreOptions};

    use super::*;

    const TARGET: NodeId = NodeId(2);

    fn record(counter: u64) -> Bytes {
        let dot = Dot {
            actor: ActorId::from_bytes([7; 16]),
            counter,
        };
        let write = NewWrite {
            request: RequestId {
                client: [1; 16],
                sequence: counter,
            },
            stamp: Stamp::next(counter, None),
            expires_unix_ms: None,
            value: Some(Value::new(ContentType::octets(), vec![0; 4000].into())),
        };
        let mut record = Record::default();
        record
            .put(
                MergeMode::Siblings,
                &Observed::default(),
                dot,
                Mint::Loose,
                write,
                0,
            )
            .expect("the dot is fresh");
        encode_record(&record, MergeMode::Siblings)
    }

    fn open(disk: &MemoryDisk) -> HintSpace {
        let store = Store::open(StoreOptions::memory(disk.clone())).expect("it opens");
        let guards = Arc::new(KeyGuards::new());
        HintSpace::open(
            store,
            guards,
            1 << 20,
            Environment::system(),
            [TARGET].into_iter(),
        )
        .expect("it can be counted")
    }

    /// A hint space with one hint, which is damaged.
    async fn damaged() -> HintSpace {
        let disk = MemoryDisk::new();
        let hints = open(&disk);
        let key = Bytes::from_static(b"cart");
        hints
            .keep(TARGET, key, record(1))
            .await
            .expect("there is room");
        // Values flip once they have left the log, which is when it has grown long.
        let mut batch = WriteBatch::new();
        batch.put(Keyspace::Meta, "filler", vec![1; 5 << 20]);
        hints.store.commit(batch).await.expect("there is room");
        for seed in 0..50 {
            disk.flip_bit(seed);
            let hints = open(&disk);
            let page = hints.page(TARGET, None, 10).expect("it can be read");
            if page.damaged.len() == 1 {
                return hints;
            }
        }
        panic!("no flip of a bit damaged the hint");
    }

    fn used(hints: &HintSpace) -> u64 {
        hints.totals.lock().budget.used_bytes()
    }

    #[tokio::test]
    async fn a_damaged_hint_is_dropped_and_counted_out() {
        let hints = damaged().await;
        assert!(hints.read_any(b"cart").is_err(), "it is not taken for none");
        let page = hints.page(TARGET, None, 10).expect("it can be read");
        // As if it had been counted whole, before the damage.
        hints.resize(TARGET, Some(0), Some(4000)).expect("room");
        let dropped = hints.discard_damaged(&page.damaged[0]).await;
        assert!(dropped.expect("it can be removed"));
        assert_eq!(hints.totals(), BTreeMap::new());
        assert_eq!(used(&hints), 0);
        let page = hints.page(TARGET, None, 10).expect("it can be read");
        assert!(page.hints.is_empty() && page.damaged.is_empty());
    }

    #[tokio::test]
    async fn a_hint_kept_over_a_damaged_one_is_one_hint() {
        let hints = damaged().await;
        let stale = hints
            .page(TARGET, None, 10)
            .expect("it can be read")
            .damaged;
        hints
            .keep(TARGET, Bytes::from_static(b"cart"), record(2))
            .await
            .expect("there is room");
        assert_eq!(hints.totals()[&TARGET].count, 1);
        let dropped = hints.discard_damaged(&stale[0]).await;
        assert!(!dropped.expect("it can be read"), "it is good again");
        let page = hints.page(TARGET, None, 10).expect("it can be read");
        assert_eq!(page.hints.len(), 1);
        hints.remove(&page.hints[0]).await.expect("it can be");
        assert_eq!(hints.totals(), BTreeMap::new());
        assert_eq!(used(&hints), 0);
    }
}
