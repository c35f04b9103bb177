//! This node's copies of records.
//!
//! Invariants: 1. what is on disk only grows in the order of merging. 2. an answer follows the sync, in
//! `interval` buckets the hand-over to the operating system. 3. whatever changes a record changes its leaf in the
//! same batch (`crate::anti_entropy`). 4. before anything is written over a damaged record, its vnode has a new actor
//! on disk: the old one may have written what was damaged, and would from then on claim to have seen it.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use bytes::Bytes;
use smallvec::SmallVec;
use souk_kv_core::causality::{MergeMode, Record};
use souk_kv_proto::{
    convert::causality::{decode_record, encode_record},
    mutant,
    peer::{RecordCopies, StoredRow, WriteRecord},
};
use souk_kv_storage::{
    Durability, Keyspace, Scan, ScanPage, ScanRow, StorageError, Store, WriteBatch,
};
use souk_ring::PartitionId;
use tracing::warn;

use crate::{
    anti_entropy::{Forest, Held, LeafChange, RecordCommit},
    cluster::Durabilities,
    error::RequestError,
    guard::{KeyGuard, KeyGuards},
    keys,
    mint::Mint,
};

/// Bytes of records in one page for a node that copies a partition; the record that reaches it is the last.
const COPY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Records in one page for a node that copies a partition.
const COPY_ROWS_MAX: usize = 4_096;

/// The replica side of `siblings` and `lww` buckets.
#[derive(Debug)]
pub(crate) struct Records {
    store: Store,
    forest: Arc<Forest>,
    guards: Arc<KeyGuards>,
    mint: Arc<Mint>,
    durabilities: Durabilities,
}

/// A record to be stored.
#[derive(Debug, Clone)]
pub(crate) struct RecordChange {
    pub(crate) store_key: Bytes,
    /// Encoded.
    pub(crate) record: Bytes,
    /// What its tree loses by it.
    pub(crate) before: Held,
    /// What its tree gains by it.
    pub(crate) after: Held,
}

/// A record as it lies here, read under its guard.
#[derive(Debug, Default)]
pub(crate) struct Local {
    pub(crate) record: Record,
    /// True when the stored bytes were damaged: what was there is not known.
    pub(crate) is_damaged: bool,
}

impl Local {
    /// What is known of a record whose bytes make no sense: nothing.
    pub(crate) fn damaged() -> Self {
        Self {
            is_damaged: true,
            ..Self::default()
        }
    }

    /// What it weighs in its tree.
    pub(crate) fn held(&self) -> Held {
        if self.is_damaged {
            Held::Unknown
        } else {
            Held::of(&self.record)
        }
    }

    /// Reads stored bytes; `None` is a record never written.
    pub(crate) fn of(stored: Option<Bytes>) -> Self {
        match stored.map(decode_record) {
            None => Self::default(),
            Some(Ok((record, _))) => Self {
                record,
                is_damaged: false,
            },
            Some(Err(cause)) => {
                warn!(%cause, "a stored record cannot be decoded; it is mended by its peers");
                Self::damaged()
            }
        }
    }
}

/// Why a vnode takes a new actor when a record of it is damaged.
pub(super) const OVER_DAMAGE: &str = "a record of it is damaged";

/// Which room on the disk a write may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Space {
    Ordinary,
    /// Also what is kept back on a full disk, for deletes.
    Reserve,
}

impl Records {
    pub(crate) fn new(
        store: Store,
        forest: Arc<Forest>,
        guards: Arc<KeyGuards>,
        mint: Arc<Mint>,
        durabilities: Durabilities,
    ) -> Self {
        Self {
            store,
            forest,
            guards,
            mint,
            durabilities,
        }
    }

    /// The encoded record; empty when there is none. A damaged one is an error, never served.
    pub(crate) fn read(&self, store_key: &[u8]) -> Result<Bytes, RequestError> {
        Ok(self
            .store
            .get(Keyspace::Records, store_key)?
            .unwrap_or_default())
    }

    /// Waits until nobody else changes this key.
    pub(crate) async fn lock(&self, store_key: &[u8]) -> KeyGuard {
        self.guards.lock(store_key).await
    }

    /// Waits until nobody else changes these keys.
    pub(crate) async fn lock_all(
        &self,
        store_keys: impl Iterator<Item = &Bytes>,
    ) -> SmallVec<[KeyGuard; 1]> {
        self.guards.lock_all(store_keys.map(|key| &key[..])).await
    }

    /// Reads for a change; the caller holds the guard. Damage is reported, and is no error.
    pub(crate) fn read_for_change(&self, store_key: &[u8]) -> Result<Local, RequestError> {
        local(self.store.get(Keyspace::Records, store_key))
    }

    /// Hands records to the disk, all or none; the caller holds their guards until the commit resolves.
    pub(crate) fn write_all(
        &self,
        changes: impl IntoIterator<Item = RecordChange>,
        space: Space,
    ) -> RecordCommit {
        let mut batch = WriteBatch::new();
        let mut leaves = SmallVec::new();
        for change in changes {
            leaves.extend(LeafChange::of(
                &change.store_key,
                change.before,
                change.after,
            ));
            batch.put(Keyspace::Records, change.store_key, change.record);
        }
        let keys = batch.changes().iter().map(|change| &change.key[..]);
        let durability = self.durabilities.of_records(keys);
        let batch = match space {
            Space::Ordinary => batch,
            Space::Reserve => batch.using_reserve(),
        };
        self.forest.commit(batch, leaves, durability)
    }

    /// A page of a partition's records behind a store key, for a learner. What is damaged here is left out: the
    /// learner asks others, too.
    pub(crate) fn copies(
        &self,
        partition: PartitionId,
        after: &[u8],
    ) -> Result<RecordCopies, RequestError> {
        let prefix = keys::partition_prefix(partition);
        let start = match after {
            [] => Bound::Included(prefix.clone()),
            after => Bound::Excluded(Bytes::copy_from_slice(after)),
        };
        let end = keys::prefix_end(&prefix).map_or(Bound::Unbounded, Bound::Excluded);
        let scan = Scan::range(Keyspace::Records, (start, end))
            .limit(COPY_ROWS_MAX)
            .bytes_max(COPY_BYTES_MAX);
        let page = self.store.scan(&scan)?;
        let copy = |row: ScanRow| {
            Some(StoredRow {
                key: row.key,
                record: row.value.ok()?,
            })
        };
        let last = page.rows.last().map(|row| row.key.clone());
        let mut rows: Vec<StoredRow> = page.rows.into_iter().filter_map(copy).collect();
        // The learner goes on behind the last key, whether it could be read or not.
        if let Some(last) = last.filter(|last| rows.last().is_none_or(|row| row.key != *last)) {
            rows.push(StoredRow {
                key: last,
                record: Bytes::new(),
            });
        }
        Ok(RecordCopies {
            rows,
            more: page.more,
        })
    }

    /// Removes a record that nobody needs any more, together with the changes `beside`; the caller holds the guard
    /// until the commit resolves. `held` is what stands there.
    pub(crate) fn erase(
        &self,
        store_key: Bytes,
        held: Held,
        mut beside: WriteBatch,
    ) -> RecordCommit {
        let leaf = LeafChange::of(&store_key, held, Held::Nothing);
        beside.delete(Keyspace::Records, store_key);
        let leaves = leaf.into_iter().collect();
        self.forest
            .commit(beside.using_reserve(), leaves, Durability::Synced)
    }

    /// Removes records that others hold by now, as far as they are still what they were; how many that is.
    pub(crate) async fn erase_same(&self, offered: &[WriteRecord]) -> Result<u64, RequestError> {
        let mut erased = 0;
        for offer in offered {
            let _guard = self.lock(&offer.store_key).await;
            let stored = self.store.get(Keyspace::Records, &offer.store_key)?;
            if stored.as_ref() != Some(&offer.record) {
                continue;
            }
            let held = Local::of(stored).held();
            self.erase(offer.store_key.clone(), held, WriteBatch::new())
                .await?;
            erased += 1;
        }
        Ok(erased)
    }

    /// A page of records in key order, behind `after`.
    pub(crate) fn page(
        &self,
        after: Option<&[u8]>,
        rows_max: usize,
    ) -> Result<ScanPage, RequestError> {
        let mut scan = Scan::all(Keyspace::Records).limit(rows_max);
        if let Some(after) = after {
            scan = scan.after(after);
        }
        Ok(self.store.scan(&scan)?)
    }

    /// Takes in what another replica holds; returns when it is on disk.
    pub(crate) async fn merge(
        &self,
        store_key: Bytes,
        incoming: Bytes,
    ) -> Result<(), RequestError> {
        let _guard = self.lock(&store_key).await;
        let held = self.store.get(Keyspace::Records, &store_key);
        match self.take_in(&store_key, held, incoming).await? {
            Some(change) => Ok(self.write_all([change], Space::Ordinary).await?),
            None => Ok(()),
        }
    }

    /// Takes in several records with one sync, all or none. A key may be there more than once.
    pub(crate) async fn merge_all(&self, incoming: Vec<WriteRecord>) -> Result<(), RequestError> {
        let keys = incoming.iter().map(|write| &write.store_key);
        let _guards = self.lock_all(keys).await;
        let mut changed = BTreeMap::new();
        for WriteRecord {
            store_key, record, ..
        } in incoming
        {
            let earlier: Option<&RecordChange> = changed.get(&store_key);
            let held = match earlier {
                Some(earlier) => Ok(Some(earlier.record.clone())),
                None => self.store.get(Keyspace::Records, &store_key),
            };
            let before = earlier.map(|earlier| earlier.before);
            if let Some(change) = self.take_in(&store_key, held, record).await? {
                // What stands on the disk is what the first one found there.
                let before = before.unwrap_or(change.before);
                changed.insert(store_key, RecordChange { before, ..change });
            }
        }
        if changed.is_empty() {
            return Ok(());
        }
        Ok(self
            .write_all(changed.into_values(), Space::Ordinary)
            .await?)
    }

    /// What to store under a key after `incoming` was merged with what is held; `None` when nothing changes.
    /// The caller holds the guard.
    async fn take_in(
        &self,
        store_key: &Bytes,
        held: Result<Option<Bytes>, StorageError>,
        incoming: Bytes,
    ) -> Result<Option<RecordChange>, RequestError> {
        let partition = keys::partition_of_record(store_key)
            .ok_or_else(|| RequestError::Invalid("a peer sent a damaged record key".to_owned()))?;
        if matches!(&held, Ok(Some(held)) if *held == incoming) {
            // What arrives more than once mostly arrives unchanged, and need not even be decoded.
            return Ok(None);
        }
        let (arrived, mode) =
            decode_record(incoming.clone()).map_err(|cause| RequestError::Corrupt {
                what: "a record sent by a peer",
                cause: cause.to_string(),
            })?;
        let local = local(held)?;
        if local.is_damaged
            && let Some(actor) = self.mint.actor(partition).await?
        {
            self.mint
                .replace_actor(partition, Some(actor), OVER_DAMAGE)
                .await?;
        }
        let before = local.held();
        if mutant!("merge-keeps-local") && !local.record.is_empty() {
            return Ok(None);
        }
        let local = if mutant!("merge-keeps-arrival") {
            Local::default()
        } else {
            local
        };
        let merged = merged(local, arrived, incoming, mode);
        Ok(merged.map(|(merged, record)| RecordChange {
            store_key: store_key.clone(),
            record,
            before,
            after: Held::of(&merged),
        }))
    }

    /// Rows of one partition key in order, under their sort keys, `limit` at most, and whether more follow.
    pub(crate) fn scan(
        &self,
        scan: &Scan,
        prefix_bytes: usize,
    ) -> Result<(Vec<StoredRow>, bool), RequestError> {
        let page = self.store.scan(scan)?;
        let mut rows = Vec::with_capacity(page.rows.len());
        for row in page.rows {
            rows.push(StoredRow {
                key: row.key.slice(prefix_bytes..),
                record: row.value?,
            });
        }
        Ok((rows, page.more))
    }
}

fn local(stored: Result<Option<Bytes>, StorageError>) -> Result<Local, RequestError> {
    match stored {
        Ok(stored) => Ok(Local::of(stored)),
        Err(StorageError::Corrupt { detail, .. }) => {
            warn!(%detail, "a stored record is damaged; it is mended by its peers");
            Ok(Local::damaged())
        }
        Err(error) => Err(error.into()),
    }
}

/// What to store after merging, and its bytes; `None` when nothing changes.
pub(crate) fn merged(
    local: Local,
    arrived: Record,
    incoming: Bytes,
    mode: MergeMode,
) -> Option<(Record, Bytes)> {
    if local.is_damaged || local.record.is_empty() {
        return Some((arrived, incoming));
    }
    let mut record = local.record;
    if !record.merge(&arrived, mode) {
        return None;
    }
    // The usual case: what arrived had seen all that was here, and is encoded already.
    if record == arrived {
        return Some((arrived, incoming));
    }
    let bytes = encode_record(&record, mode);
    Some((record, bytes))
}
