//! Which work began before a moment, and whether all of it has ended.
//!
//! The picture: visitors of a museum get a sticker in today's colour. At closing the colour changes; the rooms are
//! free when nobody with an old sticker is inside, whoever came in since.
//!
//! Place: pure; one ledger for the work that sends records, one for the records that arrive.
//! Source: McKenney, Read-Copy-Update (2004), grace periods.
//! Invariants: 1. work belongs to the generation in which it began, however long it lasts, and what it starts belongs
//! to the same one. 2. generations only grow, over restarts of the node as well (the driver draws them from a lease).

use smallvec::SmallVec;

/// A stretch of a node's life between two closings. Greater is later; 0 is before all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

/// Work that has begun and not ended.
#[derive(Clone, Debug)]
pub struct WorkLedger {
    current: Generation,
    /// Running work per generation, the oldest first; none is zero.
    running: SmallVec<[(Generation, u64); 2]>,
}

impl WorkLedger {
    /// A ledger without work.
    #[must_use]
    pub fn new(first: Generation) -> WorkLedger {
        WorkLedger {
            current: first,
            running: SmallVec::new(),
        }
    }

    /// The generation of work that begins now.
    #[must_use]
    pub const fn current(&self) -> Generation {
        self.current
    }

    /// Work begins. It must have read nothing before.
    pub fn enter(&mut self) -> Generation {
        self.enter_as(self.current);
        self.current
    }

    /// Running work of that generation starts more of it.
    pub fn enter_as(&mut self, generation: Generation) {
        match self
            .running
            .binary_search_by_key(&generation, |&(held, _)| held)
        {
            Ok(index) => self.running[index].1 += 1,
            Err(index) => self.running.insert(index, (generation, 1)),
        }
    }

    /// Work of that generation has ended, its last message sent.
    pub fn leave(&mut self, generation: Generation) {
        let Ok(index) = self
            .running
            .binary_search_by_key(&generation, |&(held, _)| held)
        else {
            debug_assert!(false, "work of {generation:?} ended and had not begun");
            return;
        };
        self.running[index].1 -= 1;
        if self.running[index].1 == 0 {
            self.running.remove(index);
        }
    }

    /// Begins a new generation. One that is not later changes nothing.
    pub fn begin(&mut self, next: Generation) {
        self.current = self.current.max(next);
    }

    /// True when all work of earlier generations has ended.
    #[must_use]
    pub fn is_clear_below(&self, generation: Generation) -> bool {
        self.running
            .first()
            .is_none_or(|&(oldest, _)| oldest >= generation)
    }

    /// How much work is running, of all generations.
    #[must_use]
    pub fn running_count(&self) -> u64 {
        self.running.iter().map(|&(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_earlier_work_is_waited_for() {
        let mut ledger = WorkLedger::new(Generation(5));
        let early = ledger.enter();
        ledger.begin(Generation(6));
        assert!(!ledger.is_clear_below(Generation(6)));
        let late = ledger.enter();
        assert_eq!((early, late), (Generation(5), Generation(6)));
        // What early work starts late is still early.
        ledger.enter_as(early);
        ledger.leave(early);
        assert!(!ledger.is_clear_below(Generation(6)));
        ledger.leave(early);
        assert!(ledger.is_clear_below(Generation(6)));
        assert!(!ledger.is_clear_below(Generation(7)));
        ledger.leave(late);
        assert_eq!(ledger.running_count(), 0);
    }

    #[test]
    fn generations_never_step_back() {
        let mut ledger = WorkLedger::new(Generation(5));
        ledger.begin(Generation(3));
        assert_eq!(ledger.current(), Generation(5));
    }
}
