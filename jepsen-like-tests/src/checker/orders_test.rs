//! The judge of orders on hand-made histories.

use serde_json::json;

use super::*;
use crate::testing::Script;

fn kinds(verdict: &Verdict) -> Vec<&'static str> {
    match verdict {
        Verdict::Invalid { violations } => violations.iter().map(|one| one.kind).collect(),
        Verdict::Valid => vec!["valid"],
        Verdict::Unknown { .. } => vec!["unknown"],
    }
}

fn bought(script: Script, process: u64, key: &str, order: &str) -> Script {
    script.ok(
        process,
        "checkout",
        json!({"key": key}),
        json!({"order": order}),
    )
}

fn order(id: &str, is_placed: bool) -> ListedOrder {
    ListedOrder {
        order: id.to_owned(),
        is_placed,
        total_minor: 700,
    }
}

fn charge(id: &str, order: &str, amount_minor: i64) -> Charge {
    Charge {
        charge: id.to_owned(),
        order: order.to_owned(),
        amount_minor,
    }
}

fn check(script: Script, orders: Vec<ListedOrder>, charges: Vec<Charge>, expected: &[&str]) {
    let books = json!(Books { orders, charges });
    let script = script.ok(99, "final-orders", json!(null), books);
    let verdict = OrdersChecker.check(&script.history()).verdict;
    assert_eq!(kinds(&verdict), expected, "{verdict}");
}

fn once() -> Script {
    bought(Script::default(), 0, "k1", "o1")
}

fn paid() -> Vec<Charge> {
    vec![charge("c1", "o1", 700)]
}

#[test]
fn one_key_is_one_order() {
    check(
        bought(once(), 1, "k1", "o1"),
        vec![order("o1", true)],
        paid(),
        &["valid"],
    );
    check(
        bought(once(), 1, "k1", "o2"),
        vec![order("o1", true), order("o2", true)],
        vec![charge("c1", "o1", 700), charge("c2", "o2", 700)],
        &["two orders"],
    );
    check(
        bought(once(), 1, "k2", "o1"),
        vec![order("o1", true)],
        paid(),
        &["shared order"],
    );
}

#[test]
fn acknowledged_orders_are_placed_once() {
    check(once(), vec![], vec![], &["lost"]);
    check(once(), vec![order("o1", false)], vec![], &["lost"]);
    check(
        once(),
        vec![order("o1", true), order("o1", true)],
        paid(),
        &["listed twice"],
    );
    let stranger = || vec![order("o1", true), order("o2", true)];
    let both = || vec![charge("c1", "o1", 700), charge("c2", "o2", 700)];
    check(once(), stranger(), both(), &["unexpected"]);
    check(
        once().info(1, "checkout", json!({"key": "k2"})),
        stranger(),
        both(),
        &["valid"],
    );
    check(
        once().fail(1, "checkout", json!({"key": "k2"})),
        stranger(),
        both(),
        &["unexpected"],
    );
}

#[test]
fn orders_are_charged_once_and_in_full() {
    let listed = || vec![order("o1", true)];
    check(once(), listed(), vec![], &["wrong amount"]);
    check(
        once(),
        listed(),
        vec![charge("c1", "o1", 600)],
        &["wrong amount"],
    );
    let twice = vec![charge("c1", "o1", 700), charge("c2", "o1", 700)];
    check(once(), listed(), twice, &["charged twice", "wrong amount"]);
    let failed = || vec![order("o1", true), order("o2", false)];
    let both = vec![charge("c1", "o1", 700), charge("c2", "o2", 700)];
    check(once(), failed(), both, &["charged for nothing"]);
    check(once(), failed(), paid(), &["valid"]);
}

#[test]
fn nothing_seen_is_unknown() {
    check(Script::default(), vec![], vec![], &["unknown"]);
    assert!(OrdersChecker.check(&once().history()).verdict.is_unknown());
}
