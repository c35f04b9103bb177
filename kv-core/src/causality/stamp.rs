//! A hybrid logical clock: wall time where possible, a count where wall time stands still or steps back.
//!
//! Place: pure; orders the values of `lww` buckets, and dates siblings for people.
//! Source: Kulkarni et al., Logical Physical Clocks and Consistent Snapshots (2014), §3.
//! Shape: 64 bits, milliseconds since 1970 in the upper 48, a count in the lower 16; lasts until the year 10889.
//! Invariants: 1. [`Stamp::next`] is greater than its floor. 2. it is not behind the given clock.
//! Not here: reading a clock; leasing it durably ahead (`souk_kv_node`).

use std::fmt;
use std::time::Duration;

const LOGICAL_BITS: u32 = 16;
const UNIX_MS_MAX: u64 = (1 << 48) - 1;

/// When a write happened, in an order that never contradicts what it had seen.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stamp(u64);

/// What: a stamp lies further ahead of this node's clock than the cluster allows.
/// Why: the clock of the node that made it, or of this one, is wrong.
/// Mend: check time synchronisation on both nodes, or raise `clock_skew_max_ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "stamp {stamp} is {ahead_ms} ms ahead of this node's clock, and clock_skew_max_ms is {allowed_ms}: \
     synchronise the clocks of the nodes"
)]
pub struct StampAhead {
    /// The refused stamp.
    pub stamp: Stamp,
    /// How far it is ahead, in milliseconds.
    pub ahead_ms: u64,
    /// The bound it broke, in milliseconds.
    pub allowed_ms: u64,
}

impl Stamp {
    /// Before every stamp that [`Stamp::next`] gives.
    pub const ZERO: Stamp = Stamp(0);

    /// The smallest stamp at or after `now_ms` (milliseconds since 1970) and after `floor`.
    ///
    /// Pass as floor the newest stamp of everything that the write has seen. When more than 65,535 stamps
    /// fall into one millisecond the count runs into the milliseconds, which keeps the order.
    #[must_use]
    pub fn next(now_ms: u64, floor: Option<Stamp>) -> Stamp {
        let wall = Stamp(now_ms.min(UNIX_MS_MAX) << LOGICAL_BITS);
        match floor {
            Some(Stamp(seen)) => wall.max(Stamp(seen.saturating_add(1))),
            None => wall,
        }
    }

    /// The wall-clock part, in milliseconds since 1970.
    #[must_use]
    pub const fn unix_ms(self) -> u64 {
        self.0 >> LOGICAL_BITS
    }

    /// The count within the millisecond.
    #[must_use]
    pub const fn logical(self) -> u16 {
        (self.0 & 0xffff) as u16
    }

    /// The 64 bits as stored and sent; greater bits are later.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The reverse of [`Stamp::to_bits`]; every value is a stamp, but see [`Stamp::check_skew`].
    #[must_use]
    pub const fn from_bits(bits: u64) -> Stamp {
        Stamp(bits)
    }

    /// Accepts the stamp if it is at most `skew_max` ahead of `now_ms`.
    ///
    /// # Errors
    /// [`StampAhead`]: taking it would let one wrong clock drag every later stamp into the future.
    pub fn check_skew(self, now_ms: u64, skew_max: Duration) -> Result<Stamp, StampAhead> {
        let allowed_ms = u64::try_from(skew_max.as_millis()).unwrap_or(u64::MAX);
        let ahead_ms = self.unix_ms().saturating_sub(now_ms);
        if ahead_ms <= allowed_ms {
            Ok(self)
        } else {
            Err(StampAhead {
                stamp: self,
                ahead_ms,
                allowed_ms,
            })
        }
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.unix_ms(), self.logical())
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn next_passes_its_floor_and_its_clock(now_ms in 0..1u64 << 40, floor in 0..1u64 << 56) {
            let floor = Stamp::from_bits(floor);
            let next = Stamp::next(now_ms, Some(floor));
            prop_assert!(next > floor);
            prop_assert!(next.unix_ms() >= now_ms);
            // No further ahead than either reason for it.
            prop_assert!(next <= Stamp::next(now_ms, None).max(Stamp(floor.0 + 1)));
        }
    }

    #[test]
    fn a_standing_clock_counts() {
        let first = Stamp::next(5, None);
        let second = Stamp::next(5, Some(first));
        let stepped_back = Stamp::next(3, Some(second));
        assert_eq!((second.unix_ms(), second.logical()), (5, 1));
        assert_eq!((stepped_back.unix_ms(), stepped_back.logical()), (5, 2));
    }

    #[test]
    fn skew_is_refused_just_above_the_bound() {
        let stamp = Stamp::next(1_500, None);
        let bound = Duration::from_millis(500);
        assert_eq!(stamp.check_skew(1_000, bound), Ok(stamp));
        let refused = stamp.check_skew(999, bound).unwrap_err();
        assert_eq!((refused.ahead_ms, refused.allowed_ms), (501, 500));
        assert_eq!(stamp.check_skew(9_000, bound), Ok(stamp));
    }
}
