//! How many bytes of hints a node still takes in.
//!
//! Place: pure; rebuilt at start by adding up what the hint space holds.
//! Invariants: 1. reserving never passes the cap. 2. what is refused changes nothing. 3. releasing gives back exactly
//! what was reserved, if the caller pairs them.
//! Not here: dropping hints to make room. A dropped hint is a lost copy of an acknowledged write.

/// Counts the bytes in the hint space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HintBudget {
    cap_bytes: u64,
    used_bytes: u64,
}

/// What: no room for a hint. Why: a node has been absent for long, or the cap is small.
/// Mend: bring the absent node back or remove it from the layout, or raise `hint_bytes_max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no room for a hint of {asked_bytes} bytes: {used_bytes} of {cap_bytes} are taken, \
     bring absent nodes back or raise hint_bytes_max"
)]
pub struct HintSpaceFull {
    /// What was asked for.
    pub asked_bytes: u64,
    /// What is taken.
    pub used_bytes: u64,
    /// The cap.
    pub cap_bytes: u64,
}

impl HintBudget {
    /// A cap, and what the hint space holds already; it may hold more than the cap, if the cap was lowered.
    #[must_use]
    pub const fn new(cap_bytes: u64, used_bytes: u64) -> HintBudget {
        HintBudget {
            cap_bytes,
            used_bytes,
        }
    }

    /// Takes room for a new hint of `bytes`, before it is stored.
    ///
    /// # Errors
    /// [`HintSpaceFull`]: refuse to be a fallback, so that the coordinator asks the next one.
    pub const fn reserve(&mut self, bytes: u64) -> Result<(), HintSpaceFull> {
        self.resize(0, bytes)
    }

    /// Changes the room of one hint from `old` to `new` bytes, as when a later record is merged into it.
    /// Shrinking always works, also above the cap.
    ///
    /// # Errors
    /// [`HintSpaceFull`]: the old hint stays as it is, and the new write is not taken.
    pub const fn resize(&mut self, old: u64, new: u64) -> Result<(), HintSpaceFull> {
        let after = self.used_bytes.saturating_sub(old).saturating_add(new);
        if new > old && after > self.cap_bytes {
            return Err(HintSpaceFull {
                asked_bytes: new - old,
                used_bytes: self.used_bytes,
                cap_bytes: self.cap_bytes,
            });
        }
        self.used_bytes = after;
        Ok(())
    }

    /// Gives back the room of a hint that was delivered, or not stored after all.
    pub const fn release(&mut self, bytes: u64) {
        self.used_bytes = self.used_bytes.saturating_sub(bytes);
    }

    /// The bytes taken.
    #[must_use]
    pub const fn used_bytes(&self) -> u64 {
        self.used_bytes
    }

    /// The cap.
    #[must_use]
    pub const fn cap_bytes(&self) -> u64 {
        self.cap_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Add(u64),
        Grow(usize, u64),
        Deliver(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (1..50u64).prop_map(Step::Add),
            2 => (any::<usize>(), 1..50u64).prop_map(|(which, size)| Step::Grow(which, size)),
            1 => any::<usize>().prop_map(Step::Deliver),
        ]
    }

    proptest! {
        #[test]
        fn counts_what_is_held_and_never_passes_the_cap(
            cap in 0..300u64,
            steps in prop::collection::vec(step(), 0..100),
        ) {
            let mut budget = HintBudget::new(cap, 0);
            let mut held: Vec<u64> = Vec::new();
            for step in steps {
                match step {
                    Step::Add(size) => match budget.reserve(size) {
                        Ok(()) => held.push(size),
                        Err(_) => prop_assert!(held.iter().sum::<u64>() + size > cap),
                    },
                    Step::Grow(which, size) if !held.is_empty() => {
                        let index = which % held.len();
                        let fits = held.iter().sum::<u64>() - held[index] + size <= cap;
                        prop_assert_eq!(budget.resize(held[index], size).is_ok(), fits);
                        if fits {
                            held[index] = size;
                        }
                    }
                    Step::Deliver(which) if !held.is_empty() => {
                        budget.release(held.swap_remove(which % held.len()));
                    }
                    Step::Grow(..) | Step::Deliver(_) => {}
                }
                prop_assert_eq!(budget.used_bytes(), held.iter().sum::<u64>());
                prop_assert!(budget.used_bytes() <= cap);
            }
        }
    }

    #[test]
    fn a_lowered_cap_refuses_growth_but_drops_nothing() {
        let mut budget = HintBudget::new(10, 50);
        assert!(budget.reserve(1).is_err());
        assert!(budget.resize(20, 21).is_err());
        assert!(budget.resize(20, 5).is_ok());
        assert_eq!(budget.used_bytes(), 35);
    }
}
