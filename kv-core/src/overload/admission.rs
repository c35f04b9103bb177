//! Counts the work that a node has taken on, and says no at the door when it is enough.
//!
//! A request that is refused at once costs next to nothing and can go elsewhere; one that waits in a queue until its
//! caller has given up costs as much as one that is answered.
//!
//! Place: pure; one per node, shared by everything that takes requests in.
//! Source: Google SRE book, ch. 21, "Handling Overload".
//! Invariants: 1. the work admitted and not finished stays within both bounds, but for one piece that is larger than a
//! bound by itself and comes when nothing else is there. 2. what was refused is not counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// How much one request weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Keys it touches.
    pub operations: u64,
    /// Bytes it brings along.
    pub bytes: u64,
}

/// The work in progress and its bounds.
#[derive(Debug)]
pub struct Admission {
    operations: Gauge,
    bytes: Gauge,
}

#[derive(Debug)]
struct Gauge {
    now: AtomicU64,
    most: u64,
}

impl Gauge {
    const fn new(most: u64) -> Gauge {
        Gauge {
            now: AtomicU64::new(0),
            most,
        }
    }

    fn take(&self, amount: u64) -> bool {
        let before = self.now.fetch_add(amount, Ordering::AcqRel);
        if before > 0 && before.saturating_add(amount) > self.most {
            self.give_back(amount);
            return false;
        }
        true
    }

    fn give_back(&self, amount: u64) {
        self.now.fetch_sub(amount, Ordering::AcqRel);
    }
}

/// Admitted work; dropping it makes room for other work.
#[derive(Debug)]
pub struct Ticket<'a> {
    admission: &'a Admission,
    work: Work,
}

impl Admission {
    /// Nothing admitted yet. `operations_max` and `bytes_max` are the most that may be in work at once.
    #[must_use]
    pub const fn new(operations_max: u64, bytes_max: u64) -> Admission {
        Admission {
            operations: Gauge::new(operations_max),
            bytes: Gauge::new(bytes_max),
        }
    }

    /// Admits a piece of work, or refuses it: then the caller is to come back later, or go elsewhere.
    pub fn admit(&self, work: Work) -> Option<Ticket<'_>> {
        if !self.operations.take(work.operations) {
            return None;
        }
        if !self.bytes.take(work.bytes) {
            self.operations.give_back(work.operations);
            return None;
        }
        Some(Ticket {
            admission: self,
            work,
        })
    }

    /// Operations and bytes in work now.
    #[must_use]
    pub fn in_work(&self) -> Work {
        Work {
            operations: self.operations.now.load(Ordering::Acquire),
            bytes: self.bytes.now.load(Ordering::Acquire),
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.admission.operations.give_back(self.work.operations);
        self.admission.bytes.give_back(self.work.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn work(operations: u64, bytes: u64) -> Work {
        Work { operations, bytes }
    }

    #[test]
    fn each_bound_refuses_by_itself_and_frees_again() {
        let admission = Admission::new(10, 1000);
        let many = admission.admit(work(8, 10)).expect("there is room");
        assert!(admission.admit(work(3, 10)).is_none(), "too many");
        let large = admission.admit(work(1, 900)).expect("there is room");
        assert!(admission.admit(work(1, 200)).is_none(), "too large");
        assert_eq!(
            admission.in_work(),
            work(9, 910),
            "refusals count for nothing"
        );
        drop((many, large));
        assert_eq!(admission.in_work(), work(0, 0));
        assert!(admission.admit(work(50, 5000)).is_some(), "it is alone");
    }

    proptest! {
        #[test]
        fn the_bounds_hold(pieces in prop::collection::vec((1..5u64, 0..400u64, any::<bool>()), 0..100)) {
            let admission = Admission::new(10, 1000);
            let mut held = Vec::new();
            for (operations, bytes, ends_one) in pieces {
                held.extend(admission.admit(work(operations, bytes)));
                if ends_one && !held.is_empty() {
                    held.remove(0);
                }
                let now = admission.in_work();
                prop_assert!(now.operations <= 10 && now.bytes <= 1000);
            }
            drop(held);
            prop_assert_eq!(admission.in_work(), work(0, 0));
        }
    }
}
