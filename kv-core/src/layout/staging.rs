//! What operators have written down and not applied yet: a list on which nothing is ever counted twice.
//!
//! A slate by the door: everybody may add a line, each line gets the next number, and "do everything up to number
//! 7" means the same to all who say it. What was done is known from the layout, not from the slate: so it
//! does not matter whether anybody wipes it afterwards, nor how often.
//!
//! Place: pure; kept by `souk_kv_node` as one row of a register of all members, and applied through
//! `souk_ring::Layout::begun` and [`super::Decision`].
//! Invariants: 1. numbers only grow, also over a revert. 2. a line is pending while its number is above what the layout
//! says was applied. 3. applying names the number of the newest line: who has not seen it applies nothing.
//! Not here: the register (`crate::register`), planning (`souk_ring`), when a move settles (`crate::transfer`).

use std::collections::BTreeMap;

use souk_ring::{Layout, LayoutError, MemberChange, Name, StoreId};

/// Lines that may be pending at once.
pub const STAGED_MAX: usize = 1_000;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagedChange {
    /// Its number.
    pub number: u64,
    /// What is wished for.
    pub change: MemberChange,
    /// The store that a joining node has shown.
    pub store: Option<StoreId>,
}

/// All lines, and the last number given. One register row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Staging {
    /// The last number given: that of the newest line, or of the revert that wiped it.
    pub version: u64,
    /// In the order of their numbers.
    pub changes: Vec<StagedChange>,
}

/// Why a line was not added, or nothing was applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StagingError {
    /// What: there are too many lines. Mend: apply or revert.
    #[error("{STAGED_MAX} changes are staged, which is the most; apply or revert them first")]
    Full,
    /// What: the change does not fit the layout and the lines before it.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// What: somebody has staged or reverted since. Mend: look at the plan, and apply the version that it shows.
    #[error(
        "version {asked} was to be applied and the staged changes have come to version {version}; look at `souk admin layout plan` and apply that version if it is what you want"
    )]
    OtherVersion {
        /// Which was named.
        asked: u64,
        /// Which there is.
        version: u64,
    },
    /// What: it was applied before, by whomever. Nothing is left to do.
    #[error("version {asked} has been applied already")]
    AppliedBefore {
        /// Which was named.
        asked: u64,
    },
    /// What: nothing is pending. Mend: stage something.
    #[error(
        "no change is staged; stage one with `souk admin layout join`, `leave`, `replace`, `weight` or `zone`"
    )]
    Nothing,
}

impl Staging {
    /// The lines that the layout has not seen.
    pub fn pending(&self, layout: &Layout) -> impl Iterator<Item = &StagedChange> {
        let applied = layout.changes_applied();
        self.changes
            .iter()
            .filter(move |line| line.number > applied)
    }

    /// With one more line; what was applied meanwhile is wiped.
    ///
    /// # Errors
    /// [`StagingError::Full`], and [`StagingError::Layout`] when the pending lines and this one lead nowhere.
    pub fn stage(
        &self,
        layout: &Layout,
        change: MemberChange,
        store: Option<StoreId>,
    ) -> Result<Staging, StagingError> {
        let mut changes: Vec<StagedChange> = self.pending(layout).cloned().collect();
        if changes.len() >= STAGED_MAX {
            return Err(StagingError::Full);
        }
        let number = self.version.max(layout.changes_applied()) + 1;
        changes.push(StagedChange {
            number,
            change,
            store,
        });
        let staging = Staging {
            version: number,
            changes,
        };
        let wished: Vec<MemberChange> = staging.wished(layout);
        layout.next(&wished)?;
        Ok(staging)
    }

    /// Without any line. Its number is new, so that nobody applies what was there.
    #[must_use]
    pub fn reverted(&self, layout: &Layout) -> Staging {
        Staging {
            version: self.version.max(layout.changes_applied()) + 1,
            changes: Vec::new(),
        }
    }

    /// The layout that follows when everything pending is applied; `version` is the one that the operator has seen.
    ///
    /// # Errors
    /// [`StagingError::OtherVersion`], [`StagingError::AppliedBefore`] and [`StagingError::Nothing`] say that this is not
    /// what the operator has looked at; [`StagingError::Layout`] is what [`Layout::begun`] says.
    pub fn applied(&self, layout: &Layout, version: u64) -> Result<Layout, StagingError> {
        let wished = self.wished(layout);
        if version <= layout.changes_applied() && version > 0 {
            return Err(StagingError::AppliedBefore { asked: version });
        }
        if version != self.version {
            let (asked, version) = (version, self.version);
            return Err(StagingError::OtherVersion { asked, version });
        }
        if wished.is_empty() {
            return Err(StagingError::Nothing);
        }
        let shown = |line: &StagedChange| {
            let newcomer = newcomer(&line.change)?;
            Some((newcomer.clone(), line.store?))
        };
        let stores: BTreeMap<Name, StoreId> = self.pending(layout).filter_map(shown).collect();
        Ok(layout.begun(&wished, &stores, version)?)
    }

    fn wished(&self, layout: &Layout) -> Vec<MemberChange> {
        self.pending(layout)
            .map(|line| line.change.clone())
            .collect()
    }
}

/// Who joins by a change.
fn newcomer(change: &MemberChange) -> Option<&Name> {
    match change {
        MemberChange::Join(spec) | MemberChange::Replace { with: spec, .. } => Some(&spec.name),
        MemberChange::Leave(_) | MemberChange::SetWeight { .. } | MemberChange::SetZone { .. } => {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use souk_ring::{MemberSpec, NodeId, PartitionCount, ReplicasN, Weight};

    use super::*;

    fn spec(number: u32) -> MemberSpec {
        MemberSpec {
            name: format!("n{number}").parse().unwrap(),
            zone: format!("z{number}").parse().unwrap(),
            weight: Weight::default(),
            grpc_address: String::new(),
            http_address: String::new(),
        }
    }

    fn founded() -> Layout {
        let (copies, count) = (ReplicasN::new(3).unwrap(), PartitionCount::new(16).unwrap());
        let members = (1..=3).map(spec).collect();
        let first = Layout::initial("demo".parse().unwrap(), count, copies, members).unwrap();
        first
            .founded(&(1..=3).map(|id| (NodeId(id), store(id))).collect())
            .unwrap()
    }

    fn store(number: u32) -> StoreId {
        StoreId([number as u8; 16])
    }

    fn join(staging: &Staging, layout: &Layout, number: u32) -> Result<Staging, StagingError> {
        staging.stage(
            layout,
            MemberChange::Join(spec(number)),
            Some(store(number)),
        )
    }

    fn heavier() -> MemberChange {
        let weight = Weight::new(300).unwrap();
        MemberChange::SetWeight {
            id: NodeId(1),
            weight,
        }
    }

    #[test]
    fn what_was_looked_at_is_applied_and_nothing_else() {
        let layout = founded();
        let one = join(&Staging::default(), &layout, 4).unwrap();
        let two = join(&one, &layout, 5).unwrap();
        assert_eq!((one.version, two.version), (1, 2));
        assert_eq!(
            two.applied(&layout, 1),
            Err(StagingError::OtherVersion {
                asked: 1,
                version: 2
            })
        );
        let joint = two.applied(&layout, 2).unwrap();
        assert_eq!(joint.members().len(), 5);
        assert_eq!(joint.store_of(NodeId(5)), Some(store(5)));
        // Another operator says the same a moment later, and a third looks at an old slate.
        assert_eq!(
            two.applied(&joint, 2),
            Err(StagingError::AppliedBefore { asked: 2 })
        );
        assert_eq!(
            one.applied(&joint, 1),
            Err(StagingError::AppliedBefore { asked: 1 })
        );
        assert_eq!(two.pending(&joint).count(), 0);
    }

    /// Somebody applies version 1 while somebody else stages on top of it: neither is lost, nothing is done twice.
    #[test]
    fn a_line_staged_during_an_apply_stays() {
        let layout = founded();
        let one = join(&Staging::default(), &layout, 4).unwrap();
        let joint = one.applied(&layout, 1).unwrap();
        let two = one.stage(&layout, heavier(), None).unwrap();
        assert_eq!(
            two.pending(&joint)
                .map(|line| line.number)
                .collect::<Vec<_>>(),
            [2]
        );
        let settled = joint.settled().unwrap();
        let next = two.applied(&settled, 2).unwrap();
        assert_eq!(next.members().len(), 4);
        assert_eq!(next.member(NodeId(1)).unwrap().weight.get(), 300);
    }

    #[test]
    fn a_revert_takes_its_number_too() {
        let layout = founded();
        let one = join(&Staging::default(), &layout, 4).unwrap();
        let none = one.reverted(&layout);
        assert_eq!((none.version, none.changes.len()), (2, 0));
        let asked = 1;
        assert_eq!(
            none.applied(&layout, 1),
            Err(StagingError::OtherVersion { asked, version: 2 })
        );
        assert_eq!(none.applied(&layout, 2), Err(StagingError::Nothing));
        let again = join(&none, &layout, 5).unwrap();
        assert_eq!(again.version, 3);
        assert_eq!(again.changes.len(), 1);
    }

    #[test]
    fn a_line_that_leads_nowhere_is_refused_at_once() {
        let layout = founded();
        let one = join(&Staging::default(), &layout, 4).unwrap();
        let refused = join(&one, &layout, 4);
        let name = "n4".parse().unwrap();
        assert_eq!(refused, Err(LayoutError::NameTaken { name }.into()));
        let leave =
            |staging: &Staging, id| staging.stage(&layout, MemberChange::Leave(NodeId(id)), None);
        let id = NodeId(9);
        assert_eq!(
            leave(&one, 9),
            Err(LayoutError::UnknownMember { id }.into())
        );
        // Who has not shown a store can be planned for, and not be applied.
        let unseen = Staging::default();
        let unseen = unseen
            .stage(&layout, MemberChange::Join(spec(7)), None)
            .unwrap();
        let name = "n7".parse().unwrap();
        assert_eq!(
            unseen.applied(&layout, 1),
            Err(LayoutError::NewcomerUnknown { name }.into())
        );
    }

    #[test]
    fn the_slate_has_an_end() {
        let layout = founded();
        let line = |number| StagedChange {
            number,
            change: heavier(),
            store: None,
        };
        let most = u64::try_from(STAGED_MAX).unwrap();
        let full = Staging {
            version: most,
            changes: (1..=most).map(line).collect(),
        };
        assert_eq!(
            full.stage(&layout, heavier(), None),
            Err(StagingError::Full)
        );
    }
}
