//! Causality proven over histories: several replicas and clients, reads, writes, retries, hints and merges in any
//! order. Records are never invented, only grown, because most invented records could not exist.
//!
//! - `history` grows them and keeps the truth beside them;
//! - `laws` checks that merging is a join;
//! - `promises` checks what clients are promised;
//! - `rules` runs a schedule for each rule about names, with the rule and without it;
//! - `schedules` keeps the named accidents of the literature, shown to hurt and shown to be avoided.

mod history;
mod laws;
mod promises;
mod rules;
mod schedules;
