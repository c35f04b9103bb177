//! This node pulls what it is to own, partition after partition, while the layout names both owners.
//!
//! Place: one task per node. The order of the steps is `souk_kv_core::transfer::PartitionTransfer`'s.
//! Invariants: 1. only a store that is sure of its past gains; a learner learns first. 2. a gained partition is written down
//! with the move's epoch and the store's name, and not pulled again.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::{StreamExt, TryStreamExt, stream, stream::FuturesUnordered};
use metrics::{counter, gauge};
use prost::Message;
use souk_kv_core::{
    register::Acceptors,
    transfer::{PartitionTransfer, WaitsFor},
};
use souk_kv_proto::store::Gained;
use souk_kv_storage::{Keyspace, WriteBatch};
use souk_ring::{Layout, LayoutEpoch, NodeId, PartitionId};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    errand::{Done, Errands},
    parting::part,
};
use crate::{cluster::name_of, core::NodeCore, error::RequestError, keys, members::Voice};

/// How often a node that gains nothing looks again.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// Partitions pulled at once.
const PARTITIONS_AT_ONCE: usize = 4;
/// How long a partition that nobody can give now is left alone.
const TRY_AGAIN: Duration = Duration::from_millis(250);
/// How long the catalogue may take.
const CATALOGUE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a partition could not be pulled to the end.
#[derive(Debug, thiserror::Error)]
enum GainError {
    /// The move has settled, was called off, or this store is not sure any more.
    #[error("the layout has changed meanwhile")]
    Over,
    #[error(transparent)]
    Request(#[from] RequestError),
}

/// Pulls whatever the layout gives this node, until `stop`.
pub(crate) async fn gain(core: Arc<NodeCore>, stop: CancellationToken) {
    let mut last_trouble = String::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            done = look(&core) => match done {
                Ok(()) => last_trouble.clear(),
                Err(cause) => {
                    let trouble = cause.to_string();
                    if trouble != last_trouble {
                        warn!(%cause, "copies cannot be pulled yet");
                        last_trouble = trouble;
                    }
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(LOOK_EVERY) => {}
            () = core.members.changed() => {}
        }
    }
}

async fn look(core: &NodeCore) -> Result<(), GainError> {
    let layout = core.cluster.layout();
    let Some(started) = layout.moving_since() else {
        core.transfers.end();
        return Ok(());
    };
    if core.members.voice() != Voice::Sure {
        return Ok(());
    }
    if layout.is_leaving(core.cluster.node) {
        part(core, &layout, started).await;
        return Ok(());
    }
    // Who has not seen the newest bucket does not know all that it gains.
    core.system
        .refresh(Instant::now() + CATALOGUE_TIMEOUT)
        .await?;
    let counts = copy_counts(core, &layout);
    let own = core.cluster.node;
    let gains: BTreeSet<PartitionId> = counts
        .iter()
        .flat_map(|copies| layout.gains_of(own, *copies))
        .collect();
    let mut left = Vec::new();
    for partition in &gains {
        if !is_gained(core, started, *partition)? {
            left.push(*partition);
        }
    }
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    core.transfers
        .begin(started.0, count(gains.len()), count(left.len()));
    gauge!("souk_transfer_partitions_left").set(left.len() as f64);
    let counts = &counts;
    let layout = &layout;
    stream::iter(left.into_iter().map(Ok::<_, GainError>))
        .try_for_each_concurrent(PARTITIONS_AT_ONCE, |partition| async move {
            pull(core, layout, started, counts, partition).await?;
            note_gained(core, started, partition).await?;
            core.transfers.one_done();
            gauge!("souk_transfer_partitions_left").decrement(1.0);
            counter!("souk_transfer_partitions_total").increment(1);
            Ok(())
        })
        .await
}

/// How many copies the buckets keep, each number once.
pub(super) fn copy_counts(core: &NodeCore, layout: &Layout) -> BTreeSet<usize> {
    let buckets = core.cluster.catalogue.all();
    let counts = buckets.iter().map(|bucket| bucket.replicas_n.count());
    counts.chain([layout.replicas_n().count()]).collect()
}

/// Brings one partition here.
async fn pull(
    core: &NodeCore,
    layout: &Layout,
    started: LayoutEpoch,
    counts: &BTreeSet<usize>,
    partition: PartitionId,
) -> Result<(), GainError> {
    let own = core.cluster.node;
    let gained: BTreeSet<usize> = counts
        .iter()
        .copied()
        .filter(|copies| layout.gains_of(own, *copies).any(|gain| gain == partition))
        .collect();
    let front = |copies: &usize| {
        let owners = layout.owners(partition);
        Acceptors::new(owners[..(*copies).min(owners.len())].iter().copied())
    };
    let quorums = gained.iter().map(front).collect();
    let is_sure = |node: NodeId| !layout.is_learner(node);
    let mut transfer = PartitionTransfer::new(quorums, is_sure);
    let errands = Errands {
        core,
        partition,
        gained: &gained,
    };
    let mut under_way = FuturesUnordered::new();
    let begun = Instant::now();
    loop {
        let is_same_move = core.cluster.layout().moving_since() == Some(started);
        if !is_same_move || core.members.voice() != Voice::Sure {
            return Err(GainError::Over);
        }
        for action in transfer.actions() {
            under_way.push(errands.run(action));
        }
        if transfer.is_done() {
            break;
        }
        let Some((action, done)) = under_way.next().await else {
            // Nobody can give: it is looked at again when the layout or somebody's standing changes.
            core.transfers
                .waits_for(waiting(layout, partition, &transfer.waits_for()));
            sleep(TRY_AGAIN).await;
            return Err(GainError::Over);
        };
        match done {
            Ok(Done::Names(from, names)) => transfer.on_names(from, names),
            Ok(Done::Settled(group)) => {
                core.transfers.settled_group();
                transfer.on_settled(&group);
            }
            Ok(Done::Copied(from)) => transfer.on_copied(from),
            Ok(Done::Compared(with)) => transfer.on_compared(with),
            Err(cause) => {
                debug!(partition = partition.0, ?action, %cause, "a step of a transfer failed and is tried again");
                let waits = waiting(layout, partition, &transfer.waits_for());
                core.transfers.waits_for(format!("{waits}: {cause}"));
                transfer.on_failed(&action);
            }
        }
    }
    let progress = transfer.progress();
    info!(
        partition = partition.0,
        groups = progress.groups_settled,
        givers = progress.givers_done,
        took_ms = begun.elapsed().as_millis() as u64,
        "a partition was gained"
    );
    Ok(())
}

/// What a transfer cannot go on without, for people.
fn waiting(layout: &Layout, partition: PartitionId, waits: &WaitsFor) -> String {
    let names = |nodes: &BTreeSet<NodeId>| {
        let names = nodes.iter().map(|node| name_of(layout, *node));
        names.collect::<Vec<_>>().join(", ")
    };
    match waits {
        WaitsFor::Names(nodes) => {
            format!(
                "{partition} waits for the groups of more of {}",
                names(nodes)
            )
        }
        WaitsFor::Rounds(count) => format!("{partition} waits for rounds on {count} groups"),
        WaitsFor::Records(nodes) => format!("{partition} waits for records of {}", names(nodes)),
        WaitsFor::Comparisons(nodes) => {
            format!("{partition} waits for a comparison with {}", names(nodes))
        }
        WaitsFor::Nothing => format!("{partition} is done"),
    }
}

fn is_gained(
    core: &NodeCore,
    started: LayoutEpoch,
    partition: PartitionId,
) -> Result<bool, RequestError> {
    let row = core
        .store
        .get(Keyspace::Meta, &keys::meta_gained(partition))?;
    let gained = row.and_then(|bytes| Gained::decode(bytes).ok());
    let store = core.members.store_id_bytes();
    Ok(gained.is_some_and(|gained| gained.started == started.0 && gained.store_id == store))
}

async fn note_gained(
    core: &NodeCore,
    started: LayoutEpoch,
    partition: PartitionId,
) -> Result<(), RequestError> {
    let gained = Gained {
        started: started.0,
        store_id: core.members.store_id_bytes(),
    };
    let mut batch = WriteBatch::new();
    batch.put(
        Keyspace::Meta,
        keys::meta_gained(partition),
        gained.encode_to_vec(),
    );
    Ok(core.store.commit(batch).await?)
}
