//! The node's parts, tied together: what the API, the peer handler and the background jobs share.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use souk_kv_core::overload::Admission;
use souk_kv_proto::network::Network;
use souk_kv_storage::{Keyspace, Store, WriteBatch};
use tokio::time::Instant;
use tracing::error;

use crate::{
    access::Access,
    anti_entropy::AntiEntropy,
    cluster::{Bucket, Cluster},
    config::Limits,
    error::RequestError,
    governor::Governor,
    hint::HintSpace,
    keys::{self, GroupKey},
    members::{Members, StagedLayout},
    mint::Mint,
    register::{GroupPlace, GroupStore, RegisterCoordinator},
    scrub::Scrubber,
    siblings::{Coordinator, RecordPlace, Records},
    system::SystemGroup,
    tombstone::{Gate, Tombstones},
    transfer::Transfers,
};

/// Everything of a running node.
#[derive(Debug)]
pub(crate) struct NodeCore {
    pub(crate) name: String,
    pub(crate) engine: &'static str,
    pub(crate) started: Instant,
    pub(crate) store: Store,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) access: Access,
    pub(crate) mint: Arc<Mint>,
    pub(crate) records: Arc<Records>,
    pub(crate) anti_entropy: Arc<AntiEntropy>,
    pub(crate) scrubber: Arc<Scrubber>,
    pub(crate) hints: Arc<HintSpace>,
    pub(crate) groups: Arc<GroupStore>,
    pub(crate) siblings: Coordinator,
    pub(crate) registers: RegisterCoordinator,
    pub(crate) system: SystemGroup,
    pub(crate) staged: StagedLayout,
    pub(crate) transfers: Transfers,
    pub(crate) limits: Arc<Limits>,
    pub(crate) governor: Arc<Governor>,
    /// Requests that clients brought here and that are not answered yet.
    pub(crate) admission: Admission,
    pub(crate) members: Arc<Members>,
    pub(crate) gate: Gate,
    pub(crate) tombstones: Arc<Tombstones>,
    pub(crate) stopping: AtomicBool,
    /// True once this node has heard that its own store was given up.
    pub(crate) own_store_forgotten: AtomicBool,
}

impl NodeCore {
    /// Why the node takes no requests now; `None` when it does.
    pub(crate) fn not_ready(&self) -> Option<String> {
        if self.stopping.load(Ordering::Acquire) {
            return Some("it is stopping".to_owned());
        }
        if self.own_store_forgotten.load(Ordering::Acquire) {
            return Some(
                "an operator has given its store up (`souk admin forget`), for it may hold what was deleted since: \
                 move its data directory away and start it again, empty"
                    .to_owned(),
            );
        }
        self.members.not_ready()
    }

    /// Whether callers have to show who they are.
    pub(crate) fn is_guarded(&self) -> bool {
        matches!(self.cluster.environment.network(), Network::Secure(_))
    }

    /// Gives the store a new identity, once: it stands on an older copy of itself.
    pub(crate) async fn start_anew(&self) {
        // Both lanes of every peer say so; after the first the layout names another store.
        if !self.members.was_named() {
            return;
        }
        let why = "an older copy of the data directory was put back";
        let renamed = self.members.rename_store(why).await;
        let replaced = self.mint.replace_all(why).await;
        if let Err(cause) = renamed.and(replaced) {
            error!(%cause, "this store could not take a new identity");
        }
    }

    /// A peer says that this node's store was given up: nothing here may be served any more, nor after a restart.
    pub(crate) fn forget_own_store(&self) {
        if self.own_store_forgotten.swap(true, Ordering::AcqRel) {
            return;
        }
        error!(
            "an operator has given this node's store up: move its data directory away and start it again, empty"
        );
        let mut batch = WriteBatch::new();
        batch.put(
            Keyspace::Meta,
            keys::META_FORGOTTEN,
            "given up by an operator",
        );
        let commit = self.store.submit(batch);
        tokio::spawn(async move {
            if let Err(cause) = commit.await {
                // Its peers will tell it again.
                error!(%cause, "that this store was given up could not be written down");
            }
        });
    }

    /// The bucket of that name; looks it up in the cluster when this node has not seen it.
    pub(crate) async fn bucket(
        &self,
        name: &str,
        deadline: Instant,
    ) -> Result<Arc<Bucket>, RequestError> {
        if let Some(bucket) = self.cluster.catalogue.get(name) {
            return Ok(bucket);
        }
        // "No such bucket" is only said by somebody who could look.
        self.system.refresh(deadline).await?;
        self.cluster
            .catalogue
            .get(name)
            .ok_or_else(|| RequestError::BucketNotFound(name.to_owned()))
    }

    /// Where a record of a bucket lives.
    pub(crate) fn record_place(
        &self,
        bucket: Arc<Bucket>,
        partition_key: bytes::Bytes,
        sort_key: &[u8],
    ) -> RecordPlace {
        RecordPlace::new(self.cluster.layout(), bucket, partition_key, sort_key)
    }

    /// Where a stored record belongs; `None` when its bucket is not known here.
    pub(crate) fn place_of(&self, store_key: &[u8]) -> Option<RecordPlace> {
        let group = GroupKey::from_record_prefix(store_key)?;
        let (_, sort_key) = keys::split_record(store_key)?;
        let bucket = self.cluster.catalogue.by_id(group.bucket)?;
        Some(self.record_place(bucket, group.partition_key, sort_key))
    }

    /// Where a register group lives, and who votes on it.
    pub(crate) fn group_place(
        &self,
        bucket: Arc<Bucket>,
        partition_key: bytes::Bytes,
    ) -> GroupPlace {
        let layout = self.cluster.layout();
        let copies = bucket.replicas_n.count();
        let place = RecordPlace::new(Arc::clone(&layout), bucket, partition_key, b"");
        GroupPlace::new(&layout, place.group, copies)
    }
}
