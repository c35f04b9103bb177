//! How a learner is taught: the driver of `souk_kv_core::register::Lesson`.
//!
//! The order per partition: which groups there are, as a majority of the other acceptors knows them; each of them;
//! then nothing else is kept, and the partition is noted as taught. A learner that is
//! killed in between begins again with the first partition that has no note; a teacher that is killed is waited for.
//!
//! Place: I/O; run by `crate::members::care`.
//! Invariants: 1. names come from teachers that have adopted the learner's epoch, so no group can appear behind
//! their back under an older one. 2. a group counts as learnt once a majority of its acceptors, the learner not
//! counted, has told about it.
//! Not here: the disk of either side (`lessons`), when a learner counts again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::{TryStreamExt, future::join_all, stream};
use metrics::{counter, gauge};
use souk_kv_core::register::{AcceptorHeader, Acceptors, Lesson, RowKey};
use souk_kv_proto::{
    convert::register::{header_from_wire, rows_from_wire},
    mutant,
    peer::{CopyRecords, ListGroups, TeachGroup, WriteRecord, peer_message::Body},
};
use souk_kv_storage::{Keyspace, StorageError, WriteBatch};
use souk_ring::{Layout, NodeId, PartitionId};
use tokio::time::Instant;
use tracing::{debug, info};

use super::{
    group_from_wire, group_to_wire,
    lessons::{LessonPage, Wanted},
};
use crate::{
    cluster::Mode,
    core::NodeCore,
    error::RequestError,
    governor::Job,
    keys::{self, BucketId, GroupKey},
    peer::PeerError,
    system::SystemGroup,
};

/// How long a teacher may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Groups that are learnt side by side.
const GROUPS_AT_ONCE: usize = 16;
/// How often a group is begun again because its source went on meanwhile, before the others get their turn.
const TRIES: usize = 8;
/// From this try on a group is asked for whole: it changes faster than its pages come.
const TRIES_BY_PAGES: usize = 3;

/// Why a lesson came to no end. All but the first pass by themselves.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TeachError {
    /// Too few acceptors are sure of their past.
    #[error(
        "no majority of the acceptors of {what} is sure of its past: give a lost node its data directory back, or see `souk admin register recover`"
    )]
    NoMajority {
        /// A group or a partition.
        what: String,
    },
    /// Some of them did not answer.
    #[error(
        "{told} of the acceptors of {what} have told what they know, a majority of the others is needed: it is tried again"
    )]
    TooFew {
        /// A group or a partition.
        what: String,
        /// How many have.
        told: usize,
    },
    /// A group changed whenever it was read.
    #[error("a register group changed while it was copied: it is tried again")]
    Busy,
    /// The layout is another one now.
    #[error("the layout has changed: the lesson begins again")]
    LayoutChanged,
    /// A teacher's answer, or this node's own disk.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// A teacher was lost in the middle.
    #[error("a teacher was lost: {0}")]
    Peer(#[from] PeerError),
    /// This node's own disk.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A learner with its books.
pub(crate) struct Pupil<'a> {
    core: &'a NodeCore,
    layout: Arc<Layout>,
    /// How many acceptors the groups of each register bucket have.
    copies: BTreeMap<BucketId, usize>,
}

impl<'a> Pupil<'a> {
    /// Looks up which buckets there are: without them nobody knows who votes on a group.
    pub(crate) async fn new(core: &'a NodeCore) -> Result<Self, TeachError> {
        let layout = core.cluster.layout();
        if layout.is_heir(core.cluster.node) {
            // There is no majority to ask for the newest catalogue: what the survivors have seen has to do.
            for node in layout.members().keys() {
                if !layout.is_learner(*node) {
                    core.cluster.pull_catalogue(*node).await;
                }
            }
        } else {
            core.system.refresh(Instant::now() + ANSWER_TIMEOUT).await?;
        }
        let buckets = core.cluster.catalogue.all();
        let registers = buckets
            .iter()
            .filter(|bucket| bucket.mode == Mode::Register);
        let copies = registers
            .map(|bucket| (bucket.id, bucket.replicas_n.count()))
            .collect();
        Ok(Self {
            core,
            layout,
            copies,
        })
    }

    /// Learns everything that this node is to hold. What was taught before is not taught again.
    pub(crate) async fn learn_all(&self) -> Result<(), TeachError> {
        for key in SystemGroup::keys() {
            self.learn_group(&key).await?;
        }
        let store = self.core.members.store_id();
        let mut left = Vec::new();
        for partition in self.layout.kept_by(self.core.cluster.node) {
            let taught = self
                .core
                .store
                .get(Keyspace::Meta, &keys::meta_taught(partition))?;
            if taught.as_deref() != Some(&store.0[..]) {
                left.push(partition);
            }
        }
        let count = left.len();
        for (done, partition) in left.into_iter().enumerate() {
            gauge!("souk_learner_partitions_left").set((count - done) as f64);
            self.learn_partition(partition).await?;
            let mut batch = WriteBatch::new();
            batch.put(
                Keyspace::Meta,
                keys::meta_taught(partition),
                store.0.to_vec(),
            );
            self.core.store.commit(batch).await?;
        }
        gauge!("souk_learner_partitions_left").set(0.0);
        Ok(())
    }

    /// Learns one group.
    pub(crate) async fn learn_group(&self, key: &GroupKey) -> Result<(), TeachError> {
        for number in 0..TRIES {
            if self.core.cluster.layout().epoch() != self.layout.epoch() {
                return Err(TeachError::LayoutChanged);
            }
            match self.one_lesson(key, number >= TRIES_BY_PAGES).await {
                Err(TeachError::Busy) => {
                    debug!(group = ?key, "a group changed while it was copied")
                }
                other => return other,
            }
        }
        Err(TeachError::Busy)
    }

    async fn learn_partition(&self, partition: PartitionId) -> Result<(), TeachError> {
        let owners = &self.layout.receivers(partition, usize::MAX);
        if self.is_heir() && !owners.iter().any(|owner| self.is_sure(*owner)) {
            // An operator has accepted that no copy of it is left.
            self.core.groups.keep_only(partition, |_| false).await?;
            return Ok(());
        }
        let (names, told) = self.names(partition, owners).await?;
        stream::iter(names.iter().map(Ok::<_, TeachError>))
            .try_for_each_concurrent(GROUPS_AT_ONCE, |key| self.learn_group(key))
            .await?;
        let erased = self
            .core
            .groups
            .keep_only(partition, |key| names.contains(key))
            .await?;
        for teacher in told {
            self.copy_records(partition, teacher).await?;
        }
        info!(
            partition = partition.0,
            groups = names.len(),
            erased,
            "a partition was taught"
        );
        Ok(())
    }

    /// All groups that a majority of the others knows, and who has told.
    async fn names(
        &self,
        partition: PartitionId,
        owners: &[NodeId],
    ) -> Result<(BTreeSet<GroupKey>, BTreeSet<NodeId>), TeachError> {
        let own = self.core.cluster.node;
        let sure = owners.iter().copied().filter(|node| self.is_sure(*node));
        let asked = sure.map(|node| async move { (node, self.names_of(partition, node).await) });
        let mut names = BTreeSet::new();
        let mut told = BTreeSet::new();
        for (node, answer) in join_all(asked).await {
            match answer {
                Ok(known) => {
                    names.extend(known);
                    told.insert(node);
                }
                Err(cause) => debug!(node = node.0, %cause, "a teacher gave no names"),
            }
        }
        // Buckets may have fewer copies than the layout: each has a majority of its own.
        let counts = self.copies.values().copied().chain([owners.len()]);
        for count in counts {
            let voters = self.layout.receivers(partition, count);
            let acceptors =
                self.teaching_acceptors(Acceptors::of_partition(&self.layout, partition, count));
            if voters.contains(&own) && !acceptors.is_quorum(|node| told.contains(&node)) {
                return Err(TeachError::TooFew {
                    what: partition.to_string(),
                    told: told.len(),
                });
            }
        }
        Ok((names, told))
    }

    async fn names_of(
        &self,
        partition: PartitionId,
        teacher: NodeId,
    ) -> Result<Vec<GroupKey>, TeachError> {
        let mut names: Vec<GroupKey> = Vec::new();
        loop {
            self.core.governor.pace(Job::Lessons, 1).await;
            let request = ListGroups {
                epoch: self.layout.epoch().0,
                partition: partition.0,
                after: names.last().map(group_to_wire),
            };
            let Body::GroupNames(page) = self.ask(teacher, Body::ListGroups(request)).await? else {
                return Err(strange());
            };
            for group in page.groups {
                names.push(group_from_wire(Some(group))?);
            }
            if !page.more {
                return Ok(names);
            }
        }
    }

    async fn one_lesson(&self, key: &GroupKey, whole: bool) -> Result<(), TeachError> {
        let Some(voters) = self.voters(key) else {
            // A bucket with fewer copies: this node holds none of it, and is not asked.
            return Ok(());
        };
        let mut lesson = Lesson::new(
            self.teaching_acceptors(voters),
            self.core.cluster.node,
            self.layout.epoch(),
            |node| self.is_sure(node),
        );
        let what = || format!("register group {key:?}");
        if !lesson.is_possible() {
            return Err(TeachError::NoMajority { what: what() });
        }
        let teachers: Vec<NodeId> = lesson.teachers().collect();
        let asked = teachers
            .into_iter()
            .map(|teacher| async move { (teacher, self.page(key, teacher, Wanted::Header).await) });
        let mut told = 0;
        for (teacher, page) in join_all(asked).await {
            match page {
                Ok(page) => {
                    told += 1;
                    lesson.on_header(teacher, page.header);
                }
                Err(cause) => debug!(node = teacher.0, %cause, "a teacher told nothing"),
            }
        }
        let source = lesson
            .source()
            .ok_or_else(|| TeachError::TooFew { what: what(), told })?;
        self.core.groups.clear(key).await?;
        let header = self.copy_rows(key, source, whole).await?;
        let learnt = lesson.learnt(&header).ok_or(TeachError::Busy)?;
        self.core.groups.take_header(key, &learnt).await?;
        counter!("souk_learner_groups_total").increment(1);
        Ok(())
    }

    /// Copies all rows of one state, and returns its header.
    async fn copy_rows(
        &self,
        key: &GroupKey,
        source: NodeId,
        whole: bool,
    ) -> Result<AcceptorHeader, TeachError> {
        let mut after: Option<RowKey> = None;
        let mut first: Option<AcceptorHeader> = None;
        loop {
            let wanted = if whole {
                Wanted::Whole
            } else {
                Wanted::Behind(after.clone())
            };
            let page = self.page(key, source, wanted).await?;
            let is_same = first.is_none_or(|first| first.accepted == page.header.accepted);
            if !is_same {
                return Err(TeachError::Busy);
            }
            first = Some(page.header);
            let portion = u32::try_from(page.rows.len()).unwrap_or(u32::MAX);
            self.core.governor.pace(Job::Lessons, portion.max(1)).await;
            if !page.rows.is_empty() {
                self.core.groups.take_rows(key, &page.rows).await?;
            }
            after = page.rows.into_keys().next_back().or(after);
            if !page.more {
                return Ok(page.header);
            }
        }
    }

    /// Who votes on a group; `None` when this node does not, or when its bucket is not known.
    fn voters(&self, key: &GroupKey) -> Option<Acceptors> {
        if SystemGroup::owns(key) {
            return Some(Acceptors::of_members(&self.layout));
        }
        // An heir takes what there is, of whichever bucket.
        let unknown = self.is_heir().then_some(usize::MAX);
        let count = self.copies.get(&key.bucket).copied().or(unknown)?;
        let voters = self.layout.receivers(key.partition, count);
        let is_voter = voters.contains(&self.core.cluster.node);
        is_voter.then(|| Acceptors::of_partition(&self.layout, key.partition, count))
    }

    fn is_sure(&self, node: NodeId) -> bool {
        node != self.core.cluster.node && !self.layout.is_learner(node)
    }

    fn is_heir(&self) -> bool {
        self.layout.is_heir(self.core.cluster.node)
    }

    /// Of whom a majority has to tell: of all voters; or, where an operator has said whose copies count, all of those.
    fn teaching_acceptors(&self, voters: Acceptors) -> Acceptors {
        let mut sure = voters
            .nodes()
            .into_iter()
            .filter(|node| self.is_sure(*node));
        if mutant!("one-teacher") {
            Acceptors::every(sure.next())
        } else if self.is_heir() {
            Acceptors::every(sure)
        } else {
            voters
        }
    }

    async fn page(
        &self,
        key: &GroupKey,
        teacher: NodeId,
        wanted: Wanted,
    ) -> Result<LessonPage, TeachError> {
        let request = TeachGroup {
            group: Some(group_to_wire(key)),
            epoch: self.layout.epoch().0,
            with_rows: wanted != Wanted::Header,
            whole: wanted == Wanted::Whole,
            after: match wanted {
                Wanted::Behind(Some(after)) => after.as_bytes().clone(),
                Wanted::Behind(None) | Wanted::Header | Wanted::Whole => Bytes::new(),
            },
        };
        let Body::Lesson(lesson) = self.ask(teacher, Body::TeachGroup(request)).await? else {
            return Err(strange());
        };
        let header = header_from_wire(&lesson.header.unwrap_or_default());
        let rows = rows_from_wire(lesson.rows).map_err(|cause| {
            TeachError::Request(RequestError::Corrupt {
                what: "a teacher's answer",
                cause: cause.to_string(),
            })
        })?;
        Ok(LessonPage {
            header,
            rows,
            more: lesson.more,
        })
    }

    /// Merges all records of a partition that a teacher has into this node's own.
    async fn copy_records(
        &self,
        partition: PartitionId,
        teacher: NodeId,
    ) -> Result<(), TeachError> {
        let mut after = Bytes::new();
        loop {
            // What a page holds is older than what may be erased before it is merged.
            let _work = self.core.cluster.in_flight.enter();
            let request = CopyRecords {
                partition: partition.0,
                after: after.clone(),
            };
            let Body::RecordCopies(page) = self.ask(teacher, Body::CopyRecords(request)).await?
            else {
                return Err(strange());
            };
            let portion = u32::try_from(page.rows.len()).unwrap_or(u32::MAX);
            self.core.governor.pace(Job::Lessons, portion.max(1)).await;
            counter!("souk_learner_records_total").increment(portion.into());
            after = page.rows.last().map_or(after, |row| row.key.clone());
            // A row without a record only says how far the teacher has come.
            let held = page.rows.into_iter().filter(|row| !row.record.is_empty());
            let writes = held.map(|row| WriteRecord {
                store_key: Bytes::copy_from_slice(&row.key),
                record: row.record,
                ..WriteRecord::default()
            });
            self.core.records.merge_all(writes.collect()).await?;
            if !page.more {
                return Ok(());
            }
        }
    }

    async fn ask(&self, teacher: NodeId, body: Body) -> Result<Body, PeerError> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        self.core
            .cluster
            .call_in_bulk(teacher, body, deadline)
            .await
    }
}

fn strange() -> TeachError {
    TeachError::Request(RequestError::Internal(
        "a teacher answered another question than it was asked".to_owned(),
    ))
}
