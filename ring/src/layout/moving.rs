//! A layout while copies are on their way from its owners to the next ones.
//!
//! Two families share a house for the time of a handover: everything of importance needs the yes of both. So
//! a layout that moves names the owners as they are and as they will be, and its members are all of them.
//!
//! ```text
//! e    { A B C }                 --begun-->      members join, weights and zones change, nothing else yet
//! e+1  { A B C } and { B C D }   --settled-->    every newcomer holds its copies, leavers are gone
//! e+2  { B C D }                  (or --called_off--> { A B C } again, with newcomers gone)
//! ```
//!
//! Place: pure; planned by `souk_kv_node`, decided by `souk_kv_core::layout`; who has to agree to what
//! meanwhile follows in `souk_kv_core::register::Acceptors`.
//! Source: Lamport, Malkhi, Zhou, Reconfiguring a State Machine, 2010; Ongaro, Ousterhout, Raft, 2014, §6.
//! Invariants: 1. one move at a time. 2. while copies move, the owners of before stay the owners: only a settled
//!   layout reads from the next ones. 3. a newcomer is named together with its store. 4. a change that moves no
//!   copy and changes no order of owners needs no move.
//! Not here: when a move may settle (`souk_kv_core::transfer`), carrying the copies.

use std::collections::{BTreeMap, BTreeSet};

use crate::layout::{Layout, LayoutError, MemberChange, check_members};
use crate::member::{Member, NodeId, StoreId};
use crate::name::Name;
use crate::partition::PartitionId;

use super::LayoutEpoch;

/// What a layout says of the move that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Moving {
    pub(super) started: LayoutEpoch,
    pub(super) joining: BTreeSet<NodeId>,
    pub(super) leaving: BTreeSet<NodeId>,
    /// The next owners of all partitions end to end, `copies_count` for each.
    pub(super) assignment: Vec<NodeId>,
    pub(super) copies_count: usize,
}

impl Moving {
    fn owners(&self, partition: PartitionId) -> &[NodeId] {
        let start = partition.index() * self.copies_count;
        &self.assignment[start..start + self.copies_count]
    }
}

impl Layout {
    /// The next epoch, in which `changes` are under way, or done if they move nothing.
    ///
    /// `newcomers` says which store each joining node has shown; `change` is the number under which operators
    /// know these changes, see [`Layout::changes_applied`].
    ///
    /// # Errors
    /// Those of [`Layout::next`]; [`LayoutError::StillMoving`] while another move is under way;
    /// [`LayoutError::NewcomerUnknown`] when a joining node has not shown its store.
    pub fn begun(
        &self,
        changes: &[MemberChange],
        newcomers: &BTreeMap<Name, StoreId>,
        change: u64,
    ) -> Result<Layout, LayoutError> {
        if let Some(moving) = &self.moving {
            let started = moving.started;
            return Err(LayoutError::StillMoving { started });
        }
        if let Some(member) = self.members.values().find(|member| member.store.is_none()) {
            return Err(LayoutError::StoreUnknown { id: member.id });
        }
        let mut next = self.next(changes)?;
        self.name_stores(&mut next, newcomers)?;
        next.changes_applied = change;
        let is_same_place = next.copies_count == self.copies_count
            && next.assignment == self.assignment
            && next.members.keys().eq(self.members.keys());
        if is_same_place {
            return Ok(next);
        }
        let missing_in = |these: &Layout, those: &Layout| -> BTreeSet<NodeId> {
            let ids = these.members.keys().copied();
            ids.filter(|id| !those.members.contains_key(id)).collect()
        };
        let (joining, leaving) = (missing_in(&next, self), missing_in(self, &next));
        let mut joint = next.clone();
        for id in &leaving {
            joint.members.insert(*id, self.members[id].clone());
        }
        check_members(&joint.members)?;
        joint.assignment.clone_from(&self.assignment);
        joint.copies_count = self.copies_count;
        joint.moving = Some(Moving {
            started: next.epoch,
            joining,
            leaving,
            copies_count: next.copies_count,
            assignment: next.assignment,
        });
        Ok(joint)
    }

    /// The next epoch, in which the next owners are the owners, and who leaves has left.
    ///
    /// # Errors
    /// [`LayoutError::NotMoving`], or no epochs are left.
    pub fn settled(&self) -> Result<Layout, LayoutError> {
        let mut next = self.at(self.epoch.next())?;
        let moving = next.moving.take().ok_or(LayoutError::NotMoving)?;
        next.members.retain(|id, _| !moving.leaving.contains(id));
        next.assignment = moving.assignment;
        next.copies_count = moving.copies_count;
        next.forget_lists();
        Ok(next)
    }

    /// The next epoch, in which everything is owned as before the move, and who was joining is gone. Weights and
    /// zones stay as the move has set them.
    ///
    /// # Errors
    /// [`LayoutError::NotMoving`], or no epochs are left.
    pub fn called_off(&self) -> Result<Layout, LayoutError> {
        let mut next = self.at(self.epoch.next())?;
        let moving = next.moving.take().ok_or(LayoutError::NotMoving)?;
        next.members.retain(|id, _| !moving.joining.contains(id));
        next.forget_lists();
        Ok(next)
    }

    /// The epoch that began the move under way; `None` when nothing moves.
    pub fn moving_since(&self) -> Option<LayoutEpoch> {
        self.moving.as_ref().map(|moving| moving.started)
    }

    /// Whether a member is there only to receive its first copies.
    pub fn is_joining(&self, id: NodeId) -> bool {
        self.moving
            .as_ref()
            .is_some_and(|moving| moving.joining.contains(&id))
    }

    /// Whether a member is there only until others hold its copies.
    pub fn is_leaving(&self, id: NodeId) -> bool {
        self.moving
            .as_ref()
            .is_some_and(|moving| moving.leaving.contains(&id))
    }

    /// Who will own `partition` once the move has settled, in order; `None` when nothing moves.
    ///
    /// # Panics
    /// When `partition` is not below the partition count.
    pub fn next_owners(&self, partition: PartitionId) -> Option<&[NodeId]> {
        self.moving.as_ref().map(|moving| moving.owners(partition))
    }

    /// How many copies each partition will have once the move has settled.
    pub fn next_copies_count(&self) -> Option<usize> {
        self.moving.as_ref().map(|moving| moving.copies_count)
    }

    /// Everybody who has to be sent what is written to a partition whose bucket keeps `copies` of it: the
    /// primaries, and behind them those who are still to become primaries.
    pub fn receivers(&self, partition: PartitionId, copies: usize) -> Vec<NodeId> {
        let prefix = |owners: &[NodeId]| owners[..copies.min(owners.len())].to_vec();
        let mut receivers = prefix(self.owners(partition));
        for node in self.next_owners(partition).map(prefix).unwrap_or_default() {
            if !receivers.contains(&node) {
                receivers.push(node);
            }
        }
        receivers
    }

    /// The partitions of which `node` is an owner, or will be once the move has settled; in ascending order.
    pub fn kept_by(&self, node: NodeId) -> impl Iterator<Item = PartitionId> + '_ {
        let keeps = move |partition: &PartitionId| {
            self.owners(*partition).contains(&node)
                || self
                    .next_owners(*partition)
                    .is_some_and(|owners| owners.contains(&node))
        };
        self.partition_count.partitions().filter(keeps)
    }

    /// The partitions of which `node` has to be given a copy before the move can settle, for buckets that keep `copies`
    /// of each: it will be among the first so many of the list, and is not yet. In ascending order; none when
    /// nothing moves.
    pub fn gains_of(&self, node: NodeId, copies: usize) -> impl Iterator<Item = PartitionId> + '_ {
        let front = move |owners: &[NodeId]| owners[..copies.min(owners.len())].contains(&node);
        let gains = move |partition: &PartitionId| {
            let will = self.next_owners(*partition).is_some_and(front);
            will && !front(self.owners(*partition))
        };
        self.partition_count.partitions().filter(gains)
    }

    /// Everybody who has to be given copies before the move can settle, for buckets that keep so many.
    pub fn gainers(&self, copies: impl IntoIterator<Item = usize>) -> BTreeSet<NodeId> {
        let members = || self.members.keys().copied();
        let gains = |copies: usize| {
            members().filter(move |node| self.gains_of(*node, copies).next().is_some())
        };
        copies.into_iter().flat_map(gains).collect()
    }

    /// The members as they were before the move, and as they will be; the second is `None` when nothing moves.
    pub fn electorates(&self) -> (Vec<NodeId>, Option<Vec<NodeId>>) {
        let without = |gone: &BTreeSet<NodeId>| -> Vec<NodeId> {
            let ids = self.members.keys().copied();
            ids.filter(|id| !gone.contains(id)).collect()
        };
        match &self.moving {
            None => (without(&BTreeSet::new()), None),
            Some(moving) => (without(&moving.joining), Some(without(&moving.leaving))),
        }
    }

    /// The number of the last change that operators have applied; 0 before the first. It only grows.
    pub fn changes_applied(&self) -> u64 {
        self.changes_applied
    }

    /// Gives the newcomers in `next` the stores that they have shown.
    fn name_stores(
        &self,
        next: &mut Layout,
        newcomers: &BTreeMap<Name, StoreId>,
    ) -> Result<(), LayoutError> {
        let mut taken: BTreeSet<StoreId> = self.members.values().filter_map(|m| m.store).collect();
        for member in next.members.values_mut() {
            if member.store.is_some() {
                continue;
            }
            let Member { id, name, .. } = &*member;
            let store = newcomers
                .get(name)
                .ok_or_else(|| LayoutError::NewcomerUnknown { name: name.clone() })?;
            if !taken.insert(*store) {
                let (id, store) = (*id, *store);
                return Err(LayoutError::StoreNotNew { id, store });
            }
            member.store = Some(*store);
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "moving_test.rs"]
mod tests;
