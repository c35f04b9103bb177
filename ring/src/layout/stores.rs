//! Which store speaks for each member, and whether it may speak for its past.
//!
//! A member is like an office, its store like the clerk who holds it. When a clerk has lost his files,
//! another takes the office under a new badge, and only listens until he has read what the others hold.
//!
//! Place: pure; planned by `souk_kv_node` when a store is lost, decided by `souk_kv_core::layout`.
//! Invariants: 1. epoch 1 is filled in once, with the stores that all founders came with. 2. later a store
//!   changes only by [`Layout::swapped`], into a new epoch and as a learner. 3. a swap never leaves a
//!   partition, or the members as a whole, without a majority that is sure of its past.
//! Not here: who may ask for a change, agreement, teaching.

use std::collections::{BTreeMap, BTreeSet};

use crate::layout::{Layout, LayoutEpoch, LayoutError};
use crate::member::{Member, NodeId, Standing, StoreId};
use crate::partition::PartitionId;

impl Layout {
    /// Whether every member has shown its store. Before that nobody votes on anything.
    pub fn is_founded(&self) -> bool {
        self.members.values().all(|member| member.store.is_some())
    }

    /// The first layout with the stores that its founders came with; same epoch.
    ///
    /// # Errors
    /// [`LayoutError::StoreUnknown`] when a member's store is missing.
    pub fn founded(&self, stores: &BTreeMap<NodeId, StoreId>) -> Result<Layout, LayoutError> {
        let mut founded = self.clone();
        for member in founded.members.values_mut() {
            let id = member.id;
            let store = stores.get(&id).ok_or(LayoutError::StoreUnknown { id })?;
            member.store = Some(*store);
        }
        Ok(founded)
    }

    /// The store that speaks for a member; `None` for strangers and before the founding.
    pub fn store_of(&self, id: NodeId) -> Option<StoreId> {
        self.member(id)?.store
    }

    /// Whether a member is being taught what its lost store knew.
    pub fn is_learner(&self, id: NodeId) -> bool {
        self.member(id)
            .is_some_and(|member| member.standing != Standing::Full)
    }

    /// Whether a learner is to believe whoever is left, majority or not.
    pub fn is_heir(&self, id: NodeId) -> bool {
        self.member(id)
            .is_some_and(|member| member.standing == Standing::Heir)
    }

    /// The members that are being taught.
    pub fn learners(&self) -> BTreeSet<NodeId> {
        self.members
            .values()
            .filter(|member| member.standing != Standing::Full)
            .map(|member| member.id)
            .collect()
    }

    /// The next epoch with everything else unchanged: requests of this epoch can then no longer complete.
    ///
    /// # Errors
    /// [`LayoutError::EpochsExhausted`].
    pub fn fenced(&self) -> Result<Layout, LayoutError> {
        self.at(self.epoch.next())
    }

    /// The next epoch, in which `store` speaks for the member `id`, as a learner.
    ///
    /// # Errors
    /// When the member is unknown, has this very store, or when too few would be left that are sure.
    pub fn swapped(&self, id: NodeId, store: StoreId) -> Result<Layout, LayoutError> {
        let next = self.with_learner(id, store)?;
        // The cluster's own group is voted on by all members; it is checked as partition 0 is.
        let (before, after) = next.electorates();
        for members in [Some(before), after].into_iter().flatten() {
            next.check_sure(id, PartitionId(0), &members)?;
        }
        for partition in next.partition_count.partitions() {
            let lists = [Some(next.owners(partition)), next.next_owners(partition)];
            for owners in lists.into_iter().flatten() {
                if owners.contains(&id) {
                    next.check_sure(id, partition, owners)?;
                }
            }
        }
        Ok(next)
    }

    /// The next epoch, in which the member `id` has been taught and counts again.
    ///
    /// # Errors
    /// When the member is unknown.
    pub fn promoted(&self, id: NodeId) -> Result<Layout, LayoutError> {
        let mut next = self.at(self.epoch.next())?;
        next.member_mut(id)?.standing = Standing::Full;
        Ok(next)
    }

    /// A layout far ahead, in which only `survivors` are sure of their past: what an operator declares
    /// when too few sure members are left to agree on anything. `stores` are those that the others
    /// have now; who is not named keeps the store it had and counts as lost.
    ///
    /// # Errors
    /// When a survivor is unknown, or no epochs are left.
    pub fn recovered(
        &self,
        epoch: LayoutEpoch,
        survivors: &BTreeSet<NodeId>,
        stores: &BTreeMap<NodeId, StoreId>,
    ) -> Result<Layout, LayoutError> {
        let mut next = self.at((epoch > self.epoch).then_some(epoch))?;
        for &id in survivors {
            next.member_mut(id)?.standing = Standing::Full;
        }
        for member in next.members.values_mut() {
            if !survivors.contains(&member.id) {
                member.standing = Standing::Heir;
                member.store = stores.get(&member.id).copied().or(member.store);
            }
        }
        Ok(next)
    }

    fn with_learner(&self, id: NodeId, store: StoreId) -> Result<Layout, LayoutError> {
        if self
            .members
            .values()
            .any(|member| member.store == Some(store))
        {
            return Err(LayoutError::StoreNotNew { id, store });
        }
        let mut next = self.at(self.epoch.next())?;
        let member = next.member_mut(id)?;
        member.store = Some(store);
        // Whom an operator has left without a majority has none after losing its store once more.
        if member.standing == Standing::Full {
            member.standing = Standing::Learner;
        }
        Ok(next)
    }

    fn check_sure(
        &self,
        id: NodeId,
        partition: PartitionId,
        owners: &[NodeId],
    ) -> Result<(), LayoutError> {
        let sure_count = owners
            .iter()
            .filter(|owner| !self.is_learner(**owner))
            .count();
        if sure_count > owners.len() / 2 {
            return Ok(());
        }
        Err(LayoutError::TooFewSure {
            id,
            partition,
            sure_count,
            copies_count: owners.len(),
        })
    }

    pub(super) fn at(&self, epoch: Option<LayoutEpoch>) -> Result<Layout, LayoutError> {
        let mut next = self.clone();
        next.epoch = epoch.ok_or(LayoutError::EpochsExhausted)?;
        Ok(next)
    }

    fn member_mut(&mut self, id: NodeId) -> Result<&mut Member, LayoutError> {
        self.members
            .get_mut(&id)
            .ok_or(LayoutError::UnknownMember { id })
    }
}

#[cfg(test)]
#[path = "stores_test.rs"]
mod tests;
