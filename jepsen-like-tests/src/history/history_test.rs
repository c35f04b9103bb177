//! Histories: what is one, how they are written, and what the recorder promises.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::testing::Script;

fn check(script: Script, expected: Result<(), HistoryError>) {
    assert_eq!(History::new(script.events).map(|_| ()), expected);
}

fn asked() -> Script {
    Script::default().invoke(0, "read", json!(null))
}

#[test]
fn only_well_formed_events_are_a_history() {
    let process = Process::Client(0);
    check(asked().event(0, EventKind::Ok, "read", json!(1)), Ok(()));
    check(asked(), Ok(()));
    check(
        asked().invoke(0, "read", json!(null)),
        Err(HistoryError::StillWaiting { index: 1, process }),
    );
    check(
        asked().event(0, EventKind::Ok, "write", json!(1)),
        Err(HistoryError::NotAsked {
            index: 1,
            process,
            f: "write".to_owned(),
        }),
    );
    check(
        Script::default().event(0, EventKind::Ok, "read", json!(1)),
        Err(HistoryError::NotAsked {
            index: 0,
            process,
            f: "read".to_owned(),
        }),
    );
    check(
        Script::default()
            .info(0, "read", json!(null))
            .invoke(0, "read", json!(null)),
        Err(HistoryError::AfterDoubt { index: 2, process }),
    );
    let mut backwards = asked().event(0, EventKind::Ok, "read", json!(1));
    backwards.events[0].time = 5;
    check(backwards, Err(HistoryError::Backwards { index: 1 }));
}

#[test]
fn lines_are_in_the_form_of_jepsen() {
    let history = asked()
        .event(0, EventKind::Ok, "read", json!(["k", 1]))
        .history();
    let mut bytes = Vec::new();
    write_lines(&history, &mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    assert_eq!(
        text,
        "{\"process\":0,\"type\":\"invoke\",\"f\":\"read\",\"value\":null,\"time\":0,\"index\":0}\n\
         {\"process\":0,\"type\":\"ok\",\"f\":\"read\",\"value\":[\"k\",1],\"time\":1,\"index\":1}\n"
    );
    assert_eq!(read_lines(text.as_bytes()).unwrap(), history);
}

#[test]
fn foreign_lines_are_read_and_bad_ones_named() {
    let nemesis = r#"{"process":"nemesis","type":"info","f":"kill","time":3,"extra":true}"#;
    let history = read_lines(format!("\n{nemesis}\n").as_bytes()).unwrap();
    assert_eq!(history.events()[0].process, Process::Nemesis);
    assert!(history.operations().is_empty());
    let error = read_lines(format!("{nemesis}\n{{\"process\":-1}}\n").as_bytes()).unwrap_err();
    assert!(
        matches!(error, LineError::Malformed { line: 2, .. }),
        "{error}"
    );
}

#[test]
fn merging_keeps_time_and_gives_new_numbers() {
    let one = asked().event(0, EventKind::Ok, "read", json!(1)).history();
    let merged = History::merge(vec![one.clone(), one]);
    let shape: Vec<_> = merged
        .events()
        .iter()
        .map(|event| (event.process.to_string(), event.kind, event.index))
        .collect();
    assert_eq!(
        shape,
        [
            ("0".to_owned(), EventKind::Invoke, 0),
            ("1".to_owned(), EventKind::Invoke, 1),
            ("0".to_owned(), EventKind::Ok, 2),
            ("1".to_owned(), EventKind::Ok, 3),
        ]
    );
    // At the same instant requests come first: the two are concurrent, whatever the truth.
    let mut later = asked().event(0, EventKind::Ok, "read", json!(1));
    later.events.iter_mut().for_each(|event| event.time += 1);
    let early = asked().event(0, EventKind::Ok, "read", json!(1)).history();
    let merged = History::merge(vec![early, later.history()]);
    let operations = merged.operations();
    assert!(operations[1].invoked < operations[0].completed.unwrap());
    assert_eq!(History::new(merged.events().to_vec()).unwrap(), merged);
}

#[test]
fn doubt_ends_a_process() {
    let recorder = Recorder::in_memory();
    let mut lane = recorder.lane();
    let other = recorder.lane();
    lane.invoke("write", json!(1)).ok_as_asked();
    lane.invoke("write", json!(2)).info("time-out");
    lane.invoke("write", json!(3)).fail("refused");
    drop(lane.invoke("write", json!(4)));
    recorder.note("kill", json!("n1"));
    lane.invoke("cas", json!([1, 2])).condition_failed(json!(3));
    let history = recorder.history().unwrap();
    let processes: Vec<String> = history
        .operations()
        .iter()
        .map(|one| one.process.to_string())
        .collect();
    assert_eq!(processes, ["0", "0", "2", "2", "3"]);
    assert_eq!(other.process(), Process::Client(1));
    let ends = history.operations();
    assert!(ends[0].is_ok() && ends[1].is_unknown() && ends[2].is_failed() && ends[3].is_unknown());
    assert_eq!(ends[4].refused(), Some(&json!(3)));
    assert_eq!(history.events()[8].process, Process::Nemesis);
}

#[test]
fn a_file_has_every_event_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.jsonl");
    let recorder = Recorder::to_file(&path).unwrap();
    let mut lane = recorder.lane();
    let pending = lane.invoke("write", json!(1));
    let read = || read_lines(std::io::BufReader::new(std::fs::File::open(&path).unwrap())).unwrap();
    assert_eq!(read().events().len(), 1);
    pending.ok_as_asked();
    assert_eq!(read(), recorder.history().unwrap());
}

/// A clock that never advances: order must not depend on it.
#[derive(Debug)]
struct Stopped;

impl Clock for Stopped {
    fn now_ns(&self) -> u64 {
        7
    }
}

#[test]
fn many_threads_write_one_history() {
    let recorder = Recorder::with_clock(Arc::new(Stopped));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let mut lane = recorder.lane();
            scope.spawn(move || {
                for number in 0..50 {
                    let pending = lane.invoke("add", json!(number));
                    match number % 3 {
                        0 => pending.ok_as_asked(),
                        1 => pending.fail("no"),
                        _ => pending.info("maybe"),
                    }
                }
            });
        }
    });
    let history = recorder.history().unwrap();
    assert_eq!(history.operations().len(), 400);
    assert!(
        history
            .operations()
            .iter()
            .all(|one| one.ended_ns == Some(7))
    );
}

proptest! {
    #[test]
    fn lines_come_back_as_they_were(values in proptest::collection::vec((".*", any::<i64>(), 0..4_u8), 0..30)) {
        let mut script = Script::default();
        for (number, (text, value, end)) in (0_u64..).zip(values) {
            let asked = json!([text, value, {"nested": null}]);
            script = match end {
                0 => script.ok(number, "add", asked.clone(), asked),
                1 => script.fail(number, "add", asked),
                2 => script.info(number, "add", asked),
                _ => script.invoke(number, "add", asked),
            };
        }
        let history = script.history();
        let mut bytes = Vec::new();
        write_lines(&history, &mut bytes).unwrap();
        prop_assert_eq!(read_lines(bytes.as_slice()).unwrap(), history);
    }
}
