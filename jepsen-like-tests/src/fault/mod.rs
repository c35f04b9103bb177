//! What is broken, and when: a plan made from a seed.
//!
//! Shape: a [`Fault`] and a seed give a [`Schedule`], which is data and can be written down; [`crate::real`]
//! performs it on real processes, and [`crate::sim`] on simulated ones; both note in the history what proves that
//! each blow landed.
//!
//! Place: pure; between workloads, which it knows nothing of, and those who perform it.
//! Source: Jepsen's nemesis.
//! Invariants: 1. equal fault, seed, time and nodes give an equal schedule. 2. a schedule ends with everything
//! running again. 3. a blow whose effect is
//! not certain is undone by a step that says whether it bit; a run of which too few blows bit proves nothing.

mod action;
mod kind;
mod membership;
mod schedule;
mod shape;
mod shrink;
mod windows;

pub use action::Action;
pub use kind::Fault;
pub use schedule::{Link, Schedule, Step};
pub(crate) use shape::all as all_links;
pub use shrink::{Shrunk, shrink};
pub use windows::{Window, windows};
