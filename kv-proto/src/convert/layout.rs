//! Layouts and votes on them as messages: sent to clients and peers, kept on disk.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use souk_kv_core::{
    layout::{LayoutVote, Proposal, VoteReply, VoteRequest},
    register::Ballot,
};
use souk_ring::{
    Layout, LayoutEpoch, LayoutParts, Member, MemberSpec, MovingParts, Name, NodeId,
    PartitionCount, ReplicasN, Standing, StoreId, Weight,
};

use super::{
    DecodeError,
    register::{ballot_from_wire, ballot_to_wire},
};
use crate::{kv, peer, store};

const LAYOUT: &str = "layout";
const VOTE: &str = "vote on a layout";

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
        r#move: parts.moving.map(|moving| kv::LayoutMove {
            started: moving.started.0,
            joining: moving.joining.iter().map(|node| node.0).collect(),
            leaving: moving.leaving.iter().map(|node| node.0).collect(),
            assignment: moving
                .assignment
                .iter()
                .flatten()
                .map(|node| node.0)
                .collect(),
        }),
        changes_applied: parts.changes_applied,
    }
}

/// A layout from a message.
///
/// # Errors
/// [`DecodeError`] when the message is no layout, or its parts contradict each other.
pub fn layout_from_wire(wire: kv::Layout) -> Result<Layout, DecodeError> {
    let partition_count = PartitionCount::new(wire.partitions_count)
        .map_err(|cause| DecodeError::field(LAYOUT, "partitions_count", cause))?;
    let moving = wire
        .r#move
        .map(|moving| moving_from_wire(moving, partition_count));
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
        assignment: lists(&wire.assignment, partition_count)?,
        moving: moving.transpose()?,
        changes_applied: wire.changes_applied,
    };
    Layout::from_parts(parts).map_err(|cause| DecodeError::malformed(LAYOUT, cause))
}

fn moving_from_wire(
    wire: kv::LayoutMove,
    partition_count: PartitionCount,
) -> Result<MovingParts, DecodeError> {
    let nodes = |ids: Vec<u32>| ids.into_iter().map(NodeId).collect();
    Ok(MovingParts {
        started: LayoutEpoch(wire.started),
        joining: nodes(wire.joining),
        leaving: nodes(wire.leaving),
        assignment: lists(&wire.assignment, partition_count)?,
    })
}

/// Cuts the owners of all partitions, end to end, into one list for each.
fn lists(
    assignment: &[u32],
    partition_count: PartitionCount,
) -> Result<Vec<Vec<NodeId>>, DecodeError> {
    let partitions = partition_count.get() as usize;
    let copies = assignment.len() / partitions;
    if copies == 0 || !assignment.len().is_multiple_of(partitions) {
        return Err(DecodeError::field(
            LAYOUT,
            "assignment",
            format_args!(
                "has {} entries for {partitions} partitions",
                assignment.len()
            ),
        ));
    }
    let owners = |owners: &[u32]| owners.iter().copied().map(NodeId).collect();
    Ok(assignment.chunks(copies).map(owners).collect())
}

/// A member as clients, peers and operators see it.
pub fn member_to_wire(member: &Member) -> kv::TopologyNode {
    kv::TopologyNode {
        id: member.id.0,
        name: member.name.to_string(),
        zone: member.zone.to_string(),
        weight: member.weight.get(),
        grpc_address: member.grpc_address.clone(),
        http_address: member.http_address.clone(),
        store_id: member
            .store
            .map_or(Bytes::new(), |store| Bytes::copy_from_slice(&store.0)),
        learner: member.standing != Standing::Full,
        heir: member.standing == Standing::Heir,
    }
}

pub(super) fn member_from_wire(wire: kv::TopologyNode) -> Result<Member, DecodeError> {
    let spec = MemberSpec {
        name: name("node name", wire.name)?,
        zone: name("zone", wire.zone)?,
        weight: Weight::new(wire.weight)
            .map_err(|cause| DecodeError::field(LAYOUT, "weight", cause))?,
        grpc_address: wire.grpc_address,
        http_address: wire.http_address,
    };
    let store = match wire.store_id.as_ref() {
        [] => None,
        bytes => Some(store_from_wire(bytes)?),
    };
    Ok(Member {
        store,
        standing: match (wire.learner, wire.heir) {
            (false, _) => Standing::Full,
            (true, false) => Standing::Learner,
            (true, true) => Standing::Heir,
        },
        ..Member::new(NodeId(wire.id), spec)
    })
}

/// A vote for disk.
pub fn encode_vote(vote: &LayoutVote<Arc<Layout>>) -> Bytes {
    let accepted = vote.accepted.as_ref();
    let wire = store::LayoutVote {
        deciding: vote.deciding.0,
        promised: Some(ballot_to_wire(vote.promised)),
        accepted: accepted.map(|proposal| ballot_to_wire(proposal.ballot)),
        value: accepted.map(|proposal| layout_to_wire(&proposal.value)),
    };
    wire.encode_to_vec().into()
}

/// A vote from disk.
///
/// # Errors
/// [`DecodeError`] when the bytes are none.
pub fn decode_vote(bytes: Bytes) -> Result<LayoutVote<Arc<Layout>>, DecodeError> {
    let wire =
        store::LayoutVote::decode(bytes).map_err(|cause| DecodeError::malformed(VOTE, cause))?;
    Ok(LayoutVote {
        deciding: LayoutEpoch(wire.deciding),
        promised: ballot(wire.promised.as_ref()),
        accepted: proposal(wire.accepted.as_ref(), wire.value)?,
    })
}

/// A question about the next layout.
pub fn ask_to_wire(request: &VoteRequest<Arc<Layout>>) -> peer::LayoutAsk {
    match request {
        VoteRequest::Prepare { deciding, ballot } => peer::LayoutAsk {
            deciding: deciding.0,
            ballot: Some(ballot_to_wire(*ballot)),
            value: None,
        },
        VoteRequest::Accept { deciding, proposal } => peer::LayoutAsk {
            deciding: deciding.0,
            ballot: Some(ballot_to_wire(proposal.ballot)),
            value: Some(layout_to_wire(&proposal.value)),
        },
    }
}

/// A question about the next layout.
///
/// # Errors
/// [`DecodeError`] when its layout is none, or is not of the epoch that is being decided.
pub fn ask_from_wire(wire: peer::LayoutAsk) -> Result<VoteRequest<Arc<Layout>>, DecodeError> {
    let deciding = LayoutEpoch(wire.deciding);
    let ballot = ballot(wire.ballot.as_ref());
    let Some(value) = wire.value else {
        return Ok(VoteRequest::Prepare { deciding, ballot });
    };
    let value = Arc::new(layout_from_wire(value)?);
    if value.epoch() != deciding {
        return Err(DecodeError::field(
            VOTE,
            "value",
            format_args!("is of epoch {}, not of {deciding}", value.epoch()),
        ));
    }
    let proposal = Proposal { ballot, value };
    Ok(VoteRequest::Accept { deciding, proposal })
}

/// A member's answer.
pub fn answer_to_wire(reply: &VoteReply<Arc<Layout>>) -> peer::LayoutAnswer {
    use peer::layout_answer::Result;
    let result = match reply {
        VoteReply::Promised { ballot, accepted } => Result::Promised(peer::LayoutPromised {
            ballot: Some(ballot_to_wire(*ballot)),
            accepted: accepted
                .as_ref()
                .map(|proposal| ballot_to_wire(proposal.ballot)),
            value: accepted
                .as_ref()
                .map(|proposal| layout_to_wire(&proposal.value)),
        }),
        VoteReply::Accepted { ballot } => Result::Accepted(ballot_to_wire(*ballot)),
        VoteReply::Refused { ballot, promised } => Result::Refused(peer::Refused {
            ballot: Some(ballot_to_wire(*ballot)),
            promised: Some(ballot_to_wire(*promised)),
        }),
        VoteReply::Elsewhere { adopted } => Result::Elsewhere(adopted.0),
    };
    peer::LayoutAnswer {
        result: Some(result),
    }
}

/// A member's answer.
///
/// # Errors
/// [`DecodeError`] when it is none.
pub fn answer_from_wire(wire: peer::LayoutAnswer) -> Result<VoteReply<Arc<Layout>>, DecodeError> {
    use peer::layout_answer::Result as Wire;
    match wire.result {
        Some(Wire::Promised(promised)) => Ok(VoteReply::Promised {
            ballot: ballot(promised.ballot.as_ref()),
            accepted: proposal(promised.accepted.as_ref(), promised.value)?,
        }),
        Some(Wire::Accepted(accepted)) => Ok(VoteReply::Accepted {
            ballot: ballot_from_wire(&accepted),
        }),
        Some(Wire::Refused(refused)) => Ok(VoteReply::Refused {
            ballot: ballot(refused.ballot.as_ref()),
            promised: ballot(refused.promised.as_ref()),
        }),
        Some(Wire::Elsewhere(adopted)) => Ok(VoteReply::Elsewhere {
            adopted: LayoutEpoch(adopted),
        }),
        None => Err(DecodeError::field(VOTE, "result", "is missing")),
    }
}

fn ballot(wire: Option<&store::Ballot>) -> Ballot {
    wire.map_or(Ballot::ZERO, ballot_from_wire)
}

fn proposal(
    ballot: Option<&store::Ballot>,
    value: Option<kv::Layout>,
) -> Result<Option<Proposal<Arc<Layout>>>, DecodeError> {
    match (ballot, value) {
        (Some(ballot), Some(value)) => Ok(Some(Proposal {
            ballot: ballot_from_wire(ballot),
            value: Arc::new(layout_from_wire(value)?),
        })),
        (None, None) => Ok(None),
        _ => Err(DecodeError::field(
            VOTE,
            "accepted",
            "has a ballot or a layout, but not both",
        )),
    }
}

/// A store's identity.
///
/// # Errors
/// [`DecodeError`] when it has not 16 bytes.
pub fn store_from_wire(bytes: &[u8]) -> Result<StoreId, DecodeError> {
    bytes.try_into().map(StoreId).map_err(|_| {
        DecodeError::field(
            LAYOUT,
            "store_id",
            format_args!("has {} bytes instead of 16", bytes.len()),
        )
    })
}

fn name(field: &'static str, text: String) -> Result<Name, DecodeError> {
    Name::try_from(text).map_err(|cause| DecodeError::field(LAYOUT, field, cause))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use souk_ring::MemberChange;

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

    fn spec_of(layout: &Layout) -> MemberSpec {
        let member = layout.members().values().next().expect("it has members");
        MemberSpec {
            name: member.name.clone(),
            zone: member.zone.clone(),
            weight: member.weight,
            grpc_address: member.grpc_address.clone(),
            http_address: member.http_address.clone(),
        }
    }

    #[test]
    fn stores_and_standings_survive_the_round_trip() {
        let draft = sample(3);
        let stores = draft
            .members()
            .keys()
            .map(|id| (*id, StoreId([id.0 as u8; 16])));
        let founded = draft.founded(&stores.collect()).expect("all are there");
        let swapped = founded
            .swapped(NodeId(2), StoreId([9; 16]))
            .expect("two others are sure");
        let survivors = [NodeId(1)].into();
        let recovered = founded
            .recovered(LayoutEpoch(9), &survivors, &BTreeMap::new())
            .expect("it is later");
        let mut newcomer = MemberSpec {
            name: "n9".parse().expect("a good name"),
            ..spec_of(&founded)
        };
        newcomer.weight = Weight::new(50).expect("a good weight");
        let shown = BTreeMap::from([(newcomer.name.clone(), StoreId([77; 16]))]);
        let changes = [MemberChange::Join(newcomer), MemberChange::Leave(NodeId(2))];
        let moving = founded.begun(&changes, &shown, 12).expect("it is shown");
        assert!(moving.moving_since().is_some());
        for layout in [founded, swapped, recovered, moving] {
            let back = layout_from_wire(layout_to_wire(&layout)).expect("it was encoded by us");
            assert_eq!(back, layout);
            assert_eq!(back.hash(), layout.hash());
        }
        let mut wire = layout_to_wire(&sample(3));
        wire.nodes[0].store_id = Bytes::from_static(b"short");
        let error = layout_from_wire(wire).expect_err("a store has 16 bytes");
        assert!(
            error.to_string().contains("5 bytes instead of 16"),
            "{error}"
        );
    }

    #[test]
    fn votes_survive_disk_and_wire() {
        let value = Arc::new(sample(3));
        let ballot = Ballot {
            counter: 7,
            proposer: 9,
        };
        let proposal = Proposal {
            ballot,
            value: Arc::clone(&value),
        };
        for accepted in [None, Some(proposal.clone())] {
            let vote = LayoutVote {
                deciding: LayoutEpoch(2),
                promised: ballot,
                accepted: accepted.clone(),
            };
            assert_eq!(decode_vote(encode_vote(&vote)), Ok(vote));
            let reply = VoteReply::Promised { ballot, accepted };
            assert_eq!(answer_from_wire(answer_to_wire(&reply)), Ok(reply));
        }
        let deciding = value.epoch();
        let accept = VoteRequest::Accept { deciding, proposal };
        assert_eq!(ask_from_wire(ask_to_wire(&accept)), Ok(accept.clone()));
        let mut other = ask_to_wire(&accept);
        other.deciding += 1;
        let error = ask_from_wire(other).expect_err("the layout is of another epoch");
        assert!(error.to_string().contains("is of epoch"), "{error}");
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
