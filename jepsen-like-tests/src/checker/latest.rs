//! Keys of which the latest put wins, whatever the clocks of the nodes say.
//!
//! | f | asked | told |
//! |---|---|---|
//! | `put` | `{"key", "id"}` | |
//! | `read` | `{"key"}` | `{"key", "id"}`, null when nothing is there |
//! | `final-read` | as `read`, of all replicas, after everything has healed | |
//!
//! Each id is put once, and acknowledged only when all copies have it. So a put that was sent after another one was
//! acknowledged meets its stamp on every node, and has to be dated after it; only puts at the same time, or in doubt, may win
//! in any order.
//!
//! Invariants judged: 1. no read that began after a put was acknowledged shows nothing, or a value whose put was acknowledged
//! before that one was sent (`superseded`). 2. nothing is read that nobody can have put before (`unexpected`).
//!
//! Source: Kulkarni et al., Logical Physical Clocks and Consistent Snapshots, 2014, §3: a stamp never contradicts what was seen.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Checker, Malformed, Report, Verdict, Violation};
use crate::history::{History, Operation};

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct LatestChecker;

const EXPECTED: &str = "`put`, `read` or `final-read` of {\"key\", ...}";

/// Everything about one key.
#[derive(Default)]
struct Key<'history> {
    puts: BTreeMap<&'history str, &'history Operation>,
    reads: Vec<(&'history Operation, Option<&'history str>)>,
}

impl Checker for LatestChecker {
    fn name(&self) -> &'static str {
        "latest"
    }

    fn check(&self, history: &History) -> Report {
        let operations = history.operations();
        let keys = match keys_of(&operations) {
            Ok(keys) => keys,
            Err(malformed) => return Report::unknown(self.name(), malformed),
        };
        let mut violations = Vec::new();
        let mut unseen = 0;
        for (name, key) in &keys {
            key.judge(name, &mut violations);
            let is_seen = key.reads.iter().any(|(read, _)| read.f == "final-read");
            unseen += usize::from(!is_seen);
        }
        let acknowledged = |key: &Key<'_>| key.puts.values().filter(|put| put.is_ok()).count();
        let acknowledged: usize = keys.values().map(acknowledged).sum();
        let mut verdict = Verdict::of(violations);
        if acknowledged == 0 {
            verdict = verdict.and(Verdict::unknown("no put was ever acknowledged"));
        }
        if unseen > 0 {
            let why = format!("{unseen} key(s) were never looked at in the end");
            verdict = verdict.and(Verdict::unknown(why));
        }
        let reads = keys.values().map(|key| key.reads.len()).sum();
        let counts = [
            ("keys", keys.len()),
            ("puts_acknowledged", acknowledged),
            ("reads", reads),
        ];
        Report::new(self.name(), verdict, counts)
    }
}

impl Key<'_> {
    fn judge(&self, name: &str, violations: &mut Vec<Violation>) {
        for (read, id) in &self.reads {
            let shown = id.map(|id| self.puts.get(id).copied());
            if let (Some(None), Some(id)) = (shown, id) {
                let what = format!("{name}: nobody put {id}");
                violations.push(Violation::new("unexpected", what, [*read]));
                continue;
            }
            let shown = shown.flatten();
            if let Some(put) = shown
                && (put.is_failed() || read.completed.is_some_and(|end| end < put.invoked))
            {
                let what = format!("{name}: a value was read that cannot have been there");
                violations.push(Violation::new("unexpected", what, [put, *read]));
                continue;
            }
            if let Some(winner) = self.winner_over(shown, read) {
                let what = match id {
                    Some(id) => format!("{name}: {id} was read after a later put was acknowledged"),
                    None => format!("{name}: nothing was read after a put was acknowledged"),
                };
                let involved = shown.into_iter().chain([winner, *read]);
                violations.push(Violation::new("superseded", what, involved));
            }
        }
    }

    /// A put that the read had to show rather than what it showed.
    fn winner_over(&self, shown: Option<&Operation>, read: &Operation) -> Option<&Operation> {
        let is_over_before = |put: &Operation, moment: u64| {
            put.is_ok() && put.completed.is_some_and(|end| end < moment)
        };
        let puts = self.puts.values().copied();
        let mut later = puts.filter(|put| is_over_before(put, read.invoked));
        later.find(|put| shown.is_none_or(|shown| is_over_before(shown, put.invoked)))
    }
}

fn keys_of(operations: &[Operation]) -> Result<BTreeMap<&str, Key<'_>>, Malformed> {
    let mut keys: BTreeMap<&str, Key<'_>> = BTreeMap::new();
    for operation in operations {
        let malformed = || Malformed::new(operation, EXPECTED);
        let name = operation.asked.get("key").and_then(Value::as_str);
        let key = keys.entry(name.ok_or_else(malformed)?).or_default();
        match operation.f.as_str() {
            "put" => {
                let id = operation.asked.get("id").and_then(Value::as_str);
                key.puts.insert(id.ok_or_else(malformed)?, operation);
            }
            "read" | "final-read" => {
                let Some(told) = operation.told() else {
                    continue;
                };
                let id = match told.get("id") {
                    Some(Value::Null) => None,
                    Some(Value::String(id)) => Some(id.as_str()),
                    _ => return Err(malformed()),
                };
                key.reads.push((operation, id));
            }
            _ => return Err(malformed()),
        }
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::history::EventKind;
    use crate::testing::Script;

    fn put(script: Script, id: &str) -> Script {
        script.ok(0, "put", json!({"key": "k", "id": id}), json!({}))
    }

    fn read(script: Script, f: &str, id: Value) -> Script {
        script.ok(1, f, json!({"key": "k"}), json!({"key": "k", "id": id}))
    }

    fn check(script: Script, expected: &[&str]) {
        let verdict = LatestChecker.check(&script.history()).verdict;
        let kinds: Vec<&str> = match &verdict {
            Verdict::Invalid { violations } => violations.iter().map(|one| one.kind).collect(),
            Verdict::Valid => vec!["valid"],
            Verdict::Unknown { .. } => vec!["unknown"],
        };
        assert_eq!(kinds, expected, "{verdict}");
    }

    #[test]
    fn the_later_of_two_puts_wins() {
        let both = put(put(Script::default(), "a"), "b");
        check(read(both.clone(), "final-read", json!("b")), &["valid"]);
        check(
            read(both.clone(), "final-read", json!("a")),
            &["superseded"],
        );
        check(
            read(both.clone(), "final-read", json!(null)),
            &["superseded"],
        );
        check(read(both, "final-read", json!("c")), &["unexpected"]);
    }

    #[test]
    fn a_read_on_the_way_shows_the_latest_too() {
        let first = read(put(Script::default(), "a"), "read", json!("a"));
        let second = put(first, "b");
        let good = read(second.clone(), "read", json!("b"));
        check(read(good, "final-read", json!("b")), &["valid"]);
        let bad = read(second, "read", json!("a"));
        check(read(bad, "final-read", json!("b")), &["superseded"]);
    }

    #[test]
    fn puts_at_the_same_time_or_in_doubt_win_in_any_order() {
        let asked = |id: &str| json!({"key": "k", "id": id});
        let overlapping = Script::default()
            .invoke(0, "put", asked("a"))
            .invoke(2, "put", asked("b"))
            .event(2, EventKind::Ok, "put", json!({}))
            .event(0, EventKind::Ok, "put", json!({}));
        for id in ["a", "b"] {
            let seen = read(overlapping.clone(), "final-read", json!(id));
            check(seen, &["valid"]);
        }
        let doubtful = put(Script::default().info(2, "put", asked("a")), "b");
        check(read(doubtful, "final-read", json!("a")), &["valid"]);
        let failed = put(Script::default().fail(2, "put", asked("a")), "b");
        check(read(failed, "final-read", json!("a")), &["unexpected"]);
    }

    #[test]
    fn without_evidence_it_is_unknown() {
        check(Script::default(), &["unknown"]);
        check(put(Script::default(), "a"), &["unknown"]);
        check(
            read(Script::default(), "final-read", json!(null)),
            &["unknown"],
        );
    }
}
