//! Reading many rows in key order, a page at a time.
//!
//! Place: pure; asked of [`crate::Store::scan`].
//! Shape: a page ends at its row limit or its byte limit, whichever comes first, and says whether
//! more rows follow; the next page starts [`Scan::after`] the last key.
//! Invariants: 1. a page shows one moment: no batch is half in it. 2. a damaged row is named in its
//! place and never served. 3. a page holds at least one row if there is one.

use std::ops::{Bound, RangeBounds};

use bytes::Bytes;

use crate::{Keyspace, StorageError};

/// Rows of a page when the caller names no limit.
pub const SCAN_ROWS_DEFAULT: usize = 1_000;
/// Most rows of a page.
pub const SCAN_ROWS_MAX: usize = 100_000;
/// Key and value bytes of a page when the caller names no limit.
pub const SCAN_BYTES_DEFAULT: usize = 16 << 20;

/// Keys of one keyspace between two bounds, in one direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// Where.
    pub keyspace: Keyspace,
    /// Lower bound.
    pub start: Bound<Bytes>,
    /// Upper bound.
    pub end: Bound<Bytes>,
    /// Greatest key first.
    pub reverse: bool,
}

impl KeyRange {
    /// Whether no key can lie inside. Engines may panic on inverted bounds, so this is asked first.
    pub fn is_void(&self) -> bool {
        let (Bound::Included(start) | Bound::Excluded(start)) = &self.start else {
            return false;
        };
        let (Bound::Included(end) | Bound::Excluded(end)) = &self.end else {
            return false;
        };
        let both_included = matches!(
            (&self.start, &self.end),
            (Bound::Included(_), Bound::Included(_))
        );
        start > end || (start == end && !both_included)
    }
}

/// A request for one page of rows.
#[derive(Debug, Clone)]
pub struct Scan {
    pub(crate) range: KeyRange,
    pub(crate) rows_max: usize,
    pub(crate) bytes_max: usize,
}

impl Scan {
    /// Every key of a keyspace.
    pub fn all(keyspace: Keyspace) -> Self {
        Self::range::<&[u8]>(keyspace, ..)
    }

    /// The keys within `bounds`.
    pub fn range<K: AsRef<[u8]>>(keyspace: Keyspace, bounds: impl RangeBounds<K>) -> Self {
        let own = |key: &K| Bytes::copy_from_slice(key.as_ref());
        let range = KeyRange {
            keyspace,
            start: bounds.start_bound().map(own),
            end: bounds.end_bound().map(own),
            reverse: false,
        };
        Self {
            range,
            rows_max: SCAN_ROWS_DEFAULT,
            bytes_max: SCAN_BYTES_DEFAULT,
        }
    }

    /// The keys that begin with `prefix`.
    pub fn prefix(keyspace: Keyspace, prefix: impl AsRef<[u8]>) -> Self {
        let prefix = prefix.as_ref();
        let mut scan = Self::all(keyspace);
        scan.range.start = Bound::Included(Bytes::copy_from_slice(prefix));
        scan.range.end = prefix_end(prefix).map_or(Bound::Unbounded, Bound::Excluded);
        scan
    }

    /// Greatest key first.
    #[must_use]
    pub fn reversed(mut self) -> Self {
        self.range.reverse = true;
        self
    }

    /// At most `rows` rows, 1 to [`SCAN_ROWS_MAX`]; values outside are moved to the nearer end.
    #[must_use]
    pub fn limit(mut self, rows: usize) -> Self {
        self.rows_max = rows.clamp(1, SCAN_ROWS_MAX);
        self
    }

    /// At most `bytes` of keys and values, except that the first row always fits.
    #[must_use]
    pub fn bytes_max(mut self, bytes: usize) -> Self {
        self.bytes_max = bytes;
        self
    }

    /// Continues behind `key`, in the direction of the scan. Call it after [`Scan::reversed`].
    #[must_use]
    pub fn after(mut self, key: impl AsRef<[u8]>) -> Self {
        let behind = Bound::Excluded(Bytes::copy_from_slice(key.as_ref()));
        if self.range.reverse {
            self.range.end = behind;
        } else {
            self.range.start = behind;
        }
        self
    }
}

/// One row of a page.
#[derive(Debug)]
pub struct ScanRow {
    /// The key.
    pub key: Bytes,
    /// The value, or [`StorageError::Corrupt`].
    pub value: Result<Bytes, StorageError>,
}

/// Some rows in the order asked for.
#[derive(Debug, Default)]
pub struct ScanPage {
    /// The rows.
    pub rows: Vec<ScanRow>,
    /// Whether rows follow behind the last one.
    pub more: bool,
}

/// The first key behind all keys with `prefix`, if there is one.
fn prefix_end(prefix: &[u8]) -> Option<Bytes> {
    let last = prefix.iter().rposition(|&byte| byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_prefix_range_holds_exactly_the_keys_with_the_prefix(
            prefix in prop::collection::vec(prop::sample::select(vec![0u8, 7, 254, 255]), 0..4),
            key in prop::collection::vec(prop::sample::select(vec![0u8, 7, 8, 254, 255]), 0..6),
        ) {
            let range = Scan::prefix(Keyspace::Records, &prefix).range;
            let inside = (range.start, range.end).contains(&Bytes::from(key.clone()));
            prop_assert_eq!(inside, key.starts_with(&prefix));
        }
    }

    #[test]
    fn inverted_ranges_are_void() {
        fn check(start: Bound<&str>, end: Bound<&str>, void: bool) {
            let range = Scan::range::<&str>(Keyspace::Records, (start, end)).range;
            assert_eq!(range.is_void(), void, "{start:?} {end:?}");
        }
        use Bound::{Excluded, Included, Unbounded};
        check(Included("a"), Included("a"), false);
        check(Included("a"), Excluded("a"), true);
        check(Excluded("a"), Included("a"), true);
        check(Included("b"), Included("a"), true);
        check(Included("a"), Excluded("b"), false);
        check(Unbounded, Excluded("a"), false);
        check(Excluded("a"), Unbounded, false);
    }
}
