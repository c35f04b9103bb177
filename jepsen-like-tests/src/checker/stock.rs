//! Stock that is only reserved: granted is what was held, and never more than there was.
//!
//! | f | asked | told |
//! |---|---|---|
//! | `receive` | `{"stock", "quantity"}` | |
//! | `reserve` | `{"stock", "reservation", "quantity"}` | |
//! | `final-stock` | `{"stock"}` | [`StockState`] |
//!
//! A `reserve` that fails with `condition-failed` was refused because too little was left; a reservation may be asked
//! for again under its id. Reservations must neither be released nor run out while the workload runs.
//!
//! Invariants judged, per stock: 1. no reservation is held twice, or with another quantity. 2. every grant is
//! held, and nothing is held that was never asked for or surely failed. 3. on hand = available + reserved +
//! allocated + damaged = received = the sum of the ledger, and none is below zero. 4. reserved and allocated
//! are the sum of what is held. 5. nobody was refused what was left in the end.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Checker, Malformed, Report, Verdict, Violation};
use crate::history::{History, Operation};

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct StockChecker;

/// All that is known of a stock in the end, in units.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockState {
    /// Which.
    pub stock: String,
    /// Free to reserve.
    pub available: i64,
    /// Held.
    pub reserved: i64,
    /// Bound to orders.
    pub allocated: i64,
    /// Not for sale.
    pub damaged: i64,
    /// The sum of all movements that the ledger lists, over these four.
    pub ledger_sum: i64,
    /// What is held or allocated.
    pub holds: Vec<HeldUnits>,
}

/// One reservation that holds units.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldUnits {
    /// Its id.
    pub reservation: String,
    /// Its units.
    pub quantity: i64,
}

#[derive(Deserialize)]
struct Receive {
    stock: String,
    quantity: i64,
}

#[derive(Deserialize)]
struct Reserve {
    stock: String,
    reservation: String,
    quantity: i64,
}

const EXPECTED: &str = "`receive`, `reserve` or `final-stock` of {\"stock\", ...}";

#[derive(Default)]
struct Stock<'history> {
    received: i64,
    received_in_doubt: i64,
    reservations: BTreeMap<String, Attempts<'history>>,
    last: Option<(&'history Operation, StockState)>,
}

/// All requests for one reservation.
#[derive(Default)]
struct Attempts<'history> {
    quantity: i64,
    granted: Option<&'history Operation>,
    in_doubt: Option<&'history Operation>,
    refused: Option<&'history Operation>,
}

impl Checker for StockChecker {
    fn name(&self) -> &'static str {
        "stock"
    }

    fn check(&self, history: &History) -> Report {
        let operations = history.operations();
        let stocks = match stocks_of(&operations) {
            Ok(stocks) => stocks,
            Err(malformed) => return Report::unknown(self.name(), malformed),
        };
        let mut verdict = Verdict::Valid;
        let mut granted = 0;
        let mut in_doubt = 0;
        let mut refused = 0;
        for (name, stock) in &stocks {
            verdict = verdict.and(stock.judge(name));
            for attempts in stock.reservations.values() {
                granted += usize::from(attempts.granted.is_some());
                in_doubt += usize::from(attempts.granted.is_none() && attempts.in_doubt.is_some());
                refused += usize::from(attempts.refused.is_some());
            }
        }
        if granted == 0 {
            verdict = verdict.and(Verdict::unknown("nothing was ever granted"));
        }
        let counts = [
            ("stocks", stocks.len()),
            ("granted", granted),
            ("in_doubt", in_doubt),
            ("refused", refused),
        ];
        Report::new(self.name(), verdict, counts)
    }
}

impl Stock<'_> {
    fn judge(&self, name: &str) -> Verdict {
        let mut violations = Vec::new();
        let Some((last, state)) = &self.last else {
            return Verdict::unknown(format!("stock {name} was never looked at in the end"));
        };
        let mut say = |kind, what: String, involved: &[&Operation]| {
            let involved = involved.iter().copied().chain([*last]);
            violations.push(Violation::new(
                kind,
                format!("stock {name}: {what}"),
                involved,
            ));
        };
        self.judge_grants(state, &mut say);
        self.judge_holds(state, &mut say);
        self.judge_sums(state, &mut say);
        Verdict::of(violations)
    }

    fn judge_grants(
        &self,
        state: &StockState,
        say: &mut impl FnMut(&'static str, String, &[&Operation]),
    ) {
        for (id, attempts) in &self.reservations {
            let is_held = state.holds.iter().any(|held| held.reservation == *id);
            if let Some(granted) = attempts.granted
                && !is_held
            {
                say(
                    "lost",
                    format!("reservation {id} was granted and is not held"),
                    &[granted],
                );
            }
            if let Some(refused) = attempts.refused
                && state.available >= attempts.quantity
            {
                let what = format!(
                    "{} unit(s) were refused, and {} are left",
                    attempts.quantity, state.available
                );
                say("refused what was left", what, &[refused]);
            }
        }
        let granted = self
            .reservations
            .values()
            .filter(|attempts| attempts.granted.is_some());
        let granted: i64 = granted.map(|attempts| attempts.quantity).sum();
        let most = self.received + self.received_in_doubt;
        if granted > most {
            say(
                "oversold",
                format!("{granted} units were granted of {most} received"),
                &[],
            );
        }
    }

    fn judge_holds(
        &self,
        state: &StockState,
        say: &mut impl FnMut(&'static str, String, &[&Operation]),
    ) {
        let mut met = BTreeMap::new();
        for held in &state.holds {
            let HeldUnits {
                reservation,
                quantity,
            } = held;
            if met.insert(reservation, quantity).is_some() {
                say(
                    "held twice",
                    format!("reservation {reservation} is held twice"),
                    &[],
                );
            }
            let Some(attempts) = self.reservations.get(reservation) else {
                say(
                    "unexpected",
                    format!("reservation {reservation} is held, though nobody asked"),
                    &[],
                );
                continue;
            };
            if attempts.granted.is_none() && attempts.in_doubt.is_none() {
                let refused: Vec<&Operation> = attempts.refused.into_iter().collect();
                say(
                    "unexpected",
                    format!("reservation {reservation} is held, though it failed"),
                    &refused,
                );
            }
            if *quantity != attempts.quantity {
                let what = format!(
                    "reservation {reservation} holds {quantity} units instead of {}",
                    attempts.quantity
                );
                say("wrong quantity", what, &[]);
            }
        }
    }

    fn judge_sums(
        &self,
        state: &StockState,
        say: &mut impl FnMut(&'static str, String, &[&Operation]),
    ) {
        let StockState {
            available,
            reserved,
            allocated,
            damaged,
            ledger_sum,
            ..
        } = *state;
        if [available, reserved, allocated, damaged]
            .iter()
            .any(|&units| units < 0)
        {
            say("below zero", "some units are below zero".to_owned(), &[]);
        }
        let on_hand = available + reserved + allocated + damaged;
        let most = self.received + self.received_in_doubt;
        if on_hand < self.received || on_hand > most {
            say(
                "units appeared or vanished",
                format!("{on_hand} units on hand of {most} received"),
                &[],
            );
        }
        if ledger_sum != on_hand {
            say(
                "ledger",
                format!("the ledger adds up to {ledger_sum}, on hand are {on_hand}"),
                &[],
            );
        }
        let held: i64 = state.holds.iter().map(|held| held.quantity).sum();
        if held != reserved + allocated {
            let what = format!("{held} units are held, but {reserved} + {allocated} are counted");
            say("holds", what, &[]);
        }
    }
}

fn stocks_of(operations: &[Operation]) -> Result<BTreeMap<String, Stock<'_>>, Malformed> {
    let mut stocks: BTreeMap<String, Stock<'_>> = BTreeMap::new();
    for operation in operations {
        match operation.f.as_str() {
            "receive" => {
                let asked: Receive = parse(operation, &operation.asked)?;
                let stock = stocks.entry(asked.stock).or_default();
                if operation.is_ok() {
                    stock.received += asked.quantity;
                } else if operation.is_unknown() {
                    stock.received_in_doubt += asked.quantity;
                }
            }
            "reserve" => {
                let asked: Reserve = parse(operation, &operation.asked)?;
                let stock = stocks.entry(asked.stock).or_default();
                let attempts = stock.reservations.entry(asked.reservation).or_default();
                attempts.quantity = asked.quantity;
                if operation.is_ok() {
                    attempts.granted.get_or_insert(operation);
                } else if operation.is_unknown() {
                    attempts.in_doubt.get_or_insert(operation);
                } else if operation.refused().is_some() {
                    attempts.refused.get_or_insert(operation);
                }
            }
            "final-stock" => {
                let Some(told) = operation.told() else {
                    continue;
                };
                let state: StockState = parse(operation, told)?;
                let stock = stocks.entry(state.stock.clone()).or_default();
                stock.last = Some((operation, state));
            }
            _ => return Err(Malformed::new(operation, EXPECTED)),
        }
    }
    Ok(stocks)
}

fn parse<T: for<'de> Deserialize<'de>>(
    operation: &Operation,
    value: &Value,
) -> Result<T, Malformed> {
    T::deserialize(value).map_err(|_| Malformed::new(operation, EXPECTED))
}

#[cfg(test)]
#[path = "stock_test.rs"]
mod tests;
