//! Finds what replicas disagree about without being asked, and brings it together.
//!
//! Hints and read repair mend what somebody remembers or reads; this mends the rest: a node whose hints were
//! refused for lack of room, a record damaged on disk, the two sides of a network split.
//!
//! | file | idea |
//! |---|---|
//! | `forest` | the trees of this node, kept in step with its records |
//! | `pending` | a write whose leaf is in memory and not yet on disk |
//! | `walk` | reading a vnode's records: to check its trees, or to list keys |
//! | `answers` | what other nodes ask of the trees |
//! | `exchange` | one round with one other replica |
//! | `rounds` | when rounds happen |
//! | `shared`, `wire` | which trees two nodes have in common; digests and keys as they travel |
//! | `tally` | what they found and what they cost |
//!
//! Place: I/O; drives `souk_kv_core::merkle`; written to by `crate::siblings`, walked by `crate::scrub`.
//! Invariants: 1. a leaf is in the atomic batch of the record that changed it. 2. only whole records travel, and
//! both sides merge. 3. whatever it does may be repeated, and may stop half-way.
//! Not here: register groups, which are brought up by their ballots; mending damaged records (`crate::scrub`).

mod answers;
mod exchange;
mod forest;
mod pending;
mod rounds;
mod shared;
mod tally;
mod walk;
mod wire;

pub(crate) use exchange::RoundError;
pub(crate) use forest::{Forest, Held, LeafChange};
pub(crate) use pending::RecordCommit;
pub(crate) use rounds::{AntiEntropy, anti_entropy_loop};
pub(crate) use tally::Tally;
pub(crate) use walk::Walker;
