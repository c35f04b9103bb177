//! Reads what the node has stored to see whether it is still what was written, and mends what is not.
//!
//! | file | idea |
//! |---|---|
//! | `mender` | a damaged record is replaced by what the other replicas hold |
//! | `stretch` | keys that cannot be read at all are asked for at the other replicas |
//! | `pass` | one walk over everything, with progress |
//!
//! Place: I/O; stands on `crate::anti_entropy::Walker` and `souk_kv_storage::Store::verify_page`.
//! Invariants: 1. a damaged record is replaced only by what enough other replicas know together: a replica that
//! gives no answer is better than one that has forgotten a write and counts. 2. what could not be mended is said.
//! Not here: register groups, whose votes no copy of one peer can bring back: a group with a damaged row is taken
//! out of use and learnt anew (`crate::register`).

mod mender;
mod pass;
mod stretch;

pub(crate) use mender::{Mended, Mender};
pub(crate) use pass::{ScrubReport, Scrubber, scrub_loop};
