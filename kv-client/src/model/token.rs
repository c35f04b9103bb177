//! The two opaque tokens that the store hands out: contexts and versions.
//!
//! Think of a cloakroom ticket: it means something to whoever made it, and the holder only keeps it
//! and gives it back.

use std::fmt;

use bytes::Bytes;

/// What a read of a `siblings` or `lww` key has seen. Pass it to the next write of that key, so that the
/// write replaces exactly what was read. The default says that nothing was read.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Context(pub Bytes);

impl Context {
    /// True when nothing was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Context({} bytes)", self.0.len())
    }
}

/// The version of one row of a `register` bucket. Compare for equality only; a version never returns,
/// not even after the row was deleted and created again.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Version(pub Bytes);

impl fmt::Debug for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Version(")?;
        for byte in &self.0 {
            write!(formatter, "{byte:02x}")?;
        }
        formatter.write_str(")")
    }
}
