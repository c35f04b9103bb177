//! Names every write, so that a copy of it is recognised, and tells the store which names it may forget.
//!
//! Place: pure; identity is an argument; one per client process.
//! Shape: sequences 1, 2, 3, ...; `lowest_unanswered` is the lowest one that is still waited for.
//! Invariants: 1. no sequence is given twice. 2. the `lowest_unanswered` of a request never exceeds any
//! sequence that was waited for when it was named, its own included. 3. it never falls.
//! Not here: the memory of answers (`kv_core::register`, `kv_core::causality`).

use std::collections::VecDeque;

/// The name of one write, without the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sequence {
    pub(crate) number: u64,
    pub(crate) lowest_unanswered: u64,
}

/// Which sequences are waited for.
#[derive(Debug)]
pub(crate) struct RequestIds {
    /// The lowest sequence that is waited for, or the next one to give.
    lowest: u64,
    /// For `lowest + index`: true once its caller has its answer or has given up.
    settled: VecDeque<bool>,
}

impl RequestIds {
    pub(crate) fn new() -> RequestIds {
        RequestIds {
            lowest: 1,
            settled: VecDeque::new(),
        }
    }

    /// Names a new request, which is waited for from now on.
    pub(crate) fn give(&mut self) -> Sequence {
        let number = self.lowest + self.settled.len() as u64;
        self.settled.push_back(false);
        Sequence {
            number,
            lowest_unanswered: self.lowest,
        }
    }

    /// The request has its answer, or nobody waits for it any more and it will not be sent again.
    pub(crate) fn settle(&mut self, number: u64) {
        let index = number
            .checked_sub(self.lowest)
            .and_then(|index| usize::try_from(index).ok());
        if let Some(settled) = index.and_then(|index| self.settled.get_mut(index)) {
            *settled = true;
        }
        while self.settled.front() == Some(&true) {
            self.settled.pop_front();
            self.lowest += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_lowest_unanswered_is_the_smallest_open_sequence(
            steps in prop::collection::vec(prop::option::of(0..8usize), 0..200),
        ) {
            let mut ids = RequestIds::new();
            let mut open = BTreeSet::new();
            let mut given = 0;
            for step in steps {
                match step {
                    None => {
                        let sequence = ids.give();
                        given += 1;
                        prop_assert_eq!(sequence.number, given);
                        open.insert(sequence.number);
                        prop_assert_eq!(Some(&sequence.lowest_unanswered), open.first());
                    }
                    Some(index) => {
                        if let Some(number) = open.iter().nth(index).copied() {
                            open.remove(&number);
                            ids.settle(number);
                            ids.settle(number);
                        }
                    }
                }
            }
        }
    }
}
