//! When something was broken, as the history tells it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Action;
use crate::history::{History, Process};

/// A time in which one node, or some links, were out of order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The node; for links, their names.
    pub node: String,
    /// When the blow was seen to have landed, in nanoseconds of the history.
    pub from_ns: u64,
    /// When it was undone; none if it never was.
    pub to_ns: Option<u64>,
    /// Whether what undid it found that it had any effect; none if it does not say.
    pub bit: Option<bool>,
}

impl Window {
    /// True while the node was surely out of order.
    #[must_use]
    pub fn contains(&self, time_ns: u64) -> bool {
        self.from_ns < time_ns && self.to_ns.is_none_or(|to_ns| time_ns < to_ns)
    }
}

/// All of them, in order of their beginnings.
#[must_use]
pub fn windows(history: &History) -> Vec<Window> {
    let mut windows: Vec<Window> = Vec::new();
    // By what will undo it: a node may be frozen and wrong about the time at once.
    let mut open: BTreeMap<(&str, Action), usize> = BTreeMap::new();
    for event in history.events() {
        let node = event.value.get("node").and_then(Value::as_str);
        let (Process::Nemesis, Some(node)) = (event.process, node) else {
            continue;
        };
        let named = |action: &Action| action.as_str() == event.f;
        let Some(action) = Action::ALL.into_iter().find(named) else {
            continue;
        };
        if action.is_blow() {
            open.insert((node, action.undo()), windows.len());
            let node = node.to_owned();
            windows.push(Window {
                node,
                from_ns: event.time,
                to_ns: None,
                bit: None,
            });
        } else if let Some(position) = open.remove(&(node, action)) {
            windows[position].to_ns = Some(event.time);
            windows[position].bit = event.value.get("bit").and_then(Value::as_bool);
        }
    }
    windows
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use serde_json::json;

    use super::*;
    use crate::history::{Clock, Recorder};

    #[derive(Debug, Default)]
    struct Ticks(AtomicU64);

    impl Clock for Ticks {
        fn now_ns(&self) -> u64 {
            self.0.fetch_add(1, Ordering::Relaxed)
        }
    }

    #[test]
    fn blows_and_their_undoing_make_windows() {
        let recorder = Recorder::with_clock(Arc::new(Ticks::default()));
        for (action, node) in [
            ("kill", "n1"),
            ("pause", "n2"),
            ("start", "n1"),
            ("kill", "n3"),
            ("resume", "n2"),
        ] {
            recorder.note(action, json!({"node": node}));
        }
        let window = |node: &str, from_ns, to_ns| Window {
            node: node.to_owned(),
            from_ns,
            to_ns,
            bit: None,
        };
        let found = windows(&recorder.history().unwrap());
        assert_eq!(
            found,
            [
                window("n1", 0, Some(2)),
                window("n2", 1, Some(4)),
                window("n3", 3, None)
            ]
        );
        assert!(found[0].contains(1) && !found[0].contains(0) && !found[0].contains(2));
        assert!(found[2].contains(99));
    }
}
