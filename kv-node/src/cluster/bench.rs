//! A cluster for tests: three members in three zones.

use std::sync::Arc;

use souk_kv_core::tombstone::Generation;
use souk_kv_storage::Store;
use souk_ring::{Layout, MemberSpec, Name, NodeId, PartitionCount, ReplicasN, Weight};

use super::{Catalogue, Cluster, Durabilities, HealthBoard};
use crate::{
    anti_entropy::Forest, clock::Environment, config::ClusterFile, guard::KeyGuards, mint::Mint,
    peer::Peers, siblings::Records, tombstone::InFlight,
};

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

/// The records of one of the members.
pub(crate) async fn records(
    node: NodeId,
    layout: &Layout,
    store: Store,
    environment: Environment,
) -> (Arc<Records>, Arc<Forest>) {
    Mint::forget_unless_clean(&store).await.expect("it is new");
    let own = layout.partitions_of(node);
    let mint = Mint::open(store.clone(), own, environment).await;
    let forest = Forest::open(store.clone(), layout.partition_count()).await;
    let forest = Arc::new(forest.expect("there is nothing to read"));
    let records = Records::new(
        store,
        Arc::clone(&forest),
        Arc::new(KeyGuards::new()),
        Arc::new(mint.expect("the disk takes it")),
        Durabilities::default(),
    );
    (Arc::new(records), forest)
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
