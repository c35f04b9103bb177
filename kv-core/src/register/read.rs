//! A linearizable read in one round trip that takes no promise and writes nothing.
//!
//! Ask around which page everybody has open. If more than half have the same one, that page is the
//! newest; if not, somebody has to settle it first.
//!
//! Place: pure; driven by `souk_kv_node`, one per read.
//! Source: Cassandra's serial reads, and the observation of Rystsov, CASPaxos, 2018, §2.2, that a value
//! accepted by a majority is chosen.
//! Invariants: a settled ballot is chosen, and nothing newer had been chosen when the read began:
//! if a quorum reports one ballot, a newer chosen one would have shown itself in that quorum, and
//! if the newest ballot that a quorum reports is known to be chosen, the same holds.
//! Not here: the rows, which the driver keeps with each reply; settling (an identity in `round`).

use std::collections::{BTreeMap, BTreeSet};

use souk_ring::{LayoutEpoch, NodeId};

use super::{Acceptors, Ballot, ReadReply};

/// How a read ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// The state of `ballot` may be returned.
    Settled {
        /// The chosen ballot.
        ballot: Ballot,
        /// Who reported it: the rows of any of these replies are its rows.
        sources: Vec<NodeId>,
    },
    /// Acceptors disagree: run a round with an identity, then answer from its basis.
    NeedsIdentityRound {
        /// The highest ballot met; the round has to draw a higher one.
        highest_seen: Ballot,
    },
    /// Too few acceptors answered.
    Unreachable,
    /// An acceptor lives in a newer layout: fetch it before trying again.
    Epoch(LayoutEpoch),
}

/// One read under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadRound {
    acceptors: Acceptors,
    epoch: LayoutEpoch,
    pending: BTreeSet<NodeId>,
    reports: BTreeMap<NodeId, (Ballot, Ballot)>,
    newer_epoch: Option<LayoutEpoch>,
}

impl ReadRound {
    /// A read that asks all of `acceptors`.
    #[must_use]
    pub fn new(acceptors: Acceptors, epoch: LayoutEpoch) -> ReadRound {
        let pending = acceptors.nodes();
        ReadRound {
            acceptors,
            epoch,
            pending,
            reports: BTreeMap::new(),
            newer_epoch: None,
        }
    }

    /// Takes an answer. `Some` as soon as the outcome is certain; ask no more then.
    pub fn on_reply(&mut self, from: NodeId, reply: &ReadReply) -> Option<ReadOutcome> {
        if !self.pending.remove(&from) {
            return None;
        }
        match reply {
            ReadReply::Report(report) => {
                self.reports.insert(from, (report.accepted, report.chosen));
            }
            ReadReply::WrongEpoch { current } if *current > self.epoch => {
                self.newer_epoch = self.newer_epoch.max(Some(*current));
            }
            ReadReply::WrongEpoch { .. } => {}
        }
        self.decide()
    }

    /// Notes that a request to `node` failed or was not answered in time.
    pub fn on_failed(&mut self, node: NodeId) -> Option<ReadOutcome> {
        if !self.pending.remove(&node) {
            return None;
        }
        self.decide()
    }

    /// Decides with the answers that have come, rather than wait for the rest.
    #[must_use]
    pub fn on_timeout(&mut self) -> ReadOutcome {
        self.pending.clear();
        self.settled().unwrap_or_else(|| self.unsettled())
    }

    fn decide(&self) -> Option<ReadOutcome> {
        let settled = self.settled();
        if settled.is_some() {
            return settled;
        }
        let may_answer =
            |node: NodeId| self.pending.contains(&node) || self.reports.contains_key(&node);
        let hopeless = self.pending.is_empty() || !self.acceptors.is_quorum(may_answer);
        hopeless.then(|| self.unsettled())
    }

    fn settled(&self) -> Option<ReadOutcome> {
        let is_settled = |ballot: &Ballot| {
            let reports_it = |node: NodeId| {
                self.reports
                    .get(&node)
                    .is_some_and(|(accepted, _)| accepted == ballot)
            };
            self.acceptors.is_quorum(reports_it)
        };
        let newest_known_chosen = || {
            let newest = self.reports.values().map(|(accepted, _)| *accepted).max()?;
            let known = self.reports.values().any(|(_, chosen)| *chosen == newest);
            (known
                && self
                    .acceptors
                    .is_quorum(|node| self.reports.contains_key(&node)))
            .then_some(newest)
        };
        let agreed = self
            .reports
            .values()
            .map(|(accepted, _)| *accepted)
            .find(is_settled);
        let ballot = agreed.or_else(newest_known_chosen)?;
        let has_it = self
            .reports
            .iter()
            .filter(|(_, (accepted, _))| *accepted == ballot);
        Some(ReadOutcome::Settled {
            ballot,
            sources: has_it.map(|(node, _)| *node).collect(),
        })
    }

    fn unsettled(&self) -> ReadOutcome {
        if let Some(epoch) = self.newer_epoch {
            return ReadOutcome::Epoch(epoch);
        }
        if !self
            .acceptors
            .is_quorum(|node| self.reports.contains_key(&node))
        {
            return ReadOutcome::Unreachable;
        }
        let highest_seen = self
            .reports
            .values()
            .map(|(accepted, _)| *accepted)
            .max()
            .unwrap_or(Ballot::ZERO);
        ReadOutcome::NeedsIdentityRound { highest_seen }
    }
}
