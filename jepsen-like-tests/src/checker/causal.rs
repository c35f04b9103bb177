//! Values that replace what their writers had seen, and stand beside everything else.
//!
//! | f | asked | told |
//! |---|---|---|
//! | `put` | `{"key", "id", "saw": [id, ...]}` | |
//! | `delete` | `{"key", "saw": [id, ...]}` | |
//! | `read` | `{"key"}` | `{"key", "ids": [id, ...]}` |
//! | `final-read` | as `read`, of all replicas, after everything has healed | |
//!
//! Each id is put once. `saw` is what the write's context covers: the values that it replaces. A value is *covered* when
//! some write saw it, and so is everything that a covered value's put saw.
//!
//! Invariants judged: 1. an acknowledged value is there in the end, unless a write that may have been applied covers it
//! (`lost`). 2. what an acknowledged write covers is not there in the end (`back again`). 3. no read shows a value next to
//! one that replaced it (`dominated`). 4. nothing is read that nobody can have put before (`unexpected`). With
//! [`ReadPromise::Every`], 1 and 2 hold for every read that began after the acknowledgement, as strict quorums promise:
//! so every client reads its own writes, and never less than was acknowledged.
//!
//! Source: Preguiça et al., Dotted Version Vectors, 2010, §2 (what contexts promise); Bailis et al., Highly Available
//! Transactions, VLDB 2013, §5.1 (session guarantees).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Checker, Malformed, ReadPromise, Report, Verdict, Violation};
use crate::history::{History, Operation};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct CausalChecker {
    /// Which reads are held to account.
    pub promise: ReadPromise,
}

const EXPECTED: &str = "`put`, `delete`, `read` or `final-read` of {\"key\", ...}";

/// Everything about one key.
#[derive(Default)]
struct Key<'history> {
    puts: BTreeMap<&'history str, &'history Operation>,
    /// Writes by each value that they saw.
    covers: BTreeMap<&'history str, Vec<&'history Operation>>,
    reads: Vec<(&'history Operation, Vec<&'history str>)>,
}

#[derive(Default)]
struct Tally {
    acknowledged: usize,
    read: usize,
    final_read: usize,
    siblings_most: usize,
    violations: Vec<Violation>,
}

impl Checker for CausalChecker {
    fn name(&self) -> &'static str {
        "causal"
    }

    fn check(&self, history: &History) -> Report {
        let operations = history.operations();
        let keys = match keys_of(&operations) {
            Ok(keys) => keys,
            Err(malformed) => return Report::unknown(self.name(), malformed),
        };
        let mut tally = Tally::default();
        let mut unseen = 0;
        for (name, key) in &keys {
            let acknowledged = key.puts.values().filter(|put| put.is_ok()).count();
            tally.acknowledged += acknowledged;
            let is_seen = key.reads.iter().any(|(read, _)| read.f == "final-read");
            unseen += usize::from(!is_seen && acknowledged > 0);
            for (read, ids) in &key.reads {
                self.judge(name, key, read, ids, &mut tally);
            }
        }
        let mut verdict = Verdict::of(std::mem::take(&mut tally.violations));
        if tally.acknowledged == 0 {
            verdict = verdict.and(Verdict::unknown("no put was ever acknowledged"));
        }
        if unseen > 0 {
            let why = format!("{unseen} key(s) were never looked at in the end");
            verdict = verdict.and(Verdict::unknown(why));
        }
        let counts = [
            ("keys", keys.len()),
            ("puts_acknowledged", tally.acknowledged),
            ("reads", tally.read),
            ("final_reads", tally.final_read),
            ("siblings_most", tally.siblings_most),
        ];
        Report::new(self.name(), verdict, counts)
    }
}

impl CausalChecker {
    fn judge(&self, name: &str, key: &Key<'_>, read: &Operation, ids: &[&str], tally: &mut Tally) {
        let is_final = read.f == "final-read";
        tally.read += 1;
        tally.final_read += usize::from(is_final);
        tally.siblings_most = tally.siblings_most.max(ids.len());
        let mut say = |kind, what: String, involved: &[&Operation]| {
            let involved = involved.iter().copied().chain([read]);
            let what = format!("key {name}: {what}");
            tally.violations.push(Violation::new(kind, what, involved));
        };
        judge_contents(key, read, ids, &mut say);
        if !is_final && self.promise == ReadPromise::Final {
            return;
        }
        let before = |operation: &Operation| operation.completed < Some(read.invoked);
        for (id, put) in &key.puts {
            if ids.contains(id) {
                let gone = key
                    .covering(id)
                    .find(|write| write.is_ok() && before(write));
                if let Some(write) = gone {
                    let what = format!("{id} was replaced or deleted, and is back again");
                    say("back again", what, &[*put, write]);
                }
                continue;
            }
            // A write that may take effect late explains an absence as well as one that did.
            let may_be_gone = key
                .covering(id)
                .any(|write| !write.is_failed() && Some(write.invoked) < read.completed);
            if put.is_ok() && before(put) && !may_be_gone {
                let what =
                    format!("{id} was acknowledged, nobody replaced it, and it is not there");
                say("lost", what, &[*put]);
            }
        }
    }
}

fn judge_contents(
    key: &Key<'_>,
    read: &Operation,
    ids: &[&str],
    say: &mut impl FnMut(&'static str, String, &[&Operation]),
) {
    let mut met = BTreeSet::new();
    for id in ids {
        if !met.insert(id) {
            say("twice", format!("{id} is there twice"), &[]);
        }
        match key.puts.get(id) {
            Some(put) if !put.is_failed() && Some(put.invoked) < read.completed => {}
            put => {
                let what = format!("{id} is there, though no put can have made it");
                let involved: Vec<&Operation> = put.into_iter().copied().collect();
                say("unexpected", what, &involved);
            }
        }
        let dominant = ids
            .iter()
            .filter_map(|other| key.puts.get(other))
            .find(|put| {
                key.covers
                    .get(id)
                    .is_some_and(|writes| writes.iter().any(|write| std::ptr::eq(*write, **put)))
            });
        if let Some(put) = dominant {
            say(
                "dominated",
                format!("{id} stands beside what replaced it"),
                &[put],
            );
        }
    }
}

impl<'history> Key<'history> {
    /// Writes that saw the value, directly: what saw those in turn has replaced them, not it, and needs no second look.
    fn covering(&self, id: &str) -> impl Iterator<Item = &'history Operation> {
        self.covers.get(id).into_iter().flatten().copied()
    }
}

fn keys_of(operations: &[Operation]) -> Result<BTreeMap<&str, Key<'_>>, Malformed> {
    let mut keys: BTreeMap<&str, Key<'_>> = BTreeMap::new();
    for operation in operations {
        let malformed = || Malformed::new(operation, EXPECTED);
        let name = operation.asked.get("key").and_then(Value::as_str);
        let key = keys.entry(name.ok_or_else(malformed)?).or_default();
        match operation.f.as_str() {
            "put" | "delete" => {
                let saw = texts(&operation.asked, "saw").ok_or_else(malformed)?;
                if operation.f == "put" {
                    let id = operation.asked.get("id").and_then(Value::as_str);
                    key.puts.insert(id.ok_or_else(malformed)?, operation);
                }
                for id in saw {
                    key.covers.entry(id).or_default().push(operation);
                }
            }
            "read" | "final-read" => {
                if let Some(told) = operation.told() {
                    let ids = texts(told, "ids").ok_or_else(malformed)?;
                    key.reads.push((operation, ids));
                }
            }
            _ => return Err(malformed()),
        }
    }
    Ok(keys)
}

fn texts<'value>(value: &'value Value, field: &str) -> Option<Vec<&'value str>> {
    value
        .get(field)?
        .as_array()?
        .iter()
        .map(Value::as_str)
        .collect()
}

#[cfg(test)]
#[path = "causal_test.rs"]
mod tests;
