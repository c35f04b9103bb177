//! Layouts as messages: sent to clients and peers, kept on disk.

use souk_ring::{
    Layout, LayoutEpoch, LayoutParts, Member, MemberSpec, Name, NodeId, PartitionCount, ReplicasN,
    Weight,
};

use super::DecodeError;
use crate::kv;

const LAYOUT: &str = "layout";

/// A layout as a message.
pub fn layout_to_wire(layout: &Layout) -> kv::Layout {
    let parts = layout.to_parts();
    kv::Layout {
        cluster_id: parts.cluster_id.to_string(),
        epoch: parts.epoch.0,
        genesis_hash: parts.genesis_hash,
        partitions_count: parts.partition_count.get(),
        replicas_n: parts.replicas_n.get(),
        nodes: parts.members.iter().map(member_to_wire).collect(),
        assignment: parts
            .assignment
            .iter()
            .flatten()
            .map(|node| node.0)
            .collect(),
        next_node_id: parts.next_node_id.0,
    }
}

/// A layout from a message.
///
/// # Errors
/// [`DecodeError`] when the message is no layout, or its parts contradict each other.
pub fn layout_from_wire(wire: kv::Layout) -> Result<Layout, DecodeError> {
    let partition_count = PartitionCount::new(wire.partitions_count)
        .map_err(|cause| DecodeError::field(LAYOUT, "partitions_count", cause))?;
    let partitions = partition_count.get() as usize;
    let copies = wire.assignment.len() / partitions;
    if copies == 0 || !wire.assignment.len().is_multiple_of(partitions) {
        return Err(DecodeError::field(
            LAYOUT,
            "assignment",
            format_args!(
                "has {} entries for {partitions} partitions",
                wire.assignment.len()
            ),
        ));
    }
    let members = wire
        .nodes
        .into_iter()
        .map(member_from_wire)
        .collect::<Result<Vec<_>, DecodeError>>()?;
    let parts = LayoutParts {
        cluster_id: name("cluster_id", wire.cluster_id)?,
        genesis_hash: wire.genesis_hash,
        epoch: LayoutEpoch(wire.epoch),
        partition_count,
        replicas_n: ReplicasN::new(wire.replicas_n)
            .map_err(|cause| DecodeError::field(LAYOUT, "replicas_n", cause))?,
        members,
        next_node_id: NodeId(wire.next_node_id),
        assignment: wire
            .assignment
            .chunks(copies)
            .map(|owners| owners.iter().copied().map(NodeId).collect())
            .collect(),
    };
    Layout::from_parts(parts).map_err(|cause| DecodeError::malformed(LAYOUT, cause))
}

fn member_to_wire(member: &Member) -> kv::TopologyNode {
    kv::TopologyNode {
        id: member.id.0,
        name: member.name.to_string(),
        zone: member.zone.to_string(),
        weight: member.weight.get(),
        grpc_address: member.grpc_address.clone(),
        http_address: member.http_address.clone(),
    }
}

fn member_from_wire(wire: kv::TopologyNode) -> Result<Member, DecodeError> {
    let spec = MemberSpec {
        name: name("node name", wire.name)?,
        zone: name("zone", wire.zone)?,
        weight: Weight::new(wire.weight)
            .map_err(|cause| DecodeError::field(LAYOUT, "weight", cause))?,
        grpc_address: wire.grpc_address,
        http_address: wire.http_address,
    };
    Ok(Member::new(NodeId(wire.id), spec))
}

fn name(field: &'static str, text: String) -> Result<Name, DecodeError> {
    Name::try_from(text).map_err(|cause| DecodeError::field(LAYOUT, field, cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(nodes: u32) -> Layout {
        let spec = |number: u32| MemberSpec {
            name: Name::try_from(format!("n{number}")).expect("a good name"),
            zone: Name::try_from(format!("z{}", number % 3)).expect("a good name"),
            weight: Weight::new(1 + number % 4).expect("a good weight"),
            grpc_address: format!("127.0.0.1:{}", 7100 + number),
            http_address: format!("127.0.0.1:{}", 7200 + number),
        };
        let count = PartitionCount::new(64).expect("a power of two");
        let copies = ReplicasN::new(3).expect("in range");
        let name = Name::try_from("souk-test".to_owned()).expect("a good name");
        Layout::initial(name, count, copies, (1..=nodes).map(spec).collect())
            .expect("it can be placed")
    }

    #[test]
    fn layouts_survive_the_round_trip() {
        for nodes in [1, 2, 3, 7] {
            let layout = sample(nodes);
            let back = layout_from_wire(layout_to_wire(&layout)).expect("it was encoded by us");
            assert_eq!(back, layout, "{nodes} nodes");
            assert_eq!(back.hash(), layout.hash());
        }
    }

    #[test]
    fn a_short_assignment_is_refused() {
        let mut wire = layout_to_wire(&sample(3));
        wire.assignment.pop();
        let error = layout_from_wire(wire).expect_err("an owner is missing");
        assert!(
            error.to_string().contains("191 entries for 64 partitions"),
            "{error}"
        );
    }
}
