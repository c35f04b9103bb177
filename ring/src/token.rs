//! Turns the placing part of a key into a position on the ring.
//!
//! Place: pure; used by [`crate::Layout::locate`] and by every client that routes for itself.
//! Source: Aumasson, Bernstein, SipHash: a fast short-input PRF, INDOCRYPT 2012 (SipHash-2-4).
//! Invariants: 1. the keys below never change: they are part of the data format, and a change
//!   would put every stored record on the wrong nodes. 2. bytes are fed raw, without the length
//!   prefix that `Hash for [u8]` adds, so that any SipHash-2-4 in any language agrees.
//! Not here: the sort key, which never takes part in placement; secrecy, as the keys are public.

use std::fmt;
use std::hash::Hasher;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher24;

/// First half of the published SipHash key: the ASCII bytes `souk-rin`, read big-endian.
pub const TOKEN_KEY_0: u64 = u64::from_be_bytes(*b"souk-rin");
/// Second half of the published SipHash key: the ASCII bytes `g-token1`, read big-endian.
pub const TOKEN_KEY_1: u64 = u64::from_be_bytes(*b"g-token1");

/// Stands between bucket and partition key. A bucket name cannot hold it, so that
/// `("ab", "c")` and `("a", "bc")` stay different inputs.
const SEPARATOR: u8 = 0x00;

/// A position on the ring: the whole range of `u64`, evenly filled by [`token_of`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(pub u64);

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The token of all rows of one partition key: SipHash-2-4 under [`TOKEN_KEY_0`] and
/// [`TOKEN_KEY_1`] over the bucket name, one zero byte, and the partition key.
///
/// Any bytes are accepted, also none. A bucket name holding a zero byte would share tokens with
/// another bucket's keys; the rules for bucket names exclude it.
pub fn token_of(bucket: &str, partition_key: &[u8]) -> Token {
    let mut hasher = SipHasher24::new_with_keys(TOKEN_KEY_0, TOKEN_KEY_1);
    hasher.write(bucket.as_bytes());
    hasher.write(&[SEPARATOR]);
    hasher.write(partition_key);
    Token(hasher.finish())
}

#[cfg(test)]
#[path = "token_test.rs"]
mod tests;
