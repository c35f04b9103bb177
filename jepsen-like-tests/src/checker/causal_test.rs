use serde_json::json;

use super::*;
use crate::testing::Script;

fn kinds(promise: ReadPromise, script: Script) -> Vec<&'static str> {
    match (CausalChecker { promise }).check(&script.history()).verdict {
        Verdict::Invalid { violations } => violations.iter().map(|one| one.kind).collect(),
        Verdict::Valid => vec!["valid"],
        Verdict::Unknown { .. } => vec!["unknown"],
    }
}

fn check(script: Script, expected: &[&str]) {
    assert_eq!(kinds(ReadPromise::Final, script), expected);
}

fn asked_put(id: &str, saw: &[&str]) -> Value {
    json!({"key": "k", "id": id, "saw": saw})
}

fn put(script: Script, id: &str, saw: &[&str]) -> Script {
    script.ok(0, "put", asked_put(id, saw), json!(null))
}

fn read(script: Script, f: &str, ids: &[&str]) -> Script {
    script.ok(1, f, json!({"key": "k"}), json!({"key": "k", "ids": ids}))
}

fn last(script: Script, ids: &[&str]) -> Script {
    read(script, "final-read", ids)
}

#[test]
fn what_was_put_is_there_or_was_replaced() {
    let one = put(Script::default(), "a", &[]);
    check(last(one.clone(), &["a"]), &["valid"]);
    check(last(one.clone(), &[]), &["lost"]);
    let beside = put(one.clone(), "b", &[]);
    check(last(beside.clone(), &["a", "b"]), &["valid"]);
    check(last(beside, &["b"]), &["lost"]);
    let over = put(one, "b", &["a"]);
    check(last(over.clone(), &["b"]), &["valid"]);
    check(last(over, &["a", "b"]), &["dominated", "back again"]);
}

#[test]
fn what_was_deleted_stays_away() {
    let gone = put(Script::default(), "a", &[]).ok(
        2,
        "delete",
        json!({"key": "k", "saw": ["a"]}),
        json!(null),
    );
    check(last(gone.clone(), &[]), &["valid"]);
    check(last(gone.clone(), &["a"]), &["back again"]);
    let again = put(gone, "b", &[]);
    check(last(again.clone(), &["b"]), &["valid"]);
    check(last(again, &[]), &["lost"]);
}

#[test]
fn doubt_explains_both() {
    let doubtful =
        put(Script::default(), "a", &[]).info(2, "delete", json!({"key": "k", "saw": ["a"]}));
    check(last(doubtful.clone(), &["a"]), &["valid"]);
    check(last(doubtful, &[]), &["valid"]);
    let failed =
        put(Script::default(), "a", &[]).fail(2, "delete", json!({"key": "k", "saw": ["a"]}));
    check(last(failed, &[]), &["lost"]);
}

#[test]
fn nothing_comes_from_nowhere_or_twice() {
    let one = put(Script::default(), "a", &[]);
    check(last(one.clone(), &["a", "z"]), &["unexpected"]);
    check(last(one.clone(), &["a", "a"]), &["twice"]);
    let early = put(last(one, &["a", "b"]), "b", &[]);
    check(early, &["unexpected"]);
    check(
        last(
            put(Script::default(), "a", &[]).fail(2, "put", asked_put("b", &[])),
            &["a", "b"],
        ),
        &["unexpected"],
    );
}

#[test]
fn only_the_strict_promise_binds_reads_on_the_way() {
    let early = last(read(put(Script::default(), "a", &[]), "read", &[]), &["a"]);
    check(early.clone(), &["valid"]);
    assert_eq!(kinds(ReadPromise::Every, early), ["lost"]);
    let over = put(put(Script::default(), "a", &[]), "b", &["a"]);
    let stale = last(read(over, "read", &["a"]), &["b"]);
    check(stale.clone(), &["valid"]);
    assert_eq!(kinds(ReadPromise::Every, stale), ["back again", "lost"]);
}

#[test]
fn a_key_that_nobody_looked_at_is_unknown() {
    check(put(Script::default(), "a", &[]), &["unknown"]);
    check(Script::default(), &["unknown"]);
}
