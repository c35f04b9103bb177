//! Decides how much a node takes on, and how fast it may work for itself while others wait for it.
//!
//! The picture: a shop assistant who refills the shelves. When customers queue, the shelves wait; when the shop is
//! empty, the assistant refills at full speed; and even in a rush a shelf is filled now and then, because a shop with
//! empty shelves is closed.
//!
//! Place: pure; times are `Duration`s since any one start of the caller's monotonic clock. Driven by
//! `souk_kv_node::governor`, which measures the requests and makes the background jobs wait.
//! Source: Chiu and Jain, additive increase and multiplicative decrease (1989); Dynamo, SOSP 2007, §6.5 (background
//! tasks get time slices by the latency of foreground operations).
//! Shape: [`LatencyCounts`] says how long requests took, [`Governor`] turns that into a rate, [`Allowance`] hands the
//! rate out in portions; [`Admission`] bounds what is in work at once.
//! Invariants: 1. the rate stays within its bounds; the lower one is above zero, so nothing starves for ever.
//! 2. one burst of slow requests lowers the rate once.
//! Not here: how much may wait in a queue, which each queue bounds by itself.

mod admission;
mod allowance;
mod governor;
mod histogram;

pub use admission::{Admission, Ticket, Work};
pub use allowance::Allowance;
pub use governor::{Governor, GovernorOptions, GovernorOptionsError};
pub use histogram::{LatencyBucket, LatencyCounts};
