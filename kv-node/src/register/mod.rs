//! The conditional-write path: register groups.
//!
//! | file | idea |
//! |---|---|
//! | `acceptor` | this node's vote: header and rows on disk, one decision at a time |
//! | `arrivals` | accepts that came before the one they stand on |
//! | `memory` | what it remembers of groups voted on lately |
//! | `coordinator` | client requests in: transactions and reads of one group |
//! | `runner` | one task per busy group: drains its queue into ballots |
//! | `work` | what waits for a group, and what goes into one ballot |
//! | `ballot` | one ballot: performs the actions of the pure round, feeds answers back |
//! | `rows` | reads of single rows and ranges in one round trip |
//! | `sweeping` | late erasure of what was deleted or forgotten long ago |
//! | `broken` | groups whose copy here is damaged |
//! | `lessons`, `teaching` | what a learner is told, and how it asks |
//!
//! Place: I/O; drives `souk_kv_core::register`.
//! Invariants: 1. acceptors are exactly the group's primaries; no stand-ins, ever. 2. a vote is on disk
//! before it is told. 3. what a caller is told comes from a state known to be chosen, or is "unknown".
//! Not here: which layout is in force, and whether this store may vote (`crate::members`).

mod acceptor;
#[cfg(test)]
mod acceptor_test;
mod arrivals;
mod ballot;
mod broken;
mod coordinator;
mod lessons;
mod memory;
mod rows;
mod runner;
mod sweeping;
mod teaching;
mod work;

use std::sync::Arc;

use bytes::Bytes;
use souk_kv_core::register::Acceptors;
use souk_kv_proto::peer::Group;
use souk_ring::{Layout, LayoutEpoch, NodeId, PartitionId};

use crate::{
    error::RequestError,
    keys::{BucketId, GroupKey, PARTITION_KEY_BYTES_MAX},
    system::SystemGroup,
};

pub(crate) use acceptor::{GroupStore, judge};
pub(crate) use coordinator::RegisterCoordinator;
pub(crate) use lessons::Wanted;
pub(crate) use rows::RowsQuery;
pub(crate) use sweeping::sweep_groups;
pub(crate) use teaching::{Pupil, TeachError};
pub(crate) use work::Judged;

/// A group and who votes on it.
#[derive(Debug, Clone)]
pub(crate) struct GroupPlace {
    pub(crate) key: GroupKey,
    pub(crate) epoch: LayoutEpoch,
    /// Whom to ask, the natural coordinator first; while copies move, behind them those who are to vote afterwards.
    pub(crate) acceptors: Arc<[NodeId]>,
    /// Which of their votes decide.
    pub(crate) voters: Arc<Acceptors>,
    /// Copies that its bucket keeps.
    copies: usize,
}

impl GroupPlace {
    /// The place of a group whose bucket keeps so many copies; of the cluster's own groups it is all members.
    pub(crate) fn new(layout: &Layout, key: GroupKey, copies: usize) -> Self {
        let (acceptors, voters) = if SystemGroup::owns(&key) {
            let everybody: Vec<NodeId> = layout.members().keys().copied().collect();
            (everybody, Acceptors::of_members(layout))
        } else {
            let partition = key.partition;
            (
                layout.receivers(partition, copies),
                Acceptors::of_partition(layout, partition, copies),
            )
        };
        Self {
            key,
            epoch: layout.epoch(),
            acceptors: acceptors.into(),
            voters: Arc::new(voters),
            copies,
        }
    }

    /// Follows the layout: who votes now, and in which epoch. True when anything has changed.
    pub(crate) fn follow(&mut self, layout: &Layout) -> bool {
        if layout.epoch() == self.epoch {
            return false;
        }
        *self = Self::new(layout, self.key.clone(), self.copies);
        true
    }

    /// How many votes decide, for people; while copies move it has to be a majority of both sets.
    pub(crate) fn majority(&self) -> usize {
        self.acceptors.len() / 2 + 1
    }
}

pub(crate) fn group_to_wire(key: &GroupKey) -> Group {
    Group {
        bucket_id: key.bucket.0,
        partition: key.partition.0,
        partition_key: key.partition_key.clone(),
    }
}

pub(crate) fn group_from_wire(wire: Option<Group>) -> Result<GroupKey, RequestError> {
    let group = wire.unwrap_or_default();
    let length = group.partition_key.len();
    if length == 0 || length > PARTITION_KEY_BYTES_MAX || group.partition > u32::from(u16::MAX) {
        return Err(RequestError::Invalid(
            "a peer sent a damaged group name".to_owned(),
        ));
    }
    Ok(GroupKey {
        partition: PartitionId(group.partition),
        bucket: BucketId(group.bucket_id),
        // A copy: the frame that it came in is larger and would be kept alive by it.
        partition_key: Bytes::copy_from_slice(&group.partition_key),
    })
}
