//! Late erasure: rows that were deleted long ago, and what is remembered of clients that have long been silent.
//!
//! A walk over this node's own rows finds groups with something old; only those get a ballot. Of a group's acceptors
//! the first that seems up walks, so that no two duel over it.
//!
//! Place: I/O; one background task per node, paced by the governor.
//! Invariants: 1. nothing is erased before `request_memory` has passed since it was written, by the clock that the
//! group itself is judged by. 2. erasing is a chosen change like any other; what this node's rows say only tells where to look.
//! Not here: what may be erased (`souk_kv_core::register::sweep`); erasing the headers of empty groups.

use std::{ops::Bound, sync::Arc, time::Duration};

use metrics::{counter, gauge};
use souk_kv_core::register::{RowKey, RowKind};
use souk_kv_storage::{Keyspace, Scan};
use souk_ring::PartitionId;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{
    GroupPlace, GroupStore,
    acceptor::{row, row_key},
};
use crate::{
    cluster::Mode,
    core::NodeCore,
    error::RequestError,
    governor::Job,
    keys::{GroupKey, prefix_end},
    members::Voice,
};

/// Rest between two walks.
const REST: Duration = Duration::from_secs(60);
/// The first walk waits until a node that has just started has answered some requests.
const FIRST_REST: Duration = Duration::from_secs(10);
/// Rows looked at, and erased, at once.
pub(super) const SWEEP_ROWS: usize = 1_000;
/// Bytes of rows looked at at once.
const SWEEP_BYTES: usize = 4 * 1024 * 1024;

/// Walks over the groups of this node until `stop`.
pub(crate) async fn sweep_groups(core: Arc<NodeCore>, stop: CancellationToken) {
    let mut rest = FIRST_REST;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(rest) => {}
        }
        rest = REST;
        if core.members.voice() != Voice::Sure {
            continue;
        }
        let started = Instant::now();
        tokio::select! {
            () = stop.cancelled() => return,
            () = walk(&core) => {}
        }
        gauge!("souk_register_sweep_seconds").set(started.elapsed().as_secs_f64());
    }
}

async fn walk(core: &NodeCore) {
    let layout = core.cluster.layout();
    for partition in layout.partitions_of(core.cluster.node) {
        if let Err(cause) = sweep_partition(core, partition).await {
            debug!(partition = partition.0, %cause, "old rows of a partition could not be erased");
        }
    }
}

async fn sweep_partition(core: &NodeCore, partition: PartitionId) -> Result<(), RequestError> {
    let mut after: Option<GroupKey> = None;
    while let Some(key) = core.groups.next_group(partition, after.as_ref())? {
        core.governor.pace(Job::Sweep, 1).await;
        if let Some(place) = place_to_sweep(core, &key) {
            sweep_group(core, &place).await?;
        }
        after = Some(key);
    }
    Ok(())
}

/// The group's place, if this node is the first of its acceptors that seems up.
fn place_to_sweep(core: &NodeCore, key: &GroupKey) -> Option<GroupPlace> {
    let buckets = core.cluster.catalogue.all();
    let bucket = buckets
        .iter()
        .find(|bucket| bucket.id == key.bucket && bucket.mode == Mode::Register)?;
    let place = core.group_place(Arc::clone(bucket), key.partition_key.clone());
    let may_sweep = |node| core.cluster.is_up(node) && !core.cluster.is_learner(node);
    let first = place.acceptors.iter().find(|&&node| may_sweep(node));
    (first == Some(&core.cluster.node)).then_some(place)
}

async fn sweep_group(core: &NodeCore, place: &GroupPlace) -> Result<(), RequestError> {
    let memory = u64::try_from(core.limits.request_memory.as_millis()).unwrap_or(u64::MAX);
    let mut from = RowKey::user(b"");
    loop {
        let written_before = core.cluster.environment.unix_ms().saturating_sub(memory);
        let look = core.groups.find_old(&place.key, &from, written_before)?;
        let portion = u32::try_from(look.rows).unwrap_or(u32::MAX);
        core.governor.pace(Job::Sweep, portion.max(1)).await;
        if let Some(old) = look.old
            && core.registers.sweep(place, old).await?
        {
            counter!("souk_register_sweeps_total").increment(1);
        }
        match look.next {
            Some(next) => from = next,
            None => return Ok(()),
        }
    }
}

/// What a look at some rows of a group found.
struct Look {
    rows: usize,
    /// The first row that may be erased.
    old: Option<RowKey>,
    /// Where to go on.
    next: Option<RowKey>,
}

impl GroupStore {
    fn find_old(
        &self,
        key: &GroupKey,
        from: &RowKey,
        written_before: u64,
    ) -> Result<Look, RequestError> {
        let prefix = key.row_prefix();
        let end = prefix_end(&prefix).map_or(Bound::Unbounded, Bound::Excluded);
        let start = Bound::Included(key.row(from.as_bytes()));
        let scan = Scan::range(Keyspace::Registers, (start, end))
            .limit(SWEEP_ROWS)
            .bytes_max(SWEEP_BYTES);
        let page = self.store.scan(&scan)?;
        let mut look = Look {
            rows: page.rows.len(),
            old: None,
            next: None,
        };
        let mut last = None;
        for found in page.rows {
            let name = row_key(found.key.slice(prefix.len()..))?;
            let row =
                self.note_damage(key, found.value.map_err(RequestError::from).and_then(row))?;
            let is_old = row.written_unix_ms < written_before;
            let may_go = match name.kind() {
                RowKind::User => row.cell.is_none(),
                RowKind::Memory => true,
                RowKind::MemoryFloor => false,
            };
            if is_old && may_go && look.old.is_none() {
                look.old = Some(name.clone());
            }
            last = Some(name);
        }
        // The last row is looked at twice, which is cheaper than a key just behind it.
        if page.more && look.rows > 1 {
            look.next = last;
        }
        Ok(look)
    }
}
