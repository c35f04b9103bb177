//! Faults from outside on real processes: networks, disks, clocks, processors and memory of their own, to be broken.
//!
//! A theatre of hosts on one machine: every node lives in a network namespace with an address of its own, and where a
//! fault needs it, with a disk, a clock and a share of the machine that are taken away during the play.
//!
//! ```text
//!   n1 (namespace) ── eth0 ┐
//!   n2 (namespace) ── eth0 ┼── bridge (namespace) ── this machine: clients, shop, payment provider
//!   n3 (namespace) ── eth0 ┘
//! ```
//!
//! Shape: [`Abilities`] says which faults this machine can do, and what is missing for the others; a [`Ground`]
//! prepares hosts for a run and removes them; [`RealNemesis`] performs a schedule and proves each blow.
//!
//! | Fault | Means | Evidence |
//! |---|---|---|
//! | splits, loss | nft sets and `numgen` in the receiver's namespace | packets dropped |
//! | delay, jitter | a queue of packets that [`lag`] gives back later | packets held |
//! | narrow network | `tc tbf` | packets that had to wait |
//! | clocks | libfaketime, by a file for each node | the time that the node itself reports |
//! | full disk | a tmpfs for each node, and a ballast in it | writes that the node refused, or its end |
//! | failing sync, torn write | libfiu, and zeros over what was never synced | a stopped engine; bytes torn |
//! | flipped bit, lost disk | files of a killed node | what was changed |
//! | starvation | control groups, of version 1 or 2 | throttled periods; limits that were hit |
//! | members | `souk node --join`, `souk admin layout` | the layout that is in force in the end |
//! | kill, pause, restart | signals | `/proc`, exit status |
//!
//! Place: performs [`crate::fault`] on [`crate::process`]; used by [`crate::run`].
//! Source: Jepsen, `nemesis.clj`, `nemesis/combined.clj`, `nemesis/time.clj`.
//! Invariants: 1. what a run made on the machine is gone after it, also when it panics; what a crashed one left is removed
//! by the next one. 2. names of one run are no other run's. 3. every undoing says whether its blow bit, where that is not
//! certain.
//! Not here: simulated faults (`crate::sim`); which faults, and when (`crate::fault`).

mod ability;
mod clock;
mod disk;
mod failpoint;
mod filter;
mod ground;
mod hosts;
mod lag;
mod mark;
mod members;
mod narrow;
mod nemesis;
mod starve;
mod tool;
mod torn;

pub use ability::{Abilities, Lack, Need};
pub use ground::{Ground, HostsWanted};
pub use lag::lag;
pub use nemesis::RealNemesis;
