//! What a client knows of the cluster: its nodes, who owns what, which buckets there are.
//!
//! Place: plain data made from one `TopologyResponse`; replaced as a whole when a newer one comes.
//! Invariant: a topology that contradicts itself is refused, so that routing never panics on one.
//! Not here: connections to the nodes (`crate::session`), when to fetch it again (`crate::client`).

use std::collections::BTreeMap;

use souk_kv_proto::{
    convert::{DecodeError, layout::layout_from_wire},
    kv::{BucketConfig, TopologyResponse},
};
use souk_ring::{Layout, Member, NodeId, PartitionId, ReplicasN};

/// The cluster as some node described it.
#[derive(Clone, Debug)]
pub struct Topology {
    layout: Layout,
    buckets: BTreeMap<String, BucketConfig>,
    catalogue_version: u64,
}

/// Where a key lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) partition: PartitionId,
    /// Copies of the key's bucket.
    pub(crate) replicas_n: ReplicasN,
}

impl Topology {
    /// Which node owns which partition; its members are the nodes.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The nodes by number.
    #[must_use]
    pub fn nodes(&self) -> &BTreeMap<NodeId, Member> {
        self.layout.members()
    }

    /// The buckets by name.
    #[must_use]
    pub fn buckets(&self) -> &BTreeMap<String, BucketConfig> {
        &self.buckets
    }

    /// Grows with every change of the buckets.
    #[must_use]
    pub fn catalogue_version(&self) -> u64 {
        self.catalogue_version
    }

    /// The nodes that hold a key, natural coordinator first. For a bucket that this topology does not
    /// know, as many as the layout plans.
    #[must_use]
    pub fn primaries(&self, bucket: &str, partition_key: &[u8]) -> &[NodeId] {
        let place = self.place(bucket, partition_key);
        self.layout
            .preference_list(place.partition)
            .primaries(place.replicas_n)
    }

    /// True when `epoch` or `catalogue_version`, as a node reports them, are newer than this.
    pub(crate) fn is_older_than(&self, epoch: u64, catalogue_version: u64) -> bool {
        epoch > self.layout.epoch().0 || catalogue_version > self.catalogue_version
    }

    pub(crate) fn place(&self, bucket: &str, partition_key: &[u8]) -> Place {
        // 0 or nonsense means as many as the layout plans, as it does for a bucket not known yet.
        let bucket_replicas_n = self
            .buckets
            .get(bucket)
            .and_then(|config| ReplicasN::new(config.replicas_n).ok());
        Place {
            partition: self.layout.locate(bucket, partition_key),
            replicas_n: bucket_replicas_n.unwrap_or_else(|| self.layout.replicas_n()),
        }
    }

    pub(crate) fn from_wire(wire: TopologyResponse) -> Result<Topology, DecodeError> {
        let layout = layout_from_wire(wire.layout.unwrap_or_default())?;
        let buckets = wire
            .buckets
            .into_iter()
            .map(|bucket| (bucket.name.clone(), bucket))
            .collect();
        Ok(Topology {
            layout,
            buckets,
            catalogue_version: wire.catalogue_version,
        })
    }
}
