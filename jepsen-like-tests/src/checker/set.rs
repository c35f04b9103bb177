//! Sets that only grow: what was acknowledged is there in the end, and nothing else is.
//!
//! | f | asked | told |
//! |---|---|---|
//! | `add` | `[key, element]` | |
//! | `read` | `[key, null]` | `[key, [element, ...]]` |
//! | `final-read` | as `read`, after everything has healed | |
//!
//! Elements are never added twice by different operations, unless the workload retries one.
//!
//! Source: Jepsen, `checker/set-full`.
//! Not here: removal.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Checker, Malformed, Report, Verdict, Violation};
use crate::history::{History, Operation};

/// Which reads have to show an acknowledged element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadPromise {
    /// Only final ones, as for data that converges.
    Final,
    /// Every one that began after the acknowledgement, as for linearizable data.
    Every,
}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct SetChecker {
    /// Which reads are held to account for missing elements.
    pub promise: ReadPromise,
}

const EXPECTED: &str = "`add` of [key, element], `read` or `final-read` of [key, elements]";

#[derive(Default)]
struct Key<'history> {
    /// By element; retries of one element are attempts.
    adds: BTreeMap<String, Vec<&'history Operation>>,
    reads: Vec<Seen<'history>>,
}

struct Seen<'history> {
    operation: &'history Operation,
    elements: Vec<String>,
}

impl Checker for SetChecker {
    fn name(&self) -> &'static str {
        "set"
    }

    fn check(&self, history: &History) -> Report {
        let operations = history.operations();
        let keys = match keys_of(&operations) {
            Ok(keys) => keys,
            Err(malformed) => return Report::unknown(self.name(), malformed),
        };
        let mut tally = Tally::default();
        for (name, key) in &keys {
            self.judge(name, key, &mut tally);
        }
        let verdict = tally.verdict();
        let counts = [
            ("keys", keys.len()),
            ("attempted", tally.attempted),
            ("acknowledged", tally.acknowledged),
            ("lost", tally.lost),
            ("never_read", tally.never_read),
            ("unexpected", tally.unexpected),
            ("recovered", tally.recovered),
        ];
        Report::new(self.name(), verdict, counts)
    }
}

#[derive(Default)]
struct Tally {
    attempted: usize,
    acknowledged: usize,
    lost: usize,
    never_read: usize,
    unexpected: usize,
    /// In doubt, and there in the end.
    recovered: usize,
    violations: Vec<Violation>,
}

impl Tally {
    fn verdict(&mut self) -> Verdict {
        let verdict = Verdict::of(std::mem::take(&mut self.violations));
        if self.acknowledged == 0 {
            verdict.and(Verdict::unknown("no add was ever acknowledged"))
        } else if self.never_read > 0 {
            verdict.and(Verdict::unknown(format!(
                "{} acknowledged element(s) were never looked for afterwards",
                self.never_read
            )))
        } else {
            verdict
        }
    }
}

impl SetChecker {
    fn judge(&self, name: &str, key: &Key<'_>, tally: &mut Tally) {
        for (element, adds) in &key.adds {
            self.judge_element(name, element, adds, &key.reads, tally);
        }
        for seen in &key.reads {
            judge_contents(name, seen, &key.adds, tally);
        }
    }

    fn judge_element(
        &self,
        name: &str,
        element: &str,
        adds: &[&Operation],
        reads: &[Seen<'_>],
        tally: &mut Tally,
    ) {
        tally.attempted += 1;
        let is_there = |seen: &Seen<'_>| seen.elements.iter().any(|other| other == element);
        let acknowledged = adds
            .iter()
            .filter(|add| add.is_ok())
            .min_by_key(|add| add.completed);
        let Some(add) = acknowledged else {
            tally.recovered += usize::from(reads.iter().any(is_there));
            return;
        };
        tally.acknowledged += 1;
        let later = |seen: &&Seen<'_>| add.completed < Some(seen.operation.invoked);
        let bound = reads
            .iter()
            .filter(later)
            .filter(|seen| self.promise == ReadPromise::Every || seen.operation.f == "final-read");
        let bound: Vec<&Seen<'_>> = bound.collect();
        if bound.is_empty() {
            tally.never_read += 1;
        }
        let missing = bound.iter().find(|seen| !is_there(seen));
        if let Some(missing) = missing {
            tally.lost += 1;
            tally.violations.push(Violation::new(
                "lost",
                format!("key {name}: {element} was acknowledged, and a later read lacks it"),
                [*add, missing.operation],
            ));
        }
    }
}

/// Nothing twice, and nothing that was never asked for, was asked for only later, or surely failed.
fn judge_contents(
    name: &str,
    seen: &Seen<'_>,
    adds: &BTreeMap<String, Vec<&Operation>>,
    tally: &mut Tally,
) {
    let mut met = BTreeSet::new();
    for element in &seen.elements {
        if !met.insert(element) {
            let what = format!("key {name}: {element} is there twice");
            tally
                .violations
                .push(Violation::new("duplicated", what, [seen.operation]));
        }
        let attempts = adds.get(element).map_or(&[][..], Vec::as_slice);
        let may_be_there = |add: &&&Operation| {
            !add.is_failed()
                && seen
                    .operation
                    .completed
                    .is_none_or(|completed| add.invoked < completed)
        };
        if attempts.iter().find(may_be_there).is_none() {
            tally.unexpected += 1;
            let what =
                format!("key {name}: {element} is there, though no add can have put it there");
            let involved = attempts.iter().copied().chain([seen.operation]);
            tally
                .violations
                .push(Violation::new("unexpected", what, involved));
        }
    }
}

fn keys_of(operations: &[Operation]) -> Result<BTreeMap<String, Key<'_>>, Malformed> {
    let mut keys: BTreeMap<String, Key<'_>> = BTreeMap::new();
    for operation in operations {
        let malformed = || Malformed::new(operation, EXPECTED);
        match operation.f.as_str() {
            "add" => {
                let (key, element) = pair(&operation.asked).ok_or_else(malformed)?;
                let key = keys.entry(key).or_default();
                key.adds
                    .entry(element.to_string())
                    .or_default()
                    .push(operation);
            }
            "read" | "final-read" => {
                let Some(told) = operation.told() else {
                    continue;
                };
                let (key, elements) = pair(told).ok_or_else(malformed)?;
                let elements = elements.as_array().ok_or_else(malformed)?;
                let elements = elements.iter().map(ToString::to_string).collect();
                let key = keys.entry(key).or_default();
                key.reads.push(Seen {
                    operation,
                    elements,
                });
            }
            _ => return Err(malformed()),
        }
    }
    Ok(keys)
}

fn pair(value: &Value) -> Option<(String, &Value)> {
    match value.as_array()?.as_slice() {
        [Value::String(key), value] => Some((key.clone(), value)),
        [key, value] => Some((key.to_string(), value)),
        _ => None,
    }
}

#[cfg(test)]
#[path = "set_test.rs"]
mod tests;
