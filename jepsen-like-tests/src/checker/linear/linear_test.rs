//! The judge against hand-made histories, against a slow and plain judge, and on good histories spoilt.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::history::{Event, EventKind, Process};
use crate::testing::Script;

fn register() -> Linearizable<CasRegister> {
    Linearizable::new(CasRegister { is_keyed: false })
}

fn judge(history: &History) -> Verdict {
    register().check(history).verdict
}

fn valid(script: Script) {
    let verdict = judge(&script.history());
    assert!(verdict.is_valid(), "{verdict}");
}

fn invalid(script: Script) {
    let verdict = judge(&script.history());
    assert!(verdict.is_invalid(), "{verdict}");
}

fn written(value: u64) -> Script {
    Script::default().ok(0, "write", json!(value), json!(value))
}

#[test]
fn answers_have_to_fit_an_order() {
    valid(written(1).ok(1, "read", json!(null), json!(1)));
    invalid(written(1).ok(1, "read", json!(null), json!(null)));
    valid(written(1).ok(1, "cas", json!([1, 2]), json!([1, 2])).ok(
        0,
        "read",
        json!(null),
        json!(2),
    ));
    invalid(written(1).ok(1, "cas", json!([3, 2]), json!([3, 2])));
    // Concurrent: either order will do, but only one.
    let both = written(1)
        .invoke(1, "write", json!(2))
        .invoke(2, "read", json!(null));
    let both = |first, second| {
        both.clone()
            .event(2, EventKind::Ok, "read", json!(first))
            .ok(2, "read", json!(null), json!(second))
            .event(1, EventKind::Ok, "write", json!(2))
    };
    valid(both(1, 1));
    valid(both(1, 2));
    valid(both(2, 2));
    invalid(both(2, 1));
}

#[test]
fn doubt_may_be_now_later_or_never() {
    let doubt = || written(1).info(1, "write", json!(2));
    let reads = |values: &[u64]| {
        values.iter().fold(doubt(), |script, value| {
            script.ok(0, "read", json!(null), json!(value))
        })
    };
    valid(reads(&[1, 1]));
    valid(reads(&[1, 2]));
    valid(reads(&[2, 2]));
    invalid(reads(&[2, 1]));
    invalid(reads(&[3]));
    // It cannot have happened before it was asked.
    invalid(
        written(1)
            .ok(0, "read", json!(null), json!(2))
            .info(1, "write", json!(2)),
    );
}

#[test]
fn a_failure_never_happened_and_a_refusal_tells_of_the_state() {
    invalid(
        written(1)
            .fail(1, "write", json!(2))
            .ok(0, "read", json!(null), json!(2)),
    );
    let refused = |old: u64| written(1).refused(1, "cas", json!([old, 5]), json!(null));
    valid(refused(2));
    invalid(refused(1));
}

#[test]
fn nothing_is_unknown_and_keys_are_apart() {
    assert!(judge(&Script::default().history()).is_unknown());
    assert!(judge(&Script::default().info(0, "write", json!(1)).history()).is_unknown());
    let keyed = Linearizable::new(CasRegister { is_keyed: true });
    let script = Script::default()
        .ok(0, "write", json!(["a", 1]), json!(["a", 1]))
        .ok(0, "read", json!(["b", null]), json!(["b", null]));
    let report = keyed.check(&script.clone().history());
    assert!(report.verdict.is_valid(), "{report}");
    assert_eq!(report.counts["keys"], 2);
    let script = script.ok(0, "read", json!(["b", null]), json!(["b", 1]));
    assert!(keyed.check(&script.history()).verdict.is_invalid());
    assert!(
        judge(
            &Script::default()
                .ok(0, "jump", json!(1), json!(1))
                .history()
        )
        .is_unknown()
    );
}

#[test]
fn an_explanation_names_the_operation_and_the_states() {
    let script = written(1)
        .info(1, "write", json!(2))
        .ok(0, "read", json!(null), json!(7));
    let text = judge(&script.history()).to_string();
    assert!(text.contains("only have been 1 or 2"), "{text}");
    assert!(text.contains("process 0: read null -> ok 7"), "{text}");
}

#[test]
fn too_much_doubt_is_unknown() {
    let mut impatient = register();
    impatient.steps_max = 0;
    let mut script = written(0);
    for number in 1..40 {
        script = script.info(number, "write", json!(number));
    }
    let script = script.ok(0, "read", json!(null), json!(99));
    assert!(
        impatient
            .check(&script.clone().history())
            .verdict
            .is_unknown()
    );
    // With the usual patience the same history is easily judged: what nobody read need not have happened.
    invalid(script);
}

#[test]
fn a_write_of_what_is_there_may_be_needed_later() {
    let script = Script::default()
        .invoke(2, "write", json!(1))
        .ok(0, "write", json!(1), json!(1))
        .ok(0, "write", json!(2), json!(2))
        .ok(0, "read", json!(null), json!(1))
        .event(2, EventKind::Ok, "write", json!(1));
    valid(script);
}

#[test]
fn a_versioned_map_learns_versions_and_holds_them_fixed() {
    let judge = |script: Script| {
        Linearizable::new(VersionedMap)
            .check(&script.history())
            .verdict
    };
    let get = |script: Script, value: Value, version: &str| {
        let asked = json!({"key": "k", "row": "r"});
        let told = json!({"key": "k", "row": "r", "value": value, "version": version});
        script.ok(0, "get", asked, told)
    };
    let put = |need: &str, value: u64| json!({"key": "k", "row": "r", "value": value, "if": need});
    let first = || Script::default().ok(0, "put", put("absent", 1), json!({"version": "v1"}));
    let is_valid = |script| assert!(judge(script).is_valid());
    let is_invalid = |script| assert!(judge(script).is_invalid());
    is_valid(get(first(), json!(1), "v1"));
    is_invalid(get(first(), json!(1), "v2"));
    is_invalid(first().ok(1, "put", put("absent", 2), json!({"version": "v2"})));
    is_valid(first().ok(1, "put", put("v1", 2), json!({"version": "v2"})));
    is_invalid(first().ok(1, "put", put("v0", 2), json!({"version": "v2"})));
    // A refusal shows the row.
    let shown = |value: u64| json!({"value": value, "version": "v1"});
    is_valid(first().refused(1, "put", put("absent", 2), shown(1)));
    is_invalid(first().refused(1, "put", put("absent", 2), shown(2)));
    is_invalid(first().refused(1, "put", put("v1", 2), shown(1)));
    let unseen = || json!({"unseen": true});
    is_valid(first().refused(1, "put", put("absent", 2), unseen()));
    is_invalid(first().refused(1, "put", put("v1", 2), unseen()));
    // The version of a write in doubt is learnt, and then holds.
    let doubt = || get(first().info(1, "put", put("v1", 2)), json!(2), "v2");
    is_valid(get(doubt(), json!(2), "v2"));
    is_invalid(get(doubt(), json!(2), "v3"));
    // One version with two values is wrong by itself.
    is_invalid(first().ok(1, "put", put("v1", 2), json!({"version": "v1"})));
    let delete = json!({"key": "k", "row": "r", "if": "v1"});
    let gone = || first().ok(1, "delete", delete.clone(), json!(null));
    is_valid(gone().ok(
        0,
        "get",
        json!({"key": "k", "row": "r"}),
        json!({"key": "k", "row": "r"}),
    ));
    is_invalid(get(gone(), json!(1), "v1"));
}

/// What one client does, and when its request takes effect within its time.
#[derive(Clone, Debug)]
struct Plan {
    process: u64,
    f: usize,
    old: u64,
    doubt: Option<bool>,
    gap: u64,
    length: u64,
    effect: f64,
}

fn plans(most: usize, processes: u64) -> impl Strategy<Value = Vec<Plan>> {
    let doubt = prop_oneof![9 => Just(None), 1 => any::<bool>().prop_map(Some)];
    let plan = (
        0..processes,
        0..3_usize,
        0..6_u64,
        doubt,
        0..20_u64,
        1..40_u64,
        0.0..1.0,
    );
    let plan = plan.prop_map(|(process, f, old, doubt, gap, length, effect)| Plan {
        process,
        f,
        old,
        doubt,
        gap,
        length,
        effect,
    });
    proptest::collection::vec(plan, 1..most)
}

/// Plays the plans on a real machine: whatever comes out is linearizable. `ask` makes a request of a plan, its
/// number, counted from 1, and all that clients were told before; `answer` runs it.
fn play_on(
    plans: &[Plan],
    ask: impl Fn(u64, &Plan, &[Value]) -> (&'static str, Value),
    mut answer: impl FnMut(&str, &Value) -> (EventKind, Value),
) -> History {
    struct Request {
        number: u64,
        process: u64,
        f: &'static str,
        asked: Value,
        begin: (u64, u64),
        effect: Option<(u64, u64)>,
        end: (u64, u64),
        is_doubtful: bool,
    }
    let mut free: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    let mut requests = Vec::new();
    let mut unique = 0..;
    let mut ticks = || unique.next().unwrap_or(0);
    for (number, plan) in (1_u64..).zip(plans) {
        let (now, generation) = free.get(&plan.process).copied().unwrap_or_default();
        let begin = now + plan.gap;
        let end = begin + plan.length + 1;
        let offset = (plan.length as f64 * plan.effect) as u64;
        let effect = match plan.doubt {
            None => Some(begin + offset),
            Some(true) => Some(begin + offset * 5),
            Some(false) => None,
        };
        requests.push(Request {
            number,
            process: plan.process + 100 * generation,
            f: "",
            asked: Value::Null,
            begin: (begin, ticks()),
            effect: effect.map(|at| (at, ticks())),
            end: (end, ticks()),
            is_doubtful: plan.doubt.is_some(),
        });
        let generation = generation + u64::from(plan.doubt.is_some());
        free.insert(plan.process, (end, generation));
    }
    // Beginnings, effects and ends in one order of time.
    let mut moments: Vec<((u64, u64), usize, u8)> = Vec::new();
    for (index, request) in requests.iter().enumerate() {
        moments.push((request.begin, index, 0));
        moments.extend(request.effect.map(|at| (at, index, 1)));
        moments.push((request.end, index, 2));
    }
    moments.sort();
    let mut told = vec![(EventKind::Info, Value::Null); requests.len()];
    let mut script = Script::default();
    let mut known: Vec<Value> = Vec::new();
    for (_, index, moment) in moments {
        let request = &mut requests[index];
        match moment {
            0 => {
                (request.f, request.asked) = ask(request.number, &plans[index], &known);
                script = script.invoke(request.process, request.f, request.asked.clone());
            }
            1 => told[index] = answer(request.f, &request.asked),
            _ if request.is_doubtful => {
                script = script.event(request.process, EventKind::Info, request.f, Value::Null);
            }
            _ => {
                let (kind, value) = told[index].clone();
                known.push(value.clone());
                script = script.event(request.process, kind, request.f, value);
                if kind == EventKind::Fail
                    && let Some(last) = script.events.last_mut()
                {
                    last.error = Some("condition-failed".into());
                }
            }
        }
    }
    script.history()
}

/// Plays on a register. Writes and swaps write numbers of their own where `values` is `None`, and else few
/// values again and again; the plan's `old` chooses among the latest ones.
fn play(plans: &[Plan], values: Option<u64>) -> History {
    let ask = |number: u64, plan: &Plan, _: &[Value]| {
        let asked = match plan.f {
            0 => Value::Null,
            1 => json!(number),
            _ => json!([number.saturating_sub(plan.old), number]),
        };
        let asked = values.map_or(asked.clone(), |values| few(asked, values));
        (["read", "write", "cas"][plan.f], asked)
    };
    let mut register = Value::Null;
    play_on(plans, ask, |f, asked| match f {
        "read" => (EventKind::Ok, register.clone()),
        "write" => {
            register = asked.clone();
            (EventKind::Ok, asked.clone())
        }
        _ if register == asked[0] => {
            register = asked[1].clone();
            (EventKind::Ok, asked.clone())
        }
        _ => (EventKind::Fail, asked.clone()),
    })
}

/// The numbers in a value, reduced to a few.
fn few(value: Value, values: u64) -> Value {
    match value {
        Value::Number(number) => json!(number.as_u64().unwrap_or(0) % values),
        Value::Array(items) => items.into_iter().map(|item| few(item, values)).collect(),
        other => other,
    }
}

/// Plays on a map of two rows; the plan's `old` chooses row and condition, and clients name versions they saw.
fn play_map(plans: &[Plan]) -> History {
    let ask = |number: u64, plan: &Plan, known: &[Value]| {
        let mut asked = json!({"key": "k", "row": format!("r{}", plan.old % 2)});
        let is_delete = plan.f == 2 && number.is_multiple_of(2);
        if plan.f > 0 {
            match plan.old / 2 {
                0 => {}
                1 => asked["if"] = json!("absent"),
                _ => {
                    let mut versions = known.iter().rev().filter_map(|told| told.get("version"));
                    let skipped = usize::try_from(plan.length % 3).unwrap_or(0);
                    asked["if"] = versions.nth(skipped).cloned().unwrap_or(json!("v0"));
                }
            }
            if !is_delete {
                // Values repeat, versions do not.
                asked["value"] = json!(format!("{}", number % 3));
                asked["makes"] = json!(format!("v{number}"));
            }
        }
        let f = if plan.f == 0 {
            "get"
        } else if is_delete {
            "delete"
        } else {
            "put"
        };
        (f, asked)
    };
    let mut rows: BTreeMap<String, Value> = BTreeMap::new();
    play_on(plans, ask, |f, asked| {
        let name = asked["row"].as_str().unwrap_or_default().to_owned();
        let row = rows.get(&name).cloned().unwrap_or(json!({}));
        let is_met = match asked.get("if").and_then(Value::as_str) {
            None => true,
            Some("absent") => row.get("version").is_none(),
            Some(version) => row.get("version") == Some(&json!(version)),
        };
        match f {
            "get" => (EventKind::Ok, row),
            _ if !is_met && asked["row"] == "r0" => (EventKind::Fail, row),
            _ if !is_met => (EventKind::Fail, json!({"unseen": true})),
            "delete" => {
                rows.remove(&name);
                (EventKind::Ok, Value::Null)
            }
            _ => {
                let version = asked["makes"].clone();
                rows.insert(name, json!({"value": asked["value"], "version": version}));
                (EventKind::Ok, json!({"version": version}))
            }
        }
    })
}

/// Tries every order, remembering nothing.
fn plain_judge<M: Model>(model: &M, history: &History) -> bool {
    let operations = history.operations();
    let read = |operation: &Operation| {
        let step = model.read(operation).unwrap()?.step;
        Some((operation.invoked, operation.completed, step))
    };
    let steps: Vec<_> = operations.iter().filter_map(read).collect();
    fn explains<M: Model>(
        model: &M,
        steps: &[(u64, Option<u64>, M::Step)],
        left: &[usize],
        state: &M::State,
    ) -> bool {
        if left.iter().all(|&index| steps[index].1.is_none()) {
            return true;
        }
        left.iter().any(|&index| {
            let has_begun = |end| steps[index].0 < end;
            let is_next = left
                .iter()
                .all(|&other| steps[other].1.is_none_or(has_begun));
            let rest: Vec<usize> = left
                .iter()
                .copied()
                .filter(|&other| other != index)
                .collect();
            is_next
                && model
                    .apply(state, &steps[index].2)
                    .is_some_and(|after| explains(model, steps, &rest, &after))
        })
    }
    let all: Vec<usize> = (0..steps.len()).collect();
    explains(model, &steps, &all, &model.initial())
}

fn with_reads_changed(
    history: &History,
    change: impl Fn(usize, &Event) -> Option<Value>,
) -> History {
    let mut events = history.events().to_vec();
    for (index, event) in events.iter_mut().enumerate() {
        if event.f == "read"
            && event.kind == EventKind::Ok
            && let Some(value) = change(index, event)
        {
            event.value = value;
        }
    }
    History::new(events).unwrap()
}

proptest! {
    #[test]
    fn what_a_register_did_is_valid(
        plans in plans(400, 8),
        values in proptest::option::of(1..4_u64),
    ) {
        let history = play(&plans, values);
        let verdict = judge(&history);
        prop_assert!(!verdict.is_invalid(), "{}", verdict);
        let anything = history.operations().iter().any(Operation::is_ok);
        prop_assert_eq!(verdict.is_valid(), anything);
    }

    #[test]
    fn small_histories_are_judged_as_by_trying_every_order(
        plans in plans(7, 4),
        spoil in proptest::collection::vec(proptest::option::weighted(0.5, 0..7_u64), 24),
        values in proptest::option::of(1..4_u64),
    ) {
        let history = with_reads_changed(&play(&plans, values), |index, _| {
            spoil.get(index).copied().flatten().map(Value::from)
        });
        let verdict = judge(&history);
        let expected = plain_judge(&CasRegister { is_keyed: false }, &history);
        let anything = history.operations().iter().any(Operation::is_ok);
        prop_assert_eq!(verdict.is_invalid(), !expected, "{}", verdict);
        prop_assert_eq!(verdict.is_valid(), expected && anything);
    }

    #[test]
    fn what_a_map_did_is_valid(plans in plans(300, 8)) {
        let verdict = Linearizable::new(VersionedMap).check(&play_map(&plans)).verdict;
        prop_assert!(!verdict.is_invalid(), "{}", verdict);
    }

    #[test]
    fn small_maps_are_judged_as_by_trying_every_order(
        plans in plans(7, 4),
        spoil in proptest::collection::vec(proptest::option::weighted(0.3, 0..8_u64), 24),
    ) {
        let mut events = play_map(&plans).events().to_vec();
        for (event, spoil) in events.iter_mut().zip(spoil) {
            let shows = event.kind == EventKind::Ok && event.f == "get";
            if let Some(number) = spoil.filter(|_| shows) {
                event.value = match number {
                    0 => json!({}),
                    _ => json!({"value": format!("{}", number % 3), "version": format!("v{number}")}),
                };
            }
        }
        let history = History::new(events).unwrap();
        let operations = history.operations();
        prop_assume!(VersionedMap.more_violations(&operations).is_empty());
        prop_assume!(operations.iter().any(Operation::is_ok));
        let verdict = Linearizable::new(VersionedMap).check(&history).verdict;
        prop_assert_eq!(verdict.is_valid(), plain_judge(&VersionedMap, &history), "{}", verdict);
    }

    #[test]
    fn a_read_from_nowhere_is_found(plans in plans(200, 8), choice in any::<prop::sample::Index>()) {
        let history = play(&plans, None);
        let is_read = |event: &&Event| event.f == "read" && event.kind == EventKind::Ok;
        let reads: Vec<u64> = history.events().iter().filter(is_read).map(|event| event.index).collect();
        prop_assume!(!reads.is_empty());
        let chosen = reads[choice.index(reads.len())];
        let spoilt = with_reads_changed(&history, |_, event| (event.index == chosen).then(|| json!(9_999)));
        prop_assert!(judge(&spoilt).is_invalid());
    }

    #[test]
    fn a_stale_read_is_found(plans in plans(200, 8), choice in any::<prop::sample::Index>()) {
        let history = play(&plans, None);
        // A value is stale once a write that began after its own ended has ended: every value is written once.
        let operations = history.operations();
        let writes: Vec<&Operation> =
            operations.iter().filter(|operation| operation.f == "write" && operation.is_ok()).collect();
        let stale_at = |begin: u64| {
            writes.iter().find(|old| {
                writes.iter().any(|new| old.completed < Some(new.invoked) && new.completed < Some(begin))
            })
        };
        let reads = operations.iter().filter(|operation| operation.f == "read" && operation.is_ok());
        let reads: Vec<(u64, &Value)> = reads
            .filter_map(|read| Some((read.completed?, &stale_at(read.invoked)?.asked)))
            .collect();
        prop_assume!(!reads.is_empty());
        let (chosen, value) = reads[choice.index(reads.len())];
        let spoilt = with_reads_changed(&history, |_, event| (event.index == chosen).then(|| value.clone()));
        prop_assert!(judge(&spoilt).is_invalid(), "{} of {:?}", value, spoilt);
    }
}

#[test]
fn ten_thousand_operations_are_judged() {
    // A fixed, cheap source of variety; every fiftieth operation is in doubt.
    let mut seed = 7_u64;
    let mut next = |bound: u64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % bound
    };
    let plans: Vec<Plan> = (0..10_000)
        .map(|_| Plan {
            process: next(8),
            f: usize::try_from(next(3)).unwrap_or(0),
            old: next(6),
            doubt: (next(50) == 0).then(|| next(2) == 0),
            gap: next(5),
            length: 1 + next(40),
            effect: next(100) as f64 / 100.0,
        })
        .collect();
    let history = play(&plans, None);
    let report = register().check(&history);
    assert!(report.verdict.is_valid(), "{report}");
    assert!(report.counts["operations"] > 9_000);
    // The very last ok read is spoilt: the whole history has to be searched in vain.
    let reads = history.events().iter().rev();
    let last = reads
        .clone()
        .find(|event| event.f == "read" && event.kind == EventKind::Ok);
    let last = last.map(|event| event.index);
    let spoilt = with_reads_changed(&history, |_, event| {
        (Some(event.index) == last).then(|| json!(1))
    });
    let verdict = judge(&spoilt);
    assert!(verdict.is_invalid(), "{verdict}");
    assert!(
        history
            .events()
            .iter()
            .all(|event| event.process != Process::Nemesis)
    );
}
