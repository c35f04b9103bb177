//! What an operator may declare when too few members are left that are sure of their past: whose copies count.
//!
//! It is the one layout that no majority decides. It lies far ahead of the present epoch, so that nothing that others
//! may still decide stands beside it; from then on everything goes its usual way: the fence, the lessons, the votes.
//!
//! Place: I/O; asked for by `souk admin register recover` at a node whose store is sure.
//! Invariants: 1. only a node that is sure declares, and it is one of the survivors. 2. nothing is declared while
//! a majority of sure members can be reached everywhere: the others come back by themselves then.

use std::collections::{BTreeMap, BTreeSet};

use souk_ring::{Layout, LayoutEpoch, LayoutError, NodeId};
use tracing::warn;

use super::{Members, Voice};
use crate::error::RequestError;

/// How far ahead of the present epoch it is declared.
const LEAP: u64 = 1_000;

/// What would be declared, and what that may lose.
#[derive(Debug)]
pub(crate) struct RecoveryPlan {
    pub(crate) layout: Layout,
    pub(crate) survivors: BTreeSet<NodeId>,
    /// Members whose copies will not count any more.
    pub(crate) lost: BTreeSet<NodeId>,
    /// Partitions of which fewer than a majority of copies survive: writes to them may be lost.
    pub(crate) partitions_at_risk: usize,
    /// Partitions of which no copy survives: their registers stay out of use.
    pub(crate) partitions_without_copy: usize,
}

impl Members {
    /// Plans a recovery from the copies of this node and of other sure members that can be reached.
    pub(crate) fn plan_recovery(&self) -> Result<RecoveryPlan, RequestError> {
        let own = self.cluster.node;
        if self.voice() != Voice::Sure {
            return Err(RequestError::NotReady(
                "this node is not sure of its own past: ask one that is".to_owned(),
            ));
        }
        let current = self.cluster.layout();
        let is_survivor = |node: NodeId| {
            !current.is_learner(node) && (node == own || self.cluster.peers().is_connected(node))
        };
        let survivors: BTreeSet<NodeId> = current
            .members()
            .keys()
            .copied()
            .filter(|node| is_survivor(*node))
            .collect();
        let surviving = |owners: &[NodeId]| {
            owners
                .iter()
                .filter(|owner| survivors.contains(*owner))
                .count()
        };
        let everybody: Vec<NodeId> = current.members().keys().copied().collect();
        let partitions = current.partition_count().partitions();
        let mut at_risk = 0;
        let mut without_copy = 0;
        for partition in partitions {
            let owners = current.owners(partition);
            let count = surviving(owners);
            at_risk += usize::from(count <= owners.len() / 2);
            without_copy += usize::from(count == 0);
        }
        if at_risk == 0 && surviving(&everybody) > everybody.len() / 2 {
            return Err(RequestError::Invalid(
                "a majority of sure members can be reached: nothing has to be given up, the others are taken in again by themselves".to_owned(),
            ));
        }
        let stores: BTreeMap<_, _> = self.met.lock().clone();
        let epoch = LayoutEpoch(current.epoch().0.saturating_add(LEAP));
        let layout = current
            .recovered(epoch, &survivors, &stores)
            .map_err(|cause: LayoutError| RequestError::Internal(cause.to_string()))?;
        let lost = everybody
            .into_iter()
            .filter(|node| !survivors.contains(node))
            .collect();
        Ok(RecoveryPlan {
            layout,
            survivors,
            lost,
            partitions_at_risk: at_risk,
            partitions_without_copy: without_copy,
        })
    }

    /// Declares what was planned. What only the lost members knew is gone.
    pub(crate) async fn declare(&self, plan: &RecoveryPlan) -> Result<(), RequestError> {
        warn!(
            epoch = plan.layout.epoch().0,
            lost = ?plan.lost,
            "an operator gave up the copies of the lost members"
        );
        self.adopt(&plan.layout).await?;
        self.announce();
        Ok(())
    }
}
