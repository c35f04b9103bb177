//! One long-lived stream to one node, shared by all requests that go there.
//!
//! Think of a ski lift: whoever waits when a chair passes rides on it. Requests queue up; whenever the
//! connection can take a frame, everything that waits leaves in it; answers come back in any order and
//! find their callers by id. No task is spawned and no timer set per request.
//!
//! Place: I/O; used by `crate::client`.
//! Shape: `state` pairs answers with callers, `outbound` turns the queue into frames, `link` keeps the
//! stream open.
//! Invariants: 1. every request ends exactly once: answered, lost after it was sent, or never sent.
//! 2. a request that its caller gave up before it left never leaves. 3. an answer to an id of an earlier
//! caller never reaches a later one.
//! Not here: retries (`crate::attempts`), the choice of the node (`crate::routing`).

mod link;
mod outbound;
mod state;

pub(crate) use link::{Link, LinkListener, LinkOptions};
pub(crate) use state::{Lost, Waiting};
