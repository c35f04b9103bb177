//! The agreement on which nodes own which partitions, under a growing epoch.
//!
//! A layout is a value: nobody edits one. [`Layout::initial`] makes the first from the members
//! that `cluster.toml` names, [`Layout::next`] plans a successor, [`Layout::from_parts`] takes one
//! back from disk or wire. Two machines that start from equal input hold equal layouts.
//!
//! Place: pure; agreed on by `kv_core::membership`, stored by `kv_node`, routed by in `kv_client`.
//! Source: DeCandia et al., Dynamo, SOSP 2007, §4.3, §4.8.1, §6.2.
//! Shape: per partition an ordered list of `min(replicas_n, members)` distinct nodes.
//! Invariants: 1. node ids are never reused: `next_node_id` only grows. 2. every list has the same
//!   length and names members only. 3. `genesis_hash` is the same in all epochs of a cluster.
//!   4. a member's store changes only together with the epoch, once the founders have met.
//!   5. owners change only by way of a layout that names both the old and the next ones ([`Layout::begun`]).
//! Not here: choosing the owners (the private module `placement`), agreement, moving data.

mod change;
mod error;
mod hash;
mod moving;
mod numbers;
mod parts;
mod stores;

pub use change::MemberChange;
pub use error::{LayoutError, LayoutFault};
pub use numbers::{LayoutEpoch, ReplicasN, ReplicasNError};
pub use parts::{LayoutParts, MovingParts};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use self::moving::Moving;
use crate::member::{Member, MemberSpec, NodeId};
use crate::name::Name;
use crate::partition::{PartitionCount, PartitionId};
use crate::placement;
use crate::preference::PreferenceList;
use crate::token::{Token, token_of};

/// Which nodes own which partitions during one epoch.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "LayoutParts", into = "LayoutParts")]
pub struct Layout {
    cluster_id: Name,
    genesis_hash: u64,
    epoch: LayoutEpoch,
    partition_count: PartitionCount,
    replicas_n: ReplicasN,
    members: BTreeMap<NodeId, Member>,
    next_node_id: NodeId,
    /// The owners of all partitions end to end, `copies_count` for each.
    assignment: Vec<NodeId>,
    copies_count: usize,
    moving: Option<Moving>,
    changes_applied: u64,
    /// Made on first use: large layouts are planned and compared far more often than all of
    /// their lists are read. Derived from the fields above, so equality leaves it out.
    preference_lists: Box<[OnceLock<PreferenceList>]>,
}

impl Layout {
    /// How many members a layout may have.
    pub const MEMBERS_MAX: usize = 1000;

    /// The first layout of a cluster: epoch 1, node ids from 1 in the order of the names.
    ///
    /// The order of `members` does not matter. With fewer members than `replicas_n`, every member
    /// owns every partition, and copies are added as members join.
    ///
    /// # Errors
    /// When there are no members, too many of them, or two with one name.
    pub fn initial(
        cluster_id: Name,
        partition_count: PartitionCount,
        replicas_n: ReplicasN,
        mut members: Vec<MemberSpec>,
    ) -> Result<Layout, LayoutError> {
        members.sort_by(|a, b| a.name.cmp(&b.name));
        let genesis_hash = hash::genesis_hash(
            &cluster_id,
            partition_count,
            replicas_n,
            members
                .iter()
                .map(|member| (&member.name, &member.zone, member.weight)),
        );
        let members: BTreeMap<NodeId, Member> = (1..)
            .map(NodeId)
            .zip(members)
            .map(|(id, spec)| (id, Member::new(id, spec)))
            .collect();
        check_members(&members)?;
        let next_node_id = following_node_id(&members)?;
        let assignment = placement::plan(partition_count, replicas_n, &members, None);
        Ok(Layout::assemble(LayoutBody {
            cluster_id,
            genesis_hash,
            epoch: LayoutEpoch::FIRST,
            partition_count,
            replicas_n,
            members,
            next_node_id,
            assignment,
            moving: None,
            changes_applied: 0,
        }))
    }

    /// The successor of this layout after `changes`, applied in order; its epoch is one higher.
    ///
    /// Owners are planned anew: far apart, then fair by weight, then with the fewest copies moved
    /// that those two permit. This is where a change leads to; how a cluster gets there without losing
    /// anything on the way begins with [`Layout::begun`].
    ///
    /// # Errors
    /// When a change names an unknown member, would double a name, or leaves no members.
    pub fn next(&self, changes: &[MemberChange]) -> Result<Layout, LayoutError> {
        let epoch = self.epoch.next().ok_or(LayoutError::EpochsExhausted)?;
        let (members, next_node_id) = change::apply(&self.members, self.next_node_id, changes)?;
        check_members(&members)?;
        let assignment =
            placement::plan(self.partition_count, self.replicas_n, &members, Some(self));
        Ok(Layout::assemble(LayoutBody {
            cluster_id: self.cluster_id.clone(),
            genesis_hash: self.genesis_hash,
            epoch,
            partition_count: self.partition_count,
            replicas_n: self.replicas_n,
            members,
            next_node_id,
            assignment,
            moving: None,
            changes_applied: self.changes_applied,
        }))
    }

    /// This layout with the addresses that `specs` give to members of the same name; members
    /// without a spec keep theirs, specs without a member are ignored. Epoch, placement and
    /// hashes stay: an address says how to reach a member, not what it owns.
    pub fn with_addresses(mut self, specs: &[MemberSpec]) -> Layout {
        for member in self.members.values_mut() {
            if let Some(spec) = specs.iter().find(|spec| spec.name == member.name) {
                member.grpc_address.clone_from(&spec.grpc_address);
                member.http_address.clone_from(&spec.http_address);
            }
        }
        self
    }

    /// The cluster this layout belongs to.
    pub fn cluster_id(&self) -> &Name {
        &self.cluster_id
    }

    /// The number of this layout in the cluster's history, from 1.
    pub fn epoch(&self) -> LayoutEpoch {
        self.epoch
    }

    /// Into how many partitions the hash space is cut.
    pub fn partition_count(&self) -> PartitionCount {
        self.partition_count
    }

    /// How many copies of each partition are planned; [`Layout::copies_count`] are placed.
    pub fn replicas_n(&self) -> ReplicasN {
        self.replicas_n
    }

    /// How many copies each partition has: `replicas_n`, or the number of members if lower (while copies move, of
    /// the members before).
    pub fn copies_count(&self) -> usize {
        self.copies_count
    }

    /// The members by node id.
    pub fn members(&self) -> &BTreeMap<NodeId, Member> {
        &self.members
    }

    /// The member with the number `id`.
    pub fn member(&self, id: NodeId) -> Option<&Member> {
        self.members.get(&id)
    }

    /// The member called `name`.
    pub fn member_named(&self, name: &str) -> Option<&Member> {
        self.members
            .values()
            .find(|member| member.name.as_str() == name)
    }

    /// The number that the next joining node will get.
    pub fn next_node_id(&self) -> NodeId {
        self.next_node_id
    }

    /// The owners of `partition` in order, natural coordinator first: always
    /// [`Layout::copies_count`] distinct members.
    ///
    /// # Panics
    /// When `partition` is not below the partition count.
    pub fn owners(&self, partition: PartitionId) -> &[NodeId] {
        let start = partition.index() * self.copies_count;
        &self.assignment[start..start + self.copies_count]
    }

    /// The partition that holds `token`.
    pub fn partition_of(&self, token: Token) -> PartitionId {
        self.partition_count.partition_of(token)
    }

    /// The partition that holds all rows of `partition_key` in `bucket`.
    pub fn locate(&self, bucket: &str, partition_key: &[u8]) -> PartitionId {
        self.partition_of(token_of(bucket, partition_key))
    }

    /// All members in the order to ask them for `partition`. Cheap: made once per layout.
    ///
    /// # Panics
    /// When `partition` is not below the partition count.
    pub fn preference_list(&self, partition: PartitionId) -> &PreferenceList {
        self.preference_lists[partition.index()]
            .get_or_init(|| PreferenceList::new(partition, self.owners(partition), &self.members))
    }

    /// The partitions of which `node` is an owner, in ascending order.
    pub fn partitions_of(&self, node: NodeId) -> impl Iterator<Item = PartitionId> + '_ {
        let holds = move |partition: &PartitionId| self.owners(*partition).contains(&node);
        self.partition_count.partitions().filter(holds)
    }

    /// The digest of what `cluster.toml` founded the cluster with: cluster id, partition count,
    /// `replicas_n`, and every founding member's name, zone and weight. Addresses are left out,
    /// so that a local cluster may start again on other ports. The same in every epoch, hence it
    /// also tells a file that was edited after the founding.
    pub fn genesis_hash(&self) -> u64 {
        self.genesis_hash
    }

    /// The digest of the whole agreement: all that [`LayoutParts`] holds except addresses. Equal
    /// on all machines for equal layouts; nodes compare it to notice that theirs differ.
    pub fn hash(&self) -> u64 {
        hash::layout_hash(self)
    }

    /// The digest of all but the members' stores: what founders compare before they know the stores.
    pub fn placement_hash(&self) -> u64 {
        hash::placement_hash(self)
    }

    fn assemble(body: LayoutBody) -> Layout {
        let LayoutBody {
            cluster_id,
            genesis_hash,
            epoch,
            partition_count,
            replicas_n,
            members,
            next_node_id,
            assignment,
            moving,
            changes_applied,
        } = body;
        let copies_count = assignment.len() / partition_count.get() as usize;
        let preference_lists = empty_lists(partition_count);
        Layout {
            cluster_id,
            genesis_hash,
            epoch,
            partition_count,
            replicas_n,
            members,
            next_node_id,
            assignment,
            copies_count,
            moving,
            changes_applied,
            preference_lists,
        }
    }

    /// Preference lists follow from members and owners; whoever changes those has them made anew.
    fn forget_lists(&mut self) {
        self.preference_lists = empty_lists(self.partition_count);
    }
}

fn empty_lists(partition_count: PartitionCount) -> Box<[OnceLock<PreferenceList>]> {
    let partitions = partition_count.partitions();
    partitions.map(|_| OnceLock::new()).collect()
}

impl PartialEq for Layout {
    fn eq(&self, other: &Layout) -> bool {
        self.cluster_id == other.cluster_id
            && self.genesis_hash == other.genesis_hash
            && self.epoch == other.epoch
            && self.partition_count == other.partition_count
            && self.replicas_n == other.replicas_n
            && self.members == other.members
            && self.next_node_id == other.next_node_id
            && self.assignment == other.assignment
            && self.moving == other.moving
            && self.changes_applied == other.changes_applied
    }
}

impl Eq for Layout {}

/// A layout's own facts, before what is derived from them.
struct LayoutBody {
    cluster_id: Name,
    genesis_hash: u64,
    epoch: LayoutEpoch,
    partition_count: PartitionCount,
    replicas_n: ReplicasN,
    members: BTreeMap<NodeId, Member>,
    next_node_id: NodeId,
    assignment: Vec<NodeId>,
    moving: Option<Moving>,
    changes_applied: u64,
}

fn check_members(members: &BTreeMap<NodeId, Member>) -> Result<(), LayoutError> {
    if members.is_empty() {
        return Err(LayoutError::NoMembers);
    }
    if members.len() > Layout::MEMBERS_MAX {
        return Err(LayoutError::TooManyMembers {
            members_count: members.len(),
        });
    }
    let mut names = BTreeSet::new();
    match members.values().find(|member| !names.insert(&member.name)) {
        Some(member) => Err(LayoutError::NameTaken {
            name: member.name.clone(),
        }),
        None => Ok(()),
    }
}

fn following_node_id(members: &BTreeMap<NodeId, Member>) -> Result<NodeId, LayoutError> {
    let highest = members.keys().next_back().map_or(0, |id| id.0);
    highest
        .checked_add(1)
        .map(NodeId)
        .ok_or(LayoutError::NodeIdsExhausted)
}

#[cfg(test)]
#[path = "../layout_test.rs"]
mod tests;
