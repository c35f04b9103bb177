//! What happened: every request and every answer, in one order, in Jepsen's form.
//!
//! A history is the only thing that checkers see. It is written by the clients themselves, never by the
//! store: a line before a request leaves, and a line once its answer is in, or once hope is given up.
//!
//! ```text
//! {"process":0,"type":"invoke","f":"read","value":["k1",null],"time":1200,"index":0}
//! {"process":0,"type":"ok","f":"read","value":["k1",7],"time":3400,"index":1}
//! ```
//!
//! Place: the ground on which workloads record and checkers judge; knows neither.
//! Source: Jepsen, `jepsen.history` (invoke, ok, fail, info; a process ends with its first info).
//! Invariants: 1. an operation takes effect, if ever, after its invoke, and an ok or failed one before its
//! completion. 2. `fail` means that it never took effect; anything in doubt is `info`. 3. a process has one
//! request in flight, and none after an info.
//! Not here: what operations mean (`crate::checker`), who runs them (`crate::workload`).

mod any;
mod clock;
mod edn;
mod edn_read;
mod event;
mod lines;
mod operation;
mod recorder;
mod tape;

pub use any::{ReadError, read_any};
pub use clock::{Clock, MonotonicClock};
pub use edn::write_edn;
pub use edn_read::{EdnError, read_edn};
pub use event::{CONDITION_FAILED, Event, EventKind, Process};
pub use lines::{LineError, read_lines, write_lines};
pub use operation::{End, Operation};
pub use recorder::{Lane, Pending, Recorder};
pub use tape::{History, HistoryError};

#[cfg(test)]
#[path = "history_test.rs"]
mod tests;
