//! Money that moves between accounts and never changes its sum.
//!
//! | f | asked | told |
//! |---|---|---|
//! | `open` | `{"ledger", "accounts": {name: balance}}` | |
//! | `transfer` | `{"ledger", "from", "to", "amount"}` | |
//! | `read` | `{"ledger"}` | `{"ledger", "accounts": {name: balance}}` |
//! | `final-read` | as `read`, after everything has healed | |
//!
//! Invariants judged: 1. every read shows the sum that was opened with. 2. no balance is below zero. 3. the last balances
//! are those of the opening, moved by all acknowledged transfers and some of the doubtful ones: so no account differs by
//! more than the doubtful transfers around it could explain.
//!
//! Source: Jepsen, `tests/bank.clj`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{Checker, Malformed, Report, Verdict, Violation};
use crate::history::{History, Operation};

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct LedgerChecker;

const EXPECTED: &str = "`open`, `transfer`, `read` or `final-read` of {\"ledger\", ...}";

#[derive(Deserialize)]
struct Balances {
    ledger: String,
    accounts: BTreeMap<String, i64>,
}

#[derive(Deserialize)]
struct Transfer {
    ledger: String,
    from: String,
    to: String,
    amount: i64,
}

#[derive(Default)]
struct Ledger<'history> {
    opened: BTreeMap<String, i64>,
    transfers: Vec<(&'history Operation, Transfer)>,
    reads: Vec<(&'history Operation, BTreeMap<String, i64>)>,
}

/// Between which balances an account has to end.
#[derive(Clone, Copy, Default)]
struct Range {
    least: i64,
    most: i64,
}

impl Checker for LedgerChecker {
    fn name(&self) -> &'static str {
        "ledger"
    }

    fn check(&self, history: &History) -> Report {
        let operations = history.operations();
        let ledgers = match ledgers_of(&operations) {
            Ok(ledgers) => ledgers,
            Err(malformed) => return Report::unknown(self.name(), malformed),
        };
        let mut violations = Vec::new();
        let mut doubts = Vec::new();
        for (name, ledger) in &ledgers {
            ledger.judge(name, &mut violations);
            if !ledger.reads.iter().any(|(read, _)| read.f == "final-read") {
                doubts.push(format!("ledger {name} was never looked at in the end"));
            }
        }
        let moved = |ledger: &Ledger<'_>| {
            let done = ledger.transfers.iter().filter(|(one, _)| one.is_ok());
            done.count()
        };
        let transfers: usize = ledgers.values().map(moved).sum();
        if transfers == 0 {
            doubts.push("nothing was ever moved".to_owned());
        }
        let verdict = doubts
            .into_iter()
            .fold(Verdict::of(violations), |verdict, doubt| {
                verdict.and(Verdict::unknown(doubt))
            });
        let reads = ledgers.values().map(|ledger| ledger.reads.len()).sum();
        let counts = [
            ("ledgers", ledgers.len()),
            ("transfers", transfers),
            ("reads", reads),
        ];
        Report::new(self.name(), verdict, counts)
    }
}

impl Ledger<'_> {
    fn judge(&self, name: &str, violations: &mut Vec<Violation>) {
        let total: i64 = self.opened.values().sum();
        for (read, accounts) in &self.reads {
            let mut say = |kind, what: String| {
                let what = format!("ledger {name}: {what}");
                violations.push(Violation::new(kind, what, [*read]));
            };
            let sum: i64 = accounts.values().sum();
            if sum != total {
                say("wrong sum", format!("{sum} instead of {total}"));
            }
            for (account, balance) in accounts.iter().filter(|(_, balance)| **balance < 0) {
                say("overdrawn", format!("{account} has {balance}"));
            }
            if read.f == "final-read" {
                for (account, Range { least, most }) in self.ranges() {
                    let balance = accounts.get(&account).copied().unwrap_or_default();
                    if !(least..=most).contains(&balance) {
                        let what = format!(
                            "{account} ends with {balance}, and the transfers explain {least} to {most}"
                        );
                        say("unexplained", what);
                    }
                }
            }
        }
    }

    fn ranges(&self) -> BTreeMap<String, Range> {
        let mut ranges: BTreeMap<String, Range> = self
            .opened
            .iter()
            .map(|(account, balance)| {
                let range = Range {
                    least: *balance,
                    most: *balance,
                };
                (account.clone(), range)
            })
            .collect();
        for (operation, transfer) in &self.transfers {
            let (sure, doubt) = match (operation.is_ok(), operation.is_failed()) {
                (true, _) => (transfer.amount, 0),
                (false, true) => (0, 0),
                (false, false) => (0, transfer.amount),
            };
            let from = ranges.entry(transfer.from.clone()).or_default();
            from.least -= sure + doubt;
            from.most -= sure;
            let to = ranges.entry(transfer.to.clone()).or_default();
            to.least += sure;
            to.most += sure + doubt;
        }
        ranges
    }
}

fn ledgers_of(operations: &[Operation]) -> Result<BTreeMap<String, Ledger<'_>>, Malformed> {
    let mut ledgers: BTreeMap<String, Ledger<'_>> = BTreeMap::new();
    for operation in operations {
        let malformed = |_| Malformed::new(operation, EXPECTED);
        let asked = operation.asked.clone();
        match operation.f.as_str() {
            "open" => {
                let opened: Balances = serde_json::from_value(asked).map_err(malformed)?;
                ledgers.entry(opened.ledger).or_default().opened = opened.accounts;
            }
            "transfer" => {
                let transfer: Transfer = serde_json::from_value(asked).map_err(malformed)?;
                let ledger = ledgers.entry(transfer.ledger.clone()).or_default();
                ledger.transfers.push((operation, transfer));
            }
            "read" | "final-read" => {
                if let Some(told) = operation.told() {
                    let read: Balances =
                        serde_json::from_value(Value::clone(told)).map_err(malformed)?;
                    let ledger = ledgers.entry(read.ledger).or_default();
                    ledger.reads.push((operation, read.accounts));
                }
            }
            _ => return Err(Malformed::new(operation, EXPECTED)),
        }
    }
    Ok(ledgers)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::Script;

    fn check(script: Script, expected: &[&str]) {
        let kinds: Vec<&str> = match LedgerChecker.check(&script.history()).verdict {
            Verdict::Invalid { violations } => violations.iter().map(|one| one.kind).collect(),
            Verdict::Valid => vec!["valid"],
            Verdict::Unknown { .. } => vec!["unknown"],
        };
        assert_eq!(kinds, expected);
    }

    fn opened() -> Script {
        let asked = json!({"ledger": "l", "accounts": {"a": 10, "b": 10}});
        Script::default().ok(0, "open", asked, json!(null))
    }

    fn asked(amount: i64) -> Value {
        json!({"ledger": "l", "from": "a", "to": "b", "amount": amount})
    }

    fn moved(amount: i64) -> Script {
        opened().ok(1, "transfer", asked(amount), json!(null))
    }

    fn seen(script: Script, f: &str, a: i64, b: i64) -> Script {
        let told = json!({"ledger": "l", "accounts": {"a": a, "b": b}});
        script.ok(2, f, json!({"ledger": "l"}), told)
    }

    #[test]
    fn sums_and_balances_are_judged() {
        check(seen(moved(3), "final-read", 7, 13), &["valid"]);
        check(
            seen(moved(3), "final-read", 10, 10),
            &["unexplained", "unexplained"],
        );
        let early = seen(moved(3), "read", 7, 12);
        check(seen(early, "final-read", 7, 13), &["wrong sum"]);
        check(seen(moved(11), "final-read", -1, 21), &["overdrawn"]);
        check(moved(3), &["unknown"]);
        check(seen(opened(), "final-read", 10, 10), &["unknown"]);
    }

    #[test]
    fn doubt_widens_what_is_explained() {
        let doubtful = moved(3).info(3, "transfer", asked(2));
        check(seen(doubtful.clone(), "final-read", 7, 13), &["valid"]);
        check(seen(doubtful.clone(), "final-read", 5, 15), &["valid"]);
        check(
            seen(doubtful, "final-read", 4, 16),
            &["unexplained", "unexplained"],
        );
        let failed = moved(3).fail(3, "transfer", asked(2));
        check(
            seen(failed, "final-read", 5, 15),
            &["unexplained", "unexplained"],
        );
    }
}
