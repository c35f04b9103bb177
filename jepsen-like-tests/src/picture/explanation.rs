//! A violation as a short story: the operations involved, in order of time, and what was broken meanwhile.
//!
//! ```text
//! lost: key k1: w0l0-7 was acknowledged, nobody replaced it, and it is not there
//!     12.104 s .. 12.131 s  #240..#243 process 0: put {"id":"w0l0-7",...} -> ok ...
//!     14.000 s .. 18.200 s  out of order: n2
//!     31.002 s .. 31.020 s  #901..#902 process 9: final-read {"key":"k1"} -> ok ...
//! ```

use std::fmt::Write as _;

use crate::checker::Verdict;
use crate::fault::windows;
use crate::history::History;

/// Most violations that are told.
const TOLD_MAX: usize = 5;
const NS_PER_S: f64 = 1e9;

/// The violations of a verdict on this history; none when it has none.
#[must_use]
pub fn explanation(history: &History, verdict: &Verdict) -> Option<String> {
    let Verdict::Invalid { violations } = verdict else {
        return None;
    };
    let broken = windows(history);
    let mut text = String::new();
    for violation in violations.iter().take(TOLD_MAX) {
        let mut lines = Vec::new();
        let involved = violation.spans.iter().zip(&violation.operations);
        for (span, operation) in involved {
            let from_ns = time_of(history, span.0);
            let to_ns = span.1.map(|index| time_of(history, index));
            lines.push((from_ns, to_ns, operation.clone()));
        }
        let first_ns = lines.iter().map(|line| line.0).min();
        let last_ns = lines.iter().map(|line| line.1.unwrap_or(line.0)).max();
        if let (Some(first_ns), Some(last_ns)) = (first_ns, last_ns) {
            let is_meanwhile = |from_ns: u64, to_ns: Option<u64>| {
                from_ns <= last_ns && to_ns.is_none_or(|to_ns| to_ns >= first_ns)
            };
            for window in &broken {
                if is_meanwhile(window.from_ns, window.to_ns) {
                    let what = format!("out of order: {}", window.node);
                    lines.push((window.from_ns, window.to_ns, what));
                }
            }
        }
        lines.sort();
        // Writing to a string cannot fail.
        writeln!(text, "{}: {}", violation.kind, violation.what).ok();
        for (from_ns, to_ns, what) in lines {
            let to = to_ns.map_or("        ?".to_owned(), seconds);
            writeln!(text, "    {} .. {to}  {what}", seconds(from_ns)).ok();
        }
        text.push('\n');
    }
    if violations.len() > TOLD_MAX {
        let left = violations.len() - TOLD_MAX;
        writeln!(text, "... and {left} more violation(s)").ok();
    }
    Some(text)
}

fn time_of(history: &History, index: u64) -> u64 {
    let position = usize::try_from(index).ok();
    let event = position.and_then(|position| history.events().get(position));
    event.map_or(0, |event| event.time)
}

fn seconds(time_ns: u64) -> String {
    format!("{:7.3} s", time_ns as f64 / NS_PER_S)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::checker::{CausalChecker, Checker as _, ReadPromise};
    use crate::history::Recorder;

    #[test]
    fn a_lost_write_is_told_with_what_was_broken_meanwhile() {
        let recorder = Recorder::in_memory();
        let mut lane = recorder.lane();
        recorder.note("kill", json!({"node": "n9"}));
        recorder.note("start", json!({"node": "n9"}));
        lane.invoke("put", json!({"key": "k", "id": "a", "saw": []}))
            .ok(json!({}));
        recorder.note("kill", json!({"node": "n2"}));
        recorder.note("start", json!({"node": "n2"}));
        lane.invoke("final-read", json!({"key": "k"}))
            .ok(json!({"key": "k", "ids": []}));
        let history = recorder.history().unwrap();
        let promise = ReadPromise::Final;
        let verdict = CausalChecker { promise }.check(&history).verdict;
        let told = explanation(&history, &verdict).unwrap();
        let position = |what: &str| told.find(what).unwrap_or_else(|| panic!("{what}: {told}"));
        let order = [
            "lost: key k: a was",
            ": put",
            "out of order: n2",
            ": final-read",
        ];
        assert!(order.map(position).is_sorted(), "{told}");
        assert!(!told.contains("n9"), "{told}");
        assert_eq!(explanation(&history, &Verdict::Valid), None);
    }
}
