//! Writes events down while they happen.
//!
//! Think of a stenographer in a noisy room: everybody may call out at once, and what is heard first is
//! written first.
//!
//! Shape: a [`Recorder`] is shared; each client thread holds a [`Lane`], which numbers its processes; a request
//! in flight is a [`Pending`], which has to be completed.
//! Invariants: 1. an invoke is written before its request leaves, an answer after it came. 2. a request
//! whose answer nobody wrote down is in doubt. 3. with a file, an event is there before the call returns.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;

use super::lines::write_line;
use super::{CONDITION_FAILED, Clock, Event, EventKind, History, MonotonicClock, Process};

/// Collects the events of all lanes. Cheap to clone; clones write to the same history.
#[derive(Clone, Debug)]
pub struct Recorder {
    clock: Arc<dyn Clock>,
    written: Arc<Mutex<Written>>,
}

#[derive(Debug, Default)]
struct Written {
    events: Vec<Event>,
    processes: u64,
    file: Option<File>,
    trouble: Option<io::Error>,
}

impl Recorder {
    /// One that keeps events in memory, by the clock of the machine.
    #[must_use]
    pub fn in_memory() -> Recorder {
        Recorder::with_clock(Arc::new(MonotonicClock))
    }

    /// One that keeps events in memory, by a clock of the caller's.
    #[must_use]
    pub fn with_clock(clock: Arc<dyn Clock>) -> Recorder {
        let written = Arc::default();
        Recorder { clock, written }
    }

    /// One that also writes every event to a new file at once, so that a crash of this process loses none.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn to_file(path: &Path) -> io::Result<Recorder> {
        let recorder = Recorder::in_memory();
        recorder.written.lock().file = Some(File::create(path)?);
        Ok(recorder)
    }

    /// A lane for one more client.
    #[must_use]
    pub fn lane(&self) -> Lane {
        Lane {
            process: self.new_process(),
            recorder: self.clone(),
        }
    }

    /// Notes what the nemesis did.
    pub fn note(&self, f: &str, value: Value) {
        self.write(Process::Nemesis, EventKind::Info, f, value, None);
    }

    /// The history until now; requests still in flight are open in it.
    ///
    /// # Errors
    /// The first trouble with the file, which lacks events then.
    pub fn history(&self) -> io::Result<History> {
        let mut written = self.written.lock();
        if let Some(trouble) = written.trouble.take() {
            return Err(trouble);
        }
        Ok(History::new(written.events.clone())
            .expect("lanes and their borrow rules allow only well-formed histories"))
    }

    fn new_process(&self) -> Process {
        let mut written = self.written.lock();
        written.processes += 1;
        Process::Client(written.processes - 1)
    }

    /// The time is read under the lock, so that the order of events is the order of their times.
    fn write(
        &self,
        process: Process,
        kind: EventKind,
        f: &str,
        value: Value,
        error: Option<Value>,
    ) {
        let mut written = self.written.lock();
        let event = Event {
            process,
            kind,
            f: f.to_owned(),
            value,
            error,
            time: self.clock.now_ns(),
            index: u64::try_from(written.events.len()).unwrap_or(u64::MAX),
        };
        if let Some(file) = &mut written.file {
            let result = write_line(&event, &mut *file).and_then(|()| file.flush());
            if let Err(problem) = result {
                written.trouble.get_or_insert(problem);
            }
        }
        written.events.push(event);
    }
}

/// One client, doing one thing at a time.
#[derive(Debug)]
pub struct Lane {
    recorder: Recorder,
    process: Process,
}

impl Lane {
    /// Who is written down at present.
    #[must_use]
    pub fn process(&self) -> Process {
        self.process
    }

    /// Writes down that a request is about to leave. Call it before anything is sent.
    pub fn invoke(&mut self, f: &'static str, value: Value) -> Pending<'_> {
        self.recorder
            .write(self.process, EventKind::Invoke, f, value.clone(), None);
        Pending {
            lane: self,
            f,
            asked: value,
            is_answered: false,
        }
    }
}

/// A request in flight. Dropped without an answer, it is in doubt.
#[derive(Debug)]
#[must_use = "a request that is not completed is written down as in doubt"]
pub struct Pending<'lane> {
    lane: &'lane mut Lane,
    f: &'static str,
    asked: Value,
    is_answered: bool,
}

impl Pending<'_> {
    /// It took effect, with this result.
    pub fn ok(self, value: Value) {
        self.answer(EventKind::Ok, value, None);
    }

    /// It took effect, and the result is what was asked.
    pub fn ok_as_asked(self) {
        let asked = self.asked.clone();
        self.ok(asked);
    }

    /// It had no effect and never will.
    pub fn fail(self, error: impl Into<Value>) {
        let asked = self.asked.clone();
        self.answer(EventKind::Fail, asked, Some(error.into()));
    }

    /// It was run, and its condition did not hold; `seen` is what the answer shows of the state.
    pub fn condition_failed(self, seen: Value) {
        self.answer(EventKind::Fail, seen, Some(Value::from(CONDITION_FAILED)));
    }

    /// Nobody knows. The lane goes on under a new process number.
    pub fn info(self, error: impl Into<Value>) {
        let asked = self.asked.clone();
        self.answer(EventKind::Info, asked, Some(error.into()));
    }

    fn answer(mut self, kind: EventKind, value: Value, error: Option<Value>) {
        self.write(kind, value, error);
    }

    fn write(&mut self, kind: EventKind, value: Value, error: Option<Value>) {
        self.is_answered = true;
        let lane = &mut *self.lane;
        lane.recorder
            .write(lane.process, kind, self.f, value, error);
        if kind == EventKind::Info {
            lane.process = lane.recorder.new_process();
        }
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            let asked = self.asked.clone();
            self.write(EventKind::Info, asked, Some(Value::from("never answered")));
        }
    }
}
