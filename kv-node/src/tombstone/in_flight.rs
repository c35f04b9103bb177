//! Work of this node that holds records and may send them: puts, gets with their repairs, handoff, anti-entropy.
//!
//! Whoever reads a record in order to send it somewhere enters first, keeps its [`Work`] until its last message is
//! answered or given up, and writes the work's generation into every message that carries a record.
//!
//! Place: shared by everything that sends records; drained by `super::member`.
//! Source: `souk_kv_core::tombstone::WorkLedger`.
//! Invariants: 1. a `Work` is entered before anything is read. 2. what work starts holds a clone of its `Work`.

use std::sync::Arc;

use parking_lot::Mutex;
use souk_kv_core::tombstone::{Generation, WorkLedger};
use tokio::sync::Notify;

/// The ledger, shared.
#[derive(Debug)]
pub(crate) struct InFlight {
    ledger: Mutex<WorkLedger>,
    left: Notify,
}

/// A stretch of work. It has ended when this and all its clones are dropped.
#[derive(Debug)]
pub(crate) struct Work {
    in_flight: Arc<InFlight>,
    generation: Generation,
}

impl InFlight {
    pub(crate) fn new(first: Generation) -> Self {
        Self {
            ledger: Mutex::new(WorkLedger::new(first)),
            left: Notify::new(),
        }
    }

    /// Work begins.
    pub(crate) fn enter(self: &Arc<Self>) -> Work {
        Work {
            generation: self.ledger.lock().enter(),
            in_flight: Arc::clone(self),
        }
    }

    /// Work that begins from now on is of this generation, if it is later than the current one.
    pub(crate) fn begin(&self, next: Generation) {
        self.ledger.lock().begin(next);
    }

    /// Begins a later generation than the current one, `drawn` if that is later.
    pub(crate) fn begin_next(&self, drawn: Generation) -> Generation {
        let mut ledger = self.ledger.lock();
        let next = drawn.max(Generation(ledger.current().0 + 1));
        ledger.begin(next);
        next
    }

    /// Waits until all work of generations before this one, which has begun, has ended.
    pub(crate) async fn ended_before(&self, generation: Generation) {
        loop {
            let mut left = std::pin::pin!(self.left.notified());
            // Listening before looking: nobody can leave unseen in between.
            left.as_mut().enable();
            if self.ledger.lock().is_clear_below(generation) {
                return;
            }
            left.await;
        }
    }
}

impl Work {
    /// What to write into messages of this work.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.0
    }
}

impl Clone for Work {
    fn clone(&self) -> Self {
        self.in_flight.ledger.lock().enter_as(self.generation);
        Self {
            in_flight: Arc::clone(&self.in_flight),
            generation: self.generation,
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let may_be_awaited = {
            let mut ledger = self.in_flight.ledger.lock();
            ledger.leave(self.generation);
            self.generation < ledger.current()
        };
        // Nobody waits for work of the generation that goes on, and every request ends here.
        if may_be_awaited {
            self.in_flight.left.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn earlier_work_and_what_it_started_is_waited_for() {
        let in_flight = Arc::new(InFlight::new(Generation(1)));
        let ended = async |generation| {
            let wait = in_flight.ended_before(Generation(generation));
            timeout(Duration::from_millis(10), wait).await.is_ok()
        };
        let early = in_flight.enter();
        in_flight.begin(Generation(2));
        let late = in_flight.enter();
        assert_eq!((early.generation(), late.generation()), (1, 2));
        let started_by_early = early.clone();
        drop(early);
        assert!(!ended(2).await);
        drop(started_by_early);
        assert!(ended(2).await, "later work is not waited for");
        assert!(!ended(3).await);
    }

    #[tokio::test]
    async fn the_last_to_leave_wakes_the_waiting() {
        let in_flight = Arc::new(InFlight::new(Generation(1)));
        let work = in_flight.enter();
        in_flight.begin(Generation(2));
        let waiting = tokio::spawn({
            let in_flight = Arc::clone(&in_flight);
            async move { in_flight.ended_before(Generation(2)).await }
        });
        tokio::task::yield_now().await;
        drop(work);
        waiting.await.expect("it is woken");
    }
}
