//! Walking what is stored to see whether it is still what was written, as a librarian goes along
//! the shelves and opens every book.
//!
//! Place: [`Store::verify_page`]; `souk_kv_node` walks with it in the background and repairs.
//! Shape: one page after the other, each as long as its caller wants, so that a walk can be slow,
//! stop, and go on from [`VerifiedPage::next`] after a restart.
//! Invariants: 1. every row that exists throughout the walk is checked, named in
//! [`VerifiedPage::corrupt`], or lies in one of [`VerifiedPage::gaps`]. 2. a walk ends, whatever
//! is damaged. 3. no value leaves here.
//! Not here: repair, pace and progress.

use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use bytes::Bytes;

use crate::gap::Gap;
use crate::store::Store;
use crate::{KeyRange, Keyspace, StorageError, frame};

/// What one page of a walk found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifiedPage {
    /// Rows that were read, damaged ones included.
    pub checked: usize,
    /// Bytes of keys and stored values that were read, for whoever paces the walk by bytes.
    pub bytes: u64,
    /// Rows that are damaged. Writing such a key again mends it.
    pub corrupt: Vec<CorruptRow>,
    /// Keys that could not be read at all, because a block of the engine is damaged. Writing keys
    /// again makes them readable one by one; walks keep meeting the block until the engine drops it.
    pub gaps: Vec<CorruptGap>,
    /// Where the next page goes on; `None` at the end of the keyspace.
    pub next: Option<Bytes>,
}

/// Says of a row's key and value what is wrong with them, if anything is.
pub type Judge<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), String> + 'a;

/// A row that fails its checksum, or its judge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorruptRow {
    /// Its key.
    pub key: Bytes,
    /// What is wrong with it.
    pub why: Arc<str>,
}

/// Keys that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorruptGap {
    /// Which.
    pub gap: Gap,
    /// What the engine said.
    pub why: Arc<str>,
}

impl Store {
    /// Reads up to `limit` rows (at least one) of `keyspace` behind the key `after`, or from its
    /// first row, and checks each; `judge` is asked about the key and the value of each whose checksum is
    /// right: what its reader can make no sense of is as damaged. Blocks the calling thread on the disk.
    ///
    /// ```no_run
    /// # fn walk(store: &souk_kv_storage::Store) -> Result<(), souk_kv_storage::StorageError> {
    /// let mut after = None;
    /// loop {
    ///     let page = store.verify_page(souk_kv_storage::Keyspace::Records, after.as_deref(), 1_000, &mut |_, _| Ok(()))?;
    ///     for row in page.corrupt {
    ///         println!("{:?}: {}", row.key, row.why);
    ///     }
    ///     after = page.next;
    ///     if after.is_none() {
    ///         return Ok(());
    ///     }
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`StorageError::Closed`]. Damage is no error here, it is what is looked for.
    pub fn verify_page(
        &self,
        keyspace: Keyspace,
        after: Option<&[u8]>,
        limit: usize,
        judge: &mut Judge<'_>,
    ) -> Result<VerifiedPage, StorageError> {
        let mut page = VerifiedPage::default();
        let mut room = limit.max(1);
        let mut last = after.map(Bytes::copy_from_slice);
        let mut start = last.clone().map_or(Bound::Unbounded, Bound::Excluded);
        loop {
            let range = KeyRange {
                keyspace,
                start,
                end: Bound::Unbounded,
                reverse: false,
            };
            let mut full = false;
            let walked = self.walk(&range, &mut |key, stored| {
                if room == 0 {
                    full = true;
                    return ControlFlow::Break(());
                }
                room -= 1;
                page.check(keyspace, key, stored, judge);
                last = Some(Bytes::copy_from_slice(key));
                ControlFlow::Continue(())
            })?;
            let Err(why) = walked else {
                page.next = full.then_some(last).flatten();
                return Ok(page);
            };
            let gap = self.gap_behind(&range, last.as_deref())?;
            last.clone_from(&gap.before);
            let why = why.to_string().into();
            page.gaps.push(CorruptGap { gap, why });
            let Some(behind) = last.clone() else {
                return Ok(page);
            };
            // A full page reads one row more, else the next page would meet the same gap again.
            room = room.max(1);
            start = Bound::Included(behind);
        }
    }
}

impl VerifiedPage {
    fn check(&mut self, keyspace: Keyspace, key: &[u8], stored: &[u8], judge: &mut Judge<'_>) {
        self.checked += 1;
        self.bytes += (key.len() + stored.len()) as u64;
        let found = frame::payload(keyspace, key, stored)
            .map_err(|why| why.to_string())
            .and_then(|value| judge(key, value));
        if let Err(why) = found {
            metrics::counter!("souk_storage_corrupt_reads_total", "keyspace" => keyspace.name())
                .increment(1);
            self.corrupt.push(CorruptRow {
                key: Bytes::copy_from_slice(key),
                why: why.into(),
            });
        }
    }
}
