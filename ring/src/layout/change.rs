//! What an operator may ask of the member set, and the set that results.
//!
//! Place: pure; staged by `souk admin layout`, given to [`crate::Layout::next`].
//! Invariants: 1. changes apply in order, each to the result of the one before. 2. a node that
//!   left and joins again is a new member with a new id.
//! Not here: staging, confirming and committing the changes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::layout::LayoutError;
use crate::member::{Member, MemberSpec, NodeId, Weight};
use crate::name::Name;

/// One step from a member set to the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberChange {
    /// A new node joins and gets the next node id.
    Join(MemberSpec),
    /// A member leaves; its copies go to the others.
    Leave(NodeId),
    /// A member leaves and another takes its place, in one step so that nothing moves twice.
    Replace {
        /// The member that leaves.
        id: NodeId,
        /// The node that joins.
        with: MemberSpec,
    },
    /// A member gets another share of the load.
    SetWeight {
        /// The member.
        id: NodeId,
        /// Its new weight.
        weight: Weight,
    },
    /// A member turns out to stand, or now stands, in another zone.
    SetZone {
        /// The member.
        id: NodeId,
        /// Its new zone.
        zone: Name,
    },
}

/// The members after `changes`, and the node id that the next one joining will get.
pub(super) fn apply(
    members: &BTreeMap<NodeId, Member>,
    next_node_id: NodeId,
    changes: &[MemberChange],
) -> Result<(BTreeMap<NodeId, Member>, NodeId), LayoutError> {
    let mut set = MemberSet {
        members: members.clone(),
        next_node_id,
    };
    for change in changes {
        match change {
            MemberChange::Join(spec) => set.join(spec)?,
            MemberChange::Leave(id) => set.leave(*id)?,
            MemberChange::Replace { id, with } => {
                set.leave(*id)?;
                set.join(with)?;
            }
            MemberChange::SetWeight { id, weight } => set.member(*id)?.weight = *weight,
            MemberChange::SetZone { id, zone } => set.member(*id)?.zone.clone_from(zone),
        }
    }
    Ok((set.members, set.next_node_id))
}

struct MemberSet {
    members: BTreeMap<NodeId, Member>,
    next_node_id: NodeId,
}

impl MemberSet {
    fn join(&mut self, spec: &MemberSpec) -> Result<(), LayoutError> {
        if self.members.values().any(|member| member.name == spec.name) {
            return Err(LayoutError::NameTaken {
                name: spec.name.clone(),
            });
        }
        let id = self.next_node_id;
        let following = id.0.checked_add(1).ok_or(LayoutError::NodeIdsExhausted)?;
        self.next_node_id = NodeId(following);
        self.members.insert(id, Member::new(id, spec.clone()));
        Ok(())
    }

    fn leave(&mut self, id: NodeId) -> Result<(), LayoutError> {
        self.members
            .remove(&id)
            .map(drop)
            .ok_or(LayoutError::UnknownMember { id })
    }

    fn member(&mut self, id: NodeId) -> Result<&mut Member, LayoutError> {
        self.members
            .get_mut(&id)
            .ok_or(LayoutError::UnknownMember { id })
    }
}
