//! How many hints may be on their way to one node at once: grows slowly, halves on trouble.
//!
//! The node that comes back has cold caches and every neighbour's parcels waiting; full speed would knock it over again.
//!
//! Place: pure; one per target, asked by the handoff job before each send.
//! Source: Chiu and Jain, additive increase and multiplicative decrease (1989), as TCP uses it.
//! Invariants: 1. the limit stays within its bounds. 2. one burst of timeouts halves once, not once per timeout:
//! what was sent before the halving says nothing about the new pace.

/// Within which bounds the pace may move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacerBounds {
    /// The slowest pace, from 1, so that delivery never stops by itself.
    pub least: u32,
    /// The fastest pace.
    pub most: u32,
}

/// What: bounds that leave no pace. Mend: 1 ≤ least ≤ most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "handoff concurrency from {least} to {most}: choose at least 1, and the upper not below the lower"
)]
pub struct PacerBoundsError {
    /// The given lower bound.
    pub least: u32,
    /// The given upper bound.
    pub most: u32,
}

impl Default for PacerBounds {
    fn default() -> PacerBounds {
        PacerBounds { least: 1, most: 32 }
    }
}

/// The pace of one handoff.
#[derive(Clone, Copy, Debug)]
pub struct HandoffPacer {
    bounds: PacerBounds,
    limit: u32,
    in_flight: u32,
    /// Deliveries since the limit last moved; a full round of them raises it by one.
    delivered: u32,
    /// How many of those in flight were sent before the last halving.
    forgiven: u32,
}

impl HandoffPacer {
    /// Starts at the slowest pace.
    ///
    /// # Errors
    /// [`PacerBoundsError`] when the bounds leave no pace.
    pub const fn new(bounds: PacerBounds) -> Result<HandoffPacer, PacerBoundsError> {
        let PacerBounds { least, most } = bounds;
        if least == 0 || most < least {
            return Err(PacerBoundsError { least, most });
        }
        Ok(HandoffPacer {
            bounds,
            limit: least,
            in_flight: 0,
            delivered: 0,
            forgiven: 0,
        })
    }

    /// Counts one send in, if the pace allows another now.
    #[must_use]
    pub const fn try_send(&mut self) -> bool {
        if self.in_flight >= self.limit {
            return false;
        }
        self.in_flight += 1;
        true
    }

    /// One send was confirmed.
    pub fn on_delivered(&mut self) {
        self.land();
        self.delivered += 1;
        if self.delivered >= self.limit {
            self.delivered = 0;
            self.limit = (self.limit + 1).min(self.bounds.most);
        }
    }

    /// One send timed out, or was refused for overload.
    pub fn on_timeout(&mut self) {
        if !self.land() {
            self.delivered = 0;
            self.limit = (self.limit / 2).max(self.bounds.least);
            self.forgiven = self.in_flight;
        }
    }

    /// How many may be on their way at once.
    #[must_use]
    pub const fn limit(&self) -> u32 {
        self.limit
    }

    /// How many are on their way.
    #[must_use]
    pub const fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Counts one send out; true when it was (taken to be) sent before the last halving.
    const fn land(&mut self) -> bool {
        self.in_flight = self.in_flight.saturating_sub(1);
        let forgiven = self.forgiven > 0;
        self.forgiven = self.forgiven.saturating_sub(1);
        forgiven
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pacer(least: u32, most: u32) -> HandoffPacer {
        HandoffPacer::new(PacerBounds { least, most }).expect("lawful bounds")
    }

    /// Sends as many as the pace allows, then has all of them confirmed.
    fn good_round(pacer: &mut HandoffPacer) {
        while pacer.try_send() {}
        for _ in 0..pacer.in_flight() {
            pacer.on_delivered();
        }
    }

    proptest! {
        #[test]
        fn stays_within_bounds_under_any_fortune(
            least in 1..4u32, more in 0..20u32,
            fortunes in prop::collection::vec(0..3u8, 0..300),
        ) {
            let mut pacer = pacer(least, least + more);
            for fortune in fortunes {
                match fortune {
                    0 => while pacer.try_send() {},
                    1 if pacer.in_flight() > 0 => pacer.on_delivered(),
                    _ if pacer.in_flight() > 0 => pacer.on_timeout(),
                    _ => {}
                }
                prop_assert!((least..=least + more).contains(&pacer.limit()));
                prop_assert!(pacer.in_flight() <= least + more);
            }
        }
    }

    #[test]
    fn grows_by_one_a_round_and_halves_once_a_burst() {
        let mut pacer = pacer(1, 32);
        for round in 1..=15 {
            assert_eq!(pacer.limit(), round);
            good_round(&mut pacer);
        }
        while pacer.try_send() {}
        assert_eq!(pacer.in_flight(), 16);
        for _ in 0..16 {
            pacer.on_timeout();
        }
        assert_eq!((pacer.limit(), pacer.in_flight()), (8, 0));
        while pacer.try_send() {}
        pacer.on_timeout();
        assert_eq!(pacer.limit(), 4, "a new burst halves again");
    }

    #[test]
    fn impossible_bounds_are_refused() {
        for (least, most) in [(0, 5), (3, 2)] {
            let error = HandoffPacer::new(PacerBounds { least, most }).unwrap_err();
            assert_eq!(error, PacerBoundsError { least, most });
        }
    }
}
