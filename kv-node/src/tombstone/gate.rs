//! The door for records that peers send: refuses those of work that its sender has declared over.
//!
//! Place: asked by `crate::answer` for every message that carries a record to store.
//! Source: `souk_kv_core::tombstone::Fences`.
//! Invariants: when a fence is confirmed, every record that it keeps out was refused or is on the disk.

use std::sync::Arc;

use metrics::counter;
use parking_lot::Mutex;
use souk_kv_core::tombstone::{Fences, Generation};
use souk_ring::NodeId;

use super::{InFlight, Work};
use crate::error::RequestError;

/// Fences, and the records that are past them and not stored yet.
#[derive(Debug)]
pub(crate) struct Gate {
    fences: Mutex<Fences>,
    arrivals: Arc<InFlight>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self {
            fences: Mutex::new(Fences::default()),
            arrivals: Arc::new(InFlight::new(Generation(1))),
        }
    }

    /// Lets a record in; keep what is returned until it is stored.
    pub(crate) fn admit(&self, from: NodeId, generation: u64) -> Result<Work, RequestError> {
        // First in, then asked: a fence that rises in between waits for this one.
        let arrival = self.arrivals.enter();
        if self.fences.lock().admits(from, Generation(generation)) {
            return Ok(arrival);
        }
        counter!("souk_late_records_refused_total").increment(1);
        Err(RequestError::NotReady(
            "the record was sent before its sender declared such work over: read the key again"
                .to_owned(),
        ))
    }

    /// Keeps out what a peer began before that generation, and waits until what got in before is stored.
    pub(crate) async fn fence(&self, from: NodeId, generation: u64) {
        self.fences.lock().raise(from, Generation(generation));
        let next = self.arrivals.begin_next(Generation(0));
        self.arrivals.ended_before(next).await;
    }

    /// The lowest generation of a peer that is still let in; for the greeting.
    pub(crate) fn lowest_of(&self, peer: NodeId) -> u64 {
        self.fences.lock().lowest_of(peer).0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_fence_waits_for_what_it_let_in_and_refuses_the_rest() {
        let gate = Gate::new();
        let (one, other) = (NodeId(1), NodeId(2));
        let arrival = gate.admit(one, 0).expect("no fence yet");
        let fenced = timeout(Duration::from_millis(10), gate.fence(one, 5)).await;
        assert!(fenced.is_err(), "it is not stored yet");
        assert!(gate.admit(one, 4).is_err());
        assert!(gate.admit(one, 5).is_ok());
        assert!(gate.admit(other, 0).is_ok());
        drop(arrival);
        gate.fence(one, 5).await;
        assert_eq!((gate.lowest_of(one), gate.lowest_of(other)), (5, 0));
    }
}
