//! The protocols of the store as pure state machines: input comes in, state changes, actions come out.
//!
//! Place: pure; stands on `souk_ring`; driven by `souk_kv_node`, encoded by `souk_kv_proto`.
//! Shape: one folder per idea. `causality` says which write has seen which, `quorum` counts answers,
//! `merkle` finds what replicas disagree about, `register` agrees on one history, `layout` on who takes part,
//! `transfer` brings a partition to a new owner,
//! `membership` judges peers, `hint` keeps what an absent node missed, `overload` makes background work yield to
//! requests, `tombstone` collects deletes by proof, `access` says who may do what, `outcome` is what a
//! caller may believe afterwards.
//! Invariants: 1. no clock, socket, file, runtime or randomness: time, identity and chance are arguments.
//! 2. equal inputs in equal order give equal outputs.
//! Not here: bytes on disk (`souk_kv_storage`), bytes on the wire (`souk_kv_proto`), timers (`souk_kv_node`).

pub mod access;
pub mod causality;
#[cfg(test)]
mod chance;
pub mod hint;
pub mod layout;
pub mod membership;
pub mod merkle;
pub mod outcome;
pub mod overload;
pub mod quorum;
pub mod register;
pub mod tombstone;
pub mod transfer;
