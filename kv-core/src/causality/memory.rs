//! The requests whose values a record no longer holds, so that a late retry is recognised and not run again.
//!
//! Place: pure; part of [`super::Record`], outside its causal hash: replicas may differ here and still agree.
//! Shape: at most [`REMEMBERED_REQUESTS_MAX`] entries, the most recently superseded ones, sorted by request.
//! Invariants: 1. one entry per request. 2. merging is commutative, associative and idempotent.
//! Not here: requests whose values are still siblings; those remember themselves.

use std::cmp::{Ordering, Reverse};

use super::{Dot, RequestId};

/// How many superseded requests one record remembers. At about 12 bytes each on disk this bounds the memory of a hot key to 1 KiB;
/// a retry that arrives after 64 later writes of the same key may be taken for a new write.
pub const REMEMBERED_REQUESTS_MAX: usize = 64;

/// One superseded request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// The client's name for the write.
    pub request: RequestId,
    /// The dot under which the write was stored.
    pub dot: Dot,
    /// When it was superseded, in milliseconds since 1970.
    pub superseded_unix_ms: u64,
}

impl Remembered {
    /// Of two entries for one request, and of too many entries, the one with the greater rank stays.
    fn rank(&self) -> (u64, Reverse<Dot>, RequestId) {
        (self.superseded_unix_ms, Reverse(self.dot), self.request)
    }
}

/// The remembered requests of one record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestMemory {
    entries: Vec<Remembered>,
}

impl RequestMemory {
    /// Gathers entries in any order, as they come from disk or wire; surplus ones are dropped, oldest first.
    #[must_use]
    pub fn from_entries(entries: impl IntoIterator<Item = Remembered>) -> RequestMemory {
        let mut memory = RequestMemory {
            entries: entries.into_iter().collect(),
        };
        memory.normalise();
        memory
    }

    /// Adds one entry. A request that asked for no memory is not kept.
    pub fn remember(&mut self, entry: Remembered) {
        if !entry.request.is_remembered() {
            return;
        }
        let place = self
            .entries
            .binary_search_by(|held| held.request.cmp(&entry.request));
        match place {
            Ok(index) => {
                let held = &mut self.entries[index];
                if entry.rank() > held.rank() {
                    *held = entry;
                }
            }
            Err(index) => {
                self.entries.insert(index, entry);
                self.drop_surplus();
            }
        }
    }

    /// The dot under which a request was stored, if it is remembered.
    #[must_use]
    pub fn dot_of(&self, request: &RequestId) -> Option<Dot> {
        let found = self
            .entries
            .binary_search_by(|entry| entry.request.cmp(request));
        found.ok().map(|index| self.entries[index].dot)
    }

    /// Adds what `other` remembers; true when that changed anything.
    pub fn merge(&mut self, other: &RequestMemory) -> bool {
        if other.entries.is_empty() || self.entries == other.entries {
            return false;
        }
        let joined = join(&self.entries, &other.entries);
        let before = std::mem::replace(&mut self.entries, joined);
        self.drop_surplus();
        self.entries != before
    }

    /// Drops what was superseded before `unix_ms`, that is, longer ago than `request_memory`.
    pub fn forget_before(&mut self, unix_ms: u64) {
        self.entries
            .retain(|entry| entry.superseded_unix_ms >= unix_ms);
    }

    /// The entries, sorted by request.
    #[must_use]
    pub fn entries(&self) -> &[Remembered] {
        &self.entries
    }

    /// True when nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn normalise(&mut self) {
        let is_sorted = |pair: &[Remembered]| pair[0].request < pair[1].request;
        if !self.entries.windows(2).all(is_sorted) {
            let entries = &mut self.entries;
            entries.sort_unstable_by_key(|entry| (entry.request, Reverse(entry.rank())));
            entries.dedup_by_key(|entry| entry.request);
        }
        self.drop_surplus();
    }

    /// Drops the oldest entries above the cap. One at a time is the usual case, and cheap.
    fn drop_surplus(&mut self) {
        let surplus = self.entries.len().saturating_sub(REMEMBERED_REQUESTS_MAX);
        if surplus > 1 {
            let mut ranks: Vec<_> = self.entries.iter().map(Remembered::rank).collect();
            let (_, smallest_kept, _) = ranks.select_nth_unstable(surplus);
            let smallest_kept = *smallest_kept;
            self.entries.retain(|entry| entry.rank() >= smallest_kept);
        } else if surplus == 1 {
            let ranked = self.entries.iter().enumerate();
            let oldest = ranked.min_by_key(|(_, entry)| entry.rank());
            if let Some((index, _)) = oldest {
                self.entries.remove(index);
            }
        }
    }
}

/// Both sorted lists as one; of two entries for one request the one with the greater rank.
fn join(left: &[Remembered], right: &[Remembered]) -> Vec<Remembered> {
    let mut joined = Vec::with_capacity(left.len().max(right.len()) + 1);
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    loop {
        let side = match (left.peek(), right.peek()) {
            (None, None) => return joined,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(left), Some(right)) => left.request.cmp(&right.request),
        };
        let ours = side.is_le().then(|| left.next()).flatten();
        let theirs = side.is_ge().then(|| right.next()).flatten();
        joined.extend(
            ours.into_iter()
                .chain(theirs)
                .max_by_key(|entry| entry.rank()),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::ActorId;
    use super::*;
    use proptest::prelude::*;

    fn remembered(sequence: u64, counter: u64, superseded_unix_ms: u64) -> Remembered {
        Remembered {
            request: RequestId {
                client: [1; 16],
                sequence,
            },
            dot: Dot {
                actor: ActorId::from_bytes([2; 16]),
                counter,
            },
            superseded_unix_ms,
        }
    }

    fn memory() -> impl Strategy<Value = RequestMemory> {
        // More distinct requests than fit, so that the cap takes part in the laws.
        let entry = (1..100u64, 1..4u64, 0..50u64);
        prop::collection::vec(entry.prop_map(|(s, c, t)| remembered(s, c, t)), 0..120)
            .prop_map(RequestMemory::from_entries)
    }

    fn merged(left: &RequestMemory, right: &RequestMemory) -> RequestMemory {
        let mut result = left.clone();
        result.merge(right);
        result
    }

    proptest! {
        #[test]
        fn merge_is_a_join_even_at_the_cap(a in memory(), b in memory(), c in memory()) {
            prop_assert!(a.entries().len() <= REMEMBERED_REQUESTS_MAX);
            prop_assert_eq!(merged(&a, &b), merged(&b, &a));
            prop_assert_eq!(merged(&a, &a), a.clone());
            prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
        }
    }

    #[test]
    fn the_cap_drops_the_oldest() {
        let mut memory = RequestMemory::default();
        for sequence in 1..=65 {
            memory.remember(remembered(sequence, sequence, 1_000 + sequence));
        }
        assert_eq!(memory.entries().len(), REMEMBERED_REQUESTS_MAX);
        assert_eq!(memory.dot_of(&remembered(1, 0, 0).request), None);
        assert_eq!(
            memory.dot_of(&remembered(2, 0, 0).request).unwrap().counter,
            2
        );
        memory.forget_before(1_065);
        assert_eq!(memory.entries().len(), 1);
    }

    #[test]
    fn a_request_that_asked_for_no_memory_is_not_kept() {
        let mut memory = RequestMemory::default();
        memory.remember(remembered(0, 1, 5));
        assert!(memory.is_empty());
    }
}
