//! Hands a rate out in portions: who takes one may go into debt, and the next one waits until it is paid.
//!
//! Place: pure; shared by all background jobs of a node, which the driver lets in one after the other.
//! Source: the token bucket, as in ATM's generic cell rate algorithm (ITU-T I.371).
//! Invariants: 1. over any span, what is handed out is at most rate × span, one burst and one portion.
//! 2. a changed rate counts from now on. 3. a clock that steps back counts as standing still.

use std::time::Duration;

/// How long unused rate is saved up.
const SAVED: Duration = Duration::from_millis(100);
/// Credit is counted in thousandths of a unit.
const UNIT: i64 = 1000;

/// What may be done now.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    /// Units a second, from 1.
    rate: u32,
    /// In thousandths; below zero while a portion is being paid off.
    credit: i64,
    counted_to: Duration,
}

impl Allowance {
    /// Begins with nothing saved and nothing owed. A rate of 0 counts as 1.
    #[must_use]
    pub const fn new(rate: u32, now: Duration) -> Allowance {
        Allowance {
            rate: if rate == 0 { 1 } else { rate },
            credit: UNIT,
            counted_to: now,
        }
    }

    /// Changes the rate from `now` on. A rate of 0 counts as 1.
    pub fn set_rate(&mut self, rate: u32, now: Duration) {
        self.count(now);
        self.rate = rate.max(1);
    }

    /// Takes a portion of `cost` units if nothing is owed, else says when to ask again.
    ///
    /// # Errors
    /// How long it takes at this rate until nothing is owed; never zero.
    pub fn try_take(&mut self, cost: u32, now: Duration) -> Result<(), Duration> {
        self.count(now);
        if self.credit > 0 {
            self.credit -= i64::from(cost) * UNIT;
            return Ok(());
        }
        let owed = u64::try_from(1 - self.credit).unwrap_or(0);
        // Thousandths over units a second are milliseconds; rounded up to a microsecond.
        Err(Duration::from_micros(
            (owed * 1000).div_ceil(u64::from(self.rate)).max(1),
        ))
    }

    fn count(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.counted_to);
        let rate = i64::from(self.rate);
        let micros = i64::try_from(passed.as_micros()).unwrap_or(i64::MAX);
        let earned = rate.saturating_mul(micros) / 1000;
        let room = (rate * millis(SAVED)).max(UNIT) - self.credit;
        if earned >= room {
            self.credit += room;
            self.counted_to = self.counted_to.max(now);
            return;
        }
        self.credit += earned;
        // What was too little for a thousandth counts the next time.
        let used = u64::try_from(earned * 1000).unwrap_or(0);
        self.counted_to += Duration::from_micros(used.div_ceil(u64::from(self.rate)));
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Takes portions as fast as they are given until `end`; returns the units taken.
    fn take_until(allowance: &mut Allowance, cost: u32, mut now: Duration, end: Duration) -> u64 {
        let mut taken = 0;
        while now < end {
            match allowance.try_take(cost, now) {
                Ok(()) => taken += u64::from(cost),
                Err(wait) => now += wait,
            }
        }
        taken
    }

    #[test]
    fn a_debt_is_paid_before_the_next_portion() {
        let mut allowance = Allowance::new(100, Duration::ZERO);
        assert_eq!(allowance.try_take(50, Duration::ZERO), Ok(()));
        let wait = allowance
            .try_take(1, Duration::ZERO)
            .expect_err("49 units are owed");
        assert!(
            wait >= Duration::from_millis(490) && wait < Duration::from_millis(500),
            "{wait:?}"
        );
        assert_eq!(allowance.try_take(1, wait), Ok(()));
    }

    #[test]
    fn a_faster_rate_shortens_a_wait() {
        let mut allowance = Allowance::new(1, Duration::ZERO);
        assert_eq!(allowance.try_take(100, Duration::ZERO), Ok(()));
        allowance.set_rate(1000, Duration::ZERO);
        let soon = Duration::from_millis(100);
        assert_eq!(allowance.try_take(1, soon), Ok(()));
    }

    #[test]
    fn idleness_saves_up_little() {
        let mut allowance = Allowance::new(1000, Duration::ZERO);
        let late = Duration::from_secs(3600);
        let mut taken = 0;
        while allowance.try_take(1, late).is_ok() {
            taken += 1;
        }
        assert_eq!(taken, 100, "a tenth of a second's worth");
    }

    proptest! {
        #[test]
        fn nobody_gets_more_than_the_rate(rate in 1..5_000u32, cost in 1..300u32, seconds in 1..5u64) {
            let mut allowance = Allowance::new(rate, Duration::ZERO);
            let end = Duration::from_secs(seconds);
            let taken = take_until(&mut allowance, cost, Duration::ZERO, end);
            let burst = u64::from(rate) / 10 + 1;
            prop_assert!(taken <= u64::from(rate) * seconds + burst + u64::from(cost));
            // And nobody who waits as told gets much less.
            prop_assert!(taken + burst + u64::from(cost) >= u64::from(rate) * seconds * 99 / 100);
        }
    }
}
