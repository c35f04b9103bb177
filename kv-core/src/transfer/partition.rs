//! One partition on its way to one node that gains it.
//!
//! Place: pure; the gaining node's driver performs the actions and reports what became of them.
//! Shape: listing → settling → copying → comparing → done. Each step asks everything it can at once, but for
//! groups, of which a bounded number is under way.
//! Invariants: 1. steps come in this order. 2. an action is under way once at a time; a failed one is given out
//! again by [`PartitionTransfer::actions`], a done one never. 3. a giver that tells its groups only later is copied and
//! compared like the others, and its groups are settled too.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use souk_ring::NodeId;

use crate::register::Acceptors;

/// Groups of one partition that are settled at once.
const GROUPS_AT_ONCE: usize = 8;

/// What the driver has to do, and to report.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TransferAction<G> {
    /// Ask an old owner for all groups it knows. It answers only after it has adopted the layout of both.
    ListGroups {
        /// Whom.
        from: NodeId,
    },
    /// Run an identity round on this group, with a majority of the old and of the next owners.
    SettleGroup(G),
    /// Merge all records that an old owner has into the own ones.
    CopyRecords {
        /// Whom to copy.
        from: NodeId,
    },
    /// Compare the trees of the partition with an old owner's, and bring together what differs.
    Compare {
        /// With whom.
        with: NodeId,
    },
}

/// What a transfer cannot go on without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitsFor {
    /// The groups of some of these old owners, to make a majority.
    Names(BTreeSet<NodeId>),
    /// Rounds on so many groups.
    Rounds(usize),
    /// Records of these.
    Records(BTreeSet<NodeId>),
    /// Comparisons with these.
    Comparisons(BTreeSet<NodeId>),
    /// Nothing: it is done.
    Nothing,
}

/// How far a transfer has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Groups found.
    pub groups_count: usize,
    /// Of these, settled.
    pub groups_settled: usize,
    /// Old owners that told their groups.
    pub givers_told: usize,
    /// Of these, copied and compared.
    pub givers_done: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum GiverState {
    /// It has not told its groups.
    Silent,
    /// Its groups are known.
    Told,
    /// Its records are here.
    Copied,
    /// They are known to be the same.
    Compared,
}

/// A transfer under way.
#[derive(Clone, Debug)]
pub struct PartitionTransfer<G> {
    /// Each of these has to be satisfied by those who told: one for every number of copies that buckets keep.
    quorums: Vec<Acceptors>,
    givers: BTreeMap<NodeId, GiverState>,
    /// Groups in the order they were found; done ones are only in `known`.
    open: VecDeque<G>,
    known: BTreeSet<G>,
    settled: usize,
    under_way: BTreeSet<TransferAction<G>>,
}

impl<G: Clone + Ord> PartitionTransfer<G> {
    /// `quorums` are the old owners, once for every number of copies that a bucket of the partition keeps. Of them only
    /// those in `sure` can give: whoever is being taught himself has nothing to tell. The gaining node is among the
    /// givers when it owned the partition before.
    #[must_use]
    pub fn new(quorums: Vec<Acceptors>, sure: impl Fn(NodeId) -> bool) -> PartitionTransfer<G> {
        let nodes: BTreeSet<NodeId> = quorums.iter().flat_map(Acceptors::nodes).collect();
        let givers = nodes.into_iter().filter(|node| sure(*node));
        PartitionTransfer {
            givers: givers.map(|node| (node, GiverState::Silent)).collect(),
            quorums,
            open: VecDeque::new(),
            known: BTreeSet::new(),
            settled: 0,
            under_way: BTreeSet::new(),
        }
    }

    /// What can be done now and is not under way. Empty while everything possible is.
    pub fn actions(&mut self) -> Vec<TransferAction<G>> {
        let mut actions = Vec::new();
        for (&node, state) in &self.givers {
            match state {
                // Also after a majority has told: one more that tells is one more that is certainly copied.
                GiverState::Silent => actions.push(TransferAction::ListGroups { from: node }),
                GiverState::Told if self.is_settled() => {
                    actions.push(TransferAction::CopyRecords { from: node });
                }
                GiverState::Copied => actions.push(TransferAction::Compare { with: node }),
                GiverState::Told | GiverState::Compared => {}
            }
        }
        actions.retain(|action| self.under_way.insert(action.clone()));
        if self.has_majority() {
            let is_round =
                |action: &&TransferAction<G>| matches!(action, TransferAction::SettleGroup(_));
            let mut rounds = self.under_way.iter().filter(is_round).count();
            while rounds < GROUPS_AT_ONCE {
                let Some(group) = self.open.pop_front() else {
                    break;
                };
                let action = TransferAction::SettleGroup(group);
                self.under_way.insert(action.clone());
                actions.push(action);
                rounds += 1;
            }
        }
        actions
    }

    /// An old owner has told its groups, under the layout of both.
    pub fn on_names(&mut self, from: NodeId, names: impl IntoIterator<Item = G>) {
        self.under_way.remove(&TransferAction::ListGroups { from });
        let Some(state @ GiverState::Silent) = self.givers.get_mut(&from) else {
            return;
        };
        *state = GiverState::Told;
        for name in names {
            if self.known.insert(name.clone()) {
                self.open.push_back(name);
            }
        }
    }

    /// An identity round on a group was chosen by majorities of both.
    pub fn on_settled(&mut self, group: &G) {
        if self
            .under_way
            .remove(&TransferAction::SettleGroup(group.clone()))
        {
            self.settled += 1;
        }
    }

    /// All records of an old owner are here.
    pub fn on_copied(&mut self, from: NodeId) {
        self.under_way.remove(&TransferAction::CopyRecords { from });
        self.advance(from, GiverState::Told, GiverState::Copied);
    }

    /// The trees were compared to the end; what differed was brought together.
    pub fn on_compared(&mut self, with: NodeId) {
        self.under_way.remove(&TransferAction::Compare { with });
        self.advance(with, GiverState::Copied, GiverState::Compared);
    }

    /// What was asked came to nothing; [`PartitionTransfer::actions`] gives it out again.
    pub fn on_failed(&mut self, action: &TransferAction<G>) {
        if let (true, TransferAction::SettleGroup(group)) = (self.under_way.remove(action), action)
        {
            self.open.push_back(group.clone());
        }
    }

    /// Whether this node holds everything that it needs to own the partition.
    #[must_use]
    pub fn is_done(&self) -> bool {
        let done = |state: &GiverState| matches!(state, GiverState::Silent | GiverState::Compared);
        self.is_settled() && self.givers.values().all(done)
    }

    /// What it cannot go on without.
    #[must_use]
    pub fn waits_for(&self) -> WaitsFor {
        let those = |wanted: GiverState| -> BTreeSet<NodeId> {
            let at = self.givers.iter().filter(|(_, state)| **state == wanted);
            at.map(|(node, _)| *node).collect()
        };
        if !self.has_majority() {
            return WaitsFor::Names(those(GiverState::Silent));
        }
        if !self.is_settled() {
            return WaitsFor::Rounds(self.known.len() - self.settled);
        }
        let (told, copied) = (those(GiverState::Told), those(GiverState::Copied));
        match (told.is_empty(), copied.is_empty()) {
            (false, _) => WaitsFor::Records(told),
            (true, false) => WaitsFor::Comparisons(copied),
            (true, true) => WaitsFor::Nothing,
        }
    }

    /// How far it has come.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let at_least = |wanted: GiverState| {
            let states = self.givers.values();
            states.filter(|state| **state >= wanted).count()
        };
        Progress {
            groups_count: self.known.len(),
            groups_settled: self.settled,
            givers_told: at_least(GiverState::Told),
            givers_done: at_least(GiverState::Compared),
        }
    }

    fn has_majority(&self) -> bool {
        let told = |node| {
            let state = self.givers.get(&node);
            state.is_some_and(|state| *state > GiverState::Silent)
        };
        self.quorums.iter().all(|quorum| quorum.is_quorum(told))
    }

    fn is_settled(&self) -> bool {
        self.has_majority() && self.settled == self.known.len()
    }

    fn advance(&mut self, node: NodeId, from: GiverState, to: GiverState) {
        if let Some(state) = self.givers.get_mut(&node).filter(|state| **state == from) {
            *state = to;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Transfer = PartitionTransfer<u8>;
    type Action = TransferAction<u8>;

    fn nodes(ids: &[u32]) -> Acceptors {
        Acceptors::new(ids.iter().copied().map(NodeId))
    }

    fn transfer() -> Transfer {
        Transfer::new(vec![nodes(&[1, 2, 3])], |_| true)
    }

    #[test]
    fn steps_come_in_order() {
        let mut transfer = transfer();
        assert_eq!(transfer.actions().len(), 3);
        assert_eq!(transfer.actions(), [], "all of it is under way");
        transfer.on_names(NodeId(1), [7, 8]);
        assert_eq!(transfer.actions(), [], "one of three is no majority");
        assert_eq!(
            transfer.waits_for(),
            WaitsFor::Names([2, 3].map(NodeId).into())
        );
        transfer.on_names(NodeId(3), [8, 9]);
        let rounds: Vec<Action> = [7, 8, 9].map(TransferAction::SettleGroup).into();
        assert_eq!(transfer.actions(), rounds);
        transfer.on_failed(&rounds[0]);
        transfer.on_settled(&8);
        transfer.on_settled(&9);
        assert_eq!(transfer.waits_for(), WaitsFor::Rounds(1));
        assert_eq!(transfer.actions(), rounds[..1]);
        transfer.on_settled(&7);
        let copies = [1, 3].map(|id| TransferAction::CopyRecords { from: NodeId(id) });
        assert_eq!(transfer.actions(), copies);
        transfer.on_copied(NodeId(1));
        assert_eq!(
            transfer.actions(),
            [TransferAction::Compare { with: NodeId(1) }]
        );
        transfer.on_copied(NodeId(3));
        transfer.on_compared(NodeId(1));
        assert!(!transfer.is_done());
        assert_eq!(
            transfer.actions(),
            [TransferAction::Compare { with: NodeId(3) }]
        );
        transfer.on_compared(NodeId(3));
        assert!(transfer.is_done());
        let progress = Progress {
            groups_count: 3,
            groups_settled: 3,
            givers_told: 2,
            givers_done: 2,
        };
        assert_eq!(
            (transfer.progress(), transfer.waits_for()),
            (progress, WaitsFor::Nothing)
        );
    }

    #[test]
    fn who_tells_late_is_copied_too() {
        let mut transfer = transfer();
        transfer.actions();
        transfer.on_names(NodeId(1), []);
        transfer.on_names(NodeId(2), []);
        for node in [1, 2].map(NodeId) {
            transfer.actions();
            transfer.on_copied(node);
            transfer.on_compared(node);
        }
        assert!(transfer.is_done());
        transfer.on_names(NodeId(3), [4]);
        assert!(!transfer.is_done());
        assert_eq!(transfer.actions(), [TransferAction::SettleGroup(4)]);
    }

    #[test]
    fn every_bucket_has_a_majority_of_its_own() {
        let mut transfer = Transfer::new(vec![nodes(&[1, 2, 3]), nodes(&[1])], |_| true);
        transfer.on_names(NodeId(2), []);
        transfer.on_names(NodeId(3), []);
        assert_eq!(transfer.waits_for(), WaitsFor::Names([NodeId(1)].into()));
        let unsure = Transfer::new(vec![nodes(&[1, 2, 3])], |node| node == NodeId(2));
        assert!(!unsure.is_done());
    }

    proptest! {
        /// Whatever fails and however late answers come: it ends, and only after everything was done.
        #[test]
        fn failures_only_delay(choices in prop::collection::vec(any::<(u8, u8)>(), 2_000)) {
            let mut transfer = transfer();
            let groups = |node: NodeId| (0..40_u8).filter(move |group| u32::from(*group) % 4 != node.0);
            let mut open: Vec<Action> = Vec::new();
            let mut done: BTreeSet<Action> = BTreeSet::new();
            for (pick, luck) in choices {
                let new = transfer.actions();
                for action in &new {
                    prop_assert!(!open.contains(action) && !done.contains(action), "{action:?} is given out twice");
                }
                open.extend(new);
                let rounds = open.iter().filter(|action| matches!(action, TransferAction::SettleGroup(_)));
                prop_assert!(rounds.count() <= GROUPS_AT_ONCE);
                if open.is_empty() {
                    break;
                }
                let action = open.swap_remove(usize::from(pick) % open.len());
                if luck < 60 {
                    transfer.on_failed(&action);
                    continue;
                }
                match &action {
                    TransferAction::ListGroups { from } => transfer.on_names(*from, groups(*from)),
                    TransferAction::SettleGroup(group) => transfer.on_settled(group),
                    TransferAction::CopyRecords { from } => transfer.on_copied(*from),
                    TransferAction::Compare { with } => transfer.on_compared(*with),
                }
                done.insert(action);
            }
            prop_assert!(transfer.is_done());
            prop_assert_eq!(done.len(), 3 * 3 + 40);
        }
    }
}
