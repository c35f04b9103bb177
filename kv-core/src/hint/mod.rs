//! Writes kept for an absent primary: how they are keyed, how much room they may take, how fast they go out.
//!
//! The picture: a neighbour takes in parcels. The shelf has a limit, and a full shelf says no at the door instead of
//! throwing an older parcel away; when the addressee is back, the parcels are carried over a few at a time.
//!
//! Place: pure; the hint space itself is a keyspace of `souk_kv_storage`, driven by `souk_kv_node`.
//! Source: DeCandia et al., Dynamo, SOSP 2007, §4.6.
//! Shape: [`HintKey`] sorts hints by target, [`HintBudget`] counts bytes, [`HandoffPacer`] sets the pace.
//! Invariants: 1. a hint once accepted is kept until it is delivered: nothing here drops one.
//! 2. hints carry whole records, so delivering one twice, or late, is harmless.
//! Not here: choosing the holder (`crate::quorum`), merging the record on delivery (`crate::causality`).

mod budget;
mod key;
mod pacer;

pub use budget::{HintBudget, HintSpaceFull};
pub use key::{HINT_TARGET_BYTES, HintKey, HintKeyError};
pub use pacer::{HandoffPacer, PacerBounds, PacerBoundsError};
