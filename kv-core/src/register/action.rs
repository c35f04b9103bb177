//! What a round asks its driver to do, and how it ends.
//!
//! Place: pure; given by `round`, performed by the driver.
//! Invariants: a [`Chosen`] is made only by a round, so that holding one is proof.
//! Not here: when each is said (`round`).

use souk_ring::{LayoutEpoch, NodeId};

use super::{AcceptRequest, Ballot, Lead, PrepareRequest};

/// What the driver has to do next.
#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Clone))]
pub enum Action {
    /// Send this, and give the answer to [`super::Round::on_promise`].
    SendPrepare {
        /// To whom.
        to: NodeId,
        /// What.
        request: PrepareRequest,
    },
    /// Send this, and give the answer to [`super::Round::on_accept`].
    SendAccept {
        /// To whom.
        to: NodeId,
        /// What.
        request: AcceptRequest,
    },
    /// Read the group at `from`, and give the image to [`super::Round::on_group`].
    FetchGroup {
        /// Whose state to read.
        from: NodeId,
        /// Who lags and will be sent it.
        behind: NodeId,
        /// What the lagging one has: a change on top of it is enough, if `from` still knows one.
        /// `None` asks for the whole state.
        since: Option<Ballot>,
    },
    /// Evaluate against [`super::Round::basis`], then call [`super::Round::propose`].
    Evaluate,
    /// The ballot is chosen: open the evaluation with it.
    Chosen(Chosen),
    /// The ballot will not be known to be chosen: see `loss` for what to do.
    Lost(Lost),
}

/// Proof that a state is chosen. Only a [`super::Round`] makes one.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(test, derive(Clone))]
pub struct Chosen {
    pub(super) proposed: Ballot,
    pub(super) state: Ballot,
    pub(super) lead: Option<Lead>,
}

impl Chosen {
    /// The ballot whose state is chosen: the round's own, or its base when an identity needed no accept.
    #[must_use]
    pub fn state(&self) -> Ballot {
        self.state
    }

    /// Takes the right to go on in one round trip, where it was won.
    #[must_use]
    pub fn take_lead(&mut self) -> Option<Lead> {
        self.lead.take()
    }
}

/// How a round ended without being known to be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lost {
    /// The highest ballot met; the next attempt has to draw a higher one.
    pub highest_seen: Ballot,
    /// True when an accept left, so that the change may still be chosen by others.
    pub accepts_sent: bool,
    /// Why.
    pub reason: LostReason,
}

/// Why a round was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LostReason {
    /// Others promised higher ballots.
    Outrun,
    /// Too few acceptors answered.
    Unreachable,
    /// An acceptor lives in a newer layout: fetch it before trying again.
    Epoch(LayoutEpoch),
}
