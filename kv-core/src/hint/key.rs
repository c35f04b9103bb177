//! Where a hint lies in the hint space: all hints for one node side by side.
//!
//! Place: pure; the key layout is a disk format.
//! Shape: the target's number in four bytes, big end first, then the storage key of the record.
//! Invariants: 1. hints of one target are contiguous, in storage-key order. 2. one hint per target and key:
//! a later one is merged into it.

use bytes::{BufMut, Bytes, BytesMut};
use souk_ring::NodeId;

/// How many bytes the target takes at the front of a hint's key.
pub const HINT_TARGET_BYTES: usize = 4;

/// The key of one hint.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HintKey {
    /// The absent primary.
    pub target: NodeId,
    /// The storage key of the record, opaque here.
    pub key: Bytes,
}

/// What: a key in the hint space that no hint can have. Why: the store is damaged, or newer than this node.
/// Mend: run the scrub; the record itself is safe on the other replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key of {bytes} bytes in the hint space: it needs more than {HINT_TARGET_BYTES}")]
pub struct HintKeyError {
    /// The length found.
    pub bytes: usize,
}

impl HintKey {
    /// The bytes as stored.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(HINT_TARGET_BYTES + self.key.len());
        bytes.put_u32(self.target.0);
        bytes.put_slice(&self.key);
        bytes.freeze()
    }

    /// Reads a stored key; the storage key is a slice of it, not a copy.
    ///
    /// # Errors
    /// [`HintKeyError`] when there is no storage key in it.
    pub fn decode(bytes: &Bytes) -> Result<HintKey, HintKeyError> {
        match bytes.first_chunk::<HINT_TARGET_BYTES>() {
            Some(target) if bytes.len() > HINT_TARGET_BYTES => Ok(HintKey {
                target: NodeId(u32::from_be_bytes(*target)),
                key: bytes.slice(HINT_TARGET_BYTES..),
            }),
            Some(_) | None => Err(HintKeyError { bytes: bytes.len() }),
        }
    }

    /// What all hints for `target` begin with, and no others.
    #[must_use]
    pub const fn prefix(target: NodeId) -> [u8; HINT_TARGET_BYTES] {
        target.0.to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hint_key() -> impl Strategy<Value = HintKey> {
        (any::<u32>(), prop::collection::vec(any::<u8>(), 1..20)).prop_map(|(target, key)| {
            HintKey {
                target: NodeId(target),
                key: Bytes::from(key),
            }
        })
    }

    proptest! {
        #[test]
        fn encoding_keeps_everything_and_the_order(a in hint_key(), b in hint_key()) {
            prop_assert_eq!(HintKey::decode(&a.encode()), Ok(a.clone()));
            prop_assert_eq!(a.encode().cmp(&b.encode()), a.cmp(&b));
            prop_assert!(a.encode().starts_with(&HintKey::prefix(a.target)));
            prop_assert_eq!(b.encode().starts_with(&HintKey::prefix(a.target)), a.target == b.target);
        }
    }

    #[test]
    fn damaged_keys_are_refused() {
        for length in 0..=HINT_TARGET_BYTES {
            let damaged = Bytes::from(vec![0; length]);
            assert_eq!(
                HintKey::decode(&damaged),
                Err(HintKeyError { bytes: length })
            );
        }
    }
}
