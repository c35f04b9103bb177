//! The judge of sets on hand-made histories, and on good ones that were spoilt.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::history::EventKind;
use crate::testing::Script;

fn judge(promise: ReadPromise, script: Script) -> Verdict {
    SetChecker { promise }.check(&script.history()).verdict
}

fn kinds(verdict: &Verdict) -> Vec<&'static str> {
    match verdict {
        Verdict::Invalid { violations } => violations.iter().map(|one| one.kind).collect(),
        Verdict::Valid => vec!["valid"],
        Verdict::Unknown { .. } => vec!["unknown"],
    }
}

fn check(script: Script, expected: &[&str]) {
    let verdict = judge(ReadPromise::Final, script);
    assert_eq!(kinds(&verdict), expected, "{verdict}");
}

fn added(element: &str) -> Script {
    Script::default().ok(0, "add", json!(["cart", element]), json!(["cart", element]))
}

fn seen(script: Script, f: &str, elements: &[&str]) -> Script {
    script.ok(1, f, json!(["cart", null]), json!(["cart", elements]))
}

#[test]
fn what_was_acknowledged_is_there() {
    check(seen(added("a"), "final-read", &["a"]), &["valid"]);
    check(seen(added("a"), "final-read", &[]), &["lost"]);
    check(seen(added("a"), "final-read", &["a", "a"]), &["duplicated"]);
    check(seen(added("a"), "final-read", &["a", "b"]), &["unexpected"]);
}

#[test]
fn doubt_may_be_there_and_failures_may_not() {
    let doubt = added("a").info(2, "add", json!(["cart", "b"]));
    check(seen(doubt.clone(), "final-read", &["a"]), &["valid"]);
    check(seen(doubt, "final-read", &["a", "b"]), &["valid"]);
    let failed = added("a").fail(2, "add", json!(["cart", "b"]));
    check(seen(failed.clone(), "final-read", &["a"]), &["valid"]);
    check(
        seen(failed.clone(), "final-read", &["a", "b"]),
        &["unexpected"],
    );
    // A second attempt of the same element may succeed.
    let again = failed.ok(2, "add", json!(["cart", "b"]), json!(null));
    check(seen(again.clone(), "final-read", &["a", "b"]), &["valid"]);
    check(seen(again, "final-read", &["a"]), &["lost"]);
}

#[test]
fn nothing_seen_is_unknown() {
    check(Script::default(), &["unknown"]);
    check(added("a"), &["unknown"]);
    check(seen(added("a"), "read", &["a"]), &["unknown"]);
    check(seen(Script::default(), "final-read", &[]), &["unknown"]);
}

#[test]
fn only_linearizable_sets_answer_for_reads_on_the_way() {
    let script = seen(seen(added("a"), "read", &[]), "final-read", &["a"]);
    assert!(judge(ReadPromise::Final, script.clone()).is_valid());
    assert_eq!(kinds(&judge(ReadPromise::Every, script)), ["lost"]);
    // A read that began before the acknowledgement need not show it.
    let overlapping = Script::default()
        .invoke(0, "add", json!(["cart", "a"]))
        .invoke(1, "read", json!(["cart", null]))
        .event(0, EventKind::Ok, "add", json!(null))
        .event(1, EventKind::Ok, "read", json!(["cart", []]));
    let overlapping = seen(overlapping, "read", &["a"]);
    assert!(judge(ReadPromise::Every, overlapping).is_valid());
}

proptest! {
    /// Elements over three carts with every kind of answer; then one acknowledged element is taken away, or a
    /// stranger put in.
    #[test]
    fn a_spoilt_history_is_found(
        ends in proptest::collection::vec((0..3_u8, 0..3_u8, any::<bool>()), 1..60),
        choice in any::<prop::sample::Index>(),
    ) {
        let mut script = Script::default();
        let mut carts = vec![Vec::new(); 3];
        let mut acknowledged = Vec::new();
        for (element, &(cart, end, is_there)) in ends.iter().enumerate() {
            let asked = json!([cart, element]);
            let process = 10 + element as u64;
            script = match end {
                0 => script.ok(process, "add", asked.clone(), asked),
                1 => script.fail(process, "add", asked),
                _ => script.info(process, "add", asked),
            };
            if end == 0 {
                acknowledged.push((usize::from(cart), element));
            }
            if end == 0 || (end == 2 && is_there) {
                carts[usize::from(cart)].push(element);
            }
        }
        let looked_at = |carts: &[Vec<usize>]| {
            carts.iter().enumerate().fold(script.clone(), |script, (cart, elements)| {
                script.ok(1, "final-read", json!([cart, null]), json!([cart, elements]))
            })
        };
        let verdict = judge(ReadPromise::Final, looked_at(&carts));
        prop_assert_eq!(verdict.is_valid(), !acknowledged.is_empty());
        prop_assert!(!verdict.is_invalid(), "{}", verdict);

        let mut strange = carts.clone();
        strange[0].push(9_999);
        prop_assert!(judge(ReadPromise::Final, looked_at(&strange)).is_invalid());
        prop_assume!(!acknowledged.is_empty());
        let (cart, element) = acknowledged[choice.index(acknowledged.len())];
        carts[cart].retain(|&other| other != element);
        prop_assert!(judge(ReadPromise::Final, looked_at(&carts)).is_invalid());
    }
}
