//! Durable ordered keyspaces behind one batching writer.
//!
//! A node keeps everything it must not forget here: records, register state, hints, Merkle leaves,
//! feed entries. This crate keeps bytes under keys, in order, in several keyspaces, and promises
//! that a batch over them is whole and, once acknowledged, on disk. It knows no protocol.
//!
//! ```no_run
//! # async fn example() -> Result<(), souk_kv_storage::StorageError> {
//! use souk_kv_storage::{EngineKind, Keyspace, Scan, Store, StoreOptions, WriteBatch};
//!
//! let store = Store::open(StoreOptions::directory("data", EngineKind::Fjall))?;
//! let mut batch = WriteBatch::new();
//! batch.put(Keyspace::Records, "cart/7", "two lamps");
//! batch.delete(Keyspace::Hints, "cart/7");
//! store.commit(batch).await?;
//! assert_eq!(store.get(Keyspace::Records, b"cart/7")?.as_deref(), Some(&b"two lamps"[..]));
//! for row in store.scan(&Scan::prefix(Keyspace::Records, "cart/").limit(10))?.rows {
//!     println!("{:?} {:?}", row.key, row.value?);
//! }
//! store.close().await
//! # }
//! ```
//!
//! A map of the room, from the door inwards:
//!
//! | module | idea |
//! |---|---|
//! | `store` | what the node holds: checked reads, submitted writes |
//! | `lifecycle`, `directory`, `format`, `marker`, `recovery` | opening, owning, closing, and what a stop may have cost |
//! | `batch`, `frame`, `scan`, `keyspace` | what is written and read |
//! | `verify`, `gap` | walking over what is stored, past what cannot be read |
//! | `queue`, `writer`, `gather`, `space` | group commit and its limits |
//! | `panics` | engines that panic on damage |
//! | `engine` | the trait, and fjall, sled and the in-memory twin behind it |

mod batch;
mod directory;
mod engine;
mod error;
mod format;
mod frame;
mod gap;
mod gather;
mod keyspace;
mod lifecycle;
mod marker;
mod options;
mod panics;
mod queue;
mod recovery;
mod scan;
mod space;
mod store;
mod verify;
mod writer;

pub use batch::{BATCH_BYTES_MAX, Change, KEY_BYTES_MAX, WriteBatch};
pub use engine::{
    Engine, EngineError, EngineKind, EngineStats, FjallEngine, MemoryDisk, MemoryEngine, Persist,
    RowVisitor, SledEngine,
};
pub use error::{NotWritten, OpenError, StorageError, Unknown, WriteOutcome};
pub use gap::Gap;
pub use keyspace::Keyspace;
pub use options::{Bounds, Durability, INTERVAL_MAX, INTERVAL_MIN, Place, StoreOptions};
pub use recovery::Recovery;
pub use scan::{
    KeyRange, SCAN_BYTES_DEFAULT, SCAN_ROWS_DEFAULT, SCAN_ROWS_MAX, Scan, ScanPage, ScanRow,
};
pub use store::{Commit, Store, StoreStats};
pub use verify::{CorruptGap, CorruptRow, Judge, VerifiedPage};
