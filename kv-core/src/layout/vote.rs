//! One member's vote on the layout of the next epoch.
//!
//! Place: pure; the driver loads it, asks, stores what is returned, then replies.
//! Source: Lamport, Paxos Made Simple, 2001, §2.2 (P1a and P2a).
//! Invariants: 1. promises never fall within one epoch. 2. a vote counts only for the epoch right after the one
//! that the node has adopted; votes on settled epochs are forgotten, because their layout is known.
//! The driver owes: that its store is the one that the adopted layout names for it, and that what is
//! returned is durable before the reply leaves.

use souk_ring::LayoutEpoch;

use crate::register::Ballot;

/// What a member has promised and accepted about one epoch. One durable record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayoutVote<V> {
    /// The epoch that is being decided.
    pub deciding: LayoutEpoch,
    /// Lower ballots are refused.
    pub promised: Ballot,
    /// The newest proposal accepted.
    pub accepted: Option<Proposal<V>>,
}

/// A value with the ballot it was proposed in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Proposal<V> {
    /// The ballot.
    pub ballot: Ballot,
    /// The layout.
    pub value: V,
}

/// What a proposer asks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VoteRequest<V> {
    /// "Promise to refuse everything below this ballot, and tell what you have accepted."
    Prepare {
        /// The epoch that is being decided.
        deciding: LayoutEpoch,
        /// The ballot to promise.
        ballot: Ballot,
    },
    /// "Accept this."
    Accept {
        /// The epoch that is being decided.
        deciding: LayoutEpoch,
        /// What to accept.
        proposal: Proposal<V>,
    },
}

/// What a member answers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VoteReply<V> {
    /// It promised.
    Promised {
        /// The ballot promised.
        ballot: Ballot,
        /// What it had accepted.
        accepted: Option<Proposal<V>>,
    },
    /// It accepted.
    Accepted {
        /// The ballot accepted.
        ballot: Ballot,
    },
    /// A higher ballot was promised before.
    Refused {
        /// The ballot refused.
        ballot: Ballot,
        /// The higher one.
        promised: Ballot,
    },
    /// It has adopted another epoch than the one before the decision: one of the two is behind.
    Elsewhere {
        /// The epoch it has adopted.
        adopted: LayoutEpoch,
    },
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given<V> {
    /// Store the vote, then reply.
    Store {
        /// What to store.
        vote: LayoutVote<V>,
        /// What to reply once it is durable.
        reply: VoteReply<V>,
    },
    /// Nothing changes.
    Reply(VoteReply<V>),
}

impl<V: Clone> LayoutVote<V> {
    /// The vote of a member that has heard nothing about that epoch.
    #[must_use]
    pub fn empty(deciding: LayoutEpoch) -> LayoutVote<V> {
        LayoutVote {
            deciding,
            promised: Ballot::ZERO,
            accepted: None,
        }
    }

    /// Decides about a request. `stored` is the last vote stored, of whichever epoch; `adopted` the
    /// epoch that the node has durably adopted.
    #[must_use]
    pub fn give(
        stored: Option<&LayoutVote<V>>,
        adopted: LayoutEpoch,
        request: &VoteRequest<V>,
    ) -> Given<V> {
        let (VoteRequest::Prepare { deciding, .. } | VoteRequest::Accept { deciding, .. }) =
            request;
        if adopted.next() != Some(*deciding) {
            return Given::Reply(VoteReply::Elsewhere { adopted });
        }
        let vote = stored
            .filter(|vote| vote.deciding == *deciding)
            .cloned()
            .unwrap_or_else(|| LayoutVote::empty(*deciding));
        match request {
            VoteRequest::Prepare { ballot, .. } => vote.promise(*ballot),
            VoteRequest::Accept { proposal, .. } => vote.accept(proposal.clone()),
        }
    }

    fn promise(self, ballot: Ballot) -> Given<V> {
        if ballot < self.promised {
            return Given::Reply(self.refuse(ballot));
        }
        let reply = VoteReply::Promised {
            ballot,
            accepted: self.accepted.clone(),
        };
        let vote = LayoutVote {
            promised: ballot,
            ..self
        };
        Given::Store { vote, reply }
    }

    fn accept(self, proposal: Proposal<V>) -> Given<V> {
        let ballot = proposal.ballot;
        if ballot < self.promised {
            return Given::Reply(self.refuse(ballot));
        }
        let vote = LayoutVote {
            promised: ballot,
            accepted: Some(proposal),
            ..self
        };
        let reply = VoteReply::Accepted { ballot };
        Given::Store { vote, reply }
    }

    fn refuse(&self, ballot: Ballot) -> VoteReply<V> {
        VoteReply::Refused {
            ballot,
            promised: self.promised,
        }
    }
}
