//! Reads the records of a vnode in the order of their keys: to check its trees, or to list keys.
//!
//! Invariants: 1. a record that cannot be read is named, never passed over. 2. what could not be read is not judged.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use metrics::counter;
use souk_kv_core::merkle::{KeyHash, KeyState, LeafIndex, MerkleTree};
use souk_kv_proto::convert::causality::decode_record;
use souk_kv_storage::{Gap, Keyspace, Scan, ScanRow, StorageError, Store};
use souk_ring::PartitionId;

use super::forest::{Counted, Forest, Held, LeafPlace, leaf_of};
use crate::{
    governor::{Governor, Job},
    keys::{TreeId, partition_prefix, prefix_end, tree_of_record},
    tombstone::Tombstones,
};

/// Rows read between two questions to the governor.
const PAGE_ROWS: usize = 256;
const PAGE_BYTES: usize = 1024 * 1024;
/// What a page costs: reading rows in order is that much cheaper than reading them one by one.
const PAGE_UNITS: u32 = 32;

/// Walks the records of this node.
#[derive(Debug)]
pub(crate) struct Walker {
    store: Store,
    forest: Arc<Forest>,
    governor: Arc<Governor>,
    tombstones: Arc<Tombstones>,
    /// One walk at a time: each of them may note down touched leaves.
    turn: tokio::sync::Mutex<()>,
}

/// What a walk over one vnode found.
#[derive(Debug, Default)]
pub(crate) struct VnodeReport {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    /// The keys of records that are damaged.
    pub(crate) damaged: Vec<Bytes>,
    /// Stretches of keys that the engine cannot read at all.
    pub(crate) gaps: Vec<Gap>,
    /// Leaves that were wrong.
    pub(crate) leaves_mended: u64,
}

/// One page of the keys of some leaves.
#[derive(Debug, Default)]
pub(super) struct KeyPage {
    pub(super) states: Vec<KeyState>,
    /// Behind which key the next page begins; `None` after the last one.
    pub(super) next: Option<Bytes>,
    /// The keys of records that are damaged.
    pub(super) damaged: Vec<Bytes>,
}

impl Walker {
    pub(crate) fn new(
        store: Store,
        forest: Arc<Forest>,
        governor: Arc<Governor>,
        tombstones: Arc<Tombstones>,
    ) -> Self {
        Self {
            store,
            forest,
            governor,
            tombstones,
            turn: tokio::sync::Mutex::new(()),
        }
    }

    /// Reads every record of a vnode and puts its trees right.
    ///
    /// # Errors
    /// [`StorageError`] when the store is closed or takes no writes; damage is no error.
    pub(crate) async fn check(
        &self,
        partition: PartitionId,
        job: Job,
    ) -> Result<VnodeReport, StorageError> {
        let _turn = self.turn.lock().await;
        let mut report = VnodeReport::default();
        let Some(watch) = self.forest.watch(partition) else {
            return Ok(report);
        };
        watch.settle().await?;
        let mut counted = Counted::default();
        let prefix = partition_prefix(partition);
        let mut from = prefix.clone();
        loop {
            self.governor.pace(job, PAGE_UNITS).await;
            let scan = match prefix_end(&prefix) {
                Some(end) => Scan::range(Keyspace::Records, from.clone()..end),
                None => Scan::range(Keyspace::Records, from.clone()..),
            };
            let page = match self
                .store
                .scan(&scan.limit(PAGE_ROWS).bytes_max(PAGE_BYTES))
            {
                Ok(page) => page,
                Err(StorageError::Gap { gap, .. }) => {
                    let behind = gap.before.clone();
                    report.gaps.push(gap);
                    match behind {
                        Some(behind) if behind.starts_with(&prefix) => {
                            from = behind;
                            continue;
                        }
                        _ => break,
                    }
                }
                Err(cause) => return Err(cause),
            };
            for row in &page.rows {
                count(row, &mut counted, &mut report);
            }
            match page.rows.last() {
                Some(last) if page.more => from = successor(&last.key),
                _ => break,
            }
        }
        counter!("souk_scrub_records_total").increment(report.records);
        if !report.gaps.is_empty() {
            // Which leaves the unread keys belong to is not known, so none can be judged.
            return Ok(report);
        }
        let (mended, commit) = watch.conclude(&counted);
        report.leaves_mended = mended;
        if let Some(commit) = commit {
            commit.await?;
        }
        self.forest.note_built_when_all_are().await?;
        Ok(report)
    }

    /// Lists keys of some leaves of a tree behind `after`, up to and with `until`, at most a page of what is
    /// walked over. A stretch that cannot be read is passed over; a scrub finds it.
    ///
    /// # Errors
    /// [`StorageError`] when the store is closed.
    pub(super) fn list(
        &self,
        tree: TreeId,
        leaves: &BTreeSet<LeafIndex>,
        after: Option<&Bytes>,
        until: Option<&Bytes>,
        rows: usize,
    ) -> Result<KeyPage, StorageError> {
        let prefix = tree.prefix();
        let end = until
            .map(|until| successor(until))
            .or_else(|| prefix_end(&prefix));
        let mut from = after.map_or_else(|| prefix.clone(), |after| successor(after));
        loop {
            let scan = match &end {
                Some(end) => Scan::range(Keyspace::Records, from.clone()..end.clone()),
                None => Scan::range(Keyspace::Records, from.clone()..),
            };
            match self.store.scan(&scan.limit(rows).bytes_max(PAGE_BYTES)) {
                Ok(page) => {
                    let next = page.rows.last().filter(|_| page.more);
                    let mut keys = KeyPage {
                        next: next.map(|row| row.key.clone()),
                        ..KeyPage::default()
                    };
                    for row in &page.rows {
                        self.list_row(row, leaves, &mut keys);
                    }
                    return Ok(keys);
                }
                Err(StorageError::Gap { gap, .. }) => match gap.before {
                    Some(behind) if behind.starts_with(&prefix) => from = behind,
                    _ => return Ok(KeyPage::default()),
                },
                Err(cause) => return Err(cause),
            }
        }
    }

    fn list_row(&self, row: &ScanRow, leaves: &BTreeSet<LeafIndex>, keys: &mut KeyPage) {
        if !leaves.contains(&KeyHash::of(&row.key).leaf()) {
            return;
        }
        let causal_hash = match held(row) {
            Held::Nothing => return,
            Held::Record(causal_hash) => Some(causal_hash),
            Held::Unknown => {
                keys.damaged.push(row.key.clone());
                None
            }
        };
        let is_marked = |hash| self.tombstones.is_marked(&row.key, hash);
        keys.states.push(KeyState {
            key: row.key.clone(),
            causal_hash,
            is_collecting: causal_hash.is_some_and(is_marked),
        });
    }
}

/// The key right behind another.
fn successor(key: &[u8]) -> Bytes {
    [key, &[0]].concat().into()
}

/// What a stored row weighs in its tree.
fn held(row: &ScanRow) -> Held {
    match &row.value {
        Ok(record) => {
            decode_record(record.clone()).map_or(Held::Unknown, |(record, _)| Held::of(&record))
        }
        Err(_) => Held::Unknown,
    }
}

fn count(row: &ScanRow, counted: &mut Counted, report: &mut VnodeReport) {
    report.records += 1;
    report.bytes += (row.key.len() + row.value.as_ref().map_or(0, Bytes::len)) as u64;
    let held = held(row);
    if held == Held::Unknown {
        report.damaged.push(row.key.clone());
    }
    let Some(tree) = tree_of_record(&row.key) else {
        return;
    };
    let key = KeyHash::of(&row.key);
    let place = LeafPlace {
        tree,
        leaf: leaf_of(key),
    };
    match held {
        Held::Nothing => {}
        Held::Record(causal_hash) => {
            let trees: &mut BTreeMap<_, MerkleTree> = &mut counted.trees;
            let counted = trees.entry(tree.bucket).or_default();
            counted.add(place.leaf, key.digest(causal_hash));
        }
        Held::Unknown => {
            counted.unreadable.insert(place);
        }
    }
}
