//! Could one machine per key, doing one thing at a time, have given all these answers?
//!
//! Shape: a [`Model`] reads operations and plays the machine; [`search`] looks for an order; keys are judged one by
//! one, because a history is linearizable exactly when each key's part of it is.
//!
//! Source: Herlihy and Wing, Linearizability, 1990 (locality); Wing and Gong, Testing and Verifying
//! Concurrent Objects, 1993; Lowe, Testing for Linearizability, 2017 (the memory).

mod cas_register;
mod model;
mod search;
mod versioned_map;

use std::collections::BTreeMap;

pub use cas_register::CasRegister;
pub use model::{Model, Read};
pub use search::{Answer, Interval, Machine, STEPS_MAX, Stuck, search};
pub use versioned_map::VersionedMap;

use super::{Checker, Malformed, Report, Verdict, Violation};
use crate::history::{History, Operation};

/// Most possible states that an explanation lists.
const STATES_SHOWN: usize = 5;

/// Judges a history against a model.
#[derive(Clone, Debug)]
pub struct Linearizable<M> {
    /// Plays the machine.
    pub model: M,
    /// After how many steps per key to give up; see [`STEPS_MAX`].
    pub steps_max: usize,
}

impl<M: Model> Linearizable<M> {
    /// A judge with the usual patience.
    pub fn new(model: M) -> Linearizable<M> {
        Linearizable {
            model,
            steps_max: STEPS_MAX,
        }
    }

    fn split(&self, operations: &[Operation]) -> Result<ByKey<M::Step>, Malformed> {
        let mut keys: ByKey<M::Step> = BTreeMap::new();
        for (position, operation) in operations.iter().enumerate() {
            if let Some(Read { key, step }) = self.model.read(operation)? {
                keys.entry(key).or_default().push((position, step));
            }
        }
        Ok(keys)
    }

    fn judge(&self, key: &str, steps: &[(usize, M::Step)], operations: &[Operation]) -> Verdict {
        let interval = |(position, step): &(usize, M::Step)| Interval {
            invoked: operations[*position].invoked,
            completed: operations[*position].completed,
            step: step.clone(),
        };
        let intervals: Vec<_> = steps.iter().map(interval).collect();
        let machine = Playing(&self.model);
        let answer = search(&intervals, &machine, self.model.initial(), self.steps_max);
        match answer {
            Answer::Explained => Verdict::Valid,
            Answer::TooLarge => Verdict::unknown(format!(
                "key {key}: gave up after {} steps; too many operations in doubt",
                self.steps_max
            )),
            Answer::Unexplained(stuck) => {
                let original = |&index: &usize| &operations[steps[index].0];
                let involved = std::iter::once(&stuck.interval).chain(&stuck.concurrent);
                let states: Vec<String> = stuck
                    .states
                    .iter()
                    .take(STATES_SHOWN)
                    .map(|state| self.model.show(state))
                    .collect();
                let what = format!(
                    "key {key}: no order explains the first operation below; before it the state can only \
                     have been {}; the others were in flight",
                    states.join(" or ")
                );
                Verdict::of(vec![Violation::new(
                    "not linearizable",
                    what,
                    involved.map(original),
                )])
            }
        }
    }
}

/// A model as the search sees it.
struct Playing<'model, M>(&'model M);

impl<M: Model> Machine<M::Step> for Playing<'_, M> {
    type State = M::State;

    fn apply(&self, state: &M::State, step: &M::Step) -> Option<M::State> {
        self.0.apply(state, step)
    }

    fn only_looks(&self, step: &M::Step) -> bool {
        self.0.only_looks(step)
    }

    fn may_enable(&self, doubtful: &M::Step, step: &M::Step) -> bool {
        self.0.may_enable(doubtful, step)
    }
}

/// Positions and steps of the operations on each key, in the order in which they began.
type ByKey<S> = BTreeMap<String, Vec<(usize, S)>>;

impl<M: Model> Checker for Linearizable<M> {
    fn name(&self) -> &'static str {
        self.model.name()
    }

    fn check(&self, history: &History) -> Report {
        let operations = history.operations();
        let keys = match self.split(&operations) {
            Ok(keys) => keys,
            Err(malformed) => return Report::unknown(self.name(), malformed),
        };
        let judged = || keys.values().flatten().map(|(position, _)| position);
        let sure = judged().filter(|position| operations[**position].is_ok());
        let sure = sure.count();
        let mut verdict = if sure == 0 {
            Verdict::unknown("no operation was ever answered ok")
        } else {
            Verdict::of(self.model.more_violations(&operations))
        };
        for (key, steps) in &keys {
            verdict = verdict.and(self.judge(key, steps, &operations));
        }
        let doubtful = judged().filter(|position| operations[**position].is_unknown());
        let counts = [
            ("keys", keys.len()),
            ("operations", judged().count()),
            ("ok", sure),
            ("in_doubt", doubtful.count()),
        ];
        Report::new(self.name(), verdict, counts)
    }
}

#[cfg(test)]
#[path = "linear_test.rs"]
mod tests;
