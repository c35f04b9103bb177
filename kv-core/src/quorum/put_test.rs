//! Puts under scripted and random faults.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use souk_ring::NodeId;

use super::{PutAction, PutActions, PutAnswer, PutCoordinator, PutRequest};
use crate::outcome::Outcome;

fn nodes(numbers: &[u32]) -> Vec<NodeId> {
    numbers.iter().copied().map(NodeId).collect()
}

fn send(node: u32) -> PutAction {
    PutAction::SendTo {
        node: NodeId(node),
        hinted_for: None,
    }
}

fn send_hint(node: u32, absent: u32) -> PutAction {
    PutAction::SendTo {
        node: NodeId(node),
        hinted_for: Some(NodeId(absent)),
    }
}

fn keep(absent: u32) -> PutAction {
    PutAction::HintLocally {
        absent: NodeId(absent),
    }
}

fn applied(copies: u8, needed: u8, degraded: bool) -> PutAction {
    PutAction::Answer(PutAnswer::Applied {
        copies,
        needed,
        degraded,
    })
}

struct Case {
    put: PutCoordinator,
    started: PutActions,
}

/// Primaries 1 to 3 with W = 2, coordinated by node 1.
fn case(fallbacks: &[u32], down: &[u32], floor: Option<u8>, strict: bool) -> Case {
    let (primaries, fallbacks) = (nodes(&[1, 2, 3]), nodes(fallbacks));
    let request = PutRequest {
        primaries: &primaries,
        fallbacks: &fallbacks,
        local: NodeId(1),
        write_quorum: 2,
        write_floor: floor,
        departing: &[],
        strict,
    };
    let (put, started) = PutCoordinator::start(request, |node| !down.contains(&node.0));
    Case { put, started }
}

#[test]
fn who_leaves_is_no_floor() {
    let (primaries, departing) = (nodes(&[1, 2, 3]), nodes(&[1]));
    let request = PutRequest {
        primaries: &primaries,
        fallbacks: &[],
        departing: &departing,
        local: NodeId(1),
        write_quorum: 2,
        write_floor: Some(1),
        strict: false,
    };
    let check = |stored: &[u32], expected: PutAnswer| {
        let (mut put, _) = PutCoordinator::start(request, |_| true);
        for node in 1..=3 {
            if stored.contains(&node) {
                put.on_stored(NodeId(node));
            } else {
                put.on_refused(NodeId(node));
            }
        }
        assert_eq!(put.answer_given(), Some(expected), "{stored:?}");
    };
    let applied = |copies, degraded| PutAnswer::Applied {
        copies,
        needed: 2,
        degraded,
    };
    let unknown = PutAnswer::Unknown {
        copies: 1,
        needed: 2,
    };
    check(&[1], unknown);
    check(&[2], applied(1, true));
    check(&[1, 2], applied(2, false));
}

#[test]
fn all_well() {
    let Case { mut put, started } = case(&[4], &[], None, false);
    assert_eq!(started[..], [send(1), send(2), send(3)]);
    assert!(put.on_stored(NodeId(3)).is_empty());
    assert!(
        put.on_stored(NodeId(3)).is_empty(),
        "the same node twice is one copy"
    );
    assert_eq!(put.on_stored(NodeId(1))[..], [applied(2, 2, false)]);
    assert!(!put.is_finished());
    assert!(put.on_stored(NodeId(2)).is_empty());
    assert!(put.is_finished());
    assert_eq!(put.copies(), 3);
}

#[test]
fn a_primary_believed_down_gets_a_stand_in() {
    let Case { mut put, started } = case(&[4, 5], &[2, 4], None, false);
    assert_eq!(started[..], [send(1), send_hint(5, 2), send(3)]);
    put.on_stored(NodeId(1));
    assert_eq!(put.on_stored(NodeId(5))[..], [applied(2, 2, false)]);
}

#[test]
fn a_primary_that_fails_midway_is_replaced_and_then_hinted_locally() {
    let Case { mut put, .. } = case(&[4], &[], None, false);
    assert_eq!(put.on_silent(NodeId(2))[..], [send_hint(4, 2)]);
    assert!(
        put.on_refused(NodeId(4)).is_empty(),
        "the local copy is not there yet"
    );
    assert_eq!(put.on_stored(NodeId(1))[..], [keep(2)]);
    assert_eq!(put.on_stored(NodeId(3))[..], [applied(2, 2, false)]);
    assert!(put.is_finished());
}

#[test]
fn a_hint_goes_beside_another_copy_when_the_local_one_failed() {
    let Case { mut put, .. } = case(&[], &[], None, false);
    assert!(put.on_refused(NodeId(1)).is_empty());
    assert_eq!(put.on_stored(NodeId(3))[..], [send_hint(3, 1)]);
    assert_eq!(put.on_stored(NodeId(2))[..], [applied(2, 2, false)]);
    // The keeper of the hint declines: it is not asked for ever.
    assert!(put.on_refused(NodeId(3)).is_empty());
    assert!(put.is_finished());
}

#[test]
fn two_dead_of_three_answer_degraded_at_the_floor_without_waiting() {
    let Case { mut put, started } = case(&[], &[2, 3], Some(1), false);
    assert_eq!(started[..], [send(1), send(2), send(3)]);
    assert_eq!(
        put.on_stored(NodeId(1))[..],
        [applied(1, 2, true), keep(2), keep(3)]
    );
    // The hints are kept already; the belated failures ask for nothing more.
    assert!(put.on_silent(NodeId(2)).is_empty());
    assert!(put.on_deadline().is_empty());
    assert!(put.is_finished());
}

#[test]
fn without_a_floor_too_few_nodes_refuse_before_anything_is_sent() {
    let refused = PutAction::Answer(PutAnswer::NotApplied {
        reachable: 1,
        needed: 2,
    });
    assert_eq!(case(&[], &[2, 3], None, false).started[..], [refused]);
    // Whoever asks for strictness wants no floor.
    assert_eq!(case(&[4], &[2, 3], Some(1), true).started[..], [refused]);
    assert!(case(&[], &[2, 3], None, false).put.is_finished());
}

#[test]
fn those_believed_down_are_tried_when_the_others_fail() {
    let Case { mut put, started } = case(&[], &[3], None, false);
    assert_eq!(started[..], [send(1), send(2)]);
    assert_eq!(put.on_silent(NodeId(2))[..], [send(3)]);
    assert_eq!(put.on_stored(NodeId(1))[..], [keep(3), keep(2)]);
    assert_eq!(put.on_stored(NodeId(3))[..], [applied(2, 2, false)]);
}

#[test]
fn the_outcome_is_not_applied_only_if_all_refused() {
    let check = |silent: &[u32], expected| {
        let Case { mut put, .. } = case(&[4], &[], None, false);
        for node in [1, 2, 3, 4].map(NodeId) {
            if silent.contains(&node.0) {
                put.on_silent(node)
            } else {
                put.on_refused(node)
            };
        }
        assert_eq!(
            put.answer_given().map(|answer| answer.outcome()),
            Some(expected)
        );
    };
    check(&[], Outcome::NotApplied);
    check(&[2], Outcome::Unknown);
    check(&[4], Outcome::Unknown);
}

#[test]
fn a_deadline_ends_the_waiting() {
    let Case { mut put, .. } = case(&[4], &[], None, false);
    put.on_stored(NodeId(1));
    let unknown = PutAction::Answer(PutAnswer::Unknown {
        copies: 1,
        needed: 2,
    });
    assert_eq!(put.on_deadline()[..], [unknown, keep(2), keep(3)]);
    assert!(put.is_finished());
    assert!(put.on_stored(NodeId(2)).is_empty(), "the answer stands");
}

/// What becomes of one send.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Stores,
    Refuses,
    /// Stores, but its answer is lost.
    StoresSilently,
    Vanishes,
    /// Answered only after it was given up.
    StoresLate,
}

#[derive(Clone, Debug)]
struct Script {
    primaries: u32,
    fallbacks: u32,
    local: u32,
    write_quorum: u8,
    floor: Option<u8>,
    strict: bool,
    up: BTreeSet<u32>,
    fates: Vec<Fate>,
    order: Vec<usize>,
    deadline_after: Option<usize>,
}

fn script() -> impl Strategy<Value = Script> {
    (1..=5u32, 0..=4u32).prop_flat_map(|(primaries, fallbacks)| {
        let all = primaries + fallbacks;
        let fate = prop_oneof![
            4 => Just(Fate::Stores),
            1 => Just(Fate::Refuses),
            1 => Just(Fate::StoresSilently),
            1 => Just(Fate::Vanishes),
            1 => Just(Fate::StoresLate),
        ];
        let numbers = (
            1..=all,
            1..=primaries as u8,
            prop::option::of(1..=primaries as u8),
        );
        let up = prop::collection::btree_set(1..=all, 0..=all as usize);
        let fates = prop::collection::vec(fate, 40);
        let order = prop::collection::vec(any::<usize>(), 80);
        (
            numbers,
            any::<bool>(),
            up,
            fates,
            order,
            prop::option::of(0..12usize),
        )
            .prop_map(
                move |((local, w, floor), strict, up, fates, order, deadline_after)| Script {
                    primaries,
                    fallbacks,
                    local,
                    write_quorum: w,
                    floor: floor.map(|floor| floor.min(w)),
                    strict,
                    up,
                    fates,
                    order,
                    deadline_after,
                },
            )
    })
}

/// What a run of a script did, seen from outside.
#[derive(Debug, Default)]
struct Run {
    answers: Vec<(PutAnswer, usize)>,
    /// Nodes that hold the record, and those whose acknowledgement was delivered.
    holders: BTreeSet<NodeId>,
    acked: BTreeSet<NodeId>,
    stand_ins: Vec<(NodeId, NodeId)>,
    local_hints: Vec<NodeId>,
}

fn run(script: &Script) -> (Run, PutCoordinator) {
    let primaries: Vec<NodeId> = (1..=script.primaries).map(NodeId).collect();
    let all = script.primaries + script.fallbacks;
    let fallbacks: Vec<NodeId> = (script.primaries + 1..=all).map(NodeId).collect();
    let request = PutRequest {
        primaries: &primaries,
        fallbacks: &fallbacks,
        local: NodeId(script.local),
        write_quorum: script.write_quorum,
        write_floor: script.floor,
        departing: &[],
        strict: script.strict,
    };
    let (mut put, mut actions) = PutCoordinator::start(request, |node| script.up.contains(&node.0));
    let mut run = Run::default();
    let mut fates = script.fates.iter().copied().cycle();
    let mut inbox: Vec<(NodeId, Fate)> = Vec::new();
    for step in 0.. {
        assert!(step < 200, "the put does not end: {put:?}");
        for action in actions.drain(..) {
            match action {
                PutAction::SendTo { node, hinted_for } => {
                    let fate = fates.next().expect("cycles");
                    if matches!(fate, Fate::Stores | Fate::StoresLate | Fate::StoresSilently) {
                        run.holders.insert(node);
                    }
                    inbox.push((node, fate));
                    run.stand_ins
                        .extend(hinted_for.map(|absent| (node, absent)));
                }
                PutAction::HintLocally { absent } => run.local_hints.push(absent),
                PutAction::Answer(answer) => run.answers.push((answer, run.acked.len())),
            }
        }
        if script.deadline_after == Some(step) {
            actions = put.on_deadline();
            continue;
        }
        if inbox.is_empty() {
            break;
        }
        let pick = script.order[step % script.order.len()] % inbox.len();
        let (node, fate) = inbox.swap_remove(pick);
        actions = match fate {
            Fate::Stores => {
                run.acked.insert(node);
                put.on_stored(node)
            }
            Fate::Refuses => put.on_refused(node),
            Fate::StoresSilently | Fate::Vanishes => put.on_silent(node),
            Fate::StoresLate => {
                inbox.push((node, Fate::Stores));
                put.on_silent(node)
            }
        };
    }
    (run, put)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn promises_hold_under_random_faults(script in script()) {
        let (run, put) = run(&script);
        prop_assert_eq!(run.answers.len(), 1, "one answer");
        prop_assert!(put.is_finished());
        let (answer, acked_then) = run.answers[0];
        match answer {
            PutAnswer::Applied { copies, needed, degraded } => {
                prop_assert_eq!(needed, script.write_quorum);
                prop_assert_eq!(usize::from(copies), acked_then, "copies are distinct nodes that said so");
                if degraded {
                    prop_assert!(!script.strict && copies < needed);
                    prop_assert!(script.floor.is_some_and(|floor| copies >= floor));
                } else {
                    prop_assert!(copies >= needed);
                }
            }
            PutAnswer::NotApplied { .. } => {
                prop_assert!(run.holders.is_empty(), "nobody may have it: {:?}", run.holders);
                prop_assert!(run.local_hints.is_empty());
            }
            PutAnswer::Unknown { copies, needed } => {
                prop_assert_eq!(usize::from(copies), acked_then);
                prop_assert!(copies < needed);
                // The floor would have spoken.
                prop_assert!(script.strict || script.floor.is_none_or(|floor| copies < floor));
            }
        }
        if script.strict {
            let is_primary = |node: &NodeId| node.0 <= script.primaries;
            prop_assert!(run.holders.iter().all(is_primary));
        }
    }

    #[test]
    fn every_absent_primary_has_its_hint_somewhere(mut script in script()) {
        // No silence and no deadline: everybody stores or refuses, so who is absent is known for sure.
        script.deadline_after = None;
        for fate in &mut script.fates {
            *fate = if matches!(fate, Fate::Stores) { Fate::Stores } else { Fate::Refuses };
        }
        let (run, _) = run(&script);
        let mut hints: BTreeMap<NodeId, usize> = BTreeMap::new();
        for &absent in &run.local_hints {
            *hints.entry(absent).or_default() += 1;
        }
        prop_assert!(hints.values().all(|&times| times == 1), "a local hint is kept once");
        prop_assert!(run.local_hints.is_empty() || run.acked.contains(&NodeId(script.local)));
        if run.acked.contains(&NodeId(script.local)) {
            for primary in (1..=script.primaries).map(NodeId) {
                let stood_in = |&(node, absent): &(NodeId, NodeId)| absent == primary && run.acked.contains(&node);
                prop_assert!(
                    run.acked.contains(&primary)
                        || run.stand_ins.iter().any(stood_in)
                        || hints.contains_key(&primary),
                    "{primary:?} is absent and nobody keeps a hint for it"
                );
            }
        }
    }
}
