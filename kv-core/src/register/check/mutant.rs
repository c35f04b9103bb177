//! Deliberate breakages, one at a time. A check that does not notice them proves nothing.
//!
//! Place: read by `replica`, `explore` and `simulate`, which break the rule around the real code.

/// One broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Mutant {
    /// An acceptor accepts what it promised to refuse.
    AcceptBelowPromise,
    /// An acceptor's promise does not survive its restart.
    ForgetPromise,
    /// An acceptor applies a change to whatever state it has.
    IgnoreBase,
    /// An acceptor goes back to an earlier ballot without putting its rows back.
    RollBackOnPaper,
    /// An acceptor takes every row of a change for a new one.
    CallAllFresh,
    /// A quorum is (N-1)/2 votes.
    SmallQuorum,
    /// A proposer goes on in one round trip after an accept that no quorum confirmed.
    LeadAfterLoss,
    /// A proposer goes on in one round trip although no quorum promised it.
    LeadUnpromised,
    /// A proposer answers an unchanged state that only some acceptors have.
    AnswerUnchosen,
    /// A proposer answers an unchanged state from its lead, as if that were a lease.
    AnswerFromLead,
    /// A restarted proposer draws its old ballots again.
    ReuseBallots,
    /// A reader believes the first answer.
    ReadOne,
    /// Nobody remembers requests, yet they are retried.
    NoMemory,
    /// A coordinator forgets that a lost ballot may surface later.
    ForgetExposure,
    /// A client believes "not applied" from an earlier attempt than its last.
    BelieveLateNo,
    /// A wiped acceptor learns within the epoch in which it lost its promises.
    LearnUnfenced,
    /// A wiped acceptor believes one other acceptor.
    LearnFromOne,
    /// A wiped acceptor votes while it is still being taught.
    VoteWhileLearner,
    /// A wiped acceptor is not taught at all.
    LearnNothing,
    /// Owners change without a new epoch: who has not heard of it goes on as before.
    MoveUnfenced,
    /// The next owners decide alone from the start.
    MoveAtOnce,
    /// The next owners take the state of one old owner.
    MoveFromOne,
    /// The next owners decide alone after nothing but a look at the list of groups.
    MoveWithoutRounds,
}
