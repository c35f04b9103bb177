//! The name of one write: who minted it, and that actor's count.
//!
//! Place: pure; the smallest word of `crate::causality`.
//! Source: Preguiça et al., Dotted Version Vectors (2010), §3.
//! Invariants: 1. a counter starts at 1 and is never used twice by one actor.
//! 2. an actor lives as long as one vnode owns its data without a gap; after any doubt it is replaced.

use std::fmt;

/// Who mints dots: 128 random bits, one per vnode and ownership period. Never derived from a node's name,
/// because a node that lost its disk must not speak with its old voice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActorId([u8; 16]);

impl ActorId {
    /// Takes 16 bytes; for a new actor they have to be random, which is the caller's part.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> ActorId {
        ActorId(bytes)
    }

    /// The bytes as stored and sent.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for ActorId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_short_hex(formatter, &self.0)
    }
}

impl fmt::Display for ActorId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(formatter, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// The name of one write. Ordered by actor, then counter; the order is arbitrary but the same everywhere.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dot {
    /// Who minted it.
    pub actor: ActorId,
    /// That actor's count, from 1. Counters are per actor, so one key sees them with gaps.
    pub counter: u64,
}

impl fmt::Debug for Dot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}:{}", self.actor, self.counter)
    }
}

/// Writes the first four bytes in hexadecimal: enough to tell two ids apart in a log line.
pub(super) fn write_short_hex(formatter: &mut fmt::Formatter<'_>, bytes: &[u8; 16]) -> fmt::Result {
    for byte in &bytes[..4] {
        write!(formatter, "{byte:02x}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_is_short_and_display_is_whole() {
        let actor = ActorId::from_bytes([0xab; 16]);
        assert_eq!(format!("{:?}", Dot { actor, counter: 17 }), "abababab:17");
        assert_eq!(actor.to_string(), "ab".repeat(16));
    }
}
