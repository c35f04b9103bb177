//! A node that leaves brings to those who stay what it alone may have: a write that the floor acknowledged, and hints.
//!
//! Those who gain copy from a majority of the owners, and this node need not be among them. Once it has left nothing is
//! taken from it any more, because what it still holds may have been deleted by then.
//!
//! Place: on the leaving node, in the task of `gaining`.
//! Invariants: 1. it says that nothing is left only after each next owner has compared each of its partitions with it, all
//! under the layout of both: from then on no write is acknowledged by its copy alone, and it takes no hints. 2. hints for
//! those who leave as well wait for nobody.
//! Not here: what is still here after it has left, which is nobody's any more.

use futures::{TryStreamExt, stream};
use souk_ring::{Layout, LayoutEpoch, NodeId, PartitionId};
use tracing::{debug, info};

use crate::{anti_entropy::RoundError, cluster::name_of, core::NodeCore, governor::Job};

/// Partitions compared at once.
const PARTITIONS_AT_ONCE: usize = 4;

#[derive(Debug, thiserror::Error)]
enum PartError {
    #[error("{partition} could not be compared with {with}: {cause}")]
    Compare {
        partition: PartitionId,
        with: NodeId,
        cause: RoundError,
    },
    #[error("{with} is still counting its records of {partition}")]
    Unready {
        partition: PartitionId,
        with: NodeId,
    },
    #[error("the layout has changed meanwhile")]
    Over,
}

/// One try. Reported as one partition that is left, until it has succeeded.
pub(super) async fn part(core: &NodeCore, layout: &Layout, started: LayoutEpoch) {
    if core.transfers.has_parted(started.0) {
        return;
    }
    core.transfers.begin(started.0, 1, 1);
    let own = core.cluster.node;
    let compared = stream::iter(layout.partitions_of(own).map(Ok::<_, PartError>))
        .try_for_each_concurrent(PARTITIONS_AT_ONCE, |partition| {
            compare(core, layout, started, partition)
        });
    if let Err(cause) = compared.await {
        debug!(%cause, "this node cannot leave yet");
        core.transfers.waits_for(cause.to_string());
        return;
    }
    let stays = |node: &NodeId| !layout.is_leaving(*node) && layout.member(*node).is_some();
    if let Some(target) = core.hints.totals().into_keys().find(stays) {
        let name = name_of(layout, target);
        core.transfers
            .waits_for(format!("the hints for {name} have to be delivered first"));
        return;
    }
    info!("everything that this node has is with those who stay");
    core.transfers.note_parted(started.0);
    core.transfers.one_done();
}

async fn compare(
    core: &NodeCore,
    layout: &Layout,
    started: LayoutEpoch,
    partition: PartitionId,
) -> Result<(), PartError> {
    let next = layout.next_owners(partition).unwrap_or_default();
    for with in next.iter().copied() {
        if core.cluster.layout().moving_since() != Some(started) {
            return Err(PartError::Over);
        }
        core.governor.pace(Job::Transfers, 1).await;
        let (tally, result) = core.anti_entropy.compare_vnode(with, partition).await;
        result.map_err(|cause| PartError::Compare {
            partition,
            with,
            cause,
        })?;
        if tally.vnodes_unready > 0 {
            return Err(PartError::Unready { partition, with });
        }
    }
    Ok(())
}
