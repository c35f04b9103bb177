//! A layout taken apart, as it is stored and sent, and the check on the way back.
//!
//! Place: pure; `kv_proto` converts messages to and from [`LayoutParts`].
//! Invariants: 1. `Layout::from_parts(layout.to_parts())` equals `layout`. 2. bytes from disk or
//!   network can make an error here, never a panic later.
//! Not here: whether the placement is a good one; an operator may have forced another.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::layout::error::LayoutFault;
use crate::layout::moving::Moving;
use crate::layout::{Layout, LayoutBody, LayoutEpoch, LayoutError, ReplicasN, check_members, hash};
use crate::member::{Member, NodeId};
use crate::name::Name;
use crate::partition::PartitionCount;

/// All facts of a [`Layout`], open to encoders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayoutParts {
    /// The cluster.
    pub cluster_id: Name,
    /// See [`Layout::genesis_hash`].
    pub genesis_hash: u64,
    /// From 1.
    pub epoch: LayoutEpoch,
    /// Fixed at creation.
    pub partition_count: PartitionCount,
    /// Copies planned per partition.
    pub replicas_n: ReplicasN,
    /// The members, in any order; [`Layout::to_parts`] gives them by ascending id.
    pub members: Vec<Member>,
    /// Above every id ever given.
    pub next_node_id: NodeId,
    /// For each partition in ascending order its owners, natural coordinator first.
    pub assignment: Vec<Vec<NodeId>>,
    /// The move under way.
    #[serde(default)]
    pub moving: Option<MovingParts>,
    /// See [`Layout::changes_applied`].
    #[serde(default)]
    pub changes_applied: u64,
}

/// A move under way, open to encoders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovingParts {
    /// See [`Layout::moving_since`].
    pub started: LayoutEpoch,
    /// Members that were none before.
    pub joining: Vec<NodeId>,
    /// Members that will be none afterwards.
    pub leaving: Vec<NodeId>,
    /// For each partition in ascending order its next owners.
    pub assignment: Vec<Vec<NodeId>>,
}

impl Layout {
    /// Puts a layout together again and checks that its parts fit.
    ///
    /// # Errors
    /// When members are missing, doubled or too many, or when the parts contradict each other.
    pub fn from_parts(parts: LayoutParts) -> Result<Layout, LayoutError> {
        let epoch = parts.epoch;
        let malformed = |fault| LayoutError::Malformed { epoch, fault };
        if epoch < LayoutEpoch::FIRST {
            return Err(malformed(LayoutFault::EpochZero));
        }
        let members = members_by_id(parts.members).map_err(malformed)?;
        check_members(&members)?;
        check_next_node_id(parts.next_node_id, &members).map_err(malformed)?;
        let moving = parts
            .moving
            .map(|moving| {
                moving_from(
                    moving,
                    epoch,
                    parts.partition_count,
                    parts.replicas_n,
                    &members,
                )
            })
            .transpose()
            .map_err(malformed)?;
        let joining = moving.as_ref().map_or(0, |moving| moving.joining.len());
        check_assignment(
            &parts.assignment,
            parts.partition_count,
            parts.replicas_n.count().min(members.len() - joining),
            &members,
        )
        .map_err(malformed)?;
        if epoch == LayoutEpoch::FIRST {
            let computed = hash::genesis_hash(
                &parts.cluster_id,
                parts.partition_count,
                parts.replicas_n,
                in_name_order(&members)
                    .into_iter()
                    .map(|m| (&m.name, &m.zone, m.weight)),
            );
            if computed != parts.genesis_hash {
                let stored = parts.genesis_hash;
                return Err(malformed(LayoutFault::GenesisHash { stored, computed }));
            }
        }
        Ok(Layout::assemble(LayoutBody {
            cluster_id: parts.cluster_id,
            genesis_hash: parts.genesis_hash,
            epoch,
            partition_count: parts.partition_count,
            replicas_n: parts.replicas_n,
            members,
            next_node_id: parts.next_node_id,
            assignment: parts.assignment.concat(),
            moving,
            changes_applied: parts.changes_applied,
        }))
    }

    /// Takes a copy of the layout apart, ready to be stored or sent.
    pub fn to_parts(&self) -> LayoutParts {
        LayoutParts {
            cluster_id: self.cluster_id.clone(),
            genesis_hash: self.genesis_hash,
            epoch: self.epoch,
            partition_count: self.partition_count,
            replicas_n: self.replicas_n,
            members: self.members.values().cloned().collect(),
            next_node_id: self.next_node_id,
            assignment: self
                .partition_count
                .partitions()
                .map(|partition| self.owners(partition).to_vec())
                .collect(),
            moving: self.moving.as_ref().map(|moving| MovingParts {
                started: moving.started,
                joining: moving.joining.iter().copied().collect(),
                leaving: moving.leaving.iter().copied().collect(),
                assignment: moving
                    .assignment
                    .chunks(moving.copies_count)
                    .map(<[NodeId]>::to_vec)
                    .collect(),
            }),
            changes_applied: self.changes_applied,
        }
    }
}

fn moving_from(
    parts: MovingParts,
    epoch: LayoutEpoch,
    partition_count: PartitionCount,
    replicas_n: ReplicasN,
    members: &BTreeMap<NodeId, Member>,
) -> Result<Moving, LayoutFault> {
    let started = parts.started;
    if started > epoch || started <= LayoutEpoch::FIRST {
        return Err(LayoutFault::MoveStarted { started });
    }
    let joining: BTreeSet<NodeId> = parts.joining.into_iter().collect();
    let leaving: BTreeSet<NodeId> = parts.leaving.into_iter().collect();
    for id in joining.iter().chain(&leaving) {
        if !members.contains_key(id) || (joining.contains(id) && leaving.contains(id)) {
            return Err(LayoutFault::MoverUnknown { id: *id });
        }
    }
    if joining.len() == members.len() || leaving.len() == members.len() {
        return Err(LayoutFault::NobodyStays);
    }
    let copies_count = replicas_n.count().min(members.len() - leaving.len());
    check_assignment(&parts.assignment, partition_count, copies_count, members)?;
    Ok(Moving {
        started,
        joining,
        leaving,
        assignment: parts.assignment.concat(),
        copies_count,
    })
}

impl TryFrom<LayoutParts> for Layout {
    type Error = LayoutError;

    fn try_from(parts: LayoutParts) -> Result<Layout, LayoutError> {
        Layout::from_parts(parts)
    }
}

impl From<Layout> for LayoutParts {
    fn from(layout: Layout) -> LayoutParts {
        layout.to_parts()
    }
}

fn members_by_id(members: Vec<Member>) -> Result<BTreeMap<NodeId, Member>, LayoutFault> {
    let mut by_id = BTreeMap::new();
    for member in members {
        if member.id == NodeId(0) {
            return Err(LayoutFault::NodeIdZero { name: member.name });
        }
        if let Some(earlier) = by_id.insert(member.id, member) {
            return Err(LayoutFault::NodeIdTwice { id: earlier.id });
        }
    }
    Ok(by_id)
}

fn check_next_node_id(
    next_node_id: NodeId,
    members: &BTreeMap<NodeId, Member>,
) -> Result<(), LayoutFault> {
    match members.keys().next_back() {
        Some(&highest) if highest >= next_node_id => Err(LayoutFault::NextNodeIdTooLow {
            next_node_id,
            highest,
        }),
        _ => Ok(()),
    }
}

fn check_assignment(
    assignment: &[Vec<NodeId>],
    partition_count: PartitionCount,
    copies_count: usize,
    members: &BTreeMap<NodeId, Member>,
) -> Result<(), LayoutFault> {
    if assignment.len() != partition_count.get() as usize {
        let lists_count = assignment.len();
        return Err(LayoutFault::PartitionLists {
            lists_count,
            partition_count,
        });
    }
    for (partition, owners) in partition_count.partitions().zip(assignment) {
        if owners.len() != copies_count {
            let owners_count = owners.len();
            return Err(LayoutFault::OwnersCount {
                partition,
                owners_count,
                copies_count,
            });
        }
        for (place, id) in owners.iter().enumerate() {
            if !members.contains_key(id) {
                return Err(LayoutFault::OwnerUnknown { partition, id: *id });
            }
            if owners[..place].contains(id) {
                return Err(LayoutFault::OwnerTwice { partition, id: *id });
            }
        }
    }
    Ok(())
}

fn in_name_order(members: &BTreeMap<NodeId, Member>) -> Vec<&Member> {
    let mut members: Vec<&Member> = members.values().collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    members
}
