//! A cluster for tests: three members in three zones.

use std::sync::Arc;

use souk_kv_core::tombstone::Generation;
use souk_kv_storage::Store;
use souk_ring::{Layout, MemberSpec, Name, NodeId, PartitionCount, ReplicasN, Weight};

use super::{Catalogue, Cluster, HealthBoard};
use crate::{clock::Environment, config::ClusterFile, peer::Peers, tombstone::InFlight};

/// Sixteen partitions, all of them on all three.
pub(crate) fn layout() -> Layout {
    let name = |text: &str| Name::try_from(text.to_owned()).expect("a good name");
    let members = (1..=3).map(|number| MemberSpec {
        name: name(&format!("n{number}")),
        zone: name(&format!("z{number}")),
        weight: Weight::new(1).expect("a good weight"),
        grpc_address: format!("127.0.0.1:{number}"),
        http_address: format!("127.0.0.1:1{number}"),
    });
    Layout::initial(
        name("test"),
        PartitionCount::new(16).expect("a power of two"),
        ReplicasN::new(3).expect("three"),
        members.collect(),
    )
    .expect("a good layout")
}

/// As one of the members sees it, without buckets.
pub(crate) fn cluster(
    node: NodeId,
    layout: &Arc<Layout>,
    store: Store,
    environment: Environment,
    peers: Peers,
) -> Cluster {
    Cluster::new(
        node,
        environment,
        Arc::clone(layout),
        Catalogue::open(store, layout.replicas_n()).expect("it is empty"),
        HealthBoard::new(&ClusterFile::builtin().failure_detection),
        Arc::new(InFlight::new(Generation(1))),
        peers,
    )
}
