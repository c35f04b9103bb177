//! Writes kept for absent primaries, and their delivery.
//!
//! | file | idea |
//! |---|---|
//! | `space` | the hints on disk: kept, merged, counted, capped |
//! | `handoff` | delivers them when their primary is back |
//! | `reroute` | gives those for a node that was removed or given up to the other owners |
//! | `steering` | what operators want of the delivery |
//!
//! Place: I/O; the coordinators of `crate::siblings` keep hints, one task per peer delivers them.
//! Invariants: 1. a hint is the whole record. 2. a hint goes only after its target has it on disk, or, when that one
//! is gone for good, all owners that are left.
//! 3. a full hint space refuses new hints and drops none. 4. only an operator who accepts the loss drops hints.

mod handoff;
mod reroute;
mod space;
mod steering;

pub(crate) use handoff::{Handoff, handoff_loop};
pub(crate) use reroute::reroute_loop;
pub(crate) use space::{HintSpace, HintTotals};
pub(crate) use steering::Steering;
