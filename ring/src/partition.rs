//! The fixed slices of the hash space, and which slice a token falls into.
//!
//! Place: pure; the unit of placement, transfer and Merkle trees everywhere else.
//! Source: DeCandia et al., Dynamo, SOSP 2007, §6.2, strategy 3 (Q equal partitions).
//! Invariants: 1. the count is a power of two, fixed when the cluster is created. 2. partition
//!   `i` of `Q` holds exactly the tokens `i * 2^64/Q .. (i + 1) * 2^64/Q`.
//! Not here: who owns a partition ([`crate::Layout`]).

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::token::Token;

/// The number of one partition, from 0 up to but without the [`PartitionCount`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartitionId(pub u32);

impl PartitionId {
    /// The number as an index into a list with one entry per partition.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}", self.0)
    }
}

/// How many partitions the hash space is cut into: a power of two, 1 to 65,536, by default 256.
///
/// Too few partitions balance badly, too many cost bookkeeping on each node; about 20 per node
/// and copy serve well. The count cannot change once the cluster holds data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct PartitionCount(u32);

impl PartitionCount {
    /// The largest allowed count.
    pub const MAX: u32 = 65_536;

    /// A count of `count` partitions.
    ///
    /// # Errors
    /// When `count` is no power of two or lies outside 1..=65,536.
    pub fn new(count: u32) -> Result<PartitionCount, PartitionCountError> {
        if count.is_power_of_two() && count <= Self::MAX {
            Ok(PartitionCount(count))
        } else {
            Err(PartitionCountError { count })
        }
    }

    /// The count as a number, 1..=65,536.
    pub fn get(self) -> u32 {
        self.0
    }

    /// The partition that holds `token`: its top `log2(count)` bits.
    pub fn partition_of(self, token: Token) -> PartitionId {
        let bits = self.0.trailing_zeros();
        // A shift by 64 would overflow; with one partition there is only one answer.
        let top = token.0.checked_shr(u64::BITS - bits).unwrap_or(0);
        PartitionId(u32::try_from(top).expect("at most 16 top bits remain"))
    }

    /// All partitions in ascending order.
    pub fn partitions(self) -> impl ExactSizeIterator<Item = PartitionId> + Clone {
        (0..self.0).map(PartitionId)
    }
}

impl Default for PartitionCount {
    fn default() -> Self {
        PartitionCount(256)
    }
}

impl TryFrom<u32> for PartitionCount {
    type Error = PartitionCountError;

    fn try_from(count: u32) -> Result<Self, Self::Error> {
        PartitionCount::new(count)
    }
}

impl From<PartitionCount> for u32 {
    fn from(count: PartitionCount) -> u32 {
        count.0
    }
}

impl fmt::Display for PartitionCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What: a partition count was refused. Why: a token's partition is its top bits, so only powers
/// of two cut the space evenly. Mend: choose 1, 2, 4, .. 65,536; 256 suits up to about 40 nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "partition count {count} is not a power of two from 1 to {max}; choose one that is, such as 256",
    max = PartitionCount::MAX
)]
pub struct PartitionCountError {
    /// The refused count.
    pub count: u32,
}

#[cfg(test)]
#[path = "partition_test.rs"]
mod tests;
