//! Histories for the tests of histories and checkers.

use serde_json::Value;

use crate::history::{CONDITION_FAILED, Event, EventKind, History, Process};

/// A history in the making; each call adds one event, a nanosecond after the last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    pub(crate) events: Vec<Event>,
}

impl Script {
    pub(crate) fn event(mut self, process: u64, kind: EventKind, f: &str, value: Value) -> Script {
        let time = self.events.len() as u64;
        self.events.push(Event {
            process: Process::Client(process),
            kind,
            f: f.to_owned(),
            value,
            error: None,
            time,
            index: time,
        });
        self
    }

    pub(crate) fn invoke(self, process: u64, f: &str, value: Value) -> Script {
        self.event(process, EventKind::Invoke, f, value)
    }

    /// An operation that nothing else overlaps.
    pub(crate) fn op(
        self,
        process: u64,
        f: &str,
        asked: Value,
        kind: EventKind,
        told: Value,
    ) -> Script {
        self.invoke(process, f, asked).event(process, kind, f, told)
    }

    pub(crate) fn ok(self, process: u64, f: &str, asked: Value, told: Value) -> Script {
        self.op(process, f, asked, EventKind::Ok, told)
    }

    pub(crate) fn fail(self, process: u64, f: &str, asked: Value) -> Script {
        let told = asked.clone();
        self.op(process, f, asked, EventKind::Fail, told)
    }

    pub(crate) fn refused(self, process: u64, f: &str, asked: Value, seen: Value) -> Script {
        let mut script = self.op(process, f, asked, EventKind::Fail, seen);
        if let Some(last) = script.events.last_mut() {
            last.error = Some(CONDITION_FAILED.into());
        }
        script
    }

    pub(crate) fn info(self, process: u64, f: &str, asked: Value) -> Script {
        let told = asked.clone();
        self.op(process, f, asked, EventKind::Info, told)
    }

    pub(crate) fn history(self) -> History {
        History::new(self.events).unwrap()
    }
}
