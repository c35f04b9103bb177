//! Decides, answer by answer, when enough nodes have spoken for a put or a get.
//!
//! The picture: a clerk with a checklist. The clerk never telephones; it says whom to call, is told who answered,
//! and declares at one point "that will do" or "that is all we shall get". Calls still open afterwards are
//! followed up, because every copy counts, but the customer is no longer kept waiting.
//!
//! ```
//! use souk_kv_core::membership::Health;
//! use souk_kv_core::quorum::*;
//! use souk_ring::NodeId;
//!
//! let primaries = [NodeId(1), NodeId(2), NodeId(3)];
//! let request = PutRequest {
//!     primaries: &primaries, fallbacks: &[NodeId(4)], local: NodeId(1),
//!     write_quorum: 2, write_floor: None, departing: &[], strict: false,
//! };
//! // Node 3 seems down: node 4 keeps its copy as a hint.
//! let (mut put, actions) = PutCoordinator::start(request, |node| node != NodeId(3));
//! assert_eq!(actions[2], PutAction::SendTo { node: NodeId(4), hinted_for: Some(NodeId(3)) });
//! assert!(put.on_stored(NodeId(1)).is_empty());
//! let answer = PutAnswer::Applied { copies: 2, needed: 2, degraded: false };
//! assert_eq!(put.on_stored(NodeId(4))[..], [PutAction::Answer(answer)]);
//! # let _ = Health::Healthy;
//! ```
//!
//! Place: pure; driven by the coordinators of `souk_kv_node`, which own sockets and timers.
//! Source: DeCandia et al., Dynamo, SOSP 2007, §4.5, §4.6 (sloppy quorums, hinted handoff);
//! `OpenRiak/riak_kv: src/riak_kv_get_core.erl` for the shape.
//! Shape: [`Quorums`] are a bucket's numbers, [`PutCoordinator`] and [`GetCoordinator`] one request each,
//! [`HedgeBudget`] bounds how many reads ask one node more than they need.
//! Invariants: 1. one answer per request. 2. copies and replies count distinct nodes.
//! 3. `NotApplied` only when nothing is stored and nothing was sent that might be.
//! Not here: registers, whose quorums are never sloppy (`crate::register`); choosing the nodes (`souk_ring`).

mod consistency;
mod get;
#[cfg(test)]
mod get_test;
mod hedge;
mod put;
#[cfg(test)]
mod put_test;
mod quorums;

pub use consistency::{Consistency, ConsistencyError};
pub use get::{GetAction, GetActions, GetAnswer, GetCoordinator, GetRequest};
pub use hedge::{HedgeBudget, hedge_delay};
pub use put::{PutAction, PutActions, PutAnswer, PutCoordinator, PutRequest};
pub use quorums::{Quorums, QuorumsError, REPLICAS_N_MAX};
