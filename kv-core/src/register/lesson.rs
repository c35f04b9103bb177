//! What a learner is told about one group, until it knows as much as any majority knew.
//!
//! A clerk whose papers burned asks more than half of the bench, not counting himself, which slips they have
//! signed, and promises whatever any of them has promised. Whatever he had signed with others, one of
//! those he asks has signed too. He asks only clerks who have already torn up the old order of business, so that
//! nobody can still be counting on a promise of his that he forgot.
//!
//! Place: pure; driven by `souk_kv_node`, one per group to be learnt.
//! Source: Lamport, Paxos Made Simple, 2001, §2.2; Liskov and Cowling, Viewstamped Replication Revisited,
//! 2012, §4.3 (a recovering replica asks a quorum before it takes part again).
//! Shape: headers of sure teachers come in; then the rows of the one with the newest accepted ballot.
//! Invariants: 1. the learner is not among those that make the majority, which is counted over all acceptors.
//! 2. every teacher has adopted the learner's epoch, which is above the one in which its votes were lost.
//! 3. what is learnt is never below what any teacher told.
//! The driver owes: no vote of the learner for this group from the loss until the lesson is durable.
//! Not here: which groups there are, pages of rows, when the learner counts again (`souk_kv_node`).

use std::collections::{BTreeMap, BTreeSet};

use souk_ring::{LayoutEpoch, NodeId};

use super::{AcceptorHeader, Acceptors, Ballot};

/// A lesson about one group under way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lesson {
    acceptors: Acceptors,
    learner: NodeId,
    epoch: LayoutEpoch,
    teachers: BTreeSet<NodeId>,
    told: BTreeMap<NodeId, AcceptorHeader>,
}

impl Lesson {
    /// A lesson for `learner` under the layout `epoch`. Of the acceptors only those in `sure` may teach:
    /// whoever is a learner, too, has nothing to tell.
    #[must_use]
    pub fn new(
        acceptors: Acceptors,
        learner: NodeId,
        epoch: LayoutEpoch,
        sure: impl Fn(NodeId) -> bool,
    ) -> Lesson {
        let teachers = acceptors
            .nodes()
            .into_iter()
            .filter(|node| *node != learner && sure(*node))
            .collect();
        Lesson {
            acceptors,
            learner,
            epoch,
            teachers,
            told: BTreeMap::new(),
        }
    }

    /// Whom to ask.
    pub fn teachers(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.teachers.iter().copied()
    }

    /// False when there can never be a majority of teachers: an operator has to choose what to believe.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        self.acceptors
            .is_quorum(|node| self.teachers.contains(&node))
    }

    /// Takes what a teacher has promised and accepted. Told twice, the later one counts.
    pub fn on_header(&mut self, from: NodeId, header: AcceptorHeader) {
        if self.teachers.contains(&from) && header.teaches(self.epoch) {
            self.told.insert(from, header);
        }
    }

    /// Whether a majority of all acceptors has told, the learner not counted.
    #[must_use]
    pub fn is_enough(&self) -> bool {
        self.acceptors
            .is_quorum(|node| node != self.learner && self.told.contains_key(&node))
    }

    /// Whose rows to fetch, once enough have told: the newest accepted state is there.
    #[must_use]
    pub fn source(&self) -> Option<NodeId> {
        let newest = self
            .told
            .iter()
            .max_by_key(|(_, header)| header.accepted)
            .map(|(node, _)| *node);
        newest.filter(|_| self.is_enough())
    }

    /// The learner's header, with the rows as the source had them at `source`. `None` while too few have
    /// told, or when these rows are older than what somebody told.
    #[must_use]
    pub fn learnt(&self, source: &AcceptorHeader) -> Option<AcceptorHeader> {
        let highest = |of: fn(&AcceptorHeader) -> Ballot| {
            self.told.values().map(of).max().unwrap_or(Ballot::ZERO)
        };
        if !self.is_enough()
            || !source.teaches(self.epoch)
            || source.accepted < highest(|header| header.accepted)
        {
            return None;
        }
        let promised = source.promised.max(highest(|header| header.promised));
        let chosen = source.chosen.max(highest(|header| header.chosen));
        Some(AcceptorHeader {
            promised,
            accepted: source.accepted,
            chosen: chosen.min(source.accepted),
            epoch: source.epoch.max(self.epoch),
            size: source.size,
        })
    }
}

impl AcceptorHeader {
    /// Whether this acceptor may teach a learner of that epoch: it must have adopted it itself, so that no
    /// request of an older one changes anything here any more.
    #[must_use]
    pub fn teaches(&self, epoch: LayoutEpoch) -> bool {
        self.epoch >= epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: LayoutEpoch = LayoutEpoch(4);

    fn header(promised: u64, accepted: u64, chosen: u64) -> AcceptorHeader {
        let ballot = |counter| Ballot {
            counter,
            proposer: u64::from(counter > 0),
        };
        AcceptorHeader {
            promised: ballot(promised),
            accepted: ballot(accepted),
            chosen: ballot(chosen),
            ..AcceptorHeader::empty(EPOCH)
        }
    }

    fn lesson(nodes: u32) -> Lesson {
        Lesson::new(
            Acceptors::new((0..nodes).map(NodeId)),
            NodeId(0),
            EPOCH,
            |_| true,
        )
    }

    #[test]
    fn a_majority_without_the_learner_is_needed() {
        for (nodes, needed) in [(2, 2), (3, 2), (4, 3), (5, 3)] {
            let mut lesson = lesson(nodes);
            assert_eq!(lesson.is_possible(), needed < nodes, "of {nodes}");
            for teacher in 1..nodes {
                let told = teacher;
                lesson.on_header(NodeId(teacher), header(1, 1, 0));
                assert_eq!(lesson.is_enough(), told >= needed, "{told} of {nodes}");
                assert_eq!(lesson.source().is_some(), told >= needed);
            }
        }
    }

    #[test]
    fn neither_the_learner_nor_another_learner_teaches() {
        let mut lesson = Lesson::new(
            Acceptors::new((0..3).map(NodeId)),
            NodeId(0),
            EPOCH,
            |node| node != NodeId(2),
        );
        assert!(!lesson.is_possible());
        for node in 0..3 {
            lesson.on_header(NodeId(node), header(1, 1, 1));
        }
        assert!(!lesson.is_enough());
        assert_eq!(lesson.learnt(&header(1, 1, 1)), None);
    }

    #[test]
    fn who_has_not_adopted_the_epoch_does_not_teach() {
        let mut lesson = lesson(3);
        let behind = AcceptorHeader {
            epoch: LayoutEpoch(3),
            ..header(9, 9, 9)
        };
        lesson.on_header(NodeId(1), behind);
        lesson.on_header(NodeId(2), header(1, 1, 1));
        assert!(!lesson.is_enough());
    }

    #[test]
    fn the_highest_of_everything_is_learnt() {
        let mut lesson = lesson(3);
        lesson.on_header(NodeId(1), header(9, 3, 3));
        lesson.on_header(NodeId(2), header(7, 5, 1));
        assert_eq!(lesson.source(), Some(NodeId(2)));
        assert_eq!(
            lesson.learnt(&header(9, 3, 3)),
            None,
            "older than what was told"
        );
        assert_eq!(lesson.learnt(&header(7, 5, 1)), Some(header(9, 5, 3)));
        // The source went on meanwhile.
        assert_eq!(lesson.learnt(&header(11, 10, 5)), Some(header(11, 10, 5)));
    }
}
