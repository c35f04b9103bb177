//! A whole history, checked to be one.
//!
//! Shape: events in one order, numbered from 0; merging orders by time, with requests before answers of the
//! same instant, so that it never claims an order that was not seen.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{End, Event, EventKind, Operation, Process};

/// Why events are no history. Each means that the recorder, not the store, is wrong.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum HistoryError {
    /// A process began an operation before the previous one ended.
    #[error("event {index}: process {process} asks again before its last request was answered")]
    StillWaiting {
        /// Of the later event.
        index: u64,
        /// Whose.
        process: Process,
    },
    /// An answer without a request, or to another operation.
    #[error("event {index}: process {process} is told the answer of a `{f}` that it did not ask")]
    NotAsked {
        /// Of the answer.
        index: u64,
        /// Whose.
        process: Process,
        /// What was answered.
        f: String,
    },
    /// A process went on after an operation in doubt.
    #[error(
        "event {index}: process {process} goes on after an operation in doubt; use a new process number"
    )]
    AfterDoubt {
        /// Of the later event.
        index: u64,
        /// Whose.
        process: Process,
    },
    /// Time ran backwards.
    #[error("event {index} is earlier than the one before it; sort the events by time")]
    Backwards {
        /// Of the later event.
        index: u64,
    },
}

/// Events that make up a well-formed history.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    events: Vec<Event>,
}

impl History {
    /// A history of events in their order, which are numbered anew. Requests that were never answered stay
    /// open, which is to say in doubt.
    ///
    /// # Errors
    /// When they are no history.
    pub fn new(mut events: Vec<Event>) -> Result<History, HistoryError> {
        let mut state: BTreeMap<Process, Thread> = BTreeMap::new();
        let mut last = 0;
        for (index, event) in (0..).zip(&mut events) {
            event.index = index;
            if event.time < last {
                return Err(HistoryError::Backwards { index });
            }
            last = event.time;
            if event.process != Process::Nemesis {
                let thread = state.entry(event.process).or_insert(Thread::Free);
                *thread = thread.after(event)?;
            }
        }
        Ok(History { events })
    }

    /// One history of several that share a clock; client numbers are given anew, in order of appearance.
    #[must_use]
    pub fn merge(parts: Vec<History>) -> History {
        let mut all: Vec<(usize, Event)> = Vec::new();
        for (part, history) in parts.into_iter().enumerate() {
            all.extend(history.events.into_iter().map(|event| (part, event)));
        }
        all.sort_by_key(|(_, event)| (event.time, event.kind != EventKind::Invoke));
        let mut numbers: BTreeMap<(usize, Process), u64> = BTreeMap::new();
        let mut events = Vec::with_capacity(all.len());
        for (index, (part, mut event)) in (0..).zip(all) {
            if event.process != Process::Nemesis {
                let next = u64::try_from(numbers.len()).unwrap_or(u64::MAX);
                let number = *numbers.entry((part, event.process)).or_insert(next);
                event.process = Process::Client(number);
            }
            event.index = index;
            events.push(event);
        }
        History { events }
    }

    /// The events in their order.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The operations in the order in which they began.
    #[must_use]
    pub fn operations(&self) -> Vec<Operation> {
        let mut operations: Vec<Operation> = Vec::with_capacity(self.events.len() / 2);
        let mut open: BTreeMap<Process, usize> = BTreeMap::new();
        for event in &self.events {
            if event.process == Process::Nemesis {
                continue;
            }
            if event.kind == EventKind::Invoke {
                open.insert(event.process, operations.len());
                operations.push(begun(event));
            } else if let Some(position) = open.remove(&event.process) {
                complete(&mut operations[position], event);
            }
        }
        operations
    }

    /// The operations named `f`.
    #[must_use]
    pub fn operations_of(&self, f: &str) -> Vec<Operation> {
        let mut operations = self.operations();
        operations.retain(|operation| operation.f == f);
        operations
    }
}

fn begun(event: &Event) -> Operation {
    Operation {
        process: event.process,
        f: event.f.clone(),
        asked: event.value.clone(),
        invoked: event.index,
        completed: None,
        invoked_ns: event.time,
        ended_ns: None,
        end: End::Unknown {
            error: Some(Value::from("never answered")),
        },
    }
}

fn complete(operation: &mut Operation, event: &Event) {
    let value = event.value.clone();
    let error = event.error.clone();
    operation.ended_ns = Some(event.time);
    operation.completed = (event.kind != EventKind::Info).then_some(event.index);
    operation.end = match event.kind {
        EventKind::Ok => End::Ok { value },
        EventKind::Fail => End::Fail { value, error },
        EventKind::Info | EventKind::Invoke => End::Unknown { error },
    };
}

/// Where one process stands.
enum Thread {
    Free,
    Waiting(String),
    InDoubt,
}

impl Thread {
    fn after(&self, event: &Event) -> Result<Thread, HistoryError> {
        let (index, process) = (event.index, event.process);
        match (self, event.kind) {
            (Thread::InDoubt, _) => Err(HistoryError::AfterDoubt { index, process }),
            (Thread::Free, EventKind::Invoke) => Ok(Thread::Waiting(event.f.clone())),
            (Thread::Waiting(_), EventKind::Invoke) => {
                Err(HistoryError::StillWaiting { index, process })
            }
            (Thread::Waiting(f), EventKind::Ok | EventKind::Fail) if *f == event.f => {
                Ok(Thread::Free)
            }
            (Thread::Waiting(f), EventKind::Info) if *f == event.f => Ok(Thread::InDoubt),
            (Thread::Waiting(_) | Thread::Free, _) => Err(HistoryError::NotAsked {
                index,
                process,
                f: event.f.clone(),
            }),
        }
    }
}
