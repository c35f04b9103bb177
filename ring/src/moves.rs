//! What has to be copied and dropped to get from one layout to another.
//!
//! Place: pure; shown to operators before a layout is applied, carried out by `kv_node::transfer`.
//! Shape: one [`PartitionMove`] per partition whose set of owners differs, in partition order.
//! Invariants: 1. applying the gains and losses to the old owners gives the new owners.
//! Not here: in which order and how fast to move; a change of order within a list moves nothing.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::layout::{Layout, LayoutEpoch};
use crate::member::NodeId;
use crate::name::Name;
use crate::partition::{PartitionCount, PartitionId};

/// The change of owners of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionMove {
    /// Which partition.
    pub partition: PartitionId,
    /// New owners that have to receive a copy, in the order of the new list.
    pub gains: Vec<NodeId>,
    /// Old owners that may drop theirs once every gain is confirmed, in the order of the old list.
    pub losses: Vec<NodeId>,
}

/// How many copies one node receives and gives up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeMoves {
    /// Copies to receive.
    pub gains_count: u32,
    /// Copies to drop.
    pub losses_count: u32,
}

/// The difference of two layouts of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovePlan {
    from: LayoutEpoch,
    to: LayoutEpoch,
    moves: Vec<PartitionMove>,
}

impl MovePlan {
    /// What changes from `old` to `new`.
    ///
    /// # Errors
    /// When the two belong to different clusters or cut the ring differently.
    pub fn between(old: &Layout, new: &Layout) -> Result<MovePlan, MovePlanError> {
        if old.cluster_id() != new.cluster_id() {
            let (old, new) = (old.cluster_id().clone(), new.cluster_id().clone());
            return Err(MovePlanError::Cluster { old, new });
        }
        if old.partition_count() != new.partition_count() {
            let (old, new) = (old.partition_count(), new.partition_count());
            return Err(MovePlanError::PartitionCount { old, new });
        }
        let missing_in = |these: &[NodeId], those: &[NodeId]| -> Vec<NodeId> {
            these
                .iter()
                .copied()
                .filter(|node| !those.contains(node))
                .collect()
        };
        let moves = old
            .partition_count()
            .partitions()
            .map(|partition| PartitionMove {
                partition,
                gains: missing_in(new.owners(partition), old.owners(partition)),
                losses: missing_in(old.owners(partition), new.owners(partition)),
            })
            .filter(|change| !change.gains.is_empty() || !change.losses.is_empty())
            .collect();
        Ok(MovePlan {
            from: old.epoch(),
            to: new.epoch(),
            moves,
        })
    }

    /// The epoch moved away from.
    pub fn from_epoch(&self) -> LayoutEpoch {
        self.from
    }

    /// The epoch moved to.
    pub fn to_epoch(&self) -> LayoutEpoch {
        self.to
    }

    /// The changed partitions in ascending order.
    pub fn moves(&self) -> &[PartitionMove] {
        &self.moves
    }

    /// How many copies of partitions have to be sent.
    pub fn gains_count(&self) -> usize {
        self.moves.iter().map(|change| change.gains.len()).sum()
    }

    /// How many copies of partitions may be dropped afterwards.
    pub fn losses_count(&self) -> usize {
        self.moves.iter().map(|change| change.losses.len()).sum()
    }

    /// The share of each node that gains or loses anything.
    pub fn per_node(&self) -> BTreeMap<NodeId, NodeMoves> {
        let mut nodes: BTreeMap<NodeId, NodeMoves> = BTreeMap::new();
        for change in &self.moves {
            for node in &change.gains {
                nodes.entry(*node).or_default().gains_count += 1;
            }
            for node in &change.losses {
                nodes.entry(*node).or_default().losses_count += 1;
            }
        }
        nodes
    }

    /// Whether no copy moves at all.
    pub fn is_empty(&self) -> bool {
        self.moves.is_empty()
    }
}

/// Why two layouts cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MovePlanError {
    /// What: layouts of two clusters. Mend: compare layouts of one cluster.
    #[error(
        "cannot move from a layout of cluster {old} to one of cluster {new}; use two of one cluster"
    )]
    Cluster {
        /// Cluster of the old layout.
        old: Name,
        /// Cluster of the new layout.
        new: Name,
    },
    /// What: layouts that cut the ring differently. Why: the count is fixed at creation.
    /// Mend: export and import into a new cluster instead.
    #[error(
        "cannot move from {old} partitions to {new}; the count is fixed when a cluster is created, import into a new cluster instead"
    )]
    PartitionCount {
        /// Count of the old layout.
        old: PartitionCount,
        /// Count of the new layout.
        new: PartitionCount,
    },
}

#[cfg(test)]
#[path = "moves_test.rs"]
mod tests;
