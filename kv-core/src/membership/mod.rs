//! Each node's own opinion of its peers: who is alive, who is slow.
//!
//! The picture: footsteps in the next room. When they come every second, three seconds of silence mean something;
//! when they come irregularly, the same silence means little. The opinion steers whom to ask first and who stands in
//! for whom. It never removes anybody, and no safety argument rests on it.
//!
//! Place: pure; fed by the peer links of `souk_kv_node`, asked by `crate::quorum`.
//! Source: Hayashibara et al., The φ Accrual Failure Detector (2004); DeCandia et al., Dynamo, SOSP 2007, §4.8.3.
//! Shape: [`PhiAccrual`] judges silence, [`PeerHealth`] adds link events and latency, [`Peers`] compares all peers,
//! [`Rumours`] is what they say of each other.
//! Invariants: 1. silence never lowers suspicion. 2. a sign of life on an open link ends it.
//! Not here: the layout and its members (`souk_ring`); removing a node, which an operator decides.

mod health;
mod latency;
mod peers;
mod phi;
mod rumours;

pub use health::{Health, PeerHealth};
pub use latency::LatencyAverage;
pub use peers::{Peers, PeersOptions};
pub use phi::{PhiAccrual, PhiOptions, PhiOptionsError};
pub use rumours::Rumours;
