//! A set of changes that happens as a whole or not at all, like the lines of one receipt.
//!
//! Place: pure; built by callers, merged by the writer, executed by an engine.
//! Invariants: 1. values are sealed on entry (`crate::frame`), in the caller's task, so that the
//! one writer does not pay for every caller's checksum. 2. a merged list is ordered by keyspace
//! and key and names each key once: the last change wins, within a batch and across batches in
//! the order of submission.
//! Not here: when the batch reaches the disk (`crate::writer`).

use bytes::Bytes;

use crate::error::NotWritten;
use crate::{Keyspace, frame};

/// Longest key, in bytes. The shortest is 1. The narrower of the engines sets it.
pub const KEY_BYTES_MAX: usize = 65_535;

/// Largest batch, in bytes as [`WriteBatch::bytes`] counts them.
pub const BATCH_BYTES_MAX: u64 = 64 << 20;

/// What one change costs beyond its key and value, as an estimate of engine overhead.
const CHANGE_OVERHEAD_BYTES: u64 = 32;

/// One change of one key. `value` is a sealed frame; `None` deletes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub keyspace: Keyspace,
    /// Which key.
    pub key: Bytes,
    /// The sealed value, or `None` for a delete.
    pub value: Option<Bytes>,
}

/// An ordered list of changes that is applied atomically.
#[derive(Debug, Clone, Default)]
pub struct WriteBatch {
    changes: Vec<Change>,
    bytes: u64,
    puts: usize,
    may_use_reserve: bool,
}

impl WriteBatch {
    /// An empty batch. Committing it changes nothing and waits for everything submitted earlier.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key` to `value`. The value is copied into its frame; the key is kept as given, so
    /// pass an owned one rather than a small slice of a large buffer.
    pub fn put(&mut self, keyspace: Keyspace, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        let key = key.into();
        let value = frame::seal(keyspace, &key, &value.into());
        self.puts += 1;
        self.push(Change {
            keyspace,
            key,
            value: Some(value),
        });
    }

    /// Removes `key`. Removing a missing key is no error.
    pub fn delete(&mut self, keyspace: Keyspace, key: impl Into<Bytes>) {
        self.push(Change {
            keyspace,
            key: key.into(),
            value: None,
        });
    }

    /// Lets this batch use the space kept back for a full disk. For work that frees space in the
    /// end: tombstones, hint delivery, moves away. Batches of deletes alone have it anyway.
    #[must_use]
    pub fn using_reserve(mut self) -> Self {
        self.may_use_reserve = true;
        self
    }

    /// Size in bytes: keys, sealed values and an estimate for each change's overhead.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Number of changes.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether there are no changes.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The changes in the order they were added.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    pub(crate) fn may_use_reserve(&self) -> bool {
        self.may_use_reserve || self.puts == 0
    }

    pub(crate) fn into_changes(self) -> Vec<Change> {
        self.changes
    }

    /// Refuses what no engine could store.
    pub(crate) fn check(&self) -> Result<(), NotWritten> {
        if self.bytes > BATCH_BYTES_MAX {
            return Err(NotWritten::TooLarge {
                bytes: self.bytes,
                bytes_max: BATCH_BYTES_MAX,
            });
        }
        for change in &self.changes {
            if change.key.is_empty() || change.key.len() > KEY_BYTES_MAX {
                return Err(NotWritten::KeyLength {
                    keyspace: change.keyspace,
                    len: change.key.len(),
                });
            }
            if change.keyspace == Keyspace::Store {
                return Err(NotWritten::Reserved);
            }
        }
        Ok(())
    }

    fn push(&mut self, change: Change) {
        let value_bytes = change.value.as_ref().map_or(0, Bytes::len);
        self.bytes += (change.key.len() + value_bytes) as u64 + CHANGE_OVERHEAD_BYTES;
        self.changes.push(change);
    }
}

/// Orders changes by keyspace and key and keeps the last one of each key.
///
/// Engines get sorted, unique keys: one of them numbers a whole batch alike and could not tell
/// two changes of one key apart, and sorted inserts are cheaper in all of them.
pub(crate) fn merge(mut changes: Vec<Change>) -> Vec<Change> {
    changes.sort_by(|a, b| (a.keyspace, &a.key).cmp(&(b.keyspace, &b.key)));
    changes.dedup_by(|later, kept| {
        let same = later.keyspace == kept.keyspace && later.key == kept.key;
        if same {
            std::mem::swap(later, kept);
        }
        same
    });
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn changes() -> impl Strategy<Value = Vec<(u8, u8, Option<u8>)>> {
        prop::collection::vec((1u8..4, 0u8..6, any::<Option<u8>>()), 0..40)
    }

    proptest! {
        /// Merging equals applying one by one to a map.
        #[test]
        fn the_last_change_of_a_key_wins(list in changes()) {
            let mut model = BTreeMap::new();
            let mut batch = WriteBatch::new();
            for (tag, key, value) in list {
                let keyspace = Keyspace::from_tag(tag).expect("in range");
                match value {
                    Some(value) => batch.put(keyspace, vec![key], vec![value]),
                    None => batch.delete(keyspace, vec![key]),
                }
                model.insert((keyspace, vec![key]), value.map(|v| frame::seal(keyspace, &[key], &[v])));
            }
            let merged: Vec<_> = merge(batch.into_changes())
                .into_iter()
                .map(|change| ((change.keyspace, change.key.to_vec()), change.value))
                .collect();
            prop_assert_eq!(merged, model.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn bad_keys_are_refused_before_the_engine_sees_them() {
        fn check(keyspace: Keyspace, key: Vec<u8>, fits: bool) {
            let mut batch = WriteBatch::new();
            batch.put(keyspace, key, "v");
            assert_eq!(batch.check().is_ok(), fits);
        }
        check(Keyspace::Records, vec![1], true);
        check(Keyspace::Records, vec![1; KEY_BYTES_MAX], true);
        check(Keyspace::Records, vec![], false);
        check(Keyspace::Records, vec![1; KEY_BYTES_MAX + 1], false);
        check(Keyspace::Store, vec![1], false);
    }

    #[test]
    fn only_deletes_and_the_willing_may_use_the_reserve() {
        let mut batch = WriteBatch::new();
        batch.delete(Keyspace::Records, "a");
        assert!(batch.may_use_reserve());
        batch.put(Keyspace::Records, "a", "b");
        assert!(!batch.may_use_reserve());
        assert!(batch.using_reserve().may_use_reserve());
    }
}
