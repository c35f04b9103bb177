//! What a record is good for: still wanted, not ripe yet, or a candidate for one of the background changes.
//!
//! Place: pure; asked by the walk that looks for candidates, and by every primary before it marks one.
//! Invariants: 1. a clock can only delay an erasure here: whether it is safe, the round proves without one.
//! 2. a record with a value is never erasable, expired or not: an expired value is deleted first, by a write.
//! Not here: the round itself ([`super::Round`]).

use crate::causality::{Record, Sibling};

/// From how many loose dots on it is worth folding them.
pub const LOOSE_DOTS_FOLD_MIN: usize = 4;

/// How long a record has to lie still, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ripeness {
    /// `request_memory`: so long a retry has to be recognised, and the record is what remembers it.
    pub request_memory_ms: u64,
    /// `clock_skew_max`: so long after its deadline a value is expired by the clock of every node.
    pub clock_skew_max_ms: u64,
}

/// What may be done with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Nothing was ever stored.
    Nothing,
    /// It holds a value that is not expired, or not expired for everybody.
    Wanted,
    /// Deletes are all that is left, and a retry of one of its requests may still come.
    Ripening,
    /// All its values have expired, for everybody: they may be deleted.
    Expired,
    /// Deletes are all that is left.
    Erasable,
    /// It is wanted, and carries many loose dots.
    Foldable,
}

/// Judges a record at `now_ms`, in milliseconds since 1970.
#[must_use]
pub fn judge(record: &Record, ripeness: Ripeness, now_ms: u64) -> Judgement {
    if record.is_empty() {
        return Judgement::Nothing;
    }
    let is_expired = |sibling: &Sibling| {
        sibling
            .expires_unix_ms
            .is_some_and(|deadline| deadline.saturating_add(ripeness.clock_skew_max_ms) <= now_ms)
    };
    let is_wanted = |sibling: &Sibling| !sibling.is_tombstone() && !is_expired(sibling);
    if record.siblings().iter().any(is_wanted) {
        return if record.context().loose().len() >= LOOSE_DOTS_FOLD_MIN {
            Judgement::Foldable
        } else {
            Judgement::Wanted
        };
    }
    if record
        .siblings()
        .iter()
        .any(|sibling| !sibling.is_tombstone())
    {
        return Judgement::Expired;
    }
    let is_remembered =
        |since_ms: u64| since_ms.saturating_add(ripeness.request_memory_ms) > now_ms;
    let deletes = record.siblings().iter();
    let mut since = deletes.map(|sibling| sibling.stamp.unix_ms()).chain(
        record
            .superseded()
            .entries()
            .iter()
            .map(|entry| entry.superseded_unix_ms),
    );
    if since.any(is_remembered) {
        Judgement::Ripening
    } else {
        Judgement::Erasable
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::causality::{
        ActorId, ContentType, Dot, MergeMode, Mint, NewWrite, Observed, RequestId, Stamp, Value,
    };

    const RIPENESS: Ripeness = Ripeness {
        request_memory_ms: 100,
        clock_skew_max_ms: 10,
    };

    fn put(record: &mut Record, counter: u64, at_ms: u64, value: Option<Option<u64>>, mint: Mint) {
        let observed = Observed::whole(record);
        put_seeing(record, &observed, counter, at_ms, value, mint);
    }

    fn put_seeing(
        record: &mut Record,
        observed: &Observed,
        counter: u64,
        at_ms: u64,
        value: Option<Option<u64>>,
        mint: Mint,
    ) {
        let dot = Dot {
            actor: ActorId::from_bytes([1; 16]),
            counter,
        };
        let write = NewWrite {
            request: RequestId {
                client: [2; 16],
                sequence: counter,
            },
            stamp: Stamp::next(at_ms, None),
            expires_unix_ms: value.flatten(),
            value: value.map(|_| Value::new(ContentType::octets(), "x".into())),
        };
        record
            .put(MergeMode::Siblings, observed, dot, mint, write, at_ms)
            .unwrap();
    }

    fn check(record: &Record, now_ms: u64, expected: Judgement) {
        assert_eq!(judge(record, RIPENESS, now_ms), expected, "at {now_ms}");
    }

    #[test]
    fn a_delete_ripens_for_as_long_as_its_requests_are_remembered() {
        let mut record = Record::default();
        check(&record, 0, Judgement::Nothing);
        put(&mut record, 1, 1_000, Some(None), Mint::Vector);
        check(&record, 9_999, Judgement::Wanted);
        put(&mut record, 2, 1_050, None, Mint::Vector);
        check(&record, 1_149, Judgement::Ripening);
        check(&record, 1_150, Judgement::Erasable);
    }

    #[test]
    fn a_request_superseded_late_ripens_from_then_on() {
        let mut record = Record::default();
        put(&mut record, 1, 1_000, Some(None), Mint::Vector);
        let observed = Observed::whole(&record);
        // The delete is dated by a clock that is far behind.
        put_seeing(&mut record, &observed, 2, 500, None, Mint::Vector);
        check(&record, 599, Judgement::Ripening);
        let mut late = record.clone();
        late.merge(&record, MergeMode::Siblings);
        check(&late, 600, Judgement::Erasable);
    }

    #[test]
    fn an_expired_value_is_deleted_before_it_is_erased() {
        let mut record = Record::default();
        put(&mut record, 1, 1_000, Some(Some(2_000)), Mint::Vector);
        check(&record, 2_009, Judgement::Wanted);
        check(&record, 2_010, Judgement::Expired);
        let dot = Dot {
            actor: ActorId::from_bytes([1; 16]),
            counter: 2,
        };
        record
            .bury(MergeMode::Siblings, dot, Mint::Vector, 2_010)
            .unwrap();
        check(&record, 2_109, Judgement::Ripening);
        check(&record, 2_110, Judgement::Erasable);
    }

    #[test]
    fn one_wanted_value_keeps_the_rest() {
        let mut record = Record::default();
        put(&mut record, 1, 1_000, Some(Some(2_000)), Mint::Vector);
        let blind = Observed::default();
        put_seeing(&mut record, &blind, 2, 1_000, Some(None), Mint::Vector);
        put_seeing(&mut record, &blind, 3, 1_000, None, Mint::Vector);
        check(&record, 9_999, Judgement::Wanted);
    }

    #[test]
    fn many_loose_dots_are_worth_folding() {
        let mut record = Record::default();
        for counter in 1..=LOOSE_DOTS_FOLD_MIN as u64 {
            check(
                &record,
                9_999,
                if counter == 1 {
                    Judgement::Nothing
                } else {
                    Judgement::Wanted
                },
            );
            put(&mut record, counter, 1_000, Some(None), Mint::Loose);
        }
        check(&record, 9_999, Judgement::Foldable);
    }
}
