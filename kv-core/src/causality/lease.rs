//! Counters that never repeat, at the price of one durable write per block instead of one per counter.
//!
//! The picture: a book of numbered tickets. The store writes down the last number of the book before the first
//! ticket is torn off; after a crash the rest of that book is thrown away.
//!
//! Place: pure; the driver makes each lease durable and says so.
//! Invariants: 1. no counter is given twice. 2. no counter above the durable lease is given.
//! Not here: deciding on a new actor after a loss (`souk_kv_node`), though [`CounterLease::was_issued`] is its evidence.

use std::num::NonZeroU32;

/// How many counters one durable lease covers unless configured otherwise.
pub const COUNTER_BLOCK_DEFAULT: NonZeroU32 = NonZeroU32::new(4096).expect("4096 is not zero");

/// The counters of one actor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterLease {
    next: u64,
    upto: u64,
    block: u32,
}

/// What: the leased counters are used up.
/// Mend: store a lease up to `upto` durably, call [`CounterLease::extend`], and ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the counter lease is used up: store a lease up to {upto} before the next write")]
pub struct NeedLease {
    /// The last counter of the lease to store.
    pub upto: u64,
}

impl CounterLease {
    /// The counters of a new actor: nothing leased yet, the first counter is 1.
    #[must_use]
    pub const fn new(block: NonZeroU32) -> CounterLease {
        CounterLease {
            next: 1,
            upto: 0,
            block: block.get(),
        }
    }

    /// After a stop that durably stored the next unused counter.
    #[must_use]
    pub fn after_clean_stop(next: u64, upto: u64, block: NonZeroU32) -> CounterLease {
        CounterLease {
            next: next.max(1),
            upto,
            block: block.get(),
        }
    }

    /// After a crash: anything up to the end of the lease may have been given, so all of it is skipped.
    #[must_use]
    pub const fn after_unclean_stop(upto: u64, block: NonZeroU32) -> CounterLease {
        CounterLease {
            next: upto + 1,
            upto,
            block: block.get(),
        }
    }

    /// The next counter.
    ///
    /// # Errors
    /// [`NeedLease`] when the durable lease ends before it.
    pub fn issue(&mut self) -> Result<u64, NeedLease> {
        if self.next > self.upto {
            return Err(NeedLease {
                upto: self.wanted(),
            });
        }
        let counter = self.next;
        self.next += 1;
        Ok(counter)
    }

    /// Tells that a lease up to `upto` is durable. An older one arriving late changes nothing.
    pub fn extend(&mut self, upto: u64) {
        self.upto = self.upto.max(upto);
    }

    /// The lease to store next, if it is time: less than half a block is left. Asking early hides the sync.
    #[must_use]
    pub fn early_renewal(&self) -> Option<NeedLease> {
        let left = (self.upto + 1).saturating_sub(self.next);
        (left < u64::from(self.block).div_ceil(2)).then(|| NeedLease {
            upto: self.wanted(),
        })
    }

    /// The next unused counter, to be stored at a clean stop.
    #[must_use]
    pub const fn peek(&self) -> u64 {
        self.next
    }

    /// The end of the durable lease.
    #[must_use]
    pub const fn upto(&self) -> u64 {
        self.upto
    }

    /// Whether a counter of this actor, met in somebody's record, can be one that was given or skipped here.
    /// A `false` proves that this store was rolled back: it needs a new identity and new actors.
    #[must_use]
    pub const fn was_issued(&self, counter: u64) -> bool {
        counter < self.next
    }

    fn wanted(&self) -> u64 {
        self.upto.max(self.next - 1) + u64::from(self.block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[derive(Clone, Debug)]
    enum Step {
        Take(u8),
        CleanStop,
        Crash,
        CrashAfterLeasing,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (1..20u8).prop_map(Step::Take),
            1 => Just(Step::CleanStop),
            1 => Just(Step::Crash),
            1 => Just(Step::CrashAfterLeasing),
        ]
    }

    proptest! {
        #[test]
        fn never_repeats_over_stops_and_crashes(
            block in 1..9u32,
            steps in prop::collection::vec(step(), 1..60),
        ) {
            let block = NonZeroU32::new(block).expect("from 1");
            let mut lease = CounterLease::new(block);
            let mut durable_upto = 0;
            let mut seen = BTreeSet::new();
            for step in steps {
                match step {
                    Step::Take(times) => for _ in 0..times {
                        let counter = match lease.issue() {
                            Ok(counter) => counter,
                            Err(need) => {
                                durable_upto = need.upto;
                                lease.extend(need.upto);
                                lease.issue().expect("just extended")
                            }
                        };
                        prop_assert!(counter >= 1 && counter <= durable_upto);
                        prop_assert!(seen.insert(counter), "{counter} given twice");
                        prop_assert!(lease.was_issued(counter) && !lease.was_issued(counter + 1));
                    },
                    Step::CleanStop => {
                        lease = CounterLease::after_clean_stop(lease.peek(), durable_upto, block);
                    }
                    Step::Crash => lease = CounterLease::after_unclean_stop(durable_upto, block),
                    Step::CrashAfterLeasing => {
                        if let Some(need) = lease.early_renewal() {
                            durable_upto = need.upto;
                        }
                        lease = CounterLease::after_unclean_stop(durable_upto, block);
                    }
                }
            }
        }
    }

    #[test]
    fn a_clean_stop_wastes_nothing_and_a_crash_wastes_the_block() {
        let block = NonZeroU32::new(10).expect("10 is not zero");
        let mut lease = CounterLease::new(block);
        assert_eq!(lease.issue(), Err(NeedLease { upto: 10 }));
        lease.extend(10);
        assert_eq!(lease.issue(), Ok(1));
        assert_eq!(
            CounterLease::after_clean_stop(lease.peek(), 10, block).issue(),
            Ok(2)
        );
        assert_eq!(
            CounterLease::after_unclean_stop(10, block).issue(),
            Err(NeedLease { upto: 20 })
        );
    }

    #[test]
    fn renewal_is_asked_for_below_half_a_block() {
        let mut lease = CounterLease::new(NonZeroU32::new(10).expect("10 is not zero"));
        lease.extend(10);
        for _ in 0..5 {
            assert_eq!(lease.early_renewal(), None);
            lease.issue().unwrap();
        }
        assert_eq!(lease.early_renewal(), None);
        lease.issue().unwrap();
        assert_eq!(lease.early_renewal(), Some(NeedLease { upto: 20 }));
    }
}
