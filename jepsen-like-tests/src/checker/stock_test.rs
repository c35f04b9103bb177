//! The judge of stock on hand-made histories, and on good ones that were spoilt.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::testing::Script;

fn judge(script: Script, state: &StockState) -> Verdict {
    let script = script.ok(0, "final-stock", json!({"stock": "s"}), json!(state));
    StockChecker.check(&script.history()).verdict
}

fn kinds(verdict: &Verdict) -> Vec<&'static str> {
    match verdict {
        Verdict::Invalid { violations } => violations.iter().map(|one| one.kind).collect(),
        Verdict::Valid => vec!["valid"],
        Verdict::Unknown { .. } => vec!["unknown"],
    }
}

fn reserve(id: &str) -> Value {
    json!({"stock": "s", "reservation": id, "quantity": 2})
}

/// Five units came in, r1 got two of them.
fn one_granted() -> Script {
    let received = json!({"stock": "s", "quantity": 5});
    Script::default()
        .ok(0, "receive", received, json!(null))
        .ok(1, "reserve", reserve("r1"), json!(null))
}

fn state(available: i64, held: &[(&str, i64)]) -> StockState {
    let held = held.iter().map(|&(id, quantity)| HeldUnits {
        reservation: id.to_owned(),
        quantity,
    });
    let holds: Vec<HeldUnits> = held.collect();
    let reserved = holds.iter().map(|held| held.quantity).sum();
    StockState {
        stock: "s".to_owned(),
        available,
        reserved,
        ledger_sum: available + reserved,
        holds,
        ..StockState::default()
    }
}

fn check(script: Script, state: &StockState, expected: &[&str]) {
    let verdict = judge(script, state);
    assert_eq!(kinds(&verdict), expected, "{verdict}");
}

#[test]
fn grants_are_held() {
    check(one_granted(), &state(3, &[("r1", 2)]), &["valid"]);
    check(one_granted(), &state(5, &[]), &["lost"]);
    check(
        one_granted(),
        &state(1, &[("r1", 2), ("r1", 2)]),
        &["held twice"],
    );
    check(one_granted(), &state(4, &[("r1", 1)]), &["wrong quantity"]);
    check(
        one_granted(),
        &state(1, &[("r1", 2), ("r2", 2)]),
        &["unexpected"],
    );
    check(Script::default(), &state(0, &[]), &["unknown"]);
    let nobody_looked = StockChecker.check(&one_granted().history());
    assert!(nobody_looked.verdict.is_unknown());
}

#[test]
fn doubt_may_be_held_and_refusals_may_not() {
    let doubt = one_granted().info(2, "reserve", reserve("r2"));
    check(doubt.clone(), &state(3, &[("r1", 2)]), &["valid"]);
    check(doubt, &state(1, &[("r1", 2), ("r2", 2)]), &["valid"]);
    let refused = one_granted().refused(2, "reserve", reserve("r2"), json!(null));
    check(
        refused.clone(),
        &state(1, &[("r1", 2), ("r2", 2)]),
        &["unexpected"],
    );
    check(refused, &state(3, &[("r1", 2)]), &["refused what was left"]);
}

#[test]
fn units_are_conserved() {
    let mut appeared = state(4, &[("r1", 2)]);
    check(one_granted(), &appeared, &["units appeared or vanished"]);
    appeared.ledger_sum = 5;
    check(
        one_granted(),
        &appeared,
        &["units appeared or vanished", "ledger"],
    );
    let mut counted = state(3, &[("r1", 2)]);
    counted.allocated = 1;
    counted.available = 2;
    check(one_granted(), &counted, &["holds"]);
    let below = state(-1, &[("r1", 2), ("r2", 2), ("r3", 2)]);
    let three = one_granted()
        .ok(2, "reserve", reserve("r2"), json!(null))
        .ok(3, "reserve", reserve("r3"), json!(null));
    check(three, &below, &["oversold", "below zero"]);
}

proptest! {
    /// A stock is bought empty; then one acknowledged grant is taken out of the history's truth.
    #[test]
    fn a_spoilt_history_is_found(
        ends in proptest::collection::vec(0..4_u8, 1..80),
        units in 1..40_i64,
        choice in any::<prop::sample::Index>(),
    ) {
        let received = json!({"stock": "s", "quantity": units * 2});
        let mut script = Script::default().ok(0, "receive", received, json!(null));
        let mut held = Vec::new();
        let mut granted = Vec::new();
        for (number, end) in ends.into_iter().enumerate() {
            let (id, process) = (format!("r{number}"), 10 + number as u64);
            let is_left = (held.len() as i64) < units;
            script = match (end, is_left) {
                (0, _) => script.info(process, "reserve", reserve(&id)),
                (1, true) => {
                    held.push(id.clone());
                    script.info(process, "reserve", reserve(&id))
                }
                (_, true) => {
                    held.push(id.clone());
                    granted.push(id.clone());
                    script.ok(process, "reserve", reserve(&id), json!(null))
                }
                (_, false) => script.refused(process, "reserve", reserve(&id), json!(null)),
            };
        }
        let seen = |held: &[String]| {
            let all: Vec<(&str, i64)> = held.iter().map(|id| (id.as_str(), 2)).collect();
            state(2 * (units - held.len() as i64), &all)
        };
        let verdict = judge(script.clone(), &seen(&held));
        prop_assert!(!verdict.is_invalid(), "{}", verdict);
        prop_assert_eq!(verdict.is_valid(), !granted.is_empty());
        prop_assume!(!granted.is_empty());
        let lost = &granted[choice.index(granted.len())];
        held.retain(|id| id != lost);
        prop_assert!(judge(script, &seen(&held)).is_invalid());
    }
}
