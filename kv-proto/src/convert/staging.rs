//! What operators have staged, as a row of the register of all members.

use bytes::Bytes;
use prost::Message;
use souk_kv_core::layout::{StagedChange, Staging};
use souk_ring::{Member, MemberChange, MemberSpec, Name, NodeId, StoreId, Weight};

use super::{
    DecodeError,
    layout::{member_from_wire, member_to_wire},
};
use crate::{
    kv,
    store::{self, staged_change::Change},
};

const STAGING: &str = "staged change";

/// The row.
pub fn encode_staging(staging: &Staging) -> Bytes {
    let wire = store::Staging {
        version: staging.version,
        changes: staging.changes.iter().map(to_wire).collect(),
    };
    wire.encode_to_vec().into()
}

/// The row again.
///
/// # Errors
/// [`DecodeError`] when the bytes are none.
pub fn decode_staging(bytes: Bytes) -> Result<Staging, DecodeError> {
    let wire =
        store::Staging::decode(bytes).map_err(|cause| DecodeError::malformed(STAGING, cause))?;
    let changes = wire.changes.into_iter().map(from_wire);
    Ok(Staging {
        version: wire.version,
        changes: changes.collect::<Result<_, _>>()?,
    })
}

/// A node that wants to be a member, with the store that it has shown.
pub fn newcomer_to_wire(spec: &MemberSpec, store: Option<StoreId>) -> kv::TopologyNode {
    member_to_wire(&Member {
        store,
        ..Member::new(NodeId(0), spec.clone())
    })
}

/// A node that wants to be a member.
///
/// # Errors
/// [`DecodeError`] when a name, zone, weight or store is none.
pub fn newcomer_from_wire(
    wire: kv::TopologyNode,
) -> Result<(MemberSpec, Option<StoreId>), DecodeError> {
    let member = member_from_wire(wire)?;
    let store = member.store;
    let spec = MemberSpec {
        name: member.name,
        zone: member.zone,
        weight: member.weight,
        grpc_address: member.grpc_address,
        http_address: member.http_address,
    };
    Ok((spec, store))
}

fn to_wire(line: &StagedChange) -> store::StagedChange {
    let change = match &line.change {
        MemberChange::Join(spec) => Change::Join(newcomer_to_wire(spec, line.store)),
        MemberChange::Leave(id) => Change::Leave(id.0),
        MemberChange::Replace { id, with } => Change::Replace(store::StagedReplace {
            node: id.0,
            with: Some(newcomer_to_wire(with, line.store)),
        }),
        MemberChange::SetWeight { id, weight } => Change::Weight(store::StagedWeight {
            node: id.0,
            weight: weight.get(),
        }),
        MemberChange::SetZone { id, zone } => Change::Zone(store::StagedZone {
            node: id.0,
            zone: zone.to_string(),
        }),
    };
    store::StagedChange {
        number: line.number,
        change: Some(change),
    }
}

fn from_wire(wire: store::StagedChange) -> Result<StagedChange, DecodeError> {
    let mut shown = None;
    let change = match wire.change {
        None => return Err(DecodeError::field(STAGING, "change", "is missing")),
        Some(Change::Join(node)) => {
            let (spec, store) = newcomer_from_wire(node)?;
            shown = store;
            MemberChange::Join(spec)
        }
        Some(Change::Leave(id)) => MemberChange::Leave(NodeId(id)),
        Some(Change::Replace(replace)) => {
            let (with, store) = newcomer_from_wire(replace.with.unwrap_or_default())?;
            shown = store;
            let id = NodeId(replace.node);
            MemberChange::Replace { id, with }
        }
        Some(Change::Weight(weight)) => MemberChange::SetWeight {
            id: NodeId(weight.node),
            weight: Weight::new(weight.weight)
                .map_err(|cause| DecodeError::field(STAGING, "weight", cause))?,
        },
        Some(Change::Zone(zone)) => MemberChange::SetZone {
            id: NodeId(zone.node),
            zone: Name::try_from(zone.zone)
                .map_err(|cause| DecodeError::field(STAGING, "zone", cause))?,
        },
    };
    Ok(StagedChange {
        number: wire.number,
        change,
        store: shown,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_staged_survives_the_round_trip() {
        let spec = MemberSpec {
            name: "n4".parse().expect("a good name"),
            zone: "z4".parse().expect("a good name"),
            weight: Weight::default(),
            grpc_address: "127.0.0.1:7104".to_owned(),
            http_address: "127.0.0.1:7204".to_owned(),
        };
        let id = NodeId(2);
        let weight = Weight::new(7).expect("a good weight");
        let zone = "z9".parse().expect("a good name");
        let changes = [
            (MemberChange::Join(spec.clone()), Some(StoreId([4; 16]))),
            (MemberChange::Join(spec.clone()), None),
            (MemberChange::Leave(id), None),
            (
                MemberChange::Replace { id, with: spec },
                Some(StoreId([5; 16])),
            ),
            (MemberChange::SetWeight { id, weight }, None),
            (MemberChange::SetZone { id, zone }, None),
        ];
        let line = |(number, (change, store))| StagedChange {
            number,
            change,
            store,
        };
        let staging = Staging {
            version: 9,
            changes: (1..).zip(changes).map(line).collect(),
        };
        assert_eq!(decode_staging(encode_staging(&staging)), Ok(staging));
        decode_staging(Bytes::from_static(b"\x12\x02\x08\x01")).expect_err("it changes nothing");
    }
}
