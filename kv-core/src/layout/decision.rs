//! One proposer's try to get the layout of the next epoch decided.
//!
//! Place: pure; one per try, driven by `souk_kv_node`, which sends what is asked and feeds the answers back.
//! Source: Lamport, Paxos Made Simple, 2001, §2.2.
//! Shape: `Preparing → Accepting → Chosen | Lost`.
//! Invariants: 1. what is proposed is the newest proposal among the promises of a quorum, and the proposer's
//! own wish only where there is none. 2. `Chosen` is said after a quorum accepted, once.
//! Not here: trying again with a higher ballot, timers (the driver).

use std::collections::{BTreeMap, BTreeSet};

use souk_ring::{LayoutEpoch, NodeId};

use super::{Proposal, VoteReply, VoteRequest};
use crate::register::{Acceptors, Ballot};

/// A try under way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decision<V> {
    acceptors: Acceptors,
    pub(super) deciding: LayoutEpoch,
    ballot: Ballot,
    pub(super) wish: V,
    phase: Phase<V>,
    waiting: BTreeSet<NodeId>,
    agreed: BTreeSet<NodeId>,
    highest_seen: Ballot,
    newest_adopted: LayoutEpoch,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Phase<V> {
    Preparing(BTreeMap<NodeId, Option<Proposal<V>>>),
    Accepting(V),
    Over,
}

/// A request to one member.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Send<V> {
    /// To whom.
    pub to: NodeId,
    /// What; give the answer to [`Decision::on_reply`].
    pub request: VoteRequest<V>,
}

/// What follows from an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<V> {
    /// Send these, if any, and wait.
    Ask(Vec<Send<V>>),
    /// This is the layout of the epoch, whoever wished for it.
    Chosen(V),
    /// This try has failed.
    Lost(Undecided),
}

/// What is asked for in a try.
#[derive(Clone, Debug)]
pub struct Ask<V> {
    /// The members of the layout before.
    pub acceptors: Acceptors,
    /// The epoch to decide.
    pub deciding: LayoutEpoch,
    /// Used for no other try.
    pub ballot: Ballot,
    /// What to propose if nothing was proposed before.
    pub wish: V,
}

/// Why a try failed. An accept may have left; a later try finds out what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecided {
    /// Somebody else tries with a higher ballot. Mend: wait a little, try with a higher one.
    #[error("another node proposes a layout for the same epoch; it is tried again")]
    Outrun {
        /// The highest ballot met.
        highest_seen: Ballot,
    },
    /// The epoch is decided already. Mend: fetch the newer layout.
    #[error("the cluster has come to epoch {adopted} meanwhile; its layout is fetched first")]
    Settled {
        /// The newest epoch met.
        adopted: LayoutEpoch,
    },
    /// Too few members answered. Mend: bring back a majority of the members.
    #[error(
        "{agreed_count} members agreed to the next layout, which is no majority; bring the others back"
    )]
    TooFew {
        /// How many agreed.
        agreed_count: usize,
    },
}

impl<V: Clone> Decision<V> {
    /// Begins a try by asking for promises.
    #[must_use]
    pub fn start(ask: Ask<V>) -> (Decision<V>, Vec<Send<V>>) {
        let Ask {
            acceptors,
            deciding,
            ballot,
            wish,
        } = ask;
        let waiting = acceptors.nodes();
        let request = VoteRequest::Prepare { deciding, ballot };
        let sends = to_all(&waiting, &request);
        let decision = Decision {
            acceptors,
            deciding,
            ballot,
            wish,
            phase: Phase::Preparing(BTreeMap::new()),
            waiting,
            agreed: BTreeSet::new(),
            highest_seen: ballot,
            newest_adopted: LayoutEpoch(0),
        };
        (decision, sends)
    }

    /// Takes an answer. Late answers of the promise phase change nothing.
    pub fn on_reply(&mut self, from: NodeId, reply: VoteReply<V>) -> Step<V> {
        let own = self.ballot;
        match (&mut self.phase, reply) {
            (Phase::Preparing(promises), VoteReply::Promised { ballot, accepted })
                if ballot == own && self.waiting.contains(&from) =>
            {
                promises.insert(from, accepted);
                self.agreed.insert(from);
            }
            (Phase::Accepting(_), VoteReply::Accepted { ballot })
                if ballot == own && self.waiting.contains(&from) =>
            {
                self.agreed.insert(from);
            }
            (_, VoteReply::Refused { ballot, promised }) if ballot == own => {
                self.highest_seen = self.highest_seen.max(promised);
            }
            (_, VoteReply::Elsewhere { adopted }) => {
                self.newest_adopted = self.newest_adopted.max(adopted);
            }
            _ => return Step::Ask(Vec::new()),
        }
        self.waiting.remove(&from);
        self.advance()
    }

    /// Notes that a member did not answer.
    pub fn on_failed(&mut self, node: NodeId) -> Step<V> {
        self.waiting.remove(&node);
        self.advance()
    }

    /// Gives up on answers that have not come.
    pub fn on_timeout(&mut self) -> Step<V> {
        self.waiting.clear();
        self.advance()
    }

    fn advance(&mut self) -> Step<V> {
        let has_quorum = self.acceptors.is_quorum(|node| self.agreed.contains(&node));
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Preparing(promises) if has_quorum => {
                let value = newest(promises).unwrap_or_else(|| self.wish.clone());
                self.waiting = self.acceptors.nodes();
                self.agreed.clear();
                let request = VoteRequest::Accept {
                    deciding: self.deciding,
                    proposal: Proposal {
                        ballot: self.ballot,
                        value: value.clone(),
                    },
                };
                self.phase = Phase::Accepting(value);
                Step::Ask(to_all(&self.waiting, &request))
            }
            Phase::Accepting(value) if has_quorum => Step::Chosen(value),
            Phase::Over => Step::Ask(Vec::new()),
            phase => {
                let may_agree =
                    |node: NodeId| self.waiting.contains(&node) || self.agreed.contains(&node);
                if self.acceptors.is_quorum(may_agree) {
                    self.phase = phase;
                    return Step::Ask(Vec::new());
                }
                Step::Lost(self.why_lost())
            }
        }
    }

    fn why_lost(&self) -> Undecided {
        if self.newest_adopted >= self.deciding {
            Undecided::Settled {
                adopted: self.newest_adopted,
            }
        } else if self.highest_seen > self.ballot {
            Undecided::Outrun {
                highest_seen: self.highest_seen,
            }
        } else {
            Undecided::TooFew {
                agreed_count: self.agreed.len(),
            }
        }
    }
}

fn to_all<V: Clone>(nodes: &BTreeSet<NodeId>, request: &VoteRequest<V>) -> Vec<Send<V>> {
    nodes
        .iter()
        .map(|to| Send {
            to: *to,
            request: request.clone(),
        })
        .collect()
}

fn newest<V>(promises: BTreeMap<NodeId, Option<Proposal<V>>>) -> Option<V> {
    promises
        .into_values()
        .flatten()
        .max_by_key(|proposal| proposal.ballot)
        .map(|proposal| proposal.value)
}
