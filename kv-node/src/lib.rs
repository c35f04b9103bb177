//! One node of the store: the driver around the pure protocols.
//!
//! A map of the room, from the wire inwards:
//!
//! | module | idea |
//! |---|---|
//! | `node`, `listen` | starting and stopping; the ports |
//! | `config` | `cluster.toml`, checked |
//! | `access` | who may do what |
//! | `api` | what clients and operators ask over gRPC |
//! | `http` | health and metrics |
//! | `peer`, `answer` | links to other nodes; the replica's side of every protocol |
//! | `siblings`, `hint` | the always-writable path |
//! | `anti_entropy`, `scrub` | what replicas disagree about, and what the disk has damaged, is mended |
//! | `tombstone` | deletes are erased once nothing older can turn up |
//! | `register`, `system` | the conditional-write path; the cluster's own group |
//! | `cluster` | who is there, who seems up, which buckets exist |
//! | `members` | which layout is in force, whose store may vote, how a lost store is taken in again |
//! | `transfer` | copies on their way to the nodes that the next layout gives them to |
//! | `company` | links and signs of life for whoever is a member |
//! | `join` | a node that wants to become a member |
//! | `identity`, `mint` | who this node is; the names it gives to writes |
//! | `background` | signs of life and what they bring |
//! | `governor` | background work that yields to slow requests |
//! | `clock`, `guard`, `keys`, `meter`, `outbox`, `error` | shared small parts |
//!
//! Place: I/O. It decides nothing that a pure crate could: what to send, when to answer and what a
//! caller may believe comes from `souk_kv_core`.
//! Not here: bytes on disk (`souk_kv_storage`), routing by clients (`souk_kv_client`).

mod access;
mod answer;
mod anti_entropy;
mod api;
mod background;
mod clock;
mod cluster;
mod company;
pub mod config;
mod core;
mod error;
mod governor;
mod guard;
mod hint;
mod http;
mod identity;
mod join;
mod keys;
mod listen;
mod members;
mod meter;
mod mint;
mod node;
mod outbox;
mod peer;
mod register;
mod scrub;
mod siblings;
mod system;
mod tombstone;
mod transfer;

pub use clock::{Environment, SystemClock, WallClock};
pub use identity::IdentityError;
pub use node::{JoinOptions, Node, NodeError, NodeOptions, run};
