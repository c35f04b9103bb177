//! Clusters of real processes that are killed, frozen and started again while clients use them.
//!
//! | Variable | Meaning | Default |
//! |---|---|---|
//! | `SOUK_CHAOS_SECONDS` | how long clients run in each test | 12, in cells 30 |
//! | `SOUK_SEED` | the seed of schedules and clients | a new one, printed |
//! | `SOUK_BINARY` | the `souk` binary | built from this workspace |
//!
//! Tests run one after another, whatever the number of test threads: each one needs the whole machine.

#![allow(
    clippy::unwrap_used,
    reason = "what fails to unwrap here fails its test"
)]

mod cells;
mod kill_majority;
mod kill_one;
mod registers;
mod same_key;
mod support;
