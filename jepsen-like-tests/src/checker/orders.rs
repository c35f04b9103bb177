//! Checkouts: one idempotency key is one order and one charge, however often it is sent.
//!
//! | f | asked | told |
//! |---|---|---|
//! | `checkout` | `{"key"}` | `{"order"}` |
//! | `final-orders` | `null` | [`Books`] |
//!
//! A checkout that fails (out of stock, declined) made no order that anybody pays for.
//!
//! Invariants judged: 1. answers to one key name one order, and no two keys share one. 2. an acknowledged order
//! is placed, listed once and charged once, with its total. 3. an order that was not placed is not charged.
//! 4. no charge and no order without a checkout.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Checker, Malformed, Report, Verdict, Violation};
use crate::history::{History, Operation};

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct OrdersChecker;

/// What the shop and the payment provider know in the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Books {
    /// As the shop lists them.
    pub orders: Vec<ListedOrder>,
    /// As the provider lists them; only those that took money.
    pub charges: Vec<Charge>,
}

/// One order of the shop's list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedOrder {
    /// Its id.
    pub order: String,
    /// Whether it was bought; failed ones are listed too.
    pub is_placed: bool,
    /// What it costs, in minor units.
    pub total_minor: i64,
}

/// Money that was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// The provider's id.
    pub charge: String,
    /// The order that it pays for.
    pub order: String,
    /// What was taken and not given back, in minor units.
    pub amount_minor: i64,
}

#[derive(Deserialize)]
struct Asked {
    key: String,
}

#[derive(Deserialize)]
struct Told {
    order: String,
}

const EXPECTED: &str = "`checkout` of {\"key\"} told {\"order\"}, or `final-orders` told the books";

#[derive(Default)]
struct Seen<'history> {
    /// Orders that answers named, by key.
    orders: BTreeMap<String, BTreeMap<String, &'history Operation>>,
    /// Keys under which nothing but failures came back, and those in doubt.
    keys_tried: BTreeSet<String>,
    keys_in_doubt: BTreeSet<String>,
    books: Option<(&'history Operation, Books)>,
}

impl Checker for OrdersChecker {
    fn name(&self) -> &'static str {
        "orders"
    }

    fn check(&self, history: &History) -> Report {
        let operations = history.operations();
        let seen = match seen_in(&operations) {
            Ok(seen) => seen,
            Err(malformed) => return Report::unknown(self.name(), malformed),
        };
        let mut violations = Vec::new();
        seen.judge_answers(&mut violations);
        let evidence = match &seen.books {
            None => Verdict::unknown("nobody looked at the books in the end"),
            Some((last, books)) => {
                seen.judge_books(last, books, &mut violations);
                Verdict::Valid
            }
        };
        let evidence = if seen.orders.is_empty() {
            evidence.and(Verdict::unknown("no checkout was ever acknowledged"))
        } else {
            evidence
        };
        let books = seen.books.as_ref().map(|(_, books)| books);
        let counts = [
            ("keys", seen.keys_tried.len()),
            ("acknowledged", seen.orders.len()),
            ("in_doubt", seen.keys_in_doubt.len()),
            ("orders", books.map_or(0, |books| books.orders.len())),
            ("charges", books.map_or(0, |books| books.charges.len())),
        ];
        Report::new(self.name(), Verdict::of(violations).and(evidence), counts)
    }
}

impl Seen<'_> {
    fn judge_answers(&self, violations: &mut Vec<Violation>) {
        let mut owners: BTreeMap<&str, (&str, &Operation)> = BTreeMap::new();
        for (key, orders) in &self.orders {
            if orders.len() > 1 {
                let what = format!("key {key} made {} orders", orders.len());
                violations.push(Violation::new("two orders", what, orders.values().copied()));
            }
            for (order, operation) in orders {
                let (owner, first) = *owners.entry(order).or_insert((key, operation));
                if owner != key {
                    let what = format!("keys {owner} and {key} share order {order}");
                    violations.push(Violation::new("shared order", what, [first, *operation]));
                }
            }
        }
    }

    fn judge_books(&self, last: &Operation, books: &Books, violations: &mut Vec<Violation>) {
        let mut say = |kind, what: String, involved: Option<&Operation>| {
            violations.push(Violation::new(
                kind,
                what,
                involved.into_iter().chain([last]),
            ));
        };
        let acknowledged: BTreeMap<&String, &Operation> = self
            .orders
            .values()
            .flatten()
            .map(|(order, operation)| (order, *operation))
            .collect();
        let mut listed: BTreeMap<&String, &ListedOrder> = BTreeMap::new();
        for order in &books.orders {
            if listed.insert(&order.order, order).is_some() {
                say(
                    "listed twice",
                    format!("order {} is listed twice", order.order),
                    None,
                );
            }
        }
        for (order, operation) in &acknowledged {
            let is_placed = listed.get(order).is_some_and(|listed| listed.is_placed);
            if !is_placed {
                say(
                    "lost",
                    format!("order {order} was acknowledged and is not placed"),
                    Some(operation),
                );
            }
        }
        let strangers = listed.values().filter(|order| order.is_placed);
        let strangers = strangers
            .filter(|order| !acknowledged.contains_key(&order.order))
            .count();
        if strangers > self.keys_in_doubt.len() {
            let what = format!(
                "{strangers} placed orders answer no acknowledged checkout, but only {} are in doubt",
                self.keys_in_doubt.len()
            );
            say("unexpected", what, None);
        }
        for (kind, what) in judge_charges(&listed, &books.charges) {
            say(kind, what, None);
        }
    }
}

fn judge_charges(
    listed: &BTreeMap<&String, &ListedOrder>,
    charges: &[Charge],
) -> Vec<(&'static str, String)> {
    let mut wrong = Vec::new();
    let mut paid: BTreeMap<&String, Vec<&Charge>> = BTreeMap::new();
    for charge in charges {
        paid.entry(&charge.order).or_default().push(charge);
    }
    for (order, charges) in &paid {
        let is_placed = listed.get(order).is_some_and(|order| order.is_placed);
        if !is_placed {
            wrong.push((
                "charged for nothing",
                format!("order {order} is charged, and is not placed"),
            ));
        }
        if charges.len() > 1 {
            wrong.push((
                "charged twice",
                format!("order {order} has {} charges", charges.len()),
            ));
        }
    }
    for order in listed.values().filter(|order| order.is_placed) {
        let charges = paid.get(&order.order).map_or(&[][..], Vec::as_slice);
        let paid: i64 = charges.iter().map(|charge| charge.amount_minor).sum();
        if paid != order.total_minor {
            let what = format!(
                "order {} costs {}, paid were {paid}",
                order.order, order.total_minor
            );
            wrong.push(("wrong amount", what));
        }
    }
    wrong
}

fn seen_in(operations: &[Operation]) -> Result<Seen<'_>, Malformed> {
    let mut seen = Seen::default();
    for operation in operations {
        let malformed = |_| Malformed::new(operation, EXPECTED);
        match operation.f.as_str() {
            "checkout" => {
                let asked = Asked::deserialize(&operation.asked).map_err(malformed)?;
                if let Some(told) = operation.told() {
                    let told = Told::deserialize(told).map_err(malformed)?;
                    let orders = seen.orders.entry(asked.key.clone()).or_default();
                    orders.entry(told.order).or_insert(operation);
                }
                if operation.is_unknown() {
                    seen.keys_in_doubt.insert(asked.key.clone());
                }
                seen.keys_tried.insert(asked.key);
            }
            "final-orders" => {
                let Some(told) = operation.told() else {
                    continue;
                };
                let books = Books::deserialize(told).map_err(malformed)?;
                seen.books = Some((operation, books));
            }
            _ => return Err(Malformed::new(operation, EXPECTED)),
        }
    }
    let is_open = |key: &String| !seen.orders.contains_key(key);
    seen.keys_in_doubt.retain(is_open);
    Ok(seen)
}

#[cfg(test)]
#[path = "orders_test.rs"]
mod tests;
