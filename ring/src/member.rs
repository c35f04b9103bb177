//! The nodes of a cluster as a layout knows them.
//!
//! Place: pure; part of [`crate::Layout`]; `cluster.toml` is read into [`MemberSpec`]s.
//! Invariants: 1. a [`NodeId`] is given once and never used again in its cluster, so that a
//!   number found in an old layout or hint never means another node.
//! Not here: whether a node is alive (`kv_core::membership`).

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::name::Name;

/// The compact number of a node within its cluster, from 1 upwards; 0 is never given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u32);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

/// A node's durable identity: 128 random bits, made with its store and made anew whenever the store
/// may have lost anything that others rely on. A member is this store, not whoever has its name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StoreId(pub [u8; 16]);

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether a member's store may speak for its past.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It holds what it has promised and stored, and counts in every quorum.
    #[default]
    Full,
    /// It lost its past and is being taught by the others: it counts in no quorum of registers, and
    /// what it lacks says nothing to readers.
    Learner,
    /// A learner that believes whoever is left: an operator has given up the copies that a majority would need.
    Heir,
}

/// A node's share of capacity relative to the others: 1 to 1000, by default 100.
///
/// A node of weight 200 is asked to hold twice as many copies as one of weight 100, as far as
/// distinct nodes and zones allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Weight(u32);

impl Weight {
    /// The largest weight.
    pub const MAX: u32 = 1000;

    /// A weight of `weight`.
    ///
    /// # Errors
    /// When `weight` lies outside 1..=1000.
    pub fn new(weight: u32) -> Result<Weight, WeightError> {
        if (1..=Self::MAX).contains(&weight) {
            Ok(Weight(weight))
        } else {
            Err(WeightError { weight })
        }
    }

    /// The weight as a number, 1..=1000.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl Default for Weight {
    fn default() -> Self {
        Weight(100)
    }
}

impl TryFrom<u32> for Weight {
    type Error = WeightError;

    fn try_from(weight: u32) -> Result<Self, WeightError> {
        Weight::new(weight)
    }
}

impl From<Weight> for u32 {
    fn from(weight: Weight) -> u32 {
        weight.0
    }
}

/// What: a weight was refused. Why: zero would be a member that may hold nothing, and shares are
/// planned in whole numbers. Mend: choose 1..=1000; to empty a node, let it leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("weight {weight} is outside 1..={max}; choose one inside, or let the node leave to empty it", max = Weight::MAX)]
pub struct WeightError {
    /// The refused weight.
    pub weight: u32,
}

/// A node that wants to be a member: everything about it but its number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberSpec {
    /// Unique within the cluster.
    pub name: Name,
    /// What fails together: a rack, a room, a region. Copies prefer distinct zones.
    pub zone: Name,
    /// Capacity share.
    pub weight: Weight,
    /// `host:port` where other nodes and clients reach its gRPC service.
    pub grpc_address: String,
    /// `host:port` of its health checks and metrics.
    pub http_address: String,
}

/// A member of a layout: a [`MemberSpec`] that has its number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The number that assignments and preference lists use.
    pub id: NodeId,
    /// Unique within the cluster.
    pub name: Name,
    /// What fails together: a rack, a room, a region. Copies prefer distinct zones.
    pub zone: Name,
    /// Capacity share.
    pub weight: Weight,
    /// `host:port` where other nodes and clients reach its gRPC service.
    pub grpc_address: String,
    /// `host:port` of its health checks and metrics.
    pub http_address: String,
    /// The store that speaks for the member; `None` until the founders have met.
    #[serde(default)]
    pub store: Option<StoreId>,
    /// Whether that store may speak for its past.
    #[serde(default)]
    pub standing: Standing,
}

impl Member {
    /// The member that `spec` becomes under the number `id`.
    pub fn new(id: NodeId, spec: MemberSpec) -> Member {
        let MemberSpec {
            name,
            zone,
            weight,
            grpc_address,
            http_address,
        } = spec;
        Member {
            id,
            name,
            zone,
            weight,
            grpc_address,
            http_address,
            store: None,
            standing: Standing::Full,
        }
    }
}
