//! The last step of a comparison: two sorted lists of keys, and what has to travel.
//!
//! Place: pure; used by [`super::MerkleExchange`].
//! Invariants: 1. equal lists give no moves. 2. a key whose states differ travels both ways: both sides merge.
//! 3. a tombstone that is being collected is never brought back to a replica that has erased it already.

use bytes::Bytes;

/// What a replica holds under one key, as the other one hears of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyState {
    /// The key under which the record is stored.
    pub key: Bytes,
    /// Its record's [`causal hash`](crate::causality::Record::causal_hash); `None` when the record is damaged.
    pub causal_hash: Option<u64>,
    /// It is a tombstone on its way out: the other replicas may have erased it.
    pub is_collecting: bool,
}

/// One key to be brought to agreement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyMove {
    /// The key.
    pub key: Bytes,
    /// What is to be done.
    pub kind: MoveKind,
    /// The causal hash that the other side named; `None` when it has no record.
    pub theirs: Option<u64>,
}

/// Which way a record travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveKind {
    /// Only this side has it: send it.
    Push,
    /// Only the other side has it: get it and merge.
    Fetch,
    /// Both have it and differ: get it, merge, and send the result if it is not what the other side has.
    Exchange,
    /// The copy here is damaged: mend it from all replicas, which is more than this one peer.
    MendHere,
}

/// Compares two lists sorted by key.
///
/// The other side's damaged records are passed over: it has seen them while it made the list, and mends them itself.
#[must_use]
pub fn compare_keys(own: &[KeyState], theirs: &[KeyState]) -> Vec<KeyMove> {
    let mut moves = Vec::new();
    let (mut own, mut theirs) = (own.iter().peekable(), theirs.iter().peekable());
    loop {
        let side = match (own.peek(), theirs.peek()) {
            (None, None) => return moves,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(own), Some(theirs)) => own.key.cmp(&theirs.key),
        };
        let here = side.is_le().then(|| own.next()).flatten();
        let there = side.is_ge().then(|| theirs.next()).flatten();
        let kind = match (here, there) {
            (Some(here), _) if here.causal_hash.is_none() => Some(MoveKind::MendHere),
            (_, Some(there)) if there.causal_hash.is_none() => None,
            (Some(here), None) => (!here.is_collecting).then_some(MoveKind::Push),
            (None, Some(there)) => (!there.is_collecting).then_some(MoveKind::Fetch),
            (Some(here), Some(there)) => {
                (here.causal_hash != there.causal_hash).then_some(MoveKind::Exchange)
            }
            (None, None) => None,
        };
        if let (Some(kind), Some(state)) = (kind, here.or(there)) {
            moves.push(KeyMove {
                key: state.key.clone(),
                kind,
                theirs: there.and_then(|there| there.causal_hash),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(key: &'static str, causal_hash: u64) -> KeyState {
        KeyState {
            key: Bytes::from_static(key.as_bytes()),
            causal_hash: Some(causal_hash),
            is_collecting: false,
        }
    }

    fn damaged(key: &'static str) -> KeyState {
        KeyState {
            causal_hash: None,
            ..state(key, 0)
        }
    }

    fn collecting(key: &'static str) -> KeyState {
        KeyState {
            is_collecting: true,
            ..state(key, 1)
        }
    }

    #[test]
    fn what_differs_travels_and_nothing_else() {
        fn check(own: &[KeyState], theirs: &[KeyState], expected: &[(&str, MoveKind)]) {
            let moves = compare_keys(own, theirs);
            let found: Vec<(&str, MoveKind)> = moves
                .iter()
                .map(|step| {
                    let key = std::str::from_utf8(&step.key).expect("the keys are words");
                    (key, step.kind)
                })
                .collect();
            assert_eq!(found, expected, "{own:?} {theirs:?}");
        }
        use MoveKind::{Exchange, Fetch, MendHere, Push};
        check(&[], &[], &[]);
        let same = [state("a", 1), state("b", 2)];
        check(&same, &same, &[]);
        check(&same, &[], &[("a", Push), ("b", Push)]);
        check(&[], &same, &[("a", Fetch), ("b", Fetch)]);
        check(
            &[state("a", 1), state("c", 3)],
            &[state("a", 2), state("b", 3)],
            &[("a", Exchange), ("b", Fetch), ("c", Push)],
        );
        check(&[damaged("a")], &[state("a", 2)], &[("a", MendHere)]);
        check(&[damaged("a")], &[], &[("a", MendHere)]);
        check(&[state("a", 2)], &[damaged("a")], &[]);
        // Erased there and not yet here, or the other way round.
        check(&[collecting("a")], &[], &[]);
        check(&[], &[collecting("a")], &[]);
        // Written again there: the collection is off.
        check(&[collecting("a")], &[state("a", 2)], &[("a", Exchange)]);
    }
}
