//! The envelope around every stored value: a wax seal that shows whether anyone touched the letter.
//!
//! Place: pure; values are sealed in [`crate::WriteBatch::put`] and opened by [`crate::Store`].
//! Shape: format byte, CRC-32 (IEEE, little endian), payload: 5 bytes more than the payload.
//! Invariants: 1. the sum covers keyspace, key and payload, so that a value which turns up under
//! another key is as bad as a flipped bit. 2. a payload whose sum differs is never handed out.
//! Not here: checksums of the engines' own files (each engine has its own beneath this one).

use bytes::{BufMut, Bytes, BytesMut};

use crate::Keyspace;

/// Bytes a frame adds to its payload.
pub(crate) const FRAME_BYTES: usize = 5;

/// The one format of values so far.
const FORMAT: u8 = 1;

/// Why a frame was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    /// Shorter than an empty payload's frame.
    #[error("the frame has {len} bytes, at least {FRAME_BYTES} are needed")]
    Short {
        /// Bytes found.
        len: usize,
    },
    /// A format this build does not know: newer data, or a damaged first byte.
    #[error("the frame has format {found}, this build knows {FORMAT}")]
    Format {
        /// The byte found.
        found: u8,
    },
    /// The sum does not fit what it covers.
    #[error("the checksum is {found:08x}, {expected:08x} was stored")]
    Checksum {
        /// Stored sum.
        expected: u32,
        /// Sum of the bytes found.
        found: u32,
    },
}

/// Wraps `payload` for storage under `key`. Copies it once.
pub(crate) fn seal(keyspace: Keyspace, key: &[u8], payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(FRAME_BYTES + payload.len());
    frame.put_u8(FORMAT);
    frame.put_u32_le(checksum(keyspace, key, payload));
    frame.put_slice(payload);
    frame.freeze()
}

/// Checks a frame and returns its payload, without a copy.
///
/// # Errors
/// See [`FrameError`]; the payload of a bad frame is not available by design.
pub(crate) fn open(keyspace: Keyspace, key: &[u8], frame: &Bytes) -> Result<Bytes, FrameError> {
    payload(keyspace, key, frame)?;
    Ok(frame.slice(FRAME_BYTES..))
}

/// Checks a frame in place and returns its payload.
///
/// # Errors
/// See [`FrameError`].
pub(crate) fn payload<'a>(
    keyspace: Keyspace,
    key: &[u8],
    frame: &'a [u8],
) -> Result<&'a [u8], FrameError> {
    let Some((&[format, a, b, c, d], payload)) = frame.split_first_chunk::<FRAME_BYTES>() else {
        return Err(FrameError::Short { len: frame.len() });
    };
    if format != FORMAT {
        return Err(FrameError::Format { found: format });
    }
    let expected = u32::from_le_bytes([a, b, c, d]);
    let found = checksum(keyspace, key, payload);
    if found != expected {
        return Err(FrameError::Checksum { expected, found });
    }
    Ok(payload)
}

/// The key's length is covered too: without it, a byte could move from key to payload unseen.
fn checksum(keyspace: Keyspace, key: &[u8], payload: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&[FORMAT, keyspace.tag()]);
    sum.update(&(key.len() as u64).to_le_bytes());
    sum.update(key);
    sum.update(payload);
    sum.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_sealed_opens(key: Vec<u8>, payload: Vec<u8>) {
            let frame = seal(Keyspace::Records, &key, &payload);
            prop_assert_eq!(open(Keyspace::Records, &key, &frame).expect("intact"), payload);
        }

        #[test]
        fn any_flipped_bit_is_seen(key: Vec<u8>, payload: Vec<u8>, at: prop::sample::Index, bit in 0u8..8) {
            let mut frame = seal(Keyspace::Records, &key, &payload).to_vec();
            let at = at.index(frame.len());
            frame[at] ^= 1 << bit;
            prop_assert!(open(Keyspace::Records, &key, &frame.into()).is_err());
        }

        #[test]
        fn a_frame_fits_only_its_own_key(key: Vec<u8>, other: Vec<u8>, payload: Vec<u8>) {
            prop_assume!(key != other);
            let frame = seal(Keyspace::Records, &key, &payload);
            prop_assert!(open(Keyspace::Records, &other, &frame).is_err());
            prop_assert!(open(Keyspace::Hints, &key, &frame).is_err());
        }
    }

    #[test]
    fn the_format_is_frozen() {
        let frame = seal(Keyspace::Records, b"key", b"payload");
        assert_eq!(frame[0], 1);
        assert_eq!(frame.len(), FRAME_BYTES + 7);
        assert_eq!(frame[1..5], [228, 127, 44, 167]);
    }

    #[test]
    fn a_stub_is_not_a_frame() {
        assert_eq!(
            payload(Keyspace::Meta, b"k", &[1, 2]),
            Err(FrameError::Short { len: 2 })
        );
    }
}
