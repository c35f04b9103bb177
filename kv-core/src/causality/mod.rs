//! Says which write has seen which, so that a store without a leader can tell "newer" from "at the same time".
//!
//! The picture: every write gets a name, its *dot*. A *context* is a list of names already seen.
//! A write that hands back the context of an earlier read replaces exactly what that read saw, no more;
//! whatever it did not see stays beside it as a *sibling*. Nobody's clock takes part.
//!
//! ```
//! use bytes::Bytes;
//! use souk_kv_core::causality::*;
//!
//! # fn main() -> Result<(), PutError> {
//! let actor = ActorId::from_bytes([7; 16]);
//! let write = |sequence, text: &'static str| NewWrite {
//!     request: RequestId { client: [1; 16], sequence },
//!     stamp: Stamp::next(1_000 + sequence, None),
//!     expires_unix_ms: None,
//!     value: Some(Value::new(ContentType::octets(), Bytes::from(text))),
//! };
//! let mut record = Record::default();
//! let first = Dot { actor, counter: 1 };
//! record.put(MergeMode::Siblings, &Observed::default(), first, Mint::Vector, write(1, "tea"), 1_000)?;
//! let read = Observed::whole(&record);
//!
//! // Two clients wrote at the same time; only the one that passed its context replaced the tea.
//! let blind = Dot { actor, counter: 2 };
//! record.put(MergeMode::Siblings, &Observed::default(), blind, Mint::Vector, write(2, "salt"), 1_001)?;
//! let aware = Dot { actor, counter: 3 };
//! record.put(MergeMode::Siblings, &read, aware, Mint::Vector, write(3, "mint"), 1_002)?;
//! assert_eq!(record.siblings().len(), 2);
//! # Ok(())
//! # }
//! ```
//!
//! Place: pure; used by `crate::quorum`, encoded by `souk_kv_proto`, stored by `souk_kv_node`.
//! Source: Preguiça et al., Dotted Version Vectors (2010); Almeida et al., Scalable and Accurate Causality
//! Tracking for Eventually Consistent Stores (2014); Bieniusa et al., An Optimized Conflict-free Replicated
//! Set (2012) for the survival rule; Kulkarni et al., Logical Physical Clocks (2014) for [`Stamp`].
//! Shape: [`Dot`] and [`CausalContext`] name writes, [`Observed`] is what a client has seen of them, [`Record`] holds what is stored under one key,
//! [`CounterLease`] hands out counters that never repeat.
//! Invariants: 1. a dot names one write, ever. 2. merging is commutative, associative and idempotent.
//! 3. a sibling vanishes only because a write that had seen it took its place, or because another sibling
//! of the same request stays.
//! Not here: collecting tombstones, which needs a proof from every member (`crate::tombstone`); how many copies
//! are enough (`crate::quorum`).

mod content_type;
mod context;
mod dot;
mod lease;
mod memory;
mod observed;
mod record;
mod request;
mod sibling;
mod stamp;

pub use content_type::{CONTENT_TYPE_BYTES_MAX, ContentType, ContentTypeError};
pub use context::CausalContext;
pub use dot::{ActorId, Dot};
pub use lease::{COUNTER_BLOCK_DEFAULT, CounterLease, NeedLease};
pub use memory::{REMEMBERED_REQUESTS_MAX, Remembered, RequestMemory};
pub use observed::Observed;
pub use record::{MergeMode, Mint, NewWrite, PutEffect, PutError, Record, RecordError};
pub use request::RequestId;
pub use sibling::{Sibling, Value};
pub use stamp::{Stamp, StampAhead};
