//! What this node keeps of partitions that it does not own any more: handed to the owners, then erased.
//!
//! Those who gained a partition have compared themselves with this node before the move settled. What can still be here
//! alone are writes of this node's own that were under way just then. So everything is offered once more, and goes
//! only when all owners have it on disk. Until then it is a stray copy, which holds up the collection of its tombstones.
//!
//! Place: one task per node; it rests while copies move.
//! Invariants: 1. a record is erased only as it was when every owner confirmed it. 2. votes of a partition are erased only
//! under a settled layout that does not ask this node: every older request of them is refused by the fence.
//! Not here: hints, which find their way by themselves (`crate::hint`).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::join_all;
use metrics::{counter, gauge};
use souk_kv_proto::peer::{WriteRecord, WriteRecords, peer_message::Body};
use souk_kv_storage::{Keyspace, Scan};
use souk_ring::{Layout, NodeId, PartitionId};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::{core::NodeCore, error::RequestError, governor::Job, keys, peer::PeerError};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long an owner may take for a lot.
const OWNER_TIMEOUT: Duration = Duration::from_secs(5);

/// Why something has to stay here for now.
#[derive(Debug, thiserror::Error)]
enum LeaveError {
    #[error("{node} has not taken it: {cause}")]
    NotTaken { node: NodeId, cause: PeerError },
    #[error("{node} answered something else than was asked")]
    Strange { node: NodeId },
    #[error(transparent)]
    Request(#[from] RequestError),
}

/// Hands over and erases, until `stop`.
pub(crate) async fn leave(core: Arc<NodeCore>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(LOOK_EVERY) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = look(&core) => {}
        }
    }
}

async fn look(core: &NodeCore) {
    let layout = core.cluster.layout();
    // Who has left has nothing to say: others may have deleted by now what it still holds.
    if layout.moving_since().is_some() || !core.members.is_agreed() || core.members.has_left() {
        return;
    }
    let mut left = 0_u64;
    for partition in layout.partition_count().partitions() {
        if layout.owners(partition).contains(&core.cluster.node) {
            continue;
        }
        match give_up(core, &layout, partition).await {
            Ok(()) => {}
            Err(cause) => {
                left += 1;
                debug!(partition = partition.0, %cause, "a partition cannot be given up yet");
            }
        }
        if core.cluster.layout().epoch() != layout.epoch() {
            return;
        }
    }
    core.transfers.leftovers(left);
    gauge!("souk_transfer_leftover_partitions").set(left as f64);
}

async fn give_up(
    core: &NodeCore,
    layout: &Layout,
    partition: PartitionId,
) -> Result<(), LeaveError> {
    let mut records: u64 = 0;
    let mut after = Bytes::new();
    loop {
        let work = core.cluster.in_flight.enter();
        let page = core.records.copies(partition, &after)?;
        after = page.rows.last().map_or(after, |row| row.key.clone());
        let lot: Vec<WriteRecord> = page
            .rows
            .into_iter()
            .filter(|row| !row.record.is_empty())
            .map(|row| WriteRecord {
                store_key: row.key,
                record: row.record,
                generation: work.generation(),
                origin: None,
                layout_epoch: 0,
            })
            .collect();
        if !lot.is_empty() {
            records += lot.len() as u64;
            let portion = u32::try_from(lot.len()).unwrap_or(u32::MAX);
            core.governor.pace(Job::Transfers, portion).await;
            let gifts = layout.owners(partition).iter();
            let gifts = gifts.map(|owner| offer(core, *owner, lot.clone()));
            for taken in join_all(gifts).await {
                taken?;
            }
            core.records.erase_same(&lot).await?;
        }
        if !page.more {
            break;
        }
    }
    let has_votes = has_votes(core, partition)?;
    if has_votes {
        core.groups.forget(partition).await?;
    }
    if records > 0 || has_votes {
        counter!("souk_transfer_records_handed_over_total").increment(records);
        info!(partition = partition.0, records, "a partition was given up");
    }
    Ok(())
}

/// Votes of a partition, the cluster's own groups not counted.
fn has_votes(core: &NodeCore, partition: PartitionId) -> Result<bool, RequestError> {
    // A look at one row spares the walk over the groups in the usual case.
    let scan = Scan::prefix(Keyspace::Registers, keys::partition_prefix(partition)).limit(1);
    let page = core.store.scan(&scan)?;
    Ok(!page.rows.is_empty() && core.groups.holds_any(partition)?)
}

async fn offer(
    core: &NodeCore,
    owner: NodeId,
    records: Vec<WriteRecord>,
) -> Result<(), LeaveError> {
    let body = Body::WriteRecords(WriteRecords { records });
    let deadline = Instant::now() + OWNER_TIMEOUT;
    match core.cluster.call_in_bulk(owner, body, deadline).await {
        Ok(Body::Done(_)) => Ok(()),
        Ok(_) => Err(LeaveError::Strange { node: owner }),
        Err(cause) => Err(LeaveError::NotTaken { node: owner, cause }),
    }
}
