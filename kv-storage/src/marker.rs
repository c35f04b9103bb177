//! The note a store leaves when it closes in order: "I am done, and this is what I had".
//!
//! Place: written after the engine's last sync; taken away, durably, before the next opening
//! writes anything. This is the one module that speaks bincode.
//! Shape: CRC-32 (little endian) of the rest, then the bincode form of [`CloseNote`].
//! Invariants: a note that is missing, damaged or of another form counts as no note: the stop was
//! not orderly. Nothing else depends on it, so its form may change between versions.
//! Not here: what follows from an unclean stop (`crate::recovery`).

use serde::{Deserialize, Serialize};

/// What was there at an orderly close.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CloseNote {
    /// The number of the last group that was committed.
    pub(crate) last_group: u64,
    /// Bytes on disk, for a start-up that wants to say how much it is about to open.
    pub(crate) disk_bytes: u64,
}

impl CloseNote {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let body = bincode::serde::encode_to_vec(self, bincode::config::standard())
            .expect("two integers always have a bincode form");
        let mut note = crc32fast::hash(&body).to_le_bytes().to_vec();
        note.extend(body);
        note
    }

    pub(crate) fn decode(note: &[u8]) -> Option<Self> {
        let (sum, body) = note.split_first_chunk::<4>()?;
        if crc32fast::hash(body) != u32::from_le_bytes(*sum) {
            return None;
        }
        let decoded = bincode::serde::decode_from_slice(body, bincode::config::standard());
        let (note, read) = decoded.ok()?;
        (read == body.len()).then_some(note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_note_is_read_back_and_a_damaged_one_is_none(
            last_group: u64, disk_bytes: u64, at: prop::sample::Index, bit in 0u8..8,
        ) {
            let note = CloseNote { last_group, disk_bytes };
            let mut bytes = note.encode();
            prop_assert_eq!(CloseNote::decode(&bytes), Some(note));
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(CloseNote::decode(&bytes), None);
        }
    }
}
