//! One line of a history.
//!
//! Source: Jepsen, `jepsen.history/Op`.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

/// The error of a `fail` whose request was run and found its condition not to hold. Such an operation had
/// no effect, but its answer says something about the state, which models use.
pub const CONDITION_FAILED: &str = "condition-failed";

/// Something that a client or the nemesis did or was told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Who.
    pub process: Process,
    /// Request or answer.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// The operation's name, such as `read`.
    pub f: String,
    /// Its argument, or its result.
    #[serde(default)]
    pub value: Value,
    /// Why it failed or is in doubt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Value>,
    /// Nanoseconds since an origin that all events of one history share; 0 throughout where nobody looked at a clock.
    #[serde(default)]
    pub time: u64,
    /// Position in the history, from 0. Lines without one are numbered when they are read.
    #[serde(default)]
    pub index: u64,
}

/// Whether an event asks or answers, and how sure the answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// The operation begins.
    Invoke,
    /// It took effect.
    Ok,
    /// It did not take effect and never will.
    Fail,
    /// Nobody knows; or a note of the nemesis.
    Info,
}

impl EventKind {
    /// The word in the files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            EventKind::Invoke => "invoke",
            EventKind::Ok => "ok",
            EventKind::Fail => "fail",
            EventKind::Info => "info",
        }
    }
}

/// Who acts: a logical single-threaded client, or the one who breaks things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Process {
    /// A client, by number; never used again after an operation in doubt.
    Client(u64),
    /// Its events are notes and answer nothing.
    Nemesis,
}

const NEMESIS: &str = "nemesis";

impl fmt::Display for Process {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Process::Client(number) => write!(formatter, "{number}"),
            Process::Nemesis => formatter.write_str(NEMESIS),
        }
    }
}

impl Serialize for Process {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Process::Client(number) => serializer.serialize_u64(*number),
            Process::Nemesis => serializer.serialize_str(NEMESIS),
        }
    }
}

impl<'de> Deserialize<'de> for Process {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Number(number) if number.is_u64() => {
                Ok(Process::Client(number.as_u64().unwrap_or_default()))
            }
            Value::String(name) if name == NEMESIS => Ok(Process::Nemesis),
            other => Err(de::Error::custom(format!(
                "a process is a number from 0 or \"nemesis\", not {other}"
            ))),
        }
    }
}
