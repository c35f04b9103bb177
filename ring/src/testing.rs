//! Layouts and members for this crate's tests.

use proptest::prelude::*;

use crate::{Layout, MemberSpec, PartitionCount, ReplicasN, Weight};

/// A member of weight `weight` in zone `zone`.
pub(crate) fn spec(name: &str, zone: &str, weight: u32) -> MemberSpec {
    MemberSpec {
        name: name.parse().unwrap(),
        zone: zone.parse().unwrap(),
        weight: Weight::new(weight).unwrap(),
        grpc_address: format!("{name}:7101"),
        http_address: format!("{name}:7201"),
    }
}

/// The founding layout of a cluster called `demo`.
pub(crate) fn layout(partitions: u32, replicas_n: u32, members: Vec<MemberSpec>) -> Layout {
    let partition_count = PartitionCount::new(partitions).unwrap();
    let replicas_n = ReplicasN::new(replicas_n).unwrap();
    Layout::initial(
        "demo".parse().unwrap(),
        partition_count,
        replicas_n,
        members,
    )
    .unwrap()
}

/// `count` members of equal weight, each in a zone of its own.
pub(crate) fn apart(count: usize) -> Vec<MemberSpec> {
    (0..count)
        .map(|n| spec(&format!("node-{n:04}"), &format!("zone-{n}"), 100))
        .collect()
}

/// `count` members of equal weight in one zone.
pub(crate) fn together(count: usize) -> Vec<MemberSpec> {
    (0..count)
        .map(|n| spec(&format!("node-{n:04}"), "hall", 100))
        .collect()
}

/// Up to `count` members of any weight over up to five zones, in any order of names.
pub(crate) fn any_members(count: usize) -> impl Strategy<Value = Vec<MemberSpec>> {
    let weight = prop_oneof![3 => Just(100_u32), 1 => 1..=1000_u32];
    let member = (0..5_usize, weight);
    prop::collection::vec(member, 1..=count)
        .prop_map(|members| {
            let named =
                |(n, (zone, weight))| spec(&format!("node-{n}"), &format!("zone-{zone}"), weight);
            members
                .into_iter()
                .enumerate()
                .map(named)
                .collect::<Vec<_>>()
        })
        .prop_shuffle()
}

/// A founding layout of up to ten members.
pub(crate) fn any_layout() -> impl Strategy<Value = Layout> {
    (0..=6_u32, 1..=5_u32, any_members(10))
        .prop_map(|(bits, replicas_n, members)| layout(1 << bits, replicas_n, members))
}
