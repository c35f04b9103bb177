//! Carts: what was added is there until somebody removes it, and what was removed does not come back.
//!
//! | f | asked | told |
//! |---|---|---|
//! | `add` | `[cart, [sku, quantity]]` | |
//! | `remove` | `[cart, sku]` | `[cart, {"effect": bool}]` |
//! | `final-read` | `[cart, null]` | `[cart, [[sku, quantity], ...]]`, after everything has healed |
//!
//! Each SKU is added once, so a removal that had an effect removed that add; one without saw nothing to remove. Attempts
//! of one add may be repeated under its tag.
//!
//! Invariants judged: 1. an acknowledged add is there in the end, unless a removal of it may have been applied (`lost`).
//! 2. what an effective removal took is not there (`back again`). 3. nothing is there that nobody added, twice, or in
//! another quantity (`unexpected`).

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Checker, Malformed, Report, Verdict, Violation};
use crate::history::{History, Operation};

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct CartChecker;

const EXPECTED: &str =
    "`add` of [cart, [sku, quantity]], `remove` of [cart, sku] or `final-read` of [cart, null]";

#[derive(Default)]
struct Cart<'history> {
    articles: BTreeMap<&'history str, Article<'history>>,
    last: Option<(&'history Operation, Vec<(&'history str, i64)>)>,
}

/// All requests about one SKU.
#[derive(Default)]
struct Article<'history> {
    quantity: i64,
    adds: Vec<&'history Operation>,
    removals: Vec<&'history Operation>,
}

impl Article<'_> {
    fn acknowledged(&self) -> Option<&&Operation> {
        self.adds.iter().find(|add| add.is_ok())
    }
}

impl Checker for CartChecker {
    fn name(&self) -> &'static str {
        "cart"
    }

    fn check(&self, history: &History) -> Report {
        let operations = history.operations();
        let carts = match carts_of(&operations) {
            Ok(carts) => carts,
            Err(malformed) => return Report::unknown(self.name(), malformed),
        };
        let mut verdict = Verdict::Valid;
        let (mut acknowledged, mut removed) = (0, 0);
        for (name, cart) in &carts {
            let articles = cart.articles.values();
            acknowledged += articles
                .clone()
                .filter(|one| one.acknowledged().is_some())
                .count();
            removed += articles
                .filter(|one| one.removals.iter().any(|one| took(one)))
                .count();
            verdict = verdict.and(cart.judge(name));
        }
        if acknowledged == 0 {
            verdict = verdict.and(Verdict::unknown("no add was ever acknowledged"));
        }
        let counts = [
            ("carts", carts.len()),
            ("adds_acknowledged", acknowledged),
            ("removed", removed),
        ];
        Report::new(self.name(), verdict, counts)
    }
}

impl Cart<'_> {
    fn judge(&self, name: &str) -> Verdict {
        let Some((last, lines)) = &self.last else {
            return Verdict::unknown(format!("cart {name} was never looked at in the end"));
        };
        let mut violations = Vec::new();
        let mut say = |kind, what: String, involved: &[&Operation]| {
            let involved = involved.iter().copied().chain([*last]);
            let what = format!("cart {name}: {what}");
            violations.push(Violation::new(kind, what, involved));
        };
        for (sku, article) in &self.articles {
            let is_there = lines.iter().any(|(other, _)| other == sku);
            let took_it = article.removals.iter().find(|one| took(one));
            let may_have = article
                .removals
                .iter()
                .any(|one| !one.is_failed() && may_take(one));
            if let Some(removal) = took_it
                && is_there
            {
                say(
                    "back again",
                    format!("{sku} was removed and is there"),
                    &[*removal],
                );
            }
            if let Some(add) = article.acknowledged()
                && !is_there
                && !may_have
            {
                say(
                    "lost",
                    format!("{sku} was added, nobody removed it, and it is not there"),
                    &[*add],
                );
            }
        }
        for (position, (sku, quantity)) in lines.iter().enumerate() {
            let article = self.articles.get(sku);
            let is_expected = article.is_some_and(|article| {
                article.quantity == *quantity && article.adds.iter().any(|add| !add.is_failed())
            });
            let is_twice = lines[..position].iter().any(|(other, _)| other == sku);
            if !is_expected || is_twice {
                let involved = article.map_or(&[][..], |article| &article.adds[..]);
                say(
                    "unexpected",
                    format!("{quantity} of {sku} are there"),
                    involved,
                );
            }
        }
        Verdict::of(violations)
    }
}

/// It removed something, and said so.
fn took(removal: &Operation) -> bool {
    let effect = removal
        .told()
        .and_then(|told| told.get(1)?.get("effect")?.as_bool());
    effect == Some(true)
}

/// It removed something, or nobody knows.
fn may_take(removal: &Operation) -> bool {
    removal.is_unknown() || took(removal)
}

fn carts_of(operations: &[Operation]) -> Result<BTreeMap<&str, Cart<'_>>, Malformed> {
    let mut carts: BTreeMap<&str, Cart<'_>> = BTreeMap::new();
    for operation in operations {
        let malformed = || Malformed::new(operation, EXPECTED);
        let name = operation.asked.get(0).and_then(Value::as_str);
        let cart = carts.entry(name.ok_or_else(malformed)?).or_default();
        let asked = operation.asked.get(1).unwrap_or(&Value::Null);
        match operation.f.as_str() {
            "add" => {
                let (sku, quantity) = line(asked).ok_or_else(malformed)?;
                let article = cart.articles.entry(sku).or_default();
                article.quantity = quantity;
                article.adds.push(operation);
            }
            "remove" => {
                let sku = asked.as_str().ok_or_else(malformed)?;
                cart.articles
                    .entry(sku)
                    .or_default()
                    .removals
                    .push(operation);
            }
            "final-read" => {
                let Some(told) = operation.told() else {
                    continue;
                };
                let lines = told.get(1).and_then(Value::as_array);
                let lines = lines.and_then(|lines| lines.iter().map(line).collect());
                cart.last = Some((operation, lines.ok_or_else(malformed)?));
            }
            _ => return Err(malformed()),
        }
    }
    Ok(carts)
}

fn line(value: &Value) -> Option<(&str, i64)> {
    match value.as_array()?.as_slice() {
        [sku, quantity] => Some((sku.as_str()?, quantity.as_i64()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::Script;

    fn check(script: Script, expected: &[&str]) {
        let kinds: Vec<&str> = match CartChecker.check(&script.history()).verdict {
            Verdict::Invalid { violations } => violations.iter().map(|one| one.kind).collect(),
            Verdict::Valid => vec!["valid"],
            Verdict::Unknown { .. } => vec!["unknown"],
        };
        assert_eq!(kinds, expected);
    }

    fn added() -> Script {
        Script::default().ok(0, "add", json!(["c", ["lamp", 1]]), json!(null))
    }

    fn removed(script: Script, effect: bool) -> Script {
        let told = json!(["c", {"effect": effect}]);
        script.ok(1, "remove", json!(["c", "lamp"]), told)
    }

    fn last(script: Script, lines: Value) -> Script {
        script.ok(2, "final-read", json!(["c", null]), json!(["c", lines]))
    }

    #[test]
    fn adds_stay_and_removals_too() {
        check(last(added(), json!([["lamp", 1]])), &["valid"]);
        check(last(added(), json!([])), &["lost"]);
        check(last(removed(added(), true), json!([])), &["valid"]);
        check(
            last(removed(added(), true), json!([["lamp", 1]])),
            &["back again"],
        );
        check(
            last(removed(added(), false), json!([["lamp", 1]])),
            &["valid"],
        );
        check(last(removed(added(), false), json!([])), &["lost"]);
    }

    #[test]
    fn doubt_explains_both() {
        let doubtful = added().info(1, "remove", json!(["c", "lamp"]));
        check(last(doubtful.clone(), json!([])), &["valid"]);
        check(last(doubtful, json!([["lamp", 1]])), &["valid"]);
        let failed = added().fail(1, "remove", json!(["c", "lamp"]));
        check(last(failed, json!([])), &["lost"]);
    }

    #[test]
    fn nothing_comes_from_nowhere() {
        check(last(added(), json!([["lamp", 2]])), &["unexpected"]);
        check(
            last(added(), json!([["lamp", 1], ["lamp", 1]])),
            &["unexpected"],
        );
        check(
            last(added(), json!([["lamp", 1], ["vase", 1]])),
            &["unexpected"],
        );
        check(added(), &["unknown"]);
        check(Script::default(), &["unknown"]);
    }
}
