//! The name a client gives to one intention, so that saying it twice does not do it twice.
//!
//! Place: pure; shared by siblings (`crate::causality`) and registers (`crate::register`).
//! Invariants: 1. a client never reuses a sequence for another intention.
//! 2. every retry of one intention, through any node, carries the same id.
//! Not here: how long ids are remembered ([`super::RequestMemory`], and the request rows of a register group).

use std::fmt;

use super::dot::write_short_hex;

/// Which client, and which of its requests.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId {
    /// 128 random bits drawn when the client starts.
    pub client: [u8; 16],
    /// Counts this client's requests, from 1; 0 means that the client asks for no memory.
    pub sequence: u64,
}

impl RequestId {
    /// True when retries of this request shall be recognised.
    #[must_use]
    pub const fn is_remembered(&self) -> bool {
        self.sequence != 0
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_short_hex(formatter, &self.client)?;
        write!(formatter, "#{}", self.sequence)
    }
}
