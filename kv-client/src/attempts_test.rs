//! The decisions after a failed attempt, case by case and against the four invariants.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const LIMITS: AttemptLimits = AttemptLimits {
    attempts_max: 3,
    backoff_min: Duration::from_millis(10),
    backoff_max: Duration::from_millis(100),
};
const CAS: Kind = Kind::Conditional {
    retry_unknown: false,
};
const CAS_AGAIN: Kind = Kind::Conditional {
    retry_unknown: true,
};

fn refused(code: ErrorCode, outcome: Outcome) -> Ended {
    Ended::Refused {
        code,
        outcome,
        retryable: code.is_retryable(),
        retry_after: None,
    }
}

/// Runs attempts that end as `ends`, with a budget and time that never run out.
fn run(kind: Kind, ends: &[Ended]) -> Vec<Next> {
    let mut attempts = Attempts::new(kind, LIMITS);
    let step = |ended: &Ended| {
        attempts.launch();
        attempts.next(*ended, SECOND, 1.0, || true)
    };
    ends.iter().map(step).collect()
}

#[track_caller]
fn check_fails(kind: Kind, ends: &[Ended], outcome: Outcome) {
    assert_eq!(
        run(kind, ends).last(),
        Some(&Next::Fail { outcome }),
        "{kind:?} {ends:?}"
    );
}

#[track_caller]
fn check_retries(kind: Kind, ends: &[Ended]) {
    let last = run(kind, ends).pop();
    assert!(
        matches!(last, Some(Next::Retry { .. })),
        "{kind:?} {ends:?}: {last:?}"
    );
}

#[test]
fn doubt_sticks_to_writes() {
    use ErrorCode::{Contention, InvalidArgument, RequestTooOld, Unavailable};
    let gone = refused(Unavailable, Outcome::NotApplied);
    for kind in [Kind::Plain, CAS, CAS_AGAIN] {
        check_retries(kind, &[gone]);
        check_fails(kind, &[gone, gone, gone], Outcome::NotApplied);
        check_fails(
            kind,
            &[refused(InvalidArgument, Outcome::NotApplied)],
            Outcome::NotApplied,
        );
    }
    for kind in [Kind::Plain, CAS_AGAIN] {
        check_retries(kind, &[Ended::Broken]);
        check_retries(kind, &[Ended::Silent]);
        check_retries(kind, &[refused(Contention, Outcome::Unknown)]);
        check_fails(kind, &[Ended::Broken, gone, gone], Outcome::Unknown);
        let too_old = refused(RequestTooOld, Outcome::NotApplied);
        check_fails(kind, &[Ended::Silent, too_old], Outcome::Unknown);
    }
    check_fails(CAS, &[Ended::Broken], Outcome::Unknown);
    check_fails(CAS, &[Ended::Silent], Outcome::Unknown);
    check_fails(
        CAS,
        &[refused(Contention, Outcome::Unknown)],
        Outcome::Unknown,
    );
    check_fails(CAS, &[gone, Ended::Silent], Outcome::Unknown);
}

#[test]
fn reads_are_never_in_doubt() {
    check_retries(Kind::Read, &[Ended::Silent, Ended::Broken]);
    check_fails(
        Kind::Read,
        &[Ended::Silent, Ended::Broken, Ended::Broken],
        Outcome::NotApplied,
    );
    check_fails(
        Kind::Read,
        &[refused(ErrorCode::Internal, Outcome::Unknown)],
        Outcome::NotApplied,
    );
}

#[test]
fn what_never_left_is_free() {
    let mut attempts = Attempts::new(CAS, LIMITS);
    for _ in 0..20 {
        assert_eq!(attempts.launch(), 1);
        let next = attempts.next(Ended::NotSent, SECOND, 0.5, || panic!("nothing to pay for"));
        assert!(
            matches!(
                next,
                Next::Retry {
                    elsewhere: true,
                    refresh: false,
                    ..
                }
            ),
            "{next:?}"
        );
    }
    attempts.launch();
    let next = attempts.next(Ended::NotSent, Duration::ZERO, 0.5, || true);
    assert_eq!(
        next,
        Next::Fail {
            outcome: Outcome::NotApplied
        }
    );
}

#[test]
fn an_unknown_bucket_is_looked_for_once() {
    let missing = refused(ErrorCode::BucketNotFound, Outcome::NotApplied);
    let nexts = run(Kind::Plain, &[missing, missing]);
    assert!(
        matches!(nexts[0], Next::Retry { refresh: true, .. }),
        "{nexts:?}"
    );
    assert_eq!(
        nexts[1],
        Next::Fail {
            outcome: Outcome::NotApplied
        }
    );
}

#[test]
fn a_stale_epoch_is_retried_at_the_same_node_after_a_refresh() {
    let stale = refused(ErrorCode::StaleEpoch, Outcome::NotApplied);
    let nexts = run(CAS, &[stale, stale]);
    assert!(
        matches!(
            nexts[0],
            Next::Retry {
                refresh: true,
                elsewhere: false,
                ..
            }
        ),
        "{nexts:?}"
    );
    assert!(
        matches!(
            nexts[1],
            Next::Retry {
                refresh: false,
                elsewhere: false,
                ..
            }
        ),
        "{nexts:?}"
    );
}

#[test]
fn a_contended_group_keeps_its_coordinator() {
    let outrun = refused(ErrorCode::Contention, Outcome::NotApplied);
    let nexts = run(CAS, &[outrun]);
    assert!(
        matches!(
            nexts[0],
            Next::Retry {
                elsewhere: false,
                ..
            }
        ),
        "{nexts:?}"
    );
}

#[test]
fn a_hint_when_to_come_back_is_obeyed() {
    let hint = Some(Duration::from_millis(300));
    let busy = Ended::Refused {
        code: ErrorCode::Overloaded,
        outcome: Outcome::NotApplied,
        retryable: true,
        retry_after: hint,
    };
    let mut attempts = Attempts::new(Kind::Read, LIMITS);
    attempts.launch();
    let next = attempts.next(busy, SECOND, 0.0, || true);
    assert!(
        matches!(next, Next::Retry { wait, .. } if Some(wait) == hint),
        "{next:?}"
    );
    attempts.launch();
    let next = attempts.next(busy, Duration::from_millis(250), 0.0, || true);
    assert_eq!(
        next,
        Next::Fail {
            outcome: Outcome::NotApplied
        },
        "no time for the hint"
    );
}

#[test]
fn no_budget_no_retry() {
    let mut attempts = Attempts::new(Kind::Plain, LIMITS);
    attempts.launch();
    let next = attempts.next(Ended::Broken, SECOND, 0.0, || false);
    assert_eq!(
        next,
        Next::Fail {
            outcome: Outcome::Unknown
        }
    );
}

#[test]
fn a_write_that_was_applied_although_it_failed_says_so() {
    let applied = refused(ErrorCode::Internal, Outcome::Applied);
    check_fails(Kind::Plain, &[Ended::Silent, applied], Outcome::Applied);
    check_fails(Kind::Read, &[applied], Outcome::NotApplied);
}

fn any_ended() -> impl Strategy<Value = Ended> {
    let outcome = prop_oneof![Just(Outcome::NotApplied), Just(Outcome::Unknown)];
    let refusal = (
        0..=20i32,
        outcome,
        any::<bool>(),
        prop::option::of(0..50u64),
    )
        .prop_map(
            |(code, outcome, retryable, retry_after_ms)| Ended::Refused {
                code: ErrorCode::try_from(code).expect("codes 0 to 20 are all there are"),
                outcome,
                retryable,
                retry_after: retry_after_ms.map(Duration::from_millis),
            },
        );
    prop_oneof![
        Just(Ended::NotSent),
        Just(Ended::Silent),
        Just(Ended::Broken),
        refusal
    ]
}

fn any_kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Read),
        Just(Kind::Plain),
        Just(CAS),
        Just(CAS_AGAIN)
    ]
}

proptest! {
    #[test]
    fn the_invariants_hold_over_any_run(
        kind in any_kind(),
        ends in prop::collection::vec((any_ended(), 0.0..=1.0f64, any::<bool>(), any::<bool>()), 1..30),
    ) {
        let mut attempts = Attempts::new(kind, LIMITS);
        let mut doubt = false;
        let mut left = 0;
        let mut paid = 0;
        for (ended, jitter, has_budget, only_noted) in ends {
            let number = attempts.launch();
            prop_assert!(number <= LIMITS.attempts_max);
            prop_assert_eq!(number, left + 1);
            if ended != Ended::NotSent {
                left += 1;
            }
            let unsure = matches!(
                ended,
                Ended::Silent | Ended::Broken | Ended::Refused { outcome: Outcome::Unknown, .. }
            );
            doubt |= unsure && kind != Kind::Read;
            if only_noted && left + 1 < LIMITS.attempts_max && kind != CAS {
                attempts.note(ended);
                continue;
            }
            let next = attempts.next(ended, SECOND, jitter, || {
                paid += u32::from(has_budget);
                has_budget
            });
            match next {
                Next::Fail { outcome } => {
                    let expected = if doubt { Outcome::Unknown } else { Outcome::NotApplied };
                    prop_assert_eq!(outcome, expected);
                    return Ok(());
                }
                Next::Retry { wait, .. } => {
                    prop_assert!(!doubt || kind != CAS, "a conditional write in doubt left again");
                    prop_assert!(left < LIMITS.attempts_max);
                    prop_assert!(wait < SECOND && wait <= LIMITS.backoff_max);
                }
            }
        }
        prop_assert!(paid <= left);
    }
}
