//! The Merkle trees of this node: one for each bucket in each of its vnodes.
//!
//! Many keys share a leaf, and the disk gets batches in the order in which they were submitted. So a leaf's new
//! value is computed and its batch submitted under one lock; nothing is read from disk for it. The lock is held for
//! a few additions a record, and one for all vnodes: a batch may touch many of them.
//!
//! A walk over the records finds wrong leaves. Writes go on meanwhile, so a walk has the leaves that they touch
//! noted down, and judges only the others.
//!
//! Shape: leaves in `Keyspace::Merkle`, 16 bytes each and none for a leaf without records; everything above
//! them in memory only, 1 to 17 KiB a tree.
//! Source: `souk_kv_core::merkle`; `docs/adr/0011-trees-of-sums.md`.
//! Invariants: 1. a leaf is in the batch of the record that changed it. 2. a change that was refused is taken
//! back, in memory and on disk. 3. whatever might be wrong is a suspect until a walk has judged it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use metrics::counter;
use parking_lot::Mutex;
use smallvec::SmallVec;
use souk_kv_core::{
    causality::Record,
    merkle::{Digest, GroupIndex, KeyHash, LeafIndex, MerkleTree},
};
use souk_kv_proto::mutant;
use souk_kv_storage::{
    Commit, Durability, Keyspace, Recovery, Scan, StorageError, Store, WriteBatch,
};
use souk_ring::{PartitionCount, PartitionId};
use tracing::{info, warn};

use super::pending::RecordCommit;
use crate::keys::{self, BucketId, TreeId, split_leaf, tree_of_record};

/// Leaves read at once at start.
const LOAD_PAGE: usize = 10_000;
/// What [`keys::META_TREES`] holds: the shape of trees and the hashes in them.
const FORMAT: &[u8] = &[1];

/// What stands under a key, as far as its tree is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    Nothing,
    /// A record with this causal hash.
    Record(u64),
    /// A damaged record, whose part in its leaf cannot be told.
    Unknown,
}

impl Held {
    /// What a stored record amounts to.
    pub(crate) fn of(record: &Record) -> Self {
        if record.is_empty() {
            Self::Nothing
        } else {
            Self::Record(record.causal_hash())
        }
    }

    fn digest(self, key: KeyHash) -> Digest {
        match self {
            Self::Nothing | Self::Unknown => Digest::ZERO,
            Self::Record(causal_hash) => key.digest(causal_hash),
        }
    }
}

/// What a write does to the leaf of its key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LeafChange {
    pub(super) place: LeafPlace,
    difference: Digest,
    /// What stood there before is not known, so the leaf will be wrong.
    is_uncertain: bool,
}

impl LeafChange {
    /// What becomes of a leaf; `None` when it stays as it is.
    pub(crate) fn of(store_key: &[u8], before: Held, after: Held) -> Option<Self> {
        let key = KeyHash::of(store_key);
        let difference = after.digest(key) - before.digest(key);
        let is_uncertain = before == Held::Unknown;
        let place = LeafPlace {
            tree: tree_of_record(store_key)?,
            leaf: leaf_of(key),
        };
        (is_uncertain || !difference.is_zero()).then_some(Self {
            place,
            difference,
            is_uncertain,
        })
    }
}

/// The leaf that a key weighs in.
pub(super) fn leaf_of(key: KeyHash) -> LeafIndex {
    if mutant!("leaf-off-by-one") {
        return LeafIndex::new(key.leaf().get() ^ 1).expect("a tree has an even number of leaves");
    }
    key.leaf()
}

/// The changes of one batch.
pub(crate) type LeafChanges = SmallVec<[LeafChange; 1]>;

/// A leaf of one of the trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LeafPlace {
    pub(crate) tree: TreeId,
    pub(crate) leaf: LeafIndex,
}

/// All trees of this node.
#[derive(Debug)]
pub(crate) struct Forest {
    store: Store,
    /// One for each partition of the layout, owned or not: a node may keep records of a partition it has left.
    vnodes: Mutex<Vec<Vnode>>,
}

#[derive(Debug, Default)]
struct Vnode {
    trees: BTreeMap<BucketId, MerkleTree>,
    /// The trees stand for all records. They do not after an upgrade from a version without trees.
    is_built: bool,
    /// Leaves that may be wrong.
    suspects: BTreeSet<LeafPlace>,
    /// While a walk reads the records: the leaves that writes have changed since it began.
    touched: Option<BTreeSet<LeafPlace>>,
}

impl Vnode {
    /// Adds to a leaf and returns its new value.
    fn add(&mut self, place: LeafPlace, change: Digest) -> Digest {
        if let Some(touched) = &mut self.touched {
            touched.insert(place);
        }
        let tree = self.trees.entry(place.tree.bucket).or_default();
        tree.add(place.leaf, change)
    }
}

/// What a walk counted in one vnode.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub(super) trees: BTreeMap<BucketId, MerkleTree>,
    /// Leaves with a record that could not be read: they cannot be judged.
    pub(super) unreadable: BTreeSet<LeafPlace>,
}

/// A walk over the records of one vnode. Only one may be under way in each.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    forest: &'a Forest,
    partition: PartitionId,
}

impl Forest {
    /// Reads the leaves back.
    ///
    /// # Errors
    /// [`StorageError`] when they cannot be read. Damaged leaves are no error: they are put right by a walk.
    pub(crate) async fn open(
        store: Store,
        partitions: PartitionCount,
    ) -> Result<Self, StorageError> {
        let mut vnodes: Vec<Vnode> = partitions.partitions().map(|_| Vnode::default()).collect();
        let is_whole = load(&store, &mut vnodes)?;
        let forest = Self {
            vnodes: Mutex::new(vnodes),
            store,
        };
        let is_built = match forest.store.get(Keyspace::Meta, keys::META_TREES) {
            Ok(format) => format.as_deref() == Some(FORMAT),
            Err(StorageError::Corrupt { .. }) => false,
            Err(cause) => return Err(cause),
        };
        let is_suspect = matches!(forest.store.recovery(), Recovery::Suspect { .. });
        let has_records = match forest.store.scan(&Scan::all(Keyspace::Records).limit(1)) {
            Ok(page) => !page.rows.is_empty(),
            Err(StorageError::Gap { .. }) => true,
            Err(cause) => return Err(cause),
        };
        if has_records && (is_suspect || !is_whole || !is_built) {
            info!("the Merkle trees are counted anew from the records, in the background");
            let mut batch = WriteBatch::new();
            batch.delete(Keyspace::Meta, keys::META_TREES);
            forest.store.commit(batch).await?;
            return Ok(forest);
        }
        for vnode in forest.vnodes.lock().iter_mut() {
            vnode.is_built = true;
        }
        if !is_built {
            forest.note_built().await?;
        }
        Ok(forest)
    }

    /// Hands a batch to the disk, and the changes of the leaves that follow from it. The caller holds the guards
    /// of the keys until the commit resolves.
    pub(crate) fn commit(
        self: &Arc<Self>,
        mut batch: WriteBatch,
        changes: LeafChanges,
        durability: Durability,
    ) -> RecordCommit {
        if changes.is_empty() {
            return RecordCommit::settled(self.store.submit_with(batch, durability));
        }
        let mut vnodes = self.vnodes.lock();
        for change in &changes {
            if let Some(vnode) = vnode_of(&mut vnodes, change.place) {
                let value = vnode.add(change.place, change.difference);
                put_leaf(&mut batch, change.place, value);
                if change.is_uncertain {
                    vnode.suspects.insert(change.place);
                }
            }
        }
        let commit = self.store.submit_with(batch, durability);
        if commit.refusal().is_some() {
            for change in &changes {
                if let Some(vnode) = vnode_of(&mut vnodes, change.place) {
                    vnode.add(change.place, Digest::ZERO - change.difference);
                }
            }
            return RecordCommit::settled(commit);
        }
        drop(vnodes);
        RecordCommit::pending(commit, Arc::clone(self), changes)
    }

    /// Undoes changes whose records did not reach the disk. Later batches may have carried them there in their leaves.
    pub(super) fn take_back(&self, changes: &[LeafChange]) {
        let mut vnodes = self.vnodes.lock();
        let mut batch = WriteBatch::new();
        for change in changes {
            if let Some(vnode) = vnode_of(&mut vnodes, change.place) {
                let value = vnode.add(change.place, Digest::ZERO - change.difference);
                vnode.suspects.insert(change.place);
                put_leaf(&mut batch, change.place, value);
            }
        }
        // Its answer does not matter: what is refused once more is written by the next change of the leaf.
        drop(self.store.submit(batch.using_reserve()));
    }

    /// Has leaves judged by the next walk.
    pub(super) fn suspect(&self, places: impl IntoIterator<Item = LeafPlace>) {
        let mut vnodes = self.vnodes.lock();
        for place in places {
            if let Some(vnode) = vnode_of(&mut vnodes, place) {
                vnode.suspects.insert(place);
            }
        }
    }

    /// The vnodes that need a walk.
    pub(super) fn suspects(&self) -> Vec<PartitionId> {
        let vnodes = self.vnodes.lock();
        (0..)
            .map(PartitionId)
            .zip(vnodes.iter())
            .filter(|(_, vnode)| !vnode.is_built || !vnode.suspects.is_empty())
            .map(|(partition, _)| partition)
            .collect()
    }

    /// The roots of a vnode's trees, in order; `None` while they do not stand for all records.
    pub(super) fn roots(&self, partition: PartitionId) -> Option<BTreeMap<BucketId, Digest>> {
        let vnodes = self.vnodes.lock();
        let vnode = vnodes.get(usize::try_from(partition.0).ok()?)?;
        let roots = vnode
            .trees
            .iter()
            .map(|(bucket, tree)| (*bucket, tree.root()))
            .filter(|(_, root)| !root.is_zero());
        vnode.is_built.then(|| roots.collect())
    }

    /// Looks at a tree; at an empty one when nothing was written to it.
    pub(super) fn look<T>(&self, tree: TreeId, look: impl FnOnce(&MerkleTree) -> T) -> T {
        let vnodes = self.vnodes.lock();
        let vnode = usize::try_from(tree.partition.0).map(|partition| vnodes.get(partition));
        match vnode
            .ok()
            .flatten()
            .and_then(|vnode| vnode.trees.get(&tree.bucket))
        {
            Some(tree) => look(tree),
            None => look(&MerkleTree::default()),
        }
    }

    /// Begins a walk; `None` when the layout has no such partition.
    pub(super) fn watch(&self, partition: PartitionId) -> Option<Watch<'_>> {
        let mut vnodes = self.vnodes.lock();
        let vnode = vnodes.get_mut(usize::try_from(partition.0).ok()?)?;
        vnode.touched = Some(BTreeSet::new());
        Some(Watch {
            forest: self,
            partition,
        })
    }

    /// Writes down that all trees stand for all records, once they do.
    pub(super) async fn note_built_when_all_are(&self) -> Result<(), StorageError> {
        let is_noted = self.store.get(Keyspace::Meta, keys::META_TREES)?.is_some();
        if is_noted || !self.vnodes.lock().iter().all(|vnode| vnode.is_built) {
            return Ok(());
        }
        info!("the Merkle trees stand for all records");
        self.note_built().await
    }

    async fn note_built(&self) -> Result<(), StorageError> {
        let mut batch = WriteBatch::new();
        batch.put(Keyspace::Meta, keys::META_TREES, FORMAT);
        self.store.commit(batch).await
    }
}

impl Watch<'_> {
    /// Waits until everything submitted before the walk began can be read.
    pub(super) async fn settle(&self) -> Result<(), StorageError> {
        self.forest.store.commit(WriteBatch::new()).await
    }

    /// Judges the trees by what was counted, and puts wrong leaves right. Returns how many there were, and the
    /// commit that writes them down.
    pub(super) fn conclude(self, counted: &Counted) -> (u64, Option<Commit>) {
        let mut vnodes = self.forest.vnodes.lock();
        let Some(vnode) = vnodes.get_mut(self.partition.0 as usize) else {
            return (0, None);
        };
        let touched = vnode.touched.take().unwrap_or_default();
        let before = std::mem::take(&mut vnode.suspects);
        let was_built = std::mem::replace(&mut vnode.is_built, true);
        let empty = MerkleTree::default();
        let Vnode {
            trees, suspects, ..
        } = vnode;
        let buckets: BTreeSet<BucketId> =
            trees.keys().chain(counted.trees.keys()).copied().collect();
        let mut wrong = Vec::new();
        let mut batch = WriteBatch::new();
        for bucket in buckets {
            let tree = TreeId {
                partition: self.partition,
                bucket,
            };
            let counted_tree = counted.trees.get(&bucket).unwrap_or(&empty);
            let held = trees.entry(bucket).or_default();
            for group in GroupIndex::all() {
                let (ours, theirs) = (held.leaves(group), counted_tree.leaves(group));
                for ((leaf, held), right) in group.leaves().zip(ours).zip(theirs) {
                    let place = LeafPlace { tree, leaf };
                    let was_suspect = before.contains(&place) || !was_built;
                    if touched.contains(&place) || counted.unreadable.contains(&place) {
                        if was_suspect && held != right {
                            suspects.insert(place);
                        }
                    } else if held != right {
                        wrong.push((place, right));
                    }
                }
            }
        }
        for (place, right) in &wrong {
            let tree = trees.entry(place.tree.bucket).or_default();
            tree.set(place.leaf, *right);
            put_leaf(&mut batch, *place, *right);
        }
        if wrong.is_empty() {
            return (0, None);
        }
        let mended = wrong.len() as u64;
        if was_built {
            counter!("souk_merkle_leaves_mended_total").increment(mended);
            warn!(
                partition = self.partition.0,
                mended, "leaves disagreed with the records they stand for and were put right"
            );
        }
        // Under the lock, so that no later value of a leaf is overtaken.
        let commit = self.forest.store.submit(batch);
        (if was_built { mended } else { 0 }, Some(commit))
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let mut vnodes = self.forest.vnodes.lock();
        if let Some(vnode) = vnodes.get_mut(self.partition.0 as usize) {
            vnode.touched = None;
        }
    }
}

fn vnode_of(vnodes: &mut [Vnode], place: LeafPlace) -> Option<&mut Vnode> {
    vnodes.get_mut(usize::try_from(place.tree.partition.0).ok()?)
}

fn put_leaf(batch: &mut WriteBatch, place: LeafPlace, value: Digest) {
    let key = place.tree.leaf(place.leaf);
    if value.is_zero() {
        batch.delete(Keyspace::Merkle, key);
    } else {
        batch.put(
            Keyspace::Merkle,
            key,
            Bytes::copy_from_slice(&value.to_bytes()),
        );
    }
}

/// Reads all leaves that can be read. False when some of them cannot, and which is not known.
fn load(store: &Store, vnodes: &mut [Vnode]) -> Result<bool, StorageError> {
    let mut is_whole = true;
    let mut scan = Scan::all(Keyspace::Merkle).limit(LOAD_PAGE);
    loop {
        let page = match store.scan(&scan) {
            Ok(page) => page,
            Err(StorageError::Gap { gap, .. }) => {
                warn!(%gap, "leaves cannot be read and are counted anew");
                is_whole = false;
                match gap.before {
                    Some(behind) => scan = Scan::range(Keyspace::Merkle, behind..).limit(LOAD_PAGE),
                    None => return Ok(is_whole),
                }
                continue;
            }
            Err(cause) => return Err(cause),
        };
        for row in &page.rows {
            let Some((tree, leaf)) = split_leaf(&row.key) else {
                warn!("the key of a leaf makes no sense and is passed over");
                continue;
            };
            let vnode = usize::try_from(tree.partition.0)
                .ok()
                .and_then(|partition| vnodes.get_mut(partition));
            let Some(vnode) = vnode else {
                continue;
            };
            let place = LeafPlace { tree, leaf };
            let value = row.value.as_ref().ok();
            match value.and_then(|value| value.as_ref().try_into().ok()) {
                Some(value) => {
                    vnode.add(place, Digest::from_bytes(value));
                }
                None => {
                    warn!(
                        partition = tree.partition.0,
                        "a leaf is damaged and is counted anew"
                    );
                    vnode.suspects.insert(place);
                }
            }
        }
        match page.rows.last() {
            Some(last) if page.more => {
                scan = Scan::all(Keyspace::Merkle)
                    .limit(LOAD_PAGE)
                    .after(&last.key);
            }
            _ => return Ok(is_whole),
        }
    }
}

#[cfg(test)]
#[path = "forest_test.rs"]
mod tests;
