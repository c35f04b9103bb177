//! The five counts of a stock, and the movements between them.
//!
//! Place: pure; used by `crate::plan` and `crate::ledger`.
//! Invariants: 1. no count falls below zero; on hand and in transit stay within [`UNITS_MAX`]. 2. adding up a stock's movements from zero gives its counts.
//! Not here: which command causes which movement (`crate::plan`).

use serde::{Deserialize, Serialize};

/// Most units that a stock may have on hand, and in transit. Small enough that a JSON reader with doubles keeps it exact.
pub const UNITS_MAX: u64 = 1_000_000_000_000;

/// Where a unit is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compartment {
    /// On hand and free to be reserved.
    Available,
    /// On hand, held by reservations that are not confirmed.
    Reserved,
    /// On hand, bound to orders.
    Allocated,
    /// On hand and not for sale: damaged, or returned and waiting for inspection.
    Damaged,
    /// Sent to another centre whose receipt is not known yet; not on hand.
    InTransit,
}

impl Compartment {
    /// All of them, in the order in which movements are stored.
    pub const ALL: [Self; 5] = [
        Self::Available,
        Self::Reserved,
        Self::Allocated,
        Self::Damaged,
        Self::InTransit,
    ];

    fn index(self) -> usize {
        match self {
            Self::Available => 0,
            Self::Reserved => 1,
            Self::Allocated => 2,
            Self::Damaged => 3,
            Self::InTransit => 4,
        }
    }
}

/// The counts of one stock, in units.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StockCounts {
    /// See [`Compartment::Available`].
    pub available: u64,
    /// See [`Compartment::Reserved`].
    pub reserved: u64,
    /// See [`Compartment::Allocated`].
    pub allocated: u64,
    /// See [`Compartment::Damaged`].
    pub damaged: u64,
    /// See [`Compartment::InTransit`].
    pub in_transit: u64,
}

impl StockCounts {
    /// Units that lie in the centre: everything but [`Compartment::InTransit`].
    pub fn on_hand(&self) -> u64 {
        self.available + self.reserved + self.allocated + self.damaged
    }

    /// Both together, compartment by compartment.
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            available: self.available.saturating_add(other.available),
            reserved: self.reserved.saturating_add(other.reserved),
            allocated: self.allocated.saturating_add(other.allocated),
            damaged: self.damaged.saturating_add(other.damaged),
            in_transit: self.in_transit.saturating_add(other.in_transit),
        }
    }

    /// The units of one compartment.
    pub fn get(&self, compartment: Compartment) -> u64 {
        match compartment {
            Compartment::Available => self.available,
            Compartment::Reserved => self.reserved,
            Compartment::Allocated => self.allocated,
            Compartment::Damaged => self.damaged,
            Compartment::InTransit => self.in_transit,
        }
    }

    /// The counts after a movement.
    ///
    /// # Errors
    /// [`MovementError`] when a compartment would fall below zero, or the stock exceed [`UNITS_MAX`].
    pub fn after(&self, movement: &Movement) -> Result<Self, MovementError> {
        let moved = |compartment: Compartment| {
            let (units, change) = (self.get(compartment), movement.get(compartment));
            match units.checked_add_signed(change) {
                Some(units) if units <= UNITS_MAX => Ok(units),
                None if change < 0 => Err(MovementError::TooFew(compartment)),
                Some(_) | None => Err(MovementError::TooMany),
            }
        };
        let counts = Self {
            available: moved(Compartment::Available)?,
            reserved: moved(Compartment::Reserved)?,
            allocated: moved(Compartment::Allocated)?,
            damaged: moved(Compartment::Damaged)?,
            in_transit: moved(Compartment::InTransit)?,
        };
        // Bounding the whole at its arrival lets a shift within it, such as releasing a hold, never be refused.
        if counts.on_hand() <= UNITS_MAX {
            Ok(counts)
        } else {
            Err(MovementError::TooMany)
        }
    }
}

/// Why a movement is impossible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MovementError {
    /// The compartment has fewer units than should leave it.
    TooFew(Compartment),
    /// More than [`UNITS_MAX`] units would be on hand, or in transit.
    TooMany,
}

/// A change of the counts, in units with sign; stored as an array in the order of [`Compartment::ALL`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Movement([i64; 5]);

impl Movement {
    /// Units that come into the books.
    pub(crate) fn arrive(to: Compartment, units: u64) -> Self {
        Self::default().with(to, signed(units))
    }

    /// Units that leave the books.
    pub(crate) fn leave(from: Compartment, units: u64) -> Self {
        Self::default().with(from, -signed(units))
    }

    /// Units that change their compartment.
    pub(crate) fn shift(from: Compartment, to: Compartment, units: u64) -> Self {
        Self::leave(from, units).with(to, signed(units))
    }

    /// Units that appear in the books or vanish from them, by their sign.
    pub(crate) fn change(compartment: Compartment, difference: i64) -> Self {
        Self::default().with(compartment, difference)
    }

    /// The change of one compartment.
    pub fn get(&self, compartment: Compartment) -> i64 {
        self.0[compartment.index()]
    }

    /// Both changes together.
    pub fn plus(&self, other: &Self) -> Self {
        // Sums of movements that were possible stay far within the range.
        let mut sum = *self;
        for (total, change) in sum.0.iter_mut().zip(other.0) {
            *total = total.saturating_add(change);
        }
        sum
    }

    fn with(mut self, compartment: Compartment, change: i64) -> Self {
        self.0[compartment.index()] += change;
        self
    }
}

/// A number of units beyond `i64` saturates; [`StockCounts::after`] then refuses it.
fn signed(units: u64) -> i64 {
    i64::try_from(units).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shift_keeps_what_is_on_hand() {
        let counts = StockCounts {
            available: 5,
            ..StockCounts::default()
        };
        let after = counts
            .after(&Movement::shift(
                Compartment::Available,
                Compartment::Reserved,
                5,
            ))
            .unwrap();
        assert_eq!(
            (after.available, after.reserved, after.on_hand()),
            (0, 5, 5)
        );
    }

    #[test]
    fn no_count_leaves_its_range() {
        let counts = StockCounts {
            available: 2,
            damaged: UNITS_MAX - 2,
            ..StockCounts::default()
        };
        let check = |movement: Movement, refused| assert_eq!(counts.after(&movement), Err(refused));
        check(
            Movement::leave(Compartment::Available, 3),
            MovementError::TooFew(Compartment::Available),
        );
        check(
            Movement::leave(Compartment::InTransit, u64::MAX),
            MovementError::TooFew(Compartment::InTransit),
        );
        check(
            Movement::change(Compartment::Available, i64::MIN),
            MovementError::TooFew(Compartment::Available),
        );
        check(
            Movement::arrive(Compartment::Available, 1),
            MovementError::TooMany,
        );
        check(
            Movement::arrive(Compartment::InTransit, UNITS_MAX + 1),
            MovementError::TooMany,
        );
    }
}
