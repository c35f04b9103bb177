//! Finds where reading goes on behind bytes that cannot be read: feeling for the far side of a
//! pothole with a stick.
//!
//! An engine keeps rows in blocks. One bad block makes a walk fail at its first row and says
//! neither how far the block reaches nor what was in it. So we seek: further and further behind
//! the last good row until a seek finds a row again, then back by halves to the nearest such place.
//!
//! Place: pure; used by `crate::store` when the engine cannot read on.
//! Invariants: 1. every key strictly between the two ends of a [`Gap`] is unread; it is neither
//! there nor missing, but unknown. 2. the far end is a row that was read, or the end of the walk.
//! 3. at most one seek per byte of the near key and [`HALVINGS_MAX`] more.
//! Limits: between two bad blocks that lie close together good rows may be counted into one gap.
//! Not here: repair; the rows come back from other replicas (`souk_kv_node`).

use std::fmt;

use bytes::Bytes;

/// Seeks spent on narrowing a gap: each halves what is left of it, so that the far end is exact to
/// eight bytes behind the first byte in which its two ends differ.
const HALVINGS_MAX: usize = 64;

/// Keys of a keyspace that could not be read: those strictly between two ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The last key known before it; `None` if it reaches to the lower end of what was walked.
    pub after: Option<Bytes>,
    /// The first key known behind it; `None` if it reaches to the upper end of what was walked.
    pub before: Option<Bytes>,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.after, &self.before) {
            (None, None) => f.write_str("all keys"),
            (Some(after), None) => write!(f, "the keys after {after:?}"),
            (None, Some(before)) => write!(f, "the keys before {before:?}"),
            (Some(after), Some(before)) => write!(f, "the keys between {after:?} and {before:?}"),
        }
    }
}

/// What a seek to the first row at or behind a place found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seek {
    /// A row with this key.
    Row(Bytes),
    /// No row up to the end of the walk.
    End,
    /// Unreadable.
    Bad,
}

/// The first row behind `after` from which a walk goes on, or `None` if it goes on nowhere before
/// its end. `seek` looks at its argument and behind; at `after` itself it is bad.
pub(crate) fn resume(after: &[u8], mut seek: impl FnMut(&[u8]) -> Seek) -> Option<Bytes> {
    let mut bad = after.to_vec();
    let found = strides(after).find_map(|place| match seek(&place) {
        Seek::Bad => {
            bad.clone_from(&place);
            None
        }
        Seek::Row(key) => Some((place, Some(key))),
        Seek::End => Some((place, None)),
    });
    // No stride was long enough; the end of all keys is readable, for there is nothing to read.
    let (mut good, mut row) = found.unwrap_or_else(|| (vec![u8::MAX; after.len() + 9], None));
    for _ in 0..HALVINGS_MAX {
        let Some(place) = middle(&bad, &good) else {
            break;
        };
        match seek(&place) {
            Seek::Bad => bad = place,
            Seek::Row(key) => (good, row) = (place, Some(key)),
            Seek::End => (good, row) = (place, None),
        }
    }
    row
}

/// Places behind `after`, ever further away: the last byte that can be raised is raised by one and
/// what follows it is cut off, then the one before it. The first is the nearest place of all, the
/// key's direct successor.
fn strides(after: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let successor = [after, &[0]].concat();
    let raised = (0..after.len()).rev().filter_map(|at| {
        let mut place = after[..=at].to_vec();
        place[at] = place[at].checked_add(1)?;
        Some(place)
    });
    std::iter::once(successor).chain(raised)
}

/// A place strictly between two, about in the middle; `None` if they are too close together.
/// Keys are read as binary fractions, to nine bytes behind the first one in which they differ.
fn middle(low: &[u8], high: &[u8]) -> Option<Vec<u8>> {
    let common = low.iter().zip(high).take_while(|(a, b)| a == b).count();
    let digits = |key: &[u8]| {
        (common..common + 9).fold(0u128, |value, at| {
            value << 8 | u128::from(key.get(at).copied().unwrap_or(0))
        })
    };
    let half = (digits(low) + digits(high)) / 2;
    let mut place = high.get(..common)?.to_vec();
    place.extend_from_slice(&half.to_be_bytes()[16 - 9..]);
    while place.len() > common + 1 && place.last() == Some(&0) {
        place.pop();
    }
    (low < place.as_slice() && place.as_slice() < high).then_some(place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Rows of which those in `bad` lie in one unreadable block: a seek that lands in the block
    /// fails, whichever of its rows it is after.
    fn seek(rows: &BTreeSet<Vec<u8>>, bad: &BTreeSet<Vec<u8>>, place: &[u8]) -> Seek {
        match rows.range(place.to_vec()..).next() {
            None => Seek::End,
            Some(row) if bad.contains(row) => Seek::Bad,
            Some(row) => Seek::Row(row.clone().into()),
        }
    }

    proptest! {
        /// With one bad block the walk goes on exactly at the first row behind it.
        #[test]
        fn the_far_end_of_one_bad_block_is_exact(
            rows in prop::collection::btree_set(prop::collection::vec(any::<u8>(), 1..6), 3..60),
            from: prop::sample::Index, len in 1usize..20,
        ) {
            let from = 1 + from.index(rows.len() - 1);
            let bad: BTreeSet<_> = rows.iter().skip(from).take(len).cloned().collect();
            let after = rows.iter().nth(from - 1).expect("in range");
            let expected = rows.iter().nth(from + bad.len()).cloned().map(Bytes::from);
            let found = resume(after, |place| {
                assert!(place > after.as_slice(), "never backwards");
                seek(&rows, &bad, place)
            });
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn a_middle_lies_between(low: Vec<u8>, high: Vec<u8>) {
            prop_assume!(low < high);
            if let Some(middle) = middle(&low, &high) {
                prop_assert!(low < middle && middle < high);
            }
        }
    }

    /// From before the first key, where there is nothing yet to count from.
    #[test]
    fn a_bad_first_block_is_passed() {
        let rows: BTreeSet<_> = (0..=255u8).map(|byte| vec![byte, 7]).collect();
        for bad_rows in [1, 9, 200, 255] {
            let bad = rows.iter().take(bad_rows).cloned().collect();
            let found = resume(&[], |place| seek(&rows, &bad, place));
            assert_eq!(found.as_deref(), Some(&[bad_rows as u8, 7][..]));
        }
    }

    #[test]
    fn where_nothing_can_be_read_the_search_ends() {
        let mut seeks = 0;
        let found = resume(&[9; 40], |_| {
            seeks += 1;
            Seek::Bad
        });
        assert_eq!(found, None);
        assert!(seeks < 41 + HALVINGS_MAX + 1, "{seeks} seeks");
    }

    #[test]
    fn keys_with_a_long_common_head_are_told_apart() {
        let key = |number: u64| [&[b'k'; 100][..], &number.to_be_bytes()].concat();
        let rows: BTreeSet<_> = (0..2_000).map(|number| key(number * 1_000)).collect();
        let bad = rows.iter().skip(10).take(80).cloned().collect();
        let mut seeks = 0;
        let found = resume(&key(9_000), |place| {
            seeks += 1;
            seek(&rows, &bad, place)
        });
        assert_eq!(found.as_deref(), Some(&key(90_000)[..]));
        assert!(seeks < 109 + HALVINGS_MAX, "{seeks} seeks");
    }
}
