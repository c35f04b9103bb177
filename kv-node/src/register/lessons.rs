//! What this node's acceptor tells a learner, and how a learner's acceptor takes it in.
//!
//! Place: both sides' disk; `teaching` carries it from one to the other.
//! Invariants: 1. a teacher tells only what stands under the learner's epoch or a newer one: every older vote is on
//! disk by then. 2. the rows of one page are those of its header; a whole group fits one page, if it has to. 3. the header of a learnt group
//! is written last, so that a lesson cut short leaves nothing that could pass for a state.

use std::ops::Bound;

use bytes::Bytes;
use souk_kv_core::register::{AcceptorHeader, RowKey, Rows};
use souk_kv_proto::convert::register::{encode_header, encode_row};
use souk_kv_storage::{Keyspace, Scan, WriteBatch};
use souk_ring::{LayoutEpoch, PartitionId};

use super::{
    GroupStore,
    acceptor::{row, row_key},
};
use crate::{
    error::RequestError,
    keys::{GroupKey, partition_prefix, prefix_end},
    system::SystemGroup,
};

/// Bytes of rows in one page of a lesson; the row that reaches it is the last.
const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Groups named in one answer.
const NAMES_MAX: usize = 1_000;
/// Rows erased in one batch.
const ERASE_ROWS: usize = 10_000;

/// How much of a group a learner asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    Header,
    /// A page of the rows behind that one.
    Behind(Option<RowKey>),
    /// All rows, as they are at one moment.
    Whole,
}

/// A page of a group's rows.
#[derive(Debug)]
pub(crate) struct LessonPage {
    pub(crate) header: AcceptorHeader,
    pub(crate) rows: Rows,
    /// There are rows behind the last one.
    pub(crate) more: bool,
}

impl GroupStore {
    /// The groups that were found damaged here, and the epoch in which each was.
    pub(crate) fn damaged(&self) -> Vec<(GroupKey, LayoutEpoch)> {
        self.broken.all()
    }

    /// Groups of a partition in order, behind `after`. Votes of epochs below `epoch` are all on disk before.
    pub(crate) async fn names(
        &self,
        epoch: LayoutEpoch,
        partition: PartitionId,
        after: Option<&GroupKey>,
    ) -> Result<(Vec<GroupKey>, bool), RequestError> {
        // Entering proves that the epoch was adopted, and adopting has waited for older votes.
        drop(self.fence.enter(epoch).await?);
        let mut names = Vec::new();
        let mut after = after.cloned();
        while let Some(name) = self.next_group(partition, after.as_ref())? {
            if names.len() == NAMES_MAX {
                return Ok((names, true));
            }
            after = Some(name.clone());
            names.push(name);
        }
        Ok((names, false))
    }

    /// What a learner of that epoch is told of a group.
    pub(crate) async fn tell(
        &self,
        key: &GroupKey,
        epoch: LayoutEpoch,
        wanted: &Wanted,
    ) -> Result<LessonPage, RequestError> {
        let told = self.page(key, epoch, wanted).await;
        self.note_damage(key, told)
    }

    async fn page(
        &self,
        key: &GroupKey,
        epoch: LayoutEpoch,
        wanted: &Wanted,
    ) -> Result<LessonPage, RequestError> {
        let _guard = self.guards.lock(&key.header()).await;
        let passage = self.fence.enter(epoch).await?;
        let header = self.header(key, passage.epoch)?;
        let mut page = LessonPage {
            header,
            rows: Rows::new(),
            more: false,
        };
        let prefix = key.row_prefix();
        let start = match wanted {
            Wanted::Header => return Ok(page),
            Wanted::Whole => {
                page.rows = self.whole(key)?;
                return Ok(page);
            }
            Wanted::Behind(Some(after)) => Bound::Excluded(key.row(after.as_bytes())),
            Wanted::Behind(None) => Bound::Included(prefix.clone()),
        };
        let end = prefix_end(&prefix).map_or(Bound::Unbounded, Bound::Excluded);
        let scan = Scan::range(Keyspace::Registers, (start, end)).bytes_max(PAGE_BYTES_MAX);
        let found = self.store.scan(&scan)?;
        page.more = found.more;
        for found in found.rows {
            page.rows.insert(
                row_key(found.key.slice(prefix.len()..))?,
                row(found.value?)?,
            );
        }
        Ok(page)
    }

    /// Forgets what this learner's disk has of a group, before rows come page by page.
    pub(super) async fn clear(&self, key: &GroupKey) -> Result<(), RequestError> {
        let _guard = self.guards.lock(&key.header()).await;
        self.memory.take(key);
        let prefix = key.row_prefix();
        loop {
            let scan = Scan::prefix(Keyspace::Registers, &prefix).limit(ERASE_ROWS);
            let page = self.store.scan(&scan)?;
            let mut batch = WriteBatch::new();
            self.broken.keep(key, &mut batch);
            batch.delete(Keyspace::Registers, key.header());
            // Damaged rows cannot be read, and need not be.
            for row in page.rows {
                batch.delete(Keyspace::Registers, row.key);
            }
            self.store.commit(batch).await?;
            if !page.more {
                return Ok(());
            }
        }
    }

    /// Stores a page of rows of a group that was cleared and has no header yet.
    pub(super) async fn take_rows(&self, key: &GroupKey, rows: &Rows) -> Result<(), RequestError> {
        self.memory.take(key);
        let mut batch = WriteBatch::new();
        for (row_key, row) in rows {
            let store_key = key.row(row_key.as_bytes());
            batch.put(Keyspace::Registers, store_key, encode_row(row));
            if batch.bytes() >= PAGE_BYTES_MAX as u64 {
                self.store.commit(std::mem::take(&mut batch)).await?;
            }
        }
        Ok(self.store.commit(batch).await?)
    }

    /// Ends a lesson: with its header the group is whole again, and out of the list of damaged ones.
    pub(super) async fn take_header(
        &self,
        key: &GroupKey,
        header: &AcceptorHeader,
    ) -> Result<(), RequestError> {
        let _guard = self.guards.lock(&key.header()).await;
        self.memory.take(key);
        let mut batch = WriteBatch::new();
        batch.put(Keyspace::Registers, key.header(), encode_header(header));
        self.broken.mend(key, &mut batch);
        self.store.commit(batch).await?;
        self.broken.mended(key);
        Ok(())
    }

    /// Erases the groups of a partition that no teacher knows: nothing of them was ever chosen.
    pub(super) async fn keep_only(
        &self,
        partition: PartitionId,
        known: impl Fn(&GroupKey) -> bool,
    ) -> Result<usize, RequestError> {
        let mut erased = 0;
        let mut after = None;
        while let Some(name) = self.next_group(partition, after.as_ref())? {
            if !known(&name) {
                self.clear(&name).await?;
                erased += 1;
            }
            after = Some(name);
        }
        Ok(erased)
    }

    /// Whether there is a group of a partition here.
    pub(crate) fn holds_any(&self, partition: PartitionId) -> Result<bool, RequestError> {
        Ok(self.next_group(partition, None)?.is_some())
    }

    /// Forgets all groups of a partition that this node votes on no more, under the layout that it has adopted.
    pub(crate) async fn forget(&self, partition: PartitionId) -> Result<usize, RequestError> {
        self.keep_only(partition, |_| false).await
    }

    /// The first group of a partition behind another one; skips its rows without reading them.
    pub(super) fn next_group(
        &self,
        partition: PartitionId,
        after: Option<&GroupKey>,
    ) -> Result<Option<GroupKey>, RequestError> {
        let prefix = partition_prefix(partition);
        let end = prefix_end(&prefix).map_or(Bound::Unbounded, Bound::Excluded);
        let mut start = match after {
            Some(after) => behind(after),
            None => Some(prefix),
        };
        while let Some(from) = start {
            let scan =
                Scan::range(Keyspace::Registers, (Bound::Included(from), end.clone())).limit(1);
            let Some(found) = self.store.scan(&scan)?.rows.into_iter().next() else {
                return Ok(None);
            };
            let Some(group) = GroupKey::from_record_prefix(&found.key) else {
                // No key of ours: step over it.
                start = Some([&found.key[..], &[0]].concat().into());
                continue;
            };
            if !SystemGroup::owns(&group) {
                return Ok(Some(group));
            }
            start = behind(&group);
        }
        Ok(None)
    }
}

/// The first key behind all keys of a group.
fn behind(group: &GroupKey) -> Option<Bytes> {
    prefix_end(&group.record_prefix())
}
