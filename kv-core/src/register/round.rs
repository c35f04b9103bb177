//! One ballot of one proposer, from the first message to the verdict of a quorum.
//!
//! A round is an auctioneer's call: ask everybody to promise, see what stands, write down the change,
//! ask everybody to sign it, and strike the gavel when more than half have signed.
//!
//! Place: pure; one per ballot under way, driven by `souk_kv_node`, which performs the [`Action`]s and feeds
//! the answers back. When a round is chosen or lost it only helps acceptors that lag, and may be dropped.
//! Source: Lamport, Paxos Made Simple, 2001, §2.2; Rystsov, CASPaxos, 2018, §2.2;
//! `gryadka/js: gryadka-core/src/Proposer.js`.
//! Shape: `Preparing → Evaluating → Accepting → Chosen | Lost`; a round with a [`Lead`] starts at `Evaluating`.
//! Invariants: 1. one ballot is proposed with one change on one base, ever. 2. the base is the newest ballot
//! among the promises of a quorum. 3. `Chosen` is said after a quorum accepted, or, for an identity, after a
//! quorum promised and the newest accepted ballot among them is known to be chosen. 4. each of
//! `Evaluate`, `Chosen` and `Lost` is said at most once.
//! Not here: ballots (`ballot`), trying again (`loss`, `backoff`), timers (the driver).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use souk_ring::{LayoutEpoch, NodeId};

use super::{
    AcceptReply, AcceptRequest, Acceptors, Action, Ballot, Base, Basis, Chosen, Delta, Evaluation,
    GroupImage, GroupSize, KnownRows, Lead, Lost, LostReason, PrepareRequest, PromiseReply, Report,
    RowKey, RowSelection, RowView,
};

/// One ballot under way.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(test, derive(Clone))]
pub struct Round {
    acceptors: Acceptors,
    epoch: LayoutEpoch,
    ballot: Ballot,
    phase: Phase,
    votes: BTreeMap<NodeId, Vote>,
    highest_seen: Ballot,
    newer_epoch: Option<LayoutEpoch>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(test, derive(Clone))]
enum Phase {
    Preparing {
        wanted: Arc<RowSelection>,
        reports: BTreeMap<NodeId, Report>,
    },
    Evaluating(Basis),
    Accepting(Proposal),
    Chosen,
    Over,
}

/// What is being asked for in the accept phase.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(test, derive(Clone))]
struct Proposal {
    delta: Arc<Delta>,
    next: Option<Ballot>,
    size: GroupSize,
    rows: KnownRows,
}

/// Where one acceptor stands in the present phase.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Vote {
    /// Asked, no answer yet.
    Pending,
    /// Agreed; in the accept phase, with this promise.
    Yes(Ballot),
    /// Lacks the base and waits for somebody who has the ballot.
    Behind(Help),
    /// Refused, failed or lives in another epoch.
    No,
}

/// How far the help for a lagging acceptor has come.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Help {
    since: Option<Ballot>,
    asked: Option<NodeId>,
    tried: BTreeSet<NodeId>,
}

impl Round {
    /// A round that has to ask for promises first.
    #[must_use]
    pub fn prepare(
        acceptors: Acceptors,
        epoch: LayoutEpoch,
        ballot: Ballot,
        rows: RowSelection,
    ) -> (Round, Vec<Action>) {
        let wanted = Arc::new(rows);
        let phase = Phase::Preparing {
            wanted: Arc::clone(&wanted),
            reports: BTreeMap::new(),
        };
        let round = Round::new(acceptors, epoch, ballot, phase);
        let send = |to: &NodeId| Action::SendPrepare {
            to: *to,
            request: PrepareRequest {
                epoch,
                ballot,
                rows: Arc::clone(&wanted),
            },
        };
        let actions = round.votes.keys().map(send).collect();
        (round, actions)
    }

    /// A round that goes on from a lead and can be evaluated at once.
    ///
    /// The rows of all transactions must be known to the lead: see [`Lead::missing`].
    #[must_use]
    pub fn resume(lead: Lead) -> Round {
        let Lead {
            acceptors,
            epoch,
            base,
            next,
            size,
            rows,
        } = lead;
        // Others may have moved on since: a lead knows the base to be chosen, not to be the newest.
        let basis = Basis {
            ballot: next,
            base,
            base_chosen: true,
            settled: false,
            size,
            rows,
        };
        Round::new(acceptors, epoch, next, Phase::Evaluating(basis))
    }

    /// The ballot of this round.
    #[must_use]
    pub fn ballot(&self) -> Ballot {
        self.ballot
    }

    /// What to evaluate against, between [`Action::Evaluate`] and [`Round::propose`].
    #[must_use]
    pub fn basis(&self) -> Option<&Basis> {
        match &self.phase {
            Phase::Evaluating(basis) => Some(basis),
            _ => None,
        }
    }

    /// Asks for the change to be accepted, and for the promise of `next` along with it.
    ///
    /// An identity on a base that is known to be the newest is chosen without asking.
    ///
    /// # Panics
    /// When the round is not evaluating, or `evaluation` was made for another ballot.
    pub fn propose(&mut self, evaluation: &Evaluation, next: Option<Ballot>) -> Vec<Action> {
        let Phase::Evaluating(basis) = std::mem::replace(&mut self.phase, Phase::Over) else {
            panic!("a round proposes once, after Action::Evaluate");
        };
        assert_eq!(
            evaluation.ballot, self.ballot,
            "an evaluation belongs to one ballot"
        );
        if basis.settled && evaluation.is_identity() {
            return vec![Action::Chosen(self.settle(basis))];
        }
        let next = next.filter(|next| *next > self.ballot);
        let delta = Arc::clone(&evaluation.delta);
        let is_fresh = |key: &&RowKey| basis.rows.knows(key) && basis.rows.row(key).is_none();
        let fresh = delta.rows.keys().filter(is_fresh).cloned().collect();
        let request = AcceptRequest {
            epoch: self.epoch,
            ballot: self.ballot,
            base: Base::On(basis.base),
            delta: Arc::clone(&delta),
            fresh: Arc::new(fresh),
            next_promise: next,
            chosen: if basis.base_chosen {
                basis.base
            } else {
                Ballot::ZERO
            },
        };
        let size = basis.size.after(&delta, &basis.rows);
        self.phase = Phase::Accepting(Proposal {
            delta,
            next,
            size,
            rows: basis.rows,
        });
        self.votes
            .values_mut()
            .for_each(|vote| *vote = Vote::Pending);
        self.votes
            .keys()
            .map(|to| Action::SendAccept {
                to: *to,
                request: request.clone(),
            })
            .collect()
    }

    /// Takes the answer to a prepare.
    pub fn on_promise(&mut self, from: NodeId, reply: PromiseReply) -> Vec<Action> {
        let own = self.ballot;
        let Phase::Preparing { reports, .. } = &mut self.phase else {
            return Vec::new();
        };
        let Some(vote) = self.votes.get_mut(&from) else {
            return Vec::new();
        };
        match reply {
            PromiseReply::Promised { ballot, report } if ballot == own => {
                self.highest_seen = self.highest_seen.max(report.accepted);
                *vote = Vote::Yes(ballot);
                reports.insert(from, report);
            }
            PromiseReply::Refused { ballot, promised } if ballot == own => {
                self.highest_seen = self.highest_seen.max(promised);
                *vote = Vote::No;
            }
            PromiseReply::Promised { .. } | PromiseReply::Refused { .. } => return Vec::new(),
            PromiseReply::WrongEpoch { current } => self.on_epoch(from, current),
        }
        self.advance()
    }

    /// Takes the answer to an accept.
    pub fn on_accept(&mut self, from: NodeId, reply: AcceptReply) -> Vec<Action> {
        let own = self.ballot;
        if !matches!(self.phase, Phase::Accepting(_) | Phase::Chosen) {
            return Vec::new();
        }
        let Some(vote) = self.votes.get_mut(&from) else {
            return Vec::new();
        };
        match (reply, &*vote) {
            (AcceptReply::Accepted { ballot, promised }, _) if ballot == own => {
                *vote = Vote::Yes(promised)
            }
            (AcceptReply::NeedFull { ballot, accepted }, Vote::Pending) if ballot == own => {
                let since = Some(accepted);
                *vote = Vote::Behind(Help {
                    since,
                    asked: None,
                    tried: BTreeSet::new(),
                });
            }
            (AcceptReply::Refused { ballot, promised }, Vote::Pending) if ballot == own => {
                self.highest_seen = self.highest_seen.max(promised);
                *vote = Vote::No;
            }
            (AcceptReply::WrongEpoch { current }, Vote::Pending) => self.on_epoch(from, current),
            _ => return Vec::new(),
        }
        self.advance()
    }

    /// Takes the state that was fetched `from` one acceptor for the one that lags `behind`;
    /// `None` when the fetch failed.
    pub fn on_group(
        &mut self,
        from: NodeId,
        behind: NodeId,
        image: Option<GroupImage>,
    ) -> Vec<Action> {
        let chosen = matches!(self.phase, Phase::Chosen);
        let Some(Vote::Behind(help)) = self.votes.get_mut(&behind) else {
            return Vec::new();
        };
        if help.asked != Some(from) {
            return Vec::new();
        }
        help.asked = None;
        help.tried.insert(from);
        // Before the ballot is chosen only its own state helps it; afterwards any newer one helps the group.
        let helps = |image: &GroupImage| {
            image.accepted == self.ballot || chosen && image.accepted > self.ballot
        };
        let Some(image) = image.filter(helps) else {
            return self.advance();
        };
        self.votes.insert(behind, Vote::Pending);
        let request = AcceptRequest {
            epoch: self.epoch,
            ballot: image.accepted,
            base: image.base,
            delta: Arc::new(image.delta),
            fresh: Arc::default(),
            next_promise: None,
            chosen: if chosen { self.ballot } else { Ballot::ZERO },
        };
        vec![Action::SendAccept {
            to: behind,
            request,
        }]
    }

    /// Notes that a request to `node` failed or was not answered in time.
    pub fn on_failed(&mut self, node: NodeId) -> Vec<Action> {
        match self.votes.get_mut(&node) {
            Some(vote) if *vote == Vote::Pending => *vote = Vote::No,
            _ => return Vec::new(),
        }
        self.advance()
    }

    /// Gives up on answers that have not come.
    pub fn on_timeout(&mut self) -> Vec<Action> {
        match self.phase {
            Phase::Preparing { .. } | Phase::Evaluating(_) | Phase::Accepting(_) => {
                vec![self.lose()]
            }
            Phase::Chosen | Phase::Over => Vec::new(),
        }
    }

    /// True when the outcome is known and no lagging acceptor waits for help from this round.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        match self.phase {
            Phase::Chosen => !self
                .votes
                .values()
                .any(|vote| matches!(vote, Vote::Pending | Vote::Behind(_))),
            Phase::Over => true,
            _ => false,
        }
    }

    fn new(acceptors: Acceptors, epoch: LayoutEpoch, ballot: Ballot, phase: Phase) -> Round {
        let votes = acceptors
            .nodes()
            .into_iter()
            .map(|node| (node, Vote::Pending))
            .collect();
        Round {
            acceptors,
            epoch,
            ballot,
            phase,
            votes,
            highest_seen: ballot,
            newer_epoch: None,
        }
    }

    /// The next step after a vote changed.
    fn advance(&mut self) -> Vec<Action> {
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Preparing { wanted, reports } => {
                if self.has_quorum() {
                    self.phase = Phase::Evaluating(self.basis_of(&wanted, reports));
                    return vec![Action::Evaluate];
                }
                self.phase = Phase::Preparing { wanted, reports };
                self.lose_if_hopeless(Vec::new())
            }
            Phase::Accepting(proposal) if self.has_quorum() => {
                let chosen = Chosen {
                    proposed: self.ballot,
                    state: self.ballot,
                    lead: self.lead(proposal),
                };
                self.phase = Phase::Chosen;
                let mut actions = vec![Action::Chosen(chosen)];
                actions.extend(self.help());
                actions
            }
            Phase::Accepting(proposal) => {
                self.phase = Phase::Accepting(proposal);
                let actions = self.help();
                self.lose_if_hopeless(actions)
            }
            Phase::Chosen => {
                self.phase = Phase::Chosen;
                self.help()
            }
            phase @ (Phase::Evaluating(_) | Phase::Over) => {
                self.phase = phase;
                Vec::new()
            }
        }
    }

    /// The newest state among the promises of a quorum. It is known to be chosen when a quorum reports
    /// the very same ballot, or when anybody knows it.
    fn basis_of(&self, wanted: &RowSelection, reports: BTreeMap<NodeId, Report>) -> Basis {
        let base = reports
            .values()
            .map(|report| report.accepted)
            .max()
            .unwrap_or(Ballot::ZERO);
        let has_base = |node: NodeId| {
            reports
                .get(&node)
                .is_some_and(|report| report.accepted == base)
        };
        // While voters change, every ballot is accepted anew: that somebody knows a state to be chosen does not mean
        // that those who vote afterwards have it.
        let settled = !self.acceptors.is_joint()
            && (self.acceptors.is_quorum(has_base)
                || reports.values().any(|report| report.chosen == base));
        let newest = reports
            .into_values()
            .find(|report| report.accepted == base)
            .unwrap_or_default();
        let rows = KnownRows::from_reply(&wanted.keys, newest.rows);
        Basis {
            ballot: self.ballot,
            base,
            base_chosen: settled,
            settled,
            size: newest.size,
            rows,
        }
    }

    /// The basis itself is the newest chosen state, and a quorum has promised this round's unused ballot.
    fn settle(&mut self, basis: Basis) -> Chosen {
        let lead = Lead {
            acceptors: self.acceptors.clone(),
            epoch: self.epoch,
            base: basis.base,
            next: self.ballot,
            size: basis.size,
            rows: basis.rows,
        };
        Chosen {
            proposed: self.ballot,
            state: basis.base,
            lead: Some(lead),
        }
    }

    /// The right to go on, if a quorum gave the next promise along with its acceptance and nobody refused.
    ///
    /// A node that failed does not spoil it: the quorum's promises are what makes it safe, and one dead
    /// node must not cost a round trip for every write.
    fn lead(&self, proposal: Proposal) -> Option<Lead> {
        let next = proposal.next?;
        let promised = |node: NodeId| self.votes.get(&node) == Some(&Vote::Yes(next));
        if !self.acceptors.is_quorum(promised) || self.highest_seen > self.ballot {
            return None;
        }
        Some(Lead {
            acceptors: self.acceptors.clone(),
            epoch: self.epoch,
            base: self.ballot,
            next,
            size: proposal.size,
            rows: Lead::advance(proposal.rows, &proposal.delta),
        })
    }

    /// Finds for each lagging acceptor one that has the ballot and was not asked in vain before.
    fn help(&mut self) -> Vec<Action> {
        let sources = self.nodes_where(|vote| matches!(vote, Vote::Yes(_)));
        let mut actions = Vec::new();
        for (behind, vote) in &mut self.votes {
            let Vote::Behind(help) = vote else { continue };
            if help.asked.is_some() {
                continue;
            }
            if let Some(from) = sources.iter().find(|source| !help.tried.contains(*source)) {
                help.asked = Some(*from);
                actions.push(Action::FetchGroup {
                    from: *from,
                    behind: *behind,
                    since: help.since,
                });
            }
        }
        actions
    }

    fn on_epoch(&mut self, from: NodeId, current: LayoutEpoch) {
        if current > self.epoch {
            self.newer_epoch = self.newer_epoch.max(Some(current));
        }
        self.votes.insert(from, Vote::No);
    }

    fn lose_if_hopeless(&mut self, mut actions: Vec<Action>) -> Vec<Action> {
        let pending = self.votes.values().any(|vote| *vote == Vote::Pending);
        let may_agree = |node: NodeId| match self.votes.get(&node) {
            Some(Vote::Pending | Vote::Yes(_)) => true,
            Some(Vote::Behind(help)) => pending || help.asked.is_some(),
            Some(Vote::No) | None => false,
        };
        if !self.acceptors.is_quorum(may_agree) {
            actions.push(self.lose());
        }
        actions
    }

    fn lose(&mut self) -> Action {
        let accepts_sent = matches!(self.phase, Phase::Accepting(_));
        self.phase = Phase::Over;
        let reason = match self.newer_epoch {
            Some(epoch) => LostReason::Epoch(epoch),
            None if self.highest_seen > self.ballot => LostReason::Outrun,
            None => LostReason::Unreachable,
        };
        Action::Lost(Lost {
            highest_seen: self.highest_seen,
            accepts_sent,
            reason,
        })
    }

    fn has_quorum(&self) -> bool {
        self.acceptors
            .is_quorum(|node| matches!(self.votes.get(&node), Some(Vote::Yes(_))))
    }

    fn nodes_where(&self, holds: impl Fn(&Vote) -> bool) -> Vec<NodeId> {
        self.votes
            .iter()
            .filter(|(_, vote)| holds(vote))
            .map(|(node, _)| *node)
            .collect()
    }
}
