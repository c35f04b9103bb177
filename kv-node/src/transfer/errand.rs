//! One step of one partition's transfer, performed.
//!
//! Invariants: 1. a step that is told as done is on this node's disk, or chosen by majorities of both. 2. an old owner
//! names its groups only after it has adopted the layout of both: the question carries its epoch.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use metrics::counter;
use souk_kv_core::transfer::TransferAction;
use souk_kv_proto::peer::{CopyRecords, ListGroups, WriteRecord, peer_message::Body};
use souk_ring::{NodeId, PartitionId};
use tokio::time::{Instant, sleep};

use crate::{
    anti_entropy::RoundError,
    core::NodeCore,
    error::RequestError,
    governor::Job,
    keys::GroupKey,
    peer::PeerError,
    register::{GroupPlace, group_from_wire, group_to_wire},
};

/// How long an old owner may take for one page.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a group's identity round may take, with all its tries.
const ROUND_TIMEOUT: Duration = Duration::from_secs(10);

/// Rounds on one group before it is left for later.
const ROUNDS_MAX: usize = 3;
/// After a round this node's own acceptor may lag behind those who decided it: looks, and between them.
const LOOKS: usize = 20;
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// How long after a failed step it is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(250);

/// What was done.
pub(super) enum Done {
    Names(NodeId, Vec<GroupKey>),
    Settled(GroupKey),
    Copied(NodeId),
    Compared(NodeId),
}

/// Why a step was not.
#[derive(Debug, thiserror::Error)]
pub(super) enum ErrandError {
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Compare(#[from] RoundError),
    #[error("an old owner answered another question than it was asked")]
    Strange,
    #[error("an old owner is still counting its records")]
    Unready,
    #[error("the group has been decided, and its state has not come here yet")]
    Behind,
}

/// Performs the steps of one partition.
#[derive(Clone, Copy)]
pub(super) struct Errands<'a> {
    pub(super) core: &'a NodeCore,
    pub(super) partition: PartitionId,
    /// For buckets with so many copies this node gains the partition; for others it has it, or never will.
    pub(super) gained: &'a BTreeSet<usize>,
}

impl Errands<'_> {
    pub(super) async fn run(
        self,
        action: TransferAction<GroupKey>,
    ) -> (TransferAction<GroupKey>, Result<Done, ErrandError>) {
        let own = self.core.cluster.node;
        let done = match &action {
            TransferAction::ListGroups { from } => {
                let names = self.names(*from).await;
                names.map(|names| Done::Names(*from, names))
            }
            TransferAction::SettleGroup(key) => {
                let settled = self.settle(key).await;
                settled.map(|()| Done::Settled(key.clone()))
            }
            // What is here already needs no copying, and agrees with itself.
            TransferAction::CopyRecords { from } if *from == own => Ok(Done::Copied(own)),
            TransferAction::Compare { with } if *with == own => Ok(Done::Compared(own)),
            TransferAction::CopyRecords { from } => {
                let copied = self.copy(*from).await;
                copied.map(|()| Done::Copied(*from))
            }
            TransferAction::Compare { with } => {
                let compared = self.compare(*with).await;
                compared.map(|()| Done::Compared(*with))
            }
        };
        if done.is_err() {
            // Told late, so that it is tried again late, while other steps go on.
            sleep(TRY_AGAIN).await;
        }
        (action, done)
    }

    /// All groups that an old owner knows, of buckets that this node gains here.
    async fn names(&self, from: NodeId) -> Result<Vec<GroupKey>, ErrandError> {
        let epoch = self.core.cluster.layout().epoch();
        let mut names: Vec<GroupKey> = Vec::new();
        let mut after: Option<GroupKey> = None;
        loop {
            self.core.governor.pace(Job::Transfers, 1).await;
            let more;
            let page: Vec<GroupKey>;
            if from == self.core.cluster.node {
                let groups = &self.core.groups;
                (page, more) = groups.names(epoch, self.partition, after.as_ref()).await?;
            } else {
                let request = ListGroups {
                    epoch: epoch.0,
                    partition: self.partition.0,
                    after: after.as_ref().map(group_to_wire),
                };
                let Body::GroupNames(told) = self.ask(from, Body::ListGroups(request)).await?
                else {
                    return Err(ErrandError::Strange);
                };
                more = told.more;
                let keys = told
                    .groups
                    .into_iter()
                    .map(|group| group_from_wire(Some(group)));
                page = keys.collect::<Result<_, _>>()?;
            }
            after = page.last().cloned().or(after);
            names.extend(page.into_iter().filter(|key| self.is_gained(key)));
            if !more {
                return Ok(names);
            }
        }
    }

    fn is_gained(&self, key: &GroupKey) -> bool {
        let bucket = self.core.cluster.catalogue.by_id(key.bucket);
        // One that is not known here yet is looked up before it is settled.
        bucket.is_none_or(|bucket| self.gained.contains(&bucket.replicas_n.count()))
    }

    /// Gets the group's newest state chosen by majorities of both, and to this node's disk.
    ///
    /// For the safety of the move the first would be enough; the second makes this node a copy that can be counted on
    /// from the moment it is an owner.
    async fn settle(&self, key: &GroupKey) -> Result<(), ErrandError> {
        let deadline = Instant::now() + ROUND_TIMEOUT;
        let copies = self.copies_of(key, deadline).await?;
        let before = self.core.groups.shown(key)?.accepted;
        for _ in 0..ROUNDS_MAX {
            self.core.governor.pace(Job::Transfers, 1).await;
            let place = GroupPlace::new(&self.core.cluster.layout(), key.clone(), copies);
            self.core.registers.settle_group(&place, deadline).await?;
            for _ in 0..LOOKS {
                if self.core.groups.shown(key)?.accepted > before {
                    counter!("souk_transfer_groups_total").increment(1);
                    return Ok(());
                }
                sleep(LOOK_EVERY).await;
            }
        }
        Err(ErrandError::Behind)
    }

    async fn copies_of(&self, key: &GroupKey, deadline: Instant) -> Result<usize, ErrandError> {
        let known = || self.core.cluster.catalogue.by_id(key.bucket);
        if known().is_none() {
            self.core.system.refresh(deadline).await?;
        }
        let bucket = known().ok_or(ErrandError::Strange)?;
        Ok(bucket.replicas_n.count())
    }

    async fn copy(&self, from: NodeId) -> Result<(), ErrandError> {
        let mut after = Bytes::new();
        loop {
            // What a page holds is older than what may be erased before it is merged.
            let work = self.core.cluster.in_flight.enter();
            let request = CopyRecords {
                partition: self.partition.0,
                after: after.clone(),
            };
            let answer = self.ask(from, Body::CopyRecords(request)).await?;
            let Body::RecordCopies(page) = answer else {
                return Err(ErrandError::Strange);
            };
            let portion = u32::try_from(page.rows.len()).unwrap_or(u32::MAX);
            self.core
                .governor
                .pace(Job::Transfers, portion.max(1))
                .await;
            after = page.rows.last().map_or(after, |row| row.key.clone());
            // A row without a record only says how far the giver has come.
            let held = page.rows.into_iter().filter(|row| !row.record.is_empty());
            let mut bytes = 0;
            let writes: Vec<WriteRecord> = held
                .map(|row| {
                    bytes += row.record.len() as u64;
                    WriteRecord {
                        store_key: Bytes::copy_from_slice(&row.key),
                        record: row.record,
                        generation: work.generation(),
                        origin: None,
                        layout_epoch: 0,
                    }
                })
                .collect();
            let records = writes.len() as u64;
            self.core.records.merge_all(writes).await?;
            self.core.transfers.copied(records, bytes);
            counter!("souk_transfer_records_total").increment(records);
            counter!("souk_transfer_bytes_total").increment(bytes);
            if !page.more {
                return Ok(());
            }
        }
    }

    async fn compare(&self, with: NodeId) -> Result<(), ErrandError> {
        let (tally, result) = self
            .core
            .anti_entropy
            .compare_vnode(with, self.partition)
            .await;
        result?;
        if tally.vnodes_unready > 0 {
            return Err(ErrandError::Unready);
        }
        Ok(())
    }

    async fn ask(&self, node: NodeId, body: Body) -> Result<Body, PeerError> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let cluster = Arc::clone(&self.core.cluster);
        cluster.call_in_bulk(node, body, deadline).await
    }
}
