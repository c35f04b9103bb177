//! What a stock answers to a command that it took.
//!
//! Place: pure; an output of [`crate::plan()`].
//! Not here: refusals (`crate::error`).

use crate::hold::Reservation;

/// The answer to one command. A command sent again gets the answer of the first time; a reservation is told as it
/// stands now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StockAnswer {
    /// To Reserve, Confirm, Release, Cancel and Ship: the reservation.
    Reservation(Reservation),
    /// To Release and Cancel of a reservation that was never made, or is long forgotten: it never will be made.
    Barred,
    /// To the commands on reservations: this one was passed on to another shard, which has to be asked instead.
    Passed {
        /// The number of the shard.
        to: u8,
    },
    /// To Split.
    Split {
        /// How many shards there are.
        shards: u8,
    },
    /// To the commands that move units at once.
    Recorded {
        /// The ledger page that shows it.
        page: u64,
    },
    /// To ClearOutbox.
    Cleared {
        /// The oldest outbox row that is still there, or would be.
        first: u64,
    },
    /// To Sweep.
    Swept {
        /// Holds released by this write.
        released_count: usize,
        /// Whether more have run out; sweep again.
        more: bool,
    },
}
