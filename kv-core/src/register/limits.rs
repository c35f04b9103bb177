//! The named bounds of a register group, and how they relate.
//!
//! Place: pure; read by `transaction`, `evaluate`, `undo` and the driver's queues.
//! Invariants: checked by the compiler at the end of this file, so that a careless edit does not build.
//! Not here: time bounds, which an operator sets (`RequestMemory` in `memory`, `BackoffLimits` in `backoff`).

/// Operations in one transaction, at most. A transaction names each row once.
pub const TRANSACTION_ROWS_MAX: usize = 1024;

/// Bytes of one transaction, at most: keys, content types and cells together.
pub const TRANSACTION_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Transactions that one ballot may carry; the rest wait for the next ballot.
pub const BALLOT_TRANSACTIONS_MAX: usize = 1024;

/// Bytes of waiting transactions at which a coordinator stops adding more to one ballot.
/// The last one admitted may overshoot it by [`TRANSACTION_BYTES_MAX`].
pub const BALLOT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Rows of one group, at most, tombstones and request memory included.
/// A transaction that would add a row beyond it is refused; changes and deletes still work.
pub const GROUP_ROWS_MAX: u64 = 250_000;

/// Bytes of one group, at most, counted as [`super::Row::weight`] does.
///
/// An acceptor that was away for long is sent the whole group: it has to fit one message, and one batch on a disk.
pub const GROUP_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Answers remembered for one client in one group, at most.
/// When one more comes, the oldest is forgotten, and requests up to it are refused as too old.
pub const MEMORY_ANSWERS_MAX: usize = 128;

/// Before-images kept for one group, in ballots: some seconds of a busy group. An acceptor that was away for
/// no longer is brought up by what changed meanwhile, not by the whole group.
pub const UNDO_ENTRIES_MAX: usize = 4096;

/// Before-images kept for one group, in bytes. Beyond it the oldest are dropped.
pub const UNDO_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Rows that a lead may hold in its cache; beyond it the cache is emptied, which costs a read.
pub const LEAD_ROWS_MAX: usize = 4096;

const _: () = {
    assert!(
        BALLOT_BYTES_MAX >= TRANSACTION_BYTES_MAX,
        "every admissible transaction fits a ballot"
    );
    assert!(
        BALLOT_TRANSACTIONS_MAX <= u32::MAX as usize / TRANSACTION_ROWS_MAX,
        "a version index never wraps"
    );
    assert!(
        UNDO_BYTES_MAX >= BALLOT_BYTES_MAX,
        "one ballot's before-images normally fit"
    );
    assert!(
        LEAD_ROWS_MAX > TRANSACTION_ROWS_MAX + 2,
        "the cache can cover any one transaction"
    );
    assert!(
        GROUP_ROWS_MAX as usize >= TRANSACTION_ROWS_MAX,
        "an empty group takes any one transaction"
    );
    assert!(
        GROUP_BYTES_MAX as usize >= 2 * TRANSACTION_BYTES_MAX,
        "an empty group takes any one transaction"
    );
    assert!(
        MEMORY_ANSWERS_MAX >= 2,
        "a client may have two requests under way"
    );
};
