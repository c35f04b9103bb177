//! The two numbers that every layout carries: its epoch and how many copies it plans.
//!
//! Place: pure; both travel with requests and bucket configurations.
//! Not here: the quorums R and W, which a bucket or request chooses within `ReplicasN`.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The number of a layout in its cluster's history. The first is 1 and each successor is one
/// higher; 0 is free for "knows no layout yet".
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct LayoutEpoch(pub u64);

impl LayoutEpoch {
    /// The epoch of the founding layout.
    pub const FIRST: LayoutEpoch = LayoutEpoch(1);

    /// The epoch after this one; `None` after the last of `u64`.
    pub fn next(self) -> Option<LayoutEpoch> {
        self.0.checked_add(1).map(LayoutEpoch)
    }
}

impl fmt::Display for LayoutEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "e{}", self.0)
    }
}

/// How many copies of a key are kept: 1 to 7, by default 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct ReplicasN(u8);

impl ReplicasN {
    /// The most copies that can be asked for. Beyond seven, quorums cost more than they protect.
    pub const MAX: u32 = 7;

    /// A wish for `replicas_n` copies.
    ///
    /// # Errors
    /// When `replicas_n` lies outside 1..=7.
    pub fn new(replicas_n: u32) -> Result<ReplicasN, ReplicasNError> {
        match u8::try_from(replicas_n) {
            Ok(copies) if (1..=Self::MAX).contains(&replicas_n) => Ok(ReplicasN(copies)),
            _ => Err(ReplicasNError { replicas_n }),
        }
    }

    /// The number of copies, 1..=7.
    pub fn get(self) -> u32 {
        u32::from(self.0)
    }

    /// The number of copies as a length, 1..=7.
    pub fn count(self) -> usize {
        usize::from(self.0)
    }
}

impl Default for ReplicasN {
    fn default() -> Self {
        ReplicasN(3)
    }
}

impl TryFrom<u32> for ReplicasN {
    type Error = ReplicasNError;

    fn try_from(replicas_n: u32) -> Result<Self, ReplicasNError> {
        ReplicasN::new(replicas_n)
    }
}

impl From<ReplicasN> for u32 {
    fn from(replicas_n: ReplicasN) -> u32 {
        replicas_n.get()
    }
}

impl fmt::Display for ReplicasN {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What: a number of copies was refused. Mend: choose 1..=7; 3 survives the loss of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("replicas_n {replicas_n} is outside 1..={max}; choose one inside, such as 3", max = ReplicasN::MAX)]
pub struct ReplicasNError {
    /// The refused number.
    pub replicas_n: u32,
}
