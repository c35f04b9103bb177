//! What every client request on the always-writable path starts from.

use std::{ops::Deref, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use souk_kv_core::quorum::Consistency;
use souk_kv_proto::kv::{self, RequestOptions};
use souk_kv_storage::NotWritten;
use souk_ring::{Layout, LayoutEpoch, NodeId, PartitionId};
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::task::TaskTracker;

use super::{Records, hedge::Hedging};
use crate::{
    cluster::{Bucket, Cluster},
    config::Limits,
    error::RequestError,
    governor::Governor,
    hint::HintSpace,
    keys::GroupKey,
    mint::Mint,
};

/// Read repairs under way at once; further ones are left to the next read or to anti-entropy.
const REPAIRS_MAX: usize = 256;

/// A replica that takes longer than this to answer is taken for silent and stood in for.
pub(super) const REPLICA_TIMEOUT: Duration = Duration::from_millis(1000);

/// Runs the requests that this node received. Cheap to clone: each of them takes one along.
#[derive(Debug, Clone)]
pub(crate) struct Coordinator {
    parts: Arc<CoordinatorParts>,
}

/// What a coordinator works with.
#[derive(Debug)]
pub(crate) struct CoordinatorParts {
    pub(super) cluster: Arc<Cluster>,
    pub(super) records: Arc<Records>,
    pub(super) hints: Arc<HintSpace>,
    pub(super) mint: Arc<Mint>,
    pub(super) limits: Arc<Limits>,
    pub(super) tasks: TaskTracker,
    pub(super) repairs: Arc<Semaphore>,
    pub(super) refusal: Mutex<Option<DiskRefusal>>,
    pub(super) governor: Arc<Governor>,
    pub(super) hedging: Hedging,
}

/// A late refusal of the local disk, remembered for a while.
#[derive(Debug)]
pub(super) struct DiskRefusal {
    pub(super) why: NotWritten,
    pub(super) until: Instant,
}

impl Deref for Coordinator {
    type Target = CoordinatorParts;

    fn deref(&self) -> &CoordinatorParts {
        &self.parts
    }
}

impl Coordinator {
    pub(crate) fn new(
        cluster: Arc<Cluster>,
        records: Arc<Records>,
        hints: Arc<HintSpace>,
        mint: Arc<Mint>,
        limits: Arc<Limits>,
        governor: Arc<Governor>,
        tasks: TaskTracker,
    ) -> Self {
        let hedging = Hedging::new(limits.hedged_reads_percent_max);
        let parts = CoordinatorParts {
            cluster,
            records,
            hints,
            mint,
            limits,
            tasks,
            repairs: Arc::new(Semaphore::new(REPAIRS_MAX)),
            refusal: Mutex::new(None),
            governor,
            hedging,
        };
        Self {
            parts: Arc::new(parts),
        }
    }
}

/// Where a record lives.
#[derive(Debug, Clone)]
pub(crate) struct RecordPlace {
    pub(crate) bucket: Arc<Bucket>,
    pub(crate) group: GroupKey,
    pub(crate) store_key: Bytes,
    layout: Arc<Layout>,
    /// Set while copies of its partition move.
    moving: Option<Arc<MovingPlace>>,
}

/// Whom writes go to while copies move.
#[derive(Debug)]
struct MovingPlace {
    receivers: Vec<NodeId>,
    fallbacks: Vec<NodeId>,
    /// About to leave the cluster.
    departing: Vec<NodeId>,
}

impl RecordPlace {
    pub(crate) fn new(
        layout: Arc<Layout>,
        bucket: Arc<Bucket>,
        partition_key: Bytes,
        sort_key: &[u8],
    ) -> Self {
        let partition = layout.locate(&bucket.name, &partition_key);
        let group = GroupKey {
            partition,
            bucket: bucket.id,
            partition_key,
        };
        let store_key = group.record(sort_key);
        let moving = layout
            .moving_since()
            .and_then(|_| MovingPlace::of(&layout, partition, &bucket));
        Self {
            bucket,
            group,
            store_key,
            layout,
            moving: moving.map(Arc::new),
        }
    }

    /// Whom a write is sent to: the primaries and, while copies move, those who are to become primaries.
    pub(crate) fn receivers(&self) -> &[NodeId] {
        match &self.moving {
            Some(moving) => &moving.receivers,
            None => self.primaries(),
        }
    }

    /// Under which layout all of them were chosen.
    pub(crate) fn epoch(&self) -> LayoutEpoch {
        self.layout.epoch()
    }

    /// Who stands in for an absent receiver.
    pub(crate) fn standins(&self) -> &[NodeId] {
        match &self.moving {
            Some(moving) => &moving.fallbacks,
            None => self.fallbacks(),
        }
    }

    /// Whose copy may be gone soon, and must not be the only one.
    pub(crate) fn departing(&self) -> &[NodeId] {
        match &self.moving {
            Some(moving) => &moving.departing,
            None => &[],
        }
    }

    /// Receivers that are no primaries yet.
    fn gaining_count(&self) -> usize {
        self.receivers().len() - self.primaries().len()
    }

    pub(crate) fn primaries(&self) -> &[NodeId] {
        self.layout
            .preference_list(self.group.partition)
            .primaries(self.bucket.replicas_n)
    }

    pub(crate) fn fallbacks(&self) -> &[NodeId] {
        self.layout
            .preference_list(self.group.partition)
            .fallbacks(self.bucket.replicas_n)
    }
}

impl MovingPlace {
    /// `None` when everything is as if nothing moved.
    fn of(layout: &Layout, partition: PartitionId, bucket: &Bucket) -> Option<Self> {
        let list = layout.preference_list(partition);
        let receivers = layout.receivers(partition, bucket.replicas_n.count());
        let members = layout.members().keys().copied();
        let departing: Vec<NodeId> = members.filter(|node| layout.is_leaving(*node)).collect();
        if receivers.len() == list.primaries(bucket.replicas_n).len() && departing.is_empty() {
            return None;
        }
        // Who leaves could not deliver a hint any more.
        let standins = list.fallbacks(bucket.replicas_n).iter().copied();
        let fallbacks = standins
            .filter(|node| !receivers.contains(node) && !departing.contains(node))
            .collect();
        Some(Self {
            receivers,
            fallbacks,
            departing,
        })
    }
}

/// R of one request.
pub(super) fn read_quorum(
    place: &RecordPlace,
    options: &RequestOptions,
) -> Result<u8, RequestError> {
    resolve(
        place,
        options,
        options.read_quorum,
        place.bucket.quorums.read_quorum(),
    )
}

/// W of one request. While copies move, those who gain one are asked besides, and as many more have to have it: then
/// no more of the next primaries can be without the write than of the present ones.
pub(super) fn write_quorum(
    place: &RecordPlace,
    options: &RequestOptions,
) -> Result<u8, RequestError> {
    let wanted = resolve(
        place,
        options,
        options.write_quorum,
        place.bucket.quorums.write_quorum(),
    )?;
    let gaining = u8::try_from(place.gaining_count()).unwrap_or(u8::MAX);
    Ok(wanted.saturating_add(gaining))
}

fn resolve(
    place: &RecordPlace,
    options: &RequestOptions,
    explicit: u32,
    default: u8,
) -> Result<u8, RequestError> {
    let wish = match options.consistency() {
        _ if explicit > 0 => Consistency::Exactly(u8::try_from(explicit).unwrap_or(u8::MAX)),
        kv::Consistency::Unspecified => Consistency::Default,
        kv::Consistency::One => Consistency::One,
        kv::Consistency::Quorum => Consistency::Quorum,
        kv::Consistency::All => Consistency::All,
    };
    let wanted = wish
        .resolve(place.bucket.quorums.replicas_n(), default)
        .map_err(|cause| RequestError::Invalid(cause.to_string()))?;
    // A cluster of fewer nodes than N keeps one copy on each of them, and that is all there is to ask.
    Ok(wanted.min(u8::try_from(place.primaries().len()).unwrap_or(u8::MAX)))
}
