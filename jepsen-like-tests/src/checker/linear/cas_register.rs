//! A register with read, write and compare-and-set.
//!
//! | f | value asked | value told |
//! |---|---|---|
//! | `read` | `null` | what it holds |
//! | `write` | new | |
//! | `cas` | `[old, new]` | |
//!
//! With keys, values are `[key, value]`, as `jepsen.independent` writes them. A `fail` with the error
//! `condition-failed` says that the register did not hold `old`.

use serde_json::Value;

use super::{Model, Read};
use crate::checker::Malformed;
use crate::history::Operation;

/// See the module; registers hold `null` before the first write.
#[derive(Clone, Copy, Debug)]
pub struct CasRegister {
    /// Whether values are `[key, value]`.
    pub is_keyed: bool,
}

/// What an operation says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegisterStep {
    /// It held this.
    Held(Value),
    /// It surely did not hold this.
    DidNotHold(Value),
    /// It holds this from now on.
    Write(Value),
    /// It held the first and holds the second from now on.
    Cas(Value, Value),
}

const EXPECTED: &str = "`read`, `write` or `cas` of [old, new], with values [key, value] if keyed";

impl CasRegister {
    fn unkeyed(self, value: &Value) -> Option<(String, &Value)> {
        if !self.is_keyed {
            return Some((String::new(), value));
        }
        match value.as_array().map(Vec::as_slice) {
            Some([Value::String(key), value]) => Some((key.clone(), value)),
            Some([key, value]) => Some((key.to_string(), value)),
            _ => None,
        }
    }

    fn step(self, operation: &Operation, asked: &Value) -> Option<Option<RegisterStep>> {
        let is_effective = !operation.is_failed();
        Some(match operation.f.as_str() {
            "read" => match operation.told() {
                Some(told) => Some(RegisterStep::Held(self.unkeyed(told)?.1.clone())),
                None => None,
            },
            "write" => is_effective.then(|| RegisterStep::Write(asked.clone())),
            "cas" => {
                let [old, new] = asked.as_array()?.as_slice() else {
                    return None;
                };
                if is_effective {
                    Some(RegisterStep::Cas(old.clone(), new.clone()))
                } else {
                    let refused = operation.refused();
                    refused.map(|_| RegisterStep::DidNotHold(old.clone()))
                }
            }
            _ => return None,
        })
    }
}

impl Model for CasRegister {
    type State = Value;
    type Step = RegisterStep;

    fn name(&self) -> &'static str {
        "linearizable cas-register"
    }

    fn initial(&self) -> Value {
        Value::Null
    }

    fn read(&self, operation: &Operation) -> Result<Option<Read<RegisterStep>>, Malformed> {
        let malformed = || Malformed::new(operation, EXPECTED);
        let (key, asked) = self.unkeyed(&operation.asked).ok_or_else(malformed)?;
        let step = self.step(operation, asked).ok_or_else(malformed)?;
        Ok(step.map(|step| Read { key, step }))
    }

    fn apply(&self, state: &Value, step: &RegisterStep) -> Option<Value> {
        match step {
            RegisterStep::Held(value) => (value == state).then(|| state.clone()),
            RegisterStep::DidNotHold(value) => (value != state).then(|| state.clone()),
            RegisterStep::Write(value) => Some(value.clone()),
            RegisterStep::Cas(old, new) => (old == state).then(|| new.clone()),
        }
    }

    fn only_looks(&self, step: &RegisterStep) -> bool {
        match step {
            RegisterStep::Held(_) | RegisterStep::DidNotHold(_) => true,
            RegisterStep::Write(_) | RegisterStep::Cas(..) => false,
        }
    }

    fn may_enable(&self, doubtful: &RegisterStep, step: &RegisterStep) -> bool {
        let (RegisterStep::Write(made) | RegisterStep::Cas(_, made)) = doubtful else {
            return false;
        };
        match step {
            RegisterStep::Held(value) | RegisterStep::Cas(value, _) => value == made,
            RegisterStep::DidNotHold(value) => value != made,
            RegisterStep::Write(_) => false,
        }
    }

    fn show(&self, state: &Value) -> String {
        state.to_string()
    }
}
