//! Numbers that order proposals, and the versions of rows made from them.
//!
//! A ballot is like a raffle ticket with the seller's name on it: two sellers may print the same number,
//! never the same ticket. A version adds the place of a write inside its ballot.
//!
//! Place: pure; used by everything in `register`.
//! Source: Lamport, Paxos Made Simple, 2001, §2.2; Rystsov, CASPaxos, 2018, §2.2.
//! Invariants: 1. a [`BallotClock`] never gives one ballot twice. 2. two clocks with different proposers
//! never give the same ballot. 3. so a [`Version`] never repeats, not even across deletion and re-creation.
//! Not here: who draws the proposer number and reads the clock (the driver).

use std::fmt;

/// A proposal's number: ordered by counter, then by proposer. [`Ballot::ZERO`] means "never".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ballot {
    /// At least the proposer's clock in milliseconds since the Unix epoch when it was drawn.
    pub counter: u64,
    /// A random number, drawn anew each time a process starts.
    pub proposer: u64,
}

impl Ballot {
    /// The ballot of an empty group. No proposer ever draws it.
    pub const ZERO: Ballot = Ballot {
        counter: 0,
        proposer: 0,
    };

    /// True for [`Ballot::ZERO`].
    #[must_use]
    pub fn is_zero(self) -> bool {
        self == Ballot::ZERO
    }
}

impl fmt::Debug for Ballot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{:x}", self.counter, self.proposer)
    }
}

impl fmt::Display for Ballot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

/// The name of one write to one row: its ballot, and its place among the writes of that ballot.
///
/// Clients treat it as opaque bytes and compare it for equality only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The counter of the ballot that carried the write.
    pub counter: u64,
    /// The proposer of that ballot.
    pub proposer: u64,
    /// The place of the write within the ballot, from 0.
    pub index: u32,
}

impl Version {
    /// Length of the encoded form, in bytes.
    pub const ENCODED_LEN: usize = 20;

    /// The version of the `index`-th write of `ballot`.
    #[must_use]
    pub fn new(ballot: Ballot, index: u32) -> Version {
        Version {
            counter: ballot.counter,
            proposer: ballot.proposer,
            index,
        }
    }

    /// The ballot that carried the write.
    #[must_use]
    pub fn ballot(self) -> Ballot {
        Ballot {
            counter: self.counter,
            proposer: self.proposer,
        }
    }

    /// Big-endian counter, proposer and index: 20 bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Version::ENCODED_LEN] {
        let mut bytes = [0; Version::ENCODED_LEN];
        bytes[..8].copy_from_slice(&self.counter.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.proposer.to_be_bytes());
        bytes[16..].copy_from_slice(&self.index.to_be_bytes());
        bytes
    }

    /// Reads what [`Version::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`VersionError`] when `bytes` are not exactly 20.
    pub fn from_bytes(bytes: &[u8]) -> Result<Version, VersionError> {
        let malformed = || VersionError {
            length: bytes.len(),
        };
        let (counter, rest) = bytes.split_first_chunk::<8>().ok_or_else(malformed)?;
        let (proposer, rest) = rest.split_first_chunk::<8>().ok_or_else(malformed)?;
        let index = <[u8; 4]>::try_from(rest).map_err(|_| malformed())?;
        Ok(Version {
            counter: u64::from_be_bytes(*counter),
            proposer: u64::from_be_bytes(*proposer),
            index: u32::from_be_bytes(index),
        })
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}#{}", self.ballot(), self.index)
    }
}

/// What: bytes given as a version are not one. Mend: pass back the exact bytes that a read or write returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a row version has 20 bytes, got {length}; pass back the bytes of an earlier answer unchanged"
)]
pub struct VersionError {
    /// How many bytes were given.
    pub length: usize,
}

/// Draws ballots for one process, for all its groups.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BallotClock {
    proposer: u64,
    last_counter: u64,
}

impl BallotClock {
    /// A clock for a process that has just started.
    ///
    /// `proposer` must be fresh random bits for every start: a number reused after a restart could
    /// draw a ballot that an earlier life already used.
    #[must_use]
    pub fn new(proposer: u64) -> BallotClock {
        BallotClock {
            proposer,
            last_counter: 0,
        }
    }

    /// The random number of this process.
    #[must_use]
    pub fn proposer(&self) -> u64 {
        self.proposer
    }

    /// A ballot greater than `at_least`, than every one drawn before, and not behind `now_ms`
    /// (milliseconds since the Unix epoch).
    ///
    /// # Errors
    /// [`BallotsExhausted`] when a counter would pass `u64::MAX`, which only damaged data can cause.
    pub fn next(&mut self, now_ms: u64, at_least: Ballot) -> Result<Ballot, BallotsExhausted> {
        let floor = self.last_counter.max(at_least.counter);
        let above = floor.checked_add(1).ok_or(BallotsExhausted { at_least })?;
        self.last_counter = above.max(now_ms);
        Ok(Ballot {
            counter: self.last_counter,
            proposer: self.proposer,
        })
    }
}

/// What: a peer reported a ballot with the greatest possible counter. Why: its stored state is damaged.
/// Mend: find the acceptor that promised it (`souk admin register show`) and rebuild it from its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no ballot lies above {at_least}; an acceptor's state is damaged and has to be rebuilt from its peers"
)]
pub struct BallotsExhausted {
    /// The ballot that left no room.
    pub at_least: Ballot,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_clock_never_repeats_or_falls_behind(steps in prop::collection::vec((0u64..50, 0u64..50, 0u64..4), 1..40)) {
            let mut clock = BallotClock::new(2);
            let mut last = Ballot::ZERO;
            for (now_ms, counter, proposer) in steps {
                let at_least = Ballot { counter, proposer };
                let ballot = clock.next(now_ms, at_least).unwrap();
                prop_assert!(ballot > last && ballot > at_least && ballot.counter >= now_ms);
                last = ballot;
            }
        }

        #[test]
        fn versions_survive_their_bytes(counter: u64, proposer: u64, index: u32) {
            let version = Version { counter, proposer, index };
            prop_assert_eq!(Version::from_bytes(&version.to_bytes()), Ok(version));
        }
    }

    #[test]
    fn foreign_bytes_are_no_version() {
        for length in [0, 7, 19, 21] {
            assert_eq!(
                Version::from_bytes(&vec![1; length]),
                Err(VersionError { length })
            );
        }
    }

    #[test]
    fn the_last_counter_is_an_error_not_a_wrap() {
        let at_least = Ballot {
            counter: u64::MAX,
            proposer: 1,
        };
        assert_eq!(
            BallotClock::new(1).next(0, at_least),
            Err(BallotsExhausted { at_least })
        );
    }
}
