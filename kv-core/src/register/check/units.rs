//! Single rules of evaluation, memory, reads and rounds, one small case each.

use bytes::Bytes;
use souk_ring::{LayoutEpoch, NodeId};

use super::super::{
    AcceptReply, Acceptors, Action, AfterLoss, Answer, Ballot, Basis, Cell, Chosen, Condition,
    Evaluation, EvaluationTime, GroupSize, KnownRows, Lost, LostReason, PromiseReply, ReadOutcome,
    ReadReply, ReadRound, Refusal, Report, RequestStamp, Round, Row, RowKey, RowOperation,
    RowSelection, Rows, Transaction, Verdict, Version, Write, after_loss, evaluate, limits, sweep,
};
use super::replica::EPOCH;
use crate::causality::RequestId;
use crate::outcome::Outcome;

const TIME: EvaluationTime = EvaluationTime {
    now_unix_ms: 10_000,
    request_memory_ms: 1_000,
    clock_skew_max_ms: 100,
};

fn ballot(counter: u64) -> Ballot {
    Ballot {
        counter,
        proposer: 1,
    }
}

fn client() -> [u8; 16] {
    [9; 16]
}

fn put(key: &[u8], condition: Condition) -> RowOperation {
    let cell = Cell {
        content_type: super::content_type(),
        bytes: Bytes::from_static(b"value"),
    };
    RowOperation {
        key: RowKey::user(key),
        condition,
        write: Some(Write::Put(cell)),
    }
}

fn stamp(sequence: u64, attempt: u32) -> RequestStamp {
    let request = RequestId {
        client: client(),
        sequence,
    };
    RequestStamp {
        request,
        attempt,
        lowest_unanswered: 1,
        issued_unix_ms: TIME.now_unix_ms,
    }
}

fn transaction(stamp: RequestStamp, operations: Vec<RowOperation>) -> Transaction {
    Transaction::new(stamp, operations).unwrap()
}

/// A group that lives through one chosen ballot after another.
struct Group {
    rows: Rows,
    counter: u64,
}

impl Group {
    fn new() -> Group {
        Group {
            rows: Rows::new(),
            counter: 0,
        }
    }

    fn basis(&mut self) -> Basis {
        self.counter += 1;
        let mut rows = KnownRows::default();
        rows.learn(
            [b"a", b"b", b"c"].map(|key| RowKey::user(key)).iter(),
            self.rows.clone(),
        );
        rows.learn(
            [RowKey::memory(&client()), RowKey::memory_floor()].iter(),
            Rows::new(),
        );
        let size = GroupSize::of(&self.rows);
        Basis {
            ballot: ballot(self.counter),
            base: ballot(self.counter - 1),
            base_chosen: true,
            settled: true,
            size,
            rows,
        }
    }

    fn run(&mut self, time: &EvaluationTime, queue: &[Transaction]) -> Vec<Verdict> {
        let basis = self.basis();
        let evaluation = evaluate(&basis, time, queue).unwrap();
        self.choose(evaluation)
    }

    fn choose(&mut self, evaluation: Evaluation) -> Vec<Verdict> {
        evaluation.delta.apply_to(&mut self.rows);
        let chosen = Chosen {
            proposed: evaluation.ballot,
            state: evaluation.ballot,
            lead: None,
        };
        evaluation.open(&chosen).unwrap()
    }
}

fn applied(verdict: &Verdict) -> Version {
    match verdict {
        Verdict::Applied(written) => written.first,
        other => panic!("expected applied, got {other:?}"),
    }
}

#[test]
fn a_queue_is_judged_in_order_on_one_state() {
    let queue = [
        transaction(stamp(1, 1), vec![put(b"a", Condition::Absent)]),
        transaction(stamp(2, 1), vec![put(b"a", Condition::Absent)]),
        transaction(
            stamp(3, 1),
            vec![put(b"a", Condition::Exists), put(b"b", Condition::Exists)],
        ),
        transaction(
            stamp(4, 1),
            vec![put(b"a", Condition::Exists), put(b"b", Condition::Absent)],
        ),
    ];
    let mut group = Group::new();
    let verdicts = group.run(&TIME, &queue);
    assert_eq!(applied(&verdicts[0]), Version::new(ballot(1), 0));
    let Verdict::NotApplied { failed } = &verdicts[1] else {
        panic!("{:?}", verdicts[1])
    };
    assert_eq!(
        failed[0].current.as_ref().map(|row| row.version),
        Some(Version::new(ballot(1), 0))
    );
    let Verdict::NotApplied { failed } = &verdicts[2] else {
        panic!("{:?}", verdicts[2])
    };
    assert_eq!((failed.len(), failed[0].index), (1, 1));
    assert_eq!(applied(&verdicts[3]), Version::new(ballot(1), 1));
    assert_eq!(
        group.rows[&RowKey::user(b"a")].version,
        Version::new(ballot(1), 1)
    );
    assert_eq!(
        group.rows[&RowKey::user(b"b")].version,
        Version::new(ballot(1), 2)
    );
}

#[test]
fn a_tombstone_is_no_row_and_its_version_never_matches() {
    let mut group = Group::new();
    let first = applied(
        &group.run(
            &TIME,
            &[transaction(stamp(1, 1), vec![put(b"a", Condition::Absent)])],
        )[0],
    );
    let delete = RowOperation {
        write: Some(Write::Delete),
        ..put(b"a", Condition::Version(first))
    };
    let tombstone = applied(&group.run(&TIME, &[transaction(stamp(2, 1), vec![delete])])[0]);
    for (sequence, version) in [(3, first), (4, tombstone)] {
        let put = put(b"a", Condition::Version(version));
        let verdicts = group.run(&TIME, &[transaction(stamp(sequence, 1), vec![put])]);
        assert!(
            matches!(&verdicts[0], Verdict::NotApplied { failed } if failed[0].current.is_none())
        );
    }
    applied(
        &group.run(
            &TIME,
            &[transaction(stamp(5, 1), vec![put(b"a", Condition::Absent)])],
        )[0],
    );
}

#[test]
fn a_retry_gets_the_first_answer() {
    let mut group = Group::new();
    let first = group.run(
        &TIME,
        &[transaction(stamp(1, 1), vec![put(b"a", Condition::Absent)])],
    );
    let Verdict::Applied(written) = first[0] else {
        panic!("{first:?}")
    };
    let again = group.run(
        &TIME,
        &[transaction(stamp(1, 2), vec![put(b"a", Condition::Absent)])],
    );
    assert_eq!(again, [Verdict::Replayed(Answer::Applied(written))]);
}

#[test]
fn not_applied_is_recorded_from_the_second_attempt_on() {
    for (attempt, recorded) in [(1, false), (2, true)] {
        let mut group = Group::new();
        let no = group.run(
            &TIME,
            &[transaction(
                stamp(1, attempt),
                vec![put(b"a", Condition::Exists)],
            )],
        );
        assert!(matches!(no[0], Verdict::NotApplied { .. }));
        applied(
            &group.run(
                &TIME,
                &[transaction(stamp(2, 1), vec![put(b"a", Condition::Absent)])],
            )[0],
        );
        let late = group.run(
            &TIME,
            &[transaction(stamp(1, 1), vec![put(b"a", Condition::Exists)])],
        );
        assert_eq!(
            matches!(late[0], Verdict::Replayed(Answer::NotApplied { .. })),
            recorded,
            "{late:?}"
        );
    }
}

#[test]
fn what_may_be_forgotten_is_refused() {
    let check = |stamp: RequestStamp, expected: Refusal| {
        let mut group = Group::new();
        applied(
            &group.run(
                &TIME,
                &[transaction(
                    self::stamp(7, 1),
                    vec![put(b"a", Condition::Any)],
                )],
            )[0],
        );
        let verdicts = group.run(
            &TIME,
            &[transaction(stamp, vec![put(b"a", Condition::Any)])],
        );
        assert_eq!(verdicts, [Verdict::Refused(expected)]);
    };
    check(
        RequestStamp {
            lowest_unanswered: 4,
            ..stamp(3, 1)
        },
        Refusal::TooOld,
    );
    check(
        RequestStamp {
            issued_unix_ms: 8_999,
            ..stamp(8, 1)
        },
        Refusal::TooOld,
    );
    check(
        RequestStamp {
            issued_unix_ms: 10_101,
            ..stamp(8, 1)
        },
        Refusal::IssuedAhead { ahead_ms: 101 },
    );
}

#[test]
fn erased_memory_never_runs_a_request_again() {
    let mut group = Group::new();
    let request = transaction(stamp(1, 1), vec![put(b"a", Condition::Any)]);
    applied(&group.run(&TIME, std::slice::from_ref(&request))[0]);
    let later = EvaluationTime {
        now_unix_ms: 11_001,
        ..TIME
    };
    let swept = sweep(&group.basis(), &later).unwrap();
    group.choose(swept);
    assert!(!group.rows.contains_key(&RowKey::memory(&client())));
    assert!(
        group.rows.contains_key(&RowKey::user(b"a")),
        "a live row stays"
    );
    // A slow clock elsewhere would still take the request for a young one, even beside a new memory row.
    let next = RequestStamp {
        issued_unix_ms: 10_001,
        ..stamp(2, 1)
    };
    applied(&group.run(&TIME, &[transaction(next, vec![put(b"b", Condition::Any)])])[0]);
    assert_eq!(
        group.run(&TIME, &[request]),
        [Verdict::Refused(Refusal::TooOld)]
    );
}

#[test]
fn a_refusal_is_unknown_once_a_copy_may_be_under_way() {
    let mut transaction = transaction(stamp(1, 1), vec![put(b"a", Condition::Any)]);
    let refused = Verdict::Refused(Refusal::TooOld);
    assert_eq!(refused.outcome(&transaction), Outcome::NotApplied);
    transaction.expose();
    assert_eq!(refused.outcome(&transaction), Outcome::Unknown);
}

#[test]
fn a_full_group_still_shrinks() {
    let mut group = Group::new();
    applied(
        &group.run(
            &TIME,
            &[transaction(stamp(1, 1), vec![put(b"a", Condition::Any)])],
        )[0],
    );
    let mut basis = group.basis();
    basis.size.rows = limits::GROUP_ROWS_MAX;
    let delete = RowOperation {
        write: Some(Write::Delete),
        ..put(b"a", Condition::Any)
    };
    let queue = [
        transaction(stamp(0, 1), vec![put(b"b", Condition::Any)]),
        transaction(stamp(0, 1), vec![delete]),
    ];
    let verdicts = group.choose(evaluate(&basis, &TIME, &queue).unwrap());
    assert!(matches!(
        verdicts[0],
        Verdict::Refused(Refusal::GroupFull { .. })
    ));
    applied(&verdicts[1]);
}

#[test]
fn an_unfetched_row_is_an_error_not_a_free_row() {
    let basis = Group::new().basis();
    let queue = [transaction(
        stamp(0, 1),
        vec![put(b"unfetched", Condition::Absent)],
    )];
    assert_eq!(evaluate(&basis, &TIME, &queue).unwrap_err().transaction, 0);
}

#[test]
fn a_lost_transaction_is_told_the_truth() {
    let check = |sequence, accepts_sent, tries_left, expected| {
        let mut transaction = transaction(stamp(sequence, 1), vec![put(b"a", Condition::Any)]);
        let lost = Lost {
            highest_seen: ballot(1),
            accepts_sent,
            reason: LostReason::Outrun,
        };
        assert_eq!(after_loss(&mut transaction, &lost, tries_left), expected);
    };
    check(1, false, true, AfterLoss::TryAgain);
    check(1, false, false, AfterLoss::NotApplied);
    check(1, true, true, AfterLoss::TryAgain);
    check(1, true, false, AfterLoss::Unknown);
    check(0, false, true, AfterLoss::TryAgain);
    check(0, true, true, AfterLoss::Unknown);
}

fn report(accepted: u64, chosen: u64) -> Report {
    Report {
        accepted: ballot(accepted),
        chosen: ballot(chosen),
        ..Report::default()
    }
}

#[test]
fn a_read_settles_only_on_a_chosen_state() {
    let check = |reports: &[(u64, u64)], expected: Option<(u64, usize)>| {
        let mut read = ReadRound::new(Acceptors::new((0..3).map(NodeId)), EPOCH);
        let mut outcome = None;
        for (node, (accepted, chosen)) in (0..).zip(reports) {
            let reply = ReadReply::Report(report(*accepted, *chosen));
            outcome = outcome.or(read.on_reply(NodeId(node), &reply));
        }
        match (outcome.unwrap_or_else(|| read.on_timeout()), expected) {
            (
                ReadOutcome::Settled {
                    ballot: settled,
                    sources,
                },
                Some((counter, count)),
            ) => {
                assert_eq!((settled, sources.len()), (ballot(counter), count));
            }
            (ReadOutcome::NeedsIdentityRound { .. } | ReadOutcome::Unreachable, None) => {}
            (outcome, expected) => panic!("{reports:?}: {outcome:?} instead of {expected:?}"),
        }
    };
    check(&[(5, 0), (5, 0)], Some((5, 2)));
    check(&[(5, 0), (7, 0), (5, 0)], Some((5, 2)));
    check(&[(5, 0), (7, 7)], Some((7, 1)));
    check(&[(5, 5), (7, 5)], None);
    check(&[(5, 0), (7, 0), (6, 0)], None);
    check(&[(5, 5)], None);
}

#[test]
fn a_newer_epoch_ends_a_round_that_can_no_longer_win() {
    let (mut round, _) = Round::prepare(
        Acceptors::new((0..3).map(NodeId)),
        EPOCH,
        ballot(1),
        RowSelection::default(),
    );
    let newer = LayoutEpoch(EPOCH.0 + 1);
    assert_eq!(
        round.on_promise(NodeId(0), PromiseReply::WrongEpoch { current: newer }),
        []
    );
    let actions = round.on_failed(NodeId(1));
    let [Action::Lost(lost)] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(
        (lost.reason, lost.accepts_sent),
        (LostReason::Epoch(newer), false)
    );
}

#[test]
fn one_dead_node_does_not_cost_the_lead() {
    let (mut round, _) = Round::prepare(
        Acceptors::new((0..3).map(NodeId)),
        EPOCH,
        ballot(1),
        RowSelection::keys([RowKey::user(b"a")]),
    );
    round.on_failed(NodeId(2));
    for node in 0..2 {
        round.on_promise(
            NodeId(node),
            PromiseReply::Promised {
                ballot: ballot(1),
                report: Report::default(),
            },
        );
    }
    let queue = [transaction(stamp(0, 1), vec![put(b"a", Condition::Absent)])];
    let evaluation = evaluate(round.basis().unwrap(), &TIME, &queue).unwrap();
    round.propose(&evaluation, Some(ballot(2)));
    round.on_failed(NodeId(2));
    let accepted = AcceptReply::Accepted {
        ballot: ballot(1),
        promised: ballot(2),
    };
    round.on_accept(NodeId(0), accepted.clone());
    let mut actions = round.on_accept(NodeId(1), accepted);
    let Some(Action::Chosen(chosen)) = actions.first_mut() else {
        panic!("{actions:?}")
    };
    let lead = chosen
        .take_lead()
        .expect("a quorum promised the next ballot");
    assert_eq!(lead.missing([&RowKey::user(b"a")]), []);
}

#[test]
fn rows_are_selected_by_key_and_by_range() {
    let row = Row {
        version: Version::new(ballot(1), 0),
        cell: None,
        written_unix_ms: 0,
    };
    let rows: Rows = (b'a'..=b'e')
        .map(|byte| (RowKey::user(&[byte]), row.clone()))
        .collect();
    let check = |reverse, rows_max, expected: &[u8]| {
        let range = super::super::RowRange {
            from: RowKey::user(b"b"),
            to: Some(RowKey::user(b"e")),
            rows_max,
            reverse,
        };
        let keys: Vec<_> = expected.iter().map(|byte| RowKey::user(&[*byte])).collect();
        assert_eq!(
            RowSelection::range(range)
                .select(&rows)
                .into_keys()
                .collect::<Vec<_>>(),
            keys
        );
    };
    check(false, 2, b"bc");
    check(true, 2, b"cd");
    check(false, 9, b"bcd");
    check(true, 0, b"");
}
