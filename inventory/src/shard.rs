//! A stock that one group is too slow for, divided into shards.
//!
//! A split stock is several stocks of the same article in the same centre, each with a group of its own, so that they
//! are written at the same time. Shard 0 is the stock itself; the others are named after it: `main`, `main/1`, `main/2`.
//! A reservation has a *home*, a shard that its id alone decides. When its home has too few units it is passed on, and
//! the home remembers where to, so that whoever asks again under the same id finds the same reservation:
//!
//! ```text
//! Reserve ──> home: enough units? ──yes──> held here
//!               │ no: another shard has enough      no single one has: units are moved together first
//!               └ PassOn ("see shard 3") ──> Reserve there ──> held there
//! ```
//!
//! Place: pure; used by `crate::plan` and `crate::store`.
//! Invariants: 1. an id has one home, everywhere and always: a stock is split once, while it remembers no reservation.
//! 2. a plan of moves brings no more units than there are, and none twice.
//! Not here: carrying out moves, which are transfers between shards (`crate::store`).

use crate::ids::ReservationId;

/// The home of a reservation in a stock of `shards` shards, each of them equally likely for random ids.
///
/// # Panics
/// Never: no shards at all count as one.
pub fn home_shard(id: ReservationId, shards: u8) -> u8 {
    let [.., a, b, c, d, e, f, g, h] = id.to_bytes();
    let number = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    // Ids made from counters differ in their last digits only; the multiplication spreads them.
    let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    u8::try_from(spread % u64::from(shards.max(1))).expect("a remainder is below its u8 divisor")
}

/// Where a reservation finds its units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Further {
    /// In this shard, to which it is passed on.
    In(u8),
    /// In its own shard, once units have been moved there.
    AfterMoves,
    /// Nowhere: all shards together have too few.
    Nowhere,
}

/// Looks for `wanted` units beyond shard `at`. `available` has the units of each shard; those `visited` sent it away.
pub(crate) fn look_further(available: &[u64], at: u8, visited: &[u8], wanted: u64) -> Further {
    // Shard 0 refuses what is at home elsewhere, see `crate::plan`; its units are moved instead.
    let others = (1..)
        .zip(available.iter().skip(1))
        .filter(|(number, units)| **units >= wanted && !visited.contains(number) && *number != at);
    // Of equals the one with the smallest number, so that a run can be repeated.
    match others.max_by_key(|(number, units)| (**units, std::cmp::Reverse(*number))) {
        Some((number, _)) => Further::In(number),
        None if available.iter().sum::<u64>() >= wanted => Further::AfterMoves,
        None => Further::Nowhere,
    }
}

/// Units to be moved from one shard to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) from: u8,
    pub(crate) to: u8,
    pub(crate) units: u64,
}

/// Brings `wanted` units together in shard `to`, from the richest shards; as many as there are, if they are fewer.
pub(crate) fn gather(available: &[u64], to: u8, wanted: u64) -> Vec<Move> {
    let has = available.get(usize::from(to)).copied().unwrap_or(0);
    let mut missing = wanted.saturating_sub(has);
    let mut moves = Vec::new();
    for (from, units) in richest_first(available) {
        let units = units.min(missing);
        if from != to && units > 0 {
            moves.push(Move { from, to, units });
            missing -= units;
        }
    }
    moves
}

/// Levels all shards to within one unit, with less than one move for each of them.
pub(crate) fn level(available: &[u64]) -> Vec<Move> {
    let count = available.len().max(1) as u64;
    let (share, rest) = (
        available.iter().sum::<u64>() / count,
        available.iter().sum::<u64>() % count,
    );
    // The richest shards keep what cannot be divided.
    let goals = richest_first(available).into_iter().zip(0_u64..);
    let goals: Vec<(u8, u64, u64)> = goals
        .map(|((number, units), rank)| (number, units, share + u64::from(rank < rest)))
        .collect();
    let mut takers = goals
        .iter()
        .map(|(number, units, goal)| (*number, goal.saturating_sub(*units)));
    let mut taker = takers.next();
    let mut moves = Vec::new();
    for (from, units, goal) in &goals {
        let mut left = units.saturating_sub(*goal);
        while left > 0 {
            match taker {
                Some((_, 0)) => taker = takers.next(),
                Some((to, missing)) => {
                    let units = left.min(missing);
                    moves.push(Move {
                        from: *from,
                        to,
                        units,
                    });
                    left -= units;
                    taker = Some((to, missing - units));
                }
                // What some have too much others have too little, so this is never reached with units left.
                None => break,
            }
        }
    }
    moves
}

fn richest_first(available: &[u64]) -> Vec<(u8, u64)> {
    let mut shards: Vec<(u8, u64)> = (0..).zip(available.iter().copied()).collect();
    shards.sort_by_key(|(number, units)| (std::cmp::Reverse(*units), *number));
    shards
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn after(available: &[u64], moves: &[Move]) -> Vec<u64> {
        let mut units = available.to_vec();
        for step in moves {
            let from = &mut units[usize::from(step.from)];
            *from = from
                .checked_sub(step.units)
                .expect("no more leaves than is there");
            units[usize::from(step.to)] += step.units;
        }
        units
    }

    proptest! {
        #[test]
        fn levelling_loses_nothing_and_leaves_one_unit_of_difference(
            available in prop::collection::vec(0_u64..1_000, 1..16),
        ) {
            let moves = level(&available);
            let units = after(&available, &moves);
            prop_assert_eq!(units.iter().sum::<u64>(), available.iter().sum::<u64>());
            let (least, most) = (units.iter().min().unwrap(), units.iter().max().unwrap());
            prop_assert!(most - least <= 1, "{:?}", units);
            prop_assert!(moves.len() < available.len());
            prop_assert!(moves.iter().all(|step| step.units > 0 && step.from != step.to));
            prop_assert!(level(&units).is_empty(), "level stays level");
        }

        #[test]
        fn gathering_brings_what_is_wanted_or_all_there_is(
            available in prop::collection::vec(0_u64..100, 1..16), to: prop::sample::Index, wanted in 0_u64..900,
        ) {
            let to = to.index(available.len());
            let moves = gather(&available, to as u8, wanted);
            let units = after(&available, &moves);
            let total: u64 = available.iter().sum();
            prop_assert_eq!(units.iter().sum::<u64>(), total);
            prop_assert_eq!(units[to], wanted.min(total).max(available[to]));
        }

        #[test]
        fn looking_further_finds_enough_or_says_that_there_is_none(
            available in prop::collection::vec(0_u64..10, 1..8), at in 0_u8..8, wanted in 1_u64..30,
        ) {
            let total: u64 = available.iter().sum();
            match look_further(&available, at, &[at], wanted) {
                Further::In(to) => {
                    prop_assert!(to != at && to != 0);
                    prop_assert!(available[usize::from(to)] >= wanted);
                }
                Further::AfterMoves => prop_assert!(total >= wanted),
                Further::Nowhere => prop_assert!(total < wanted),
            }
        }
    }

    #[test]
    fn homes_are_spread() {
        let mut counts = [0_u32; 4];
        for number in 0..4_000_u128 {
            let id = ReservationId::from_bytes(number.to_be_bytes());
            counts[usize::from(home_shard(id, 4))] += 1;
        }
        assert!(
            counts.iter().all(|count| (900..1_100).contains(count)),
            "{counts:?}"
        );
        assert_eq!(home_shard(ReservationId::from_bytes([9; 16]), 1), 0);
        assert_eq!(home_shard(ReservationId::from_bytes([9; 16]), 0), 0);
    }
}
