//! The set of writes somebody has seen, in little space: a version vector, plus loose dots where it would lie.
//!
//! The picture: a reader's bookmark. "All of Ann's up to page 40" is the vector; "and Bob's page 7" is a loose dot,
//! which says nothing about Bob's pages 1 to 6.
//!
//! Place: pure; part of [`super::Record`], and the opaque token that clients hand back.
//! Source: Preguiça et al., Dotted Version Vectors (2010); `ricardobcl/Dotted-Version-Vectors: src/dvvset.erl`.
//! Shape: both lists sorted by actor and counter; three actors fit without allocation.
//! Invariants: 1. canonical: no zero counters in the vector, no loose dot that the vector covers.
//! 2. a loose dot never implies lower counters, and is never folded into the vector for being the next number:
//! counters are per actor, so under one key a gap is no proof of anything.
//! Not here: the proof under which loose dots may be folded (`crate::tombstone`).

use std::fmt;

use smallvec::SmallVec;

use super::{ActorId, Dot, Stamp};

/// A summary of writes seen; opaque to clients.
///
/// Beside the dots it carries the newest [`Stamp`] among them, so that a coordinator that holds nothing under the key
/// still dates a write after everything that its client had read.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CausalContext {
    vector: SmallVec<[Dot; 3]>,
    loose: Vec<Dot>,
    newest: Stamp,
}

impl CausalContext {
    /// The context that has seen nothing.
    #[must_use]
    pub fn new() -> CausalContext {
        CausalContext::default()
    }

    /// Builds a context from parts in any order, as they come from disk or wire.
    ///
    /// Of two vector entries for one actor the greater counts; counters of zero mean nothing and are dropped.
    #[must_use]
    pub fn from_parts(
        vector: impl IntoIterator<Item = (ActorId, u64)>,
        loose: impl IntoIterator<Item = Dot>,
        newest: Stamp,
    ) -> CausalContext {
        let mut context = CausalContext {
            vector: SmallVec::new(),
            loose: loose.into_iter().filter(|dot| dot.counter > 0).collect(),
            newest,
        };
        for (actor, counter) in vector {
            if counter > 0 {
                context.raise(Dot { actor, counter });
            }
        }
        context.loose.sort_unstable();
        context.loose.dedup();
        context.drop_covered();
        context
    }

    /// For each actor of the vector, sorted, the counter up to which all of its writes to this key were seen.
    pub fn vector(&self) -> impl ExactSizeIterator<Item = (ActorId, u64)> + '_ {
        self.vector.iter().map(|entry| (entry.actor, entry.counter))
    }

    /// The dots seen singly, sorted.
    #[must_use]
    pub fn loose(&self) -> &[Dot] {
        &self.loose
    }

    /// The newest stamp among the writes seen; [`Stamp::ZERO`] when there are none.
    #[must_use]
    pub const fn newest_stamp(&self) -> Stamp {
        self.newest
    }

    /// True when no write was seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.vector.is_empty() && self.loose.is_empty()
    }

    /// True when the write named by `dot` was seen.
    #[must_use]
    pub fn contains(&self, dot: Dot) -> bool {
        dot.counter <= self.counter_of(dot.actor) || self.loose.binary_search(&dot).is_ok()
    }

    /// Adds one write, saying nothing about its actor's earlier ones.
    pub fn insert(&mut self, dot: Dot) {
        if dot.counter > self.counter_of(dot.actor)
            && let Err(index) = self.loose.binary_search(&dot)
        {
            self.loose.insert(index, dot);
        }
    }

    /// Adds one write *and all earlier ones of its actor under this key*.
    ///
    /// Only the actor itself may say so, and only while it holds the whole record: see [`super::Mint::Vector`].
    pub fn insert_with_predecessors(&mut self, dot: Dot) {
        self.raise(dot);
        self.drop_covered();
    }

    /// Takes every loose dot for the last of a whole stretch: "and all earlier ones of its actor under this key".
    ///
    /// Only true when no dot of those actors that is missing here can still arrive, which is what a round of
    /// `crate::tombstone` proves.
    pub fn fold_loose(&mut self) {
        for dot in std::mem::take(&mut self.loose) {
            self.raise(dot);
        }
    }

    /// Remembers the date of a write seen.
    pub fn observe_stamp(&mut self, stamp: Stamp) {
        self.newest = self.newest.max(stamp);
    }

    /// Adds everything that `other` has seen.
    pub fn merge(&mut self, other: &CausalContext) {
        for &entry in &other.vector {
            self.raise(entry);
        }
        for &dot in &other.loose {
            self.insert(dot);
        }
        self.drop_covered();
        self.newest = self.newest.max(other.newest);
    }

    /// True when everything that `other` has seen was seen here too.
    ///
    /// Loose dots never prove a whole stretch: `{a1, a2}` one by one does not dominate "all of a up to 2".
    #[must_use]
    pub fn dominates(&self, other: &CausalContext) -> bool {
        let whole = |entry: &Dot| entry.counter <= self.counter_of(entry.actor);
        other.vector.iter().all(whole) && other.loose.iter().all(|&dot| self.contains(dot))
    }

    /// True when both have seen the same writes. Unlike `==` it ignores stamps, which are no causal state.
    #[must_use]
    pub fn has_same_dots(&self, other: &CausalContext) -> bool {
        self.vector == other.vector && self.loose == other.loose
    }

    /// About how many bytes this takes on disk and on the wire.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        (self.vector.len() + self.loose.len()) * 24 + 8
    }

    fn counter_of(&self, actor: ActorId) -> u64 {
        match self
            .vector
            .binary_search_by_key(&actor, |entry| entry.actor)
        {
            Ok(index) => self.vector[index].counter,
            Err(_) => 0,
        }
    }

    fn raise(&mut self, dot: Dot) {
        match self
            .vector
            .binary_search_by_key(&dot.actor, |entry| entry.actor)
        {
            Ok(index) => {
                let entry = &mut self.vector[index];
                entry.counter = entry.counter.max(dot.counter);
            }
            Err(index) => self.vector.insert(index, dot),
        }
    }

    fn drop_covered(&mut self) {
        let mut loose = std::mem::take(&mut self.loose);
        loose.retain(|dot| dot.counter > self.counter_of(dot.actor));
        self.loose = loose;
    }
}

impl fmt::Debug for CausalContext {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("{")?;
        for entry in &self.vector {
            write!(formatter, " {:?}≤{}", entry.actor, entry.counter)?;
        }
        for dot in &self.loose {
            write!(formatter, " {dot:?}")?;
        }
        write!(formatter, " | {} }}", self.newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn dot(actor: u8, counter: u64) -> Dot {
        Dot {
            actor: ActorId::from_bytes([actor; 16]),
            counter,
        }
    }

    fn context() -> impl Strategy<Value = CausalContext> {
        let vector = prop::collection::vec((0..4u8, 0..6u64), 0..5);
        let loose = prop::collection::vec((0..4u8, 0..9u64), 0..8);
        (vector, loose, 0..9u64).prop_map(|(vector, loose, newest)| {
            CausalContext::from_parts(
                vector
                    .into_iter()
                    .map(|(a, c)| (ActorId::from_bytes([a; 16]), c)),
                loose.into_iter().map(|(a, c)| dot(a, c)),
                Stamp::from_bits(newest),
            )
        })
    }

    /// The meaning of a context, written out.
    fn seen(context: &CausalContext) -> BTreeSet<Dot> {
        let all = (0..4).flat_map(|actor| (1..12).map(move |counter| dot(actor, counter)));
        all.filter(|&dot| context.contains(dot)).collect()
    }

    fn merged(left: &CausalContext, right: &CausalContext) -> CausalContext {
        let mut result = left.clone();
        result.merge(right);
        result
    }

    proptest! {
        #[test]
        fn merge_is_a_join(a in context(), b in context(), c in context()) {
            prop_assert_eq!(merged(&a, &b), merged(&b, &a));
            prop_assert_eq!(merged(&a, &a), a.clone());
            prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
            prop_assert!(merged(&a, &b).dominates(&a));
        }

        #[test]
        fn merge_sees_the_union_and_nothing_else(a in context(), b in context()) {
            let union: BTreeSet<Dot> = seen(&a).union(&seen(&b)).copied().collect();
            prop_assert_eq!(seen(&merged(&a, &b)), union);
        }

        #[test]
        fn dominating_implies_having_seen(a in context(), b in context()) {
            if a.dominates(&b) {
                prop_assert!(seen(&a).is_superset(&seen(&b)));
                prop_assert!(merged(&a, &b).has_same_dots(&a));
            } else {
                prop_assert!(!merged(&a, &b).has_same_dots(&a));
            }
        }

        #[test]
        fn insert_adds_exactly_one(a in context(), actor in 0..4u8, counter in 1..11u64) {
            let mut after = a.clone();
            after.insert(dot(actor, counter));
            let mut expected = seen(&a);
            expected.insert(dot(actor, counter));
            prop_assert_eq!(seen(&after), expected);
        }
    }

    #[test]
    fn folding_takes_the_stretch_for_seen() {
        let mut context = CausalContext::from_parts(
            [(dot(1, 0).actor, 2)],
            [dot(1, 4), dot(2, 3), dot(2, 7)],
            Stamp::from_bits(5),
        );
        let before = context.clone();
        context.fold_loose();
        assert!(context.loose().is_empty() && context.dominates(&before));
        let stretches: Vec<_> = context.vector().map(|(_, counter)| counter).collect();
        assert_eq!(stretches, [4, 7]);
        assert_eq!(context.newest_stamp(), before.newest_stamp());
        // Replicas that have not folded yet agree as soon as they merge.
        assert_eq!(merged(&before, &context), context);
    }

    #[test]
    fn loose_dots_stay_loose_even_without_a_gap() {
        let mut context = CausalContext::new();
        context.insert_with_predecessors(dot(1, 2));
        context.insert(dot(1, 3));
        assert_eq!(context.loose(), [dot(1, 3)]);
        context.insert_with_predecessors(dot(1, 4));
        assert!(context.loose().is_empty());
        assert_eq!(context.vector().collect::<Vec<_>>(), [(dot(1, 4).actor, 4)]);
    }
}
