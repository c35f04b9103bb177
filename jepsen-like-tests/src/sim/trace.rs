//! One number for everything that happened.
//!
//! Every piece of bytes that a simulated machine receives is folded in, with who received it, from whom and when.
//! Two runs with one number were the same run; the first difference between two runs changes everything after it.
//!
//! Place: fed by [`super::network`]; read when a run is over.

use std::sync::Arc;

use parking_lot::Mutex;

/// The hash so far. Clones are the same trace.
#[derive(Clone, Debug, Default)]
pub(super) struct Trace(Arc<Mutex<Folded>>);

#[derive(Debug, Default)]
struct Folded {
    hash: u64,
    pieces: u64,
}

impl Trace {
    /// Folds in a piece of bytes.
    pub(super) fn received(&self, to: &str, from: &str, time_ns: u64, bytes: &[u8]) {
        let mut folded = self.0.lock();
        folded.pieces += 1;
        let mut hash = folded.hash;
        for word in [
            time_ns,
            u64::from(checksum(to.as_bytes())),
            u64::from(checksum(from.as_bytes())),
            bytes.len() as u64,
            u64::from(checksum(bytes)),
        ] {
            hash = mix(hash ^ word);
        }
        folded.hash = hash;
    }

    /// Hash and number of pieces.
    pub(super) fn sum(&self) -> (u64, u64) {
        let folded = self.0.lock();
        (folded.hash, folded.pieces)
    }
}

/// The trace's hash together with what clients wrote down.
pub(super) fn with_history(hash: u64, history: &[u8]) -> u64 {
    mix(hash ^ u64::from(checksum(history)))
}

fn checksum(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// The finaliser of `SplitMix64`.
pub(super) fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_piece_counts() {
        let sum = |to: &str, from: &str, time: u64, bytes: &[u8]| {
            let trace = Trace::default();
            trace.received(to, from, time, bytes);
            trace.sum().0
        };
        let first = sum("n1", "n2", 5, b"abc");
        assert_eq!(first, sum("n1", "n2", 5, b"abc"));
        let others = [
            sum("n2", "n1", 5, b"abc"),
            sum("n1", "n2", 6, b"abc"),
            sum("n1", "n2", 5, b"abd"),
            sum("n1", "n2", 5, b"ab"),
            with_history(first, b"x"),
        ];
        assert!(others.iter().all(|other| *other != first));
    }

    #[test]
    fn order_counts() {
        let sum = |pieces: [&[u8]; 2]| {
            let trace = Trace::default();
            for piece in pieces {
                trace.received("n1", "n2", 1, piece);
            }
            trace.sum()
        };
        assert_ne!(sum([b"a", b"b"]), sum([b"b", b"a"]));
    }
}
