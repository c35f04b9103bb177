//! When everybody holds everything, the layout of the next owners alone is proposed.
//!
//! Place: one task per node: whoever is the first among those that seem up asks, so that one proposes and not all.
//! Invariants: 1. nothing is proposed before each gaining node has said by itself that nothing is left, and each leaving one
//! that is there that nobody needs it. 2. the cluster's own
//! groups are settled by majorities of both members before, like every other group.
//! Not here: what makes a gaining node say so (`gaining`).

use std::{sync::Arc, time::Duration};

use metrics::counter;
use souk_kv_core::transfer::Settlement;
use souk_kv_proto::peer::{ReadTransfers, peer_message::Body};
use souk_ring::{Layout, LayoutEpoch, LayoutError, NodeId};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::gaining::copy_counts;
use crate::{
    core::NodeCore,
    error::RequestError,
    members::{DecideError, Voice},
    register::GroupPlace,
    system::SystemGroup,
};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a gaining node may take to say how far it is.
const REPORT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a round on one of the cluster's own groups may take.
const ROUND_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
enum SettleError {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Decide(#[from] DecideError),
}

/// Proposes the layout that ends a move, until `stop`.
pub(crate) async fn settle(core: Arc<NodeCore>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(LOOK_EVERY) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            settled = look(&core) => if let Err(cause) = settled {
                debug!(%cause, "the move cannot be settled yet");
            }
        }
    }
}

async fn look(core: &NodeCore) -> Result<(), SettleError> {
    let layout = core.cluster.layout();
    if layout.moving_since().is_none() || !is_first(core, &layout) {
        return Ok(());
    }
    core.system.refresh(Instant::now() + ROUND_TIMEOUT).await?;
    let Some(mut settlement) = Settlement::of(&layout, copy_counts(core, &layout)) else {
        return Ok(());
    };
    for node in settlement.missing().clone() {
        if let Some((started, left)) = report_of(core, node).await {
            settlement.on_report(node, started, left);
        }
    }
    if !settlement.is_complete() {
        return Ok(());
    }
    if !have_parted(core, &layout).await {
        return Ok(());
    }
    for key in SystemGroup::keys() {
        let place = GroupPlace::new(&layout, key, 0);
        let deadline = Instant::now() + ROUND_TIMEOUT;
        core.registers.settle_group(&place, deadline).await?;
    }
    // The layout that was looked at: a fence that has passed since makes this wish stale, and it is made anew.
    let decided = core.members.decide(layout.settled()?).await?;
    if decided.moving_since().is_none() {
        info!(
            epoch = decided.epoch().0,
            "the copies have arrived: the next owners are the owners"
        );
        counter!("souk_moves_settled_total").increment(1);
    }
    Ok(())
}

/// Whether this node is the one to propose: the first that is sure and seems up.
fn is_first(core: &NodeCore, layout: &Layout) -> bool {
    let own = core.cluster.node;
    if core.members.voice() != Voice::Sure {
        return false;
    }
    let mut able = layout
        .members()
        .keys()
        .filter(|node| !layout.is_learner(**node) && !layout.is_joining(**node));
    able.find(|node| **node == own || core.cluster.is_up(**node)) == Some(&own)
}

/// Whether everybody who leaves and seems up has brought to the others what it alone may have. Of one that is away the
/// operator was warned.
async fn have_parted(core: &NodeCore, layout: &Layout) -> bool {
    let is_here = |node: NodeId| node == core.cluster.node || core.cluster.is_up(node);
    let members = layout.members().keys().copied();
    for node in members.filter(|node| layout.is_leaving(*node) && is_here(*node)) {
        let told = report_of(core, node).await;
        if told.is_none_or(|(started, left)| Some(started) != layout.moving_since() || left > 0) {
            return false;
        }
    }
    true
}

async fn report_of(core: &NodeCore, node: NodeId) -> Option<(LayoutEpoch, u64)> {
    let report = if node == core.cluster.node {
        core.transfers
            .report(core.cluster.layout().moving_since()?.0)
    } else {
        let deadline = Instant::now() + REPORT_TIMEOUT;
        let asked = Body::ReadTransfers(ReadTransfers {});
        match core.cluster.call(node, asked, deadline).await {
            Ok(Body::Transfers(report)) => report,
            _ => return None,
        }
    };
    Some((LayoutEpoch(report.started), report.partitions_left))
}
