//! Agreement on the next layout: one small Paxos decision per epoch.
//!
//! A cluster's layouts are like the pages of a bound book: page e+1 is written once, by a majority of those
//! whom page e names, and only by who has read page e. So the book never forks, whoever turns the page.
//!
//! Place: pure; driven by `souk_kv_node`, which keeps each node's [`LayoutVote`] on disk and spreads what is
//! chosen. The value is opaque here: the driver decides about whole `souk_ring::Layout`s.
//! Source: Lamport, Paxos Made Simple, 2001, §2.2; Lamport, Malkhi, Zhou, Reconfiguring a State Machine, 2010.
//! Shape: `vote` is a member's side, `decision` a proposer's, `staging` what operators wish for; `check` holds the
//! proofs.
//! Invariants: 1. one value is chosen per epoch. 2. votes on epoch e+1 come only from the stores that epoch e
//! names as its members, each from a node that has adopted e. So a member that lost its store votes again
//! only on pages that are turned after the one that names its new store, of which it has forgotten nothing.
//! While copies move, page e names two sets of members, and a majority of each has to vote for page e+1.
//! Not here: what a layout says (`souk_ring`), when to propose one, spreading it, fencing requests
//! of older epochs (`crate::register`).

mod decision;
mod staging;
mod vote;

#[cfg(test)]
mod check;

pub use decision::{Ask, Decision, Send, Step, Undecided};
pub use staging::{STAGED_MAX, StagedChange, Staging, StagingError};
pub use vote::{Given, LayoutVote, Proposal, VoteReply, VoteRequest};
