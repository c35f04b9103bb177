//! One round of collection: asks the primaries, then everybody, then the primaries again.
//!
//! Place: pure; one value per round, fed by the driver until [`RoundAction::Finish`]. The module above argues why.
//! Shape: four stages, each waiting for all whom it asked. An item drops out when a primary does not hold it as
//! marked, or any member keeps a hint for it; the round ends when nobody is left to ask or no item is left.
//! Invariants: 1. a stage begins when every node asked in the one before has answered. 2. a node that does not answer
//! ends the round before anything is settled; in the last stage it merely leaves its items unsure.
//! Not here: time-outs: the driver reports a node that takes too long as failed.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use smallvec::SmallVec;
use souk_ring::NodeId;

/// Items of one round. A round costs every pair of members a few messages, whatever its size.
pub const ROUND_ITEMS_MAX: usize = 1024;

/// Several actions, in the order to perform them.
pub type RoundActions = Vec<RoundAction>;

/// What shall become of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Its tombstones go, and the whole record with them.
    Erase,
    /// Its loose dots become part of the version vector.
    Fold,
}

/// One record of a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The record's store key.
    pub key: Bytes,
    /// Its causal hash, which every primary has to share.
    pub digest: u64,
    /// What shall become of it.
    pub purpose: Purpose,
    /// Who holds it: all its primaries but those that an operator has forgotten.
    pub primaries: SmallVec<[NodeId; 3]>,
}

/// Why a primary does not mark a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// It holds another state, or what it holds is damaged: the replicas have to be mended first.
    Different,
    /// It remembers a request of it still, or its clock says that it is wanted.
    Unripe,
}

/// What the driver has to do. Items are named by their place in the round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoundAction {
    /// Ask a primary to mark these.
    Mark {
        /// Whom.
        node: NodeId,
        /// Which.
        items: Vec<usize>,
    },
    /// Ask a member to end earlier work and to fence its peers.
    Quiesce {
        /// Whom.
        node: NodeId,
    },
    /// Ask a member for the items of which it keeps hints, and to quiesce afterwards.
    Check {
        /// Whom.
        node: NodeId,
        /// Which.
        items: Vec<usize>,
    },
    /// Ask a primary to settle what it marked, if that is unchanged.
    Settle {
        /// Whom.
        node: NodeId,
        /// Which.
        items: Vec<usize>,
    },
    /// The round is over. Comes exactly once, last.
    Finish(RoundReport),
}

/// What came of a round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoundReport {
    /// Items settled at all their primaries.
    pub settled: Vec<usize>,
    /// Items that some primary holds otherwise: mend the replicas, then try again.
    pub different: Vec<usize>,
    /// Items that some primary finds too young.
    pub unripe: Vec<usize>,
    /// Items that changed before they could be settled, or whose settling is not known everywhere.
    pub unsure: Vec<usize>,
    /// Who keeps hints, and for how many of the items.
    pub hinted: BTreeMap<NodeId, usize>,
    /// The members that did not answer, and so ended the round.
    pub absent: BTreeSet<NodeId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Mark,
    Quiesce,
    Check,
    Settle,
    Finished,
}

/// A round in progress.
#[derive(Clone, Debug)]
pub struct Round {
    members: Vec<NodeId>,
    items: Vec<Item>,
    /// Items still in it.
    open: BTreeSet<usize>,
    stage: Stage,
    awaited: BTreeSet<NodeId>,
    report: RoundReport,
}

impl Round {
    /// Starts a round over at most [`ROUND_ITEMS_MAX`] items. `members` are all members of the layout but those that
    /// an operator has forgotten; every primary is one of them.
    #[must_use]
    pub fn start(members: Vec<NodeId>, items: Vec<Item>) -> (Round, RoundActions) {
        let mut round = Round {
            open: (0..items.len().min(ROUND_ITEMS_MAX)).collect(),
            members,
            items,
            stage: Stage::Mark,
            awaited: BTreeSet::new(),
            report: RoundReport::default(),
        };
        let actions = round.begin_stage();
        (round, actions)
    }

    /// The items, by their place.
    #[must_use]
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// A primary has marked all but these.
    pub fn on_marked(&mut self, node: NodeId, refused: &[(usize, Refusal)]) -> RoundActions {
        if self.stage != Stage::Mark || !self.awaited.remove(&node) {
            return RoundActions::new();
        }
        for &(index, refusal) in refused {
            if self.open.remove(&index) {
                match refusal {
                    Refusal::Different => self.report.different.push(index),
                    Refusal::Unripe => self.report.unripe.push(index),
                }
            }
        }
        self.advance()
    }

    /// A member has ended its earlier work and fenced its peers.
    pub fn on_quiesced(&mut self, node: NodeId) -> RoundActions {
        if self.stage != Stage::Quiesce || !self.awaited.remove(&node) {
            return RoundActions::new();
        }
        self.advance()
    }

    /// A member keeps hints for these and no others, and has quiesced since it looked.
    pub fn on_checked(&mut self, node: NodeId, hinted: &[usize]) -> RoundActions {
        if self.stage != Stage::Check || !self.awaited.remove(&node) {
            return RoundActions::new();
        }
        for index in hinted {
            self.open.remove(index);
        }
        if !hinted.is_empty() {
            self.report.hinted.insert(node, hinted.len());
        }
        self.advance()
    }

    /// A primary has settled all but these, which had changed.
    pub fn on_settled(&mut self, node: NodeId, changed: &[usize]) -> RoundActions {
        if self.stage != Stage::Settle || !self.awaited.remove(&node) {
            return RoundActions::new();
        }
        for &index in changed {
            self.give_up(index);
        }
        self.advance()
    }

    /// A node did not answer, in time or at all, or could not do what it was asked.
    pub fn on_failed(&mut self, node: NodeId) -> RoundActions {
        if !self.awaited.remove(&node) {
            return RoundActions::new();
        }
        self.report.absent.insert(node);
        if self.stage == Stage::Settle {
            for index in 0..self.items.len() {
                if self.items[index].primaries.contains(&node) {
                    self.give_up(index);
                }
            }
            return self.advance();
        }
        self.finish()
    }

    fn give_up(&mut self, index: usize) {
        if self.open.remove(&index) {
            self.report.unsure.push(index);
        }
    }

    fn advance(&mut self) -> RoundActions {
        if self.stage == Stage::Finished || !self.awaited.is_empty() {
            return RoundActions::new();
        }
        self.stage = match self.stage {
            Stage::Mark => Stage::Quiesce,
            Stage::Quiesce => Stage::Check,
            Stage::Check => Stage::Settle,
            Stage::Settle | Stage::Finished => {
                self.report.settled.extend(&self.open);
                return self.finish();
            }
        };
        self.begin_stage()
    }

    fn begin_stage(&mut self) -> RoundActions {
        if self.open.is_empty() {
            return self.finish();
        }
        let all: Vec<usize> = self.open.iter().copied().collect();
        let actions: RoundActions = match self.stage {
            Stage::Mark => self
                .by_primary()
                .map(|(node, items)| RoundAction::Mark { node, items })
                .collect(),
            Stage::Settle => self
                .by_primary()
                .map(|(node, items)| RoundAction::Settle { node, items })
                .collect(),
            Stage::Quiesce => self
                .members
                .iter()
                .map(|&node| RoundAction::Quiesce { node })
                .collect(),
            Stage::Check => self
                .members
                .iter()
                .map(|&node| RoundAction::Check {
                    node,
                    items: all.clone(),
                })
                .collect(),
            Stage::Finished => RoundActions::new(),
        };
        self.awaited = actions
            .iter()
            .filter_map(|action| match action {
                RoundAction::Mark { node, .. }
                | RoundAction::Quiesce { node }
                | RoundAction::Check { node, .. }
                | RoundAction::Settle { node, .. } => Some(*node),
                RoundAction::Finish(_) => None,
            })
            .collect();
        actions
    }

    fn by_primary(&self) -> impl Iterator<Item = (NodeId, Vec<usize>)> + use<> {
        let mut by_primary: BTreeMap<NodeId, Vec<usize>> = BTreeMap::new();
        for &index in &self.open {
            for &node in &self.items[index].primaries {
                by_primary.entry(node).or_default().push(index);
            }
        }
        by_primary.into_iter()
    }

    fn finish(&mut self) -> RoundActions {
        if self.stage == Stage::Finished {
            return RoundActions::new();
        }
        self.stage = Stage::Finished;
        self.awaited.clear();
        vec![RoundAction::Finish(std::mem::take(&mut self.report))]
    }
}
