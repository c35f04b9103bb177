//! Placement: which nodes hold a key, and in what order to ask them.
//!
//! Picture a clock face cut into `Q` equal slices. A key hashes to a point on the rim (its
//! [`Token`]), the slice under the point is its partition ([`PartitionId`]), and a [`Layout`] is
//! the written agreement that says which nodes look after which slice. The slices never move;
//! only the agreement changes, one [`LayoutEpoch`] at a time.
//!
//! ```text
//! (bucket, partition key) --token_of--> Token --partition_of--> PartitionId
//!                                                                    |
//!                 Layout (epoch e): members + assignment ------------+--> PreferenceList
//!                        |                                                primaries, fallbacks
//!                        +-- next(changes) --> Layout (epoch e+1), MovePlan between the two
//! ```
//!
//! Place: pure; the innermost room: `kv_core`, `kv_proto`, `kv_client` and `kv_node` build on it;
//!   knows no clock, socket, file, runtime or randomness.
//! Source: DeCandia et al., Dynamo, SOSP 2007, §4.2, §4.3, §6.2 (fixed, equal partitions).
//! Invariants: 1. a key's partition depends on bucket, partition key and partition count alone.
//!   2. equal input gives an equal layout on every machine. 3. no node holds a partition twice.
//! Not here: agreement on a layout, failure detection (`kv_core`), moving the data (`kv_node`).
//!
//! ```
//! use souk_ring::{Layout, MemberSpec, PartitionCount, ReplicasN, Weight};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let member = |name: &str, zone: &str| -> Result<MemberSpec, souk_ring::NameError> {
//!     Ok(MemberSpec {
//!         name: name.parse()?,
//!         zone: zone.parse()?,
//!         weight: Weight::default(),
//!         grpc_address: format!("{name}:7101"),
//!         http_address: format!("{name}:7201"),
//!     })
//! };
//! let layout = Layout::initial(
//!     "demo".parse()?,
//!     PartitionCount::default(),
//!     ReplicasN::default(),
//!     vec![member("ada", "east")?, member("bob", "west")?, member("cleo", "north")?],
//! )?;
//! let partition = layout.locate("carts", b"customer-7");
//! let list = layout.preference_list(partition);
//! assert_eq!(list.primaries(layout.replicas_n()).len(), 3);
//! # Ok(()) }
//! ```

pub mod layout;
pub mod member;
pub mod moves;
pub mod name;
pub mod partition;
mod placement;
pub mod preference;
#[cfg(test)]
mod testing;
pub mod token;

pub use layout::{
    Layout, LayoutEpoch, LayoutError, LayoutFault, LayoutParts, MemberChange, MovingParts,
    ReplicasN, ReplicasNError,
};
pub use member::{Member, MemberSpec, NodeId, Standing, StoreId, Weight, WeightError};
pub use moves::{MovePlan, MovePlanError, NodeMoves, PartitionMove};
pub use name::{Name, NameError};
pub use partition::{PartitionCount, PartitionCountError, PartitionId};
pub use preference::PreferenceList;
pub use token::{Token, token_of};
