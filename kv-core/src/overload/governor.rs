//! Turns the latency of requests into a rate for background work.
//!
//! Place: pure; one per node. The driver hands over what it counted since the last step, several times a second.
//! Shape: the rate is in units a second; what a unit is, the jobs agree on (one record read, written or sent).
//! Invariants: 1. the rate stays within its bounds. 2. what was measured before the rate was lowered says nothing about
//! the new rate, and is forgotten. 3. few requests prove nothing: it takes several slow ones.

use std::{collections::VecDeque, time::Duration};

use super::LatencyCounts;

/// Steps that a judgement looks back on.
const WINDOW_STEPS: usize = 10;
/// Fewer slow requests than this are chance.
const SLOW_LEAST: u64 = 3;
/// The rate grows by its sixteenth a step, and at least by its lower bound.
const GROWTH_DIVISOR: u32 = 16;

/// What the governor aims at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GovernorOptions {
    /// 99 of 100 requests shall be answered within this.
    pub p99_target: Duration,
    /// Units a second that background work always gets, from 1.
    pub rate_least: u32,
    /// Units a second while nobody waits; not below the least.
    pub rate_most: u32,
}

impl Default for GovernorOptions {
    fn default() -> GovernorOptions {
        GovernorOptions {
            p99_target: Duration::from_millis(25),
            rate_least: 50,
            rate_most: 50_000,
        }
    }
}

/// What: bounds that leave no rate. Mend: 1 ≤ least ≤ most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "background rates from {least} to {most}: choose at least 1, and the upper not below the lower"
)]
pub struct GovernorOptionsError {
    /// The given lower bound.
    pub least: u32,
    /// The given upper bound.
    pub most: u32,
}

/// The rate of background work, and why it is what it is.
#[derive(Clone, Debug)]
pub struct Governor {
    options: GovernorOptions,
    rate: u32,
    window: VecDeque<LatencyCounts>,
}

impl Governor {
    /// Starts at full speed: nobody waits yet.
    ///
    /// # Errors
    /// [`GovernorOptionsError`] when the bounds leave no rate.
    pub fn new(options: GovernorOptions) -> Result<Governor, GovernorOptionsError> {
        let (least, most) = (options.rate_least, options.rate_most);
        if least == 0 || most < least {
            return Err(GovernorOptionsError { least, most });
        }
        Ok(Governor {
            options,
            rate: most,
            window: VecDeque::with_capacity(WINDOW_STEPS),
        })
    }

    /// Takes in what was answered since the last step; true when the rate was lowered.
    pub fn step(&mut self, answered: LatencyCounts) -> bool {
        if self.window.len() == WINDOW_STEPS {
            self.window.pop_front();
        }
        self.window.push_back(answered);
        let seen = self.seen();
        let slow = seen.above(self.options.p99_target);
        if slow >= SLOW_LEAST && slow * 100 > seen.total() {
            self.rate = (self.rate / 2).max(self.options.rate_least);
            self.window.clear();
            return true;
        }
        let growth = (self.rate / GROWTH_DIVISOR).max(self.options.rate_least);
        self.rate = self.rate.saturating_add(growth).min(self.options.rate_most);
        false
    }

    /// Units a second.
    #[must_use]
    pub const fn rate(&self) -> u32 {
        self.rate
    }

    /// What 99 of 100 requests did not exceed lately; `None` without requests.
    #[must_use]
    pub fn p99(&self) -> Option<Duration> {
        self.seen().percentile(99)
    }

    fn seen(&self) -> LatencyCounts {
        let mut seen = LatencyCounts::default();
        for step in &self.window {
            seen.add(step);
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn governor() -> Governor {
        Governor::new(GovernorOptions::default()).expect("the defaults are lawful")
    }

    fn answers(count: u32, millis: u64) -> LatencyCounts {
        let mut counts = LatencyCounts::default();
        for _ in 0..count {
            counts.record(Duration::from_millis(millis));
        }
        counts
    }

    #[test]
    fn yields_while_requests_are_slow_and_comes_back() {
        let mut governor = governor();
        let (least, most) = (50, 50_000);
        for _ in 0..10 {
            assert!(governor.step(answers(20, 100)));
        }
        assert_eq!(governor.rate(), least);
        for _ in 0..200 {
            assert!(!governor.step(answers(20, 2)));
        }
        assert_eq!(governor.rate(), most);
    }

    #[test]
    fn one_burst_lowers_the_rate_once() {
        let mut governor = governor();
        assert!(governor.step(answers(50, 100)));
        for _ in 0..WINDOW_STEPS {
            assert!(!governor.step(answers(50, 2)));
        }
        assert!(governor.rate() > 25_000);
    }

    #[test]
    fn one_in_a_hundred_may_be_slow_and_a_few_are_chance() {
        let mut governor = governor();
        let mut mixed = answers(990, 2);
        mixed.add(&answers(9, 100));
        assert!(!governor.step(mixed));
        let mut governor = self::governor();
        assert!(!governor.step(answers(2, 100)));
        assert!(governor.step(answers(1, 100)), "the third is no chance");
    }

    #[test]
    fn slow_ones_add_up_over_the_window_but_not_beyond() {
        let mut governor = governor();
        for _ in 0..2 {
            assert!(!governor.step(answers(1, 100)));
        }
        for _ in 0..WINDOW_STEPS - 2 {
            assert!(!governor.step(LatencyCounts::default()));
        }
        assert!(!governor.step(answers(1, 100)), "the first is forgotten");
        assert_eq!(
            governor.p99().map(|p99| p99 > Duration::from_millis(90)),
            Some(true)
        );
    }

    #[test]
    fn impossible_bounds_are_refused() {
        for (least, most) in [(0, 5), (3, 2)] {
            let options = GovernorOptions {
                rate_least: least,
                rate_most: most,
                ..GovernorOptions::default()
            };
            let error = Governor::new(options).expect_err("no rate is left");
            assert_eq!(error, GovernorOptionsError { least, most });
        }
    }

    proptest! {
        #[test]
        fn the_rate_stays_within_its_bounds(
            least in 1..100u32, more in 0..10_000u32,
            steps in prop::collection::vec((0..40u32, 0..200u64), 0..200),
        ) {
            let options = GovernorOptions {
                rate_least: least,
                rate_most: least + more,
                ..GovernorOptions::default()
            };
            let mut governor = Governor::new(options).expect("lawful bounds");
            for (count, millis) in steps {
                governor.step(answers(count, millis));
                prop_assert!((least..=least + more).contains(&governor.rate()));
            }
        }
    }
}
