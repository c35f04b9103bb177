//! What clients had to bear while something was broken, in figures: reported, never judged.
//!
//! Invariant: what is compared ran at the same pace: the quiet time before the first blow, and the time under the blows.

use std::collections::BTreeMap;

use crate::fault::windows;
use crate::history::History;

const NS_PER_S: u128 = 1_000_000_000;
const NS_PER_MS: u64 = 1_000_000;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Strain {
    /// Requests answered each second before the first blow.
    pub(crate) per_s_before: u64,
    /// The same while something was broken.
    pub(crate) per_s_during: u64,
    /// Requests that ended without an answer: refused, or in doubt.
    pub(crate) given_up: u64,
    /// The longest time between two answers to anybody, in milliseconds.
    pub(crate) silence_ms_max: u64,
}

impl Strain {
    pub(crate) fn of(history: &History) -> Strain {
        let operations = history.operations();
        let mut answers: Vec<u64> = operations
            .iter()
            .filter(|operation| operation.is_answered())
            .filter_map(|operation| operation.ended_ns)
            .collect();
        answers.sort_unstable();
        let windows = windows(history);
        let begun = operations
            .iter()
            .map(|operation| operation.invoked_ns)
            .min();
        let first_blow = windows.iter().map(|window| window.from_ns).min();
        // The last looks are taken when clients have ended.
        let last_blow = windows.iter().filter_map(|window| window.to_ns).max();
        let (Some(begun), Some(first_blow), Some(last_blow)) = (begun, first_blow, last_blow)
        else {
            return Strain::default();
        };
        let broken_ns: u64 = union_ns(windows.iter().map(|window| {
            let to_ns = window.to_ns.unwrap_or(last_blow);
            (window.from_ns, to_ns.max(window.from_ns))
        }));
        let before = answers.iter().filter(|at| **at < first_blow).count();
        let during = answers
            .iter()
            .filter(|at| windows.iter().any(|window| window.contains(**at)))
            .count();
        let in_chaos = answers.iter().filter(|at| (begun..=last_blow).contains(at));
        let in_chaos: Vec<u64> = in_chaos.copied().collect();
        let silence_ns = in_chaos.windows(2).map(|pair| pair[1] - pair[0]).max();
        let given_up = operations.iter().filter(|one| !one.is_answered()).count();
        Strain {
            per_s_before: per_s(before, first_blow.saturating_sub(begun)),
            per_s_during: per_s(during, broken_ns),
            given_up: u64::try_from(given_up).unwrap_or(u64::MAX),
            silence_ms_max: silence_ns.unwrap_or_default() / NS_PER_MS,
        }
    }

    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        BTreeMap::from([
            ("answered_per_s_before", self.per_s_before),
            ("answered_per_s_broken", self.per_s_during),
            ("given_up", self.given_up),
            ("silence_ms_max", self.silence_ms_max),
        ])
    }
}

fn per_s(count: usize, time_ns: u64) -> u64 {
    let rate = (count as u128 * NS_PER_S).checked_div(u128::from(time_ns));
    rate.map_or(0, |rate| u64::try_from(rate).unwrap_or(u64::MAX))
}

/// How much time some of these spans cover.
fn union_ns(spans: impl Iterator<Item = (u64, u64)>) -> u64 {
    let mut spans: Vec<(u64, u64)> = spans.collect();
    spans.sort_unstable();
    let (mut covered, mut until) = (0, 0);
    for (from, to) in spans {
        let from = from.max(until);
        covered += to.saturating_sub(from);
        until = until.max(to);
    }
    covered
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use serde_json::json;

    use super::*;
    use crate::history::{Clock, Recorder};

    /// A tenth of a second for each event.
    #[derive(Debug, Default)]
    struct Ticks(AtomicU64);

    impl Clock for Ticks {
        fn now_ns(&self) -> u64 {
            self.0.fetch_add(NS_PER_MS * 100, Ordering::Relaxed)
        }
    }

    #[test]
    fn overlapping_spans_count_once() {
        let check = |spans: &[(u64, u64)], covered| {
            assert_eq!(union_ns(spans.iter().copied()), covered, "{spans:?}");
        };
        check(&[], 0);
        check(&[(5, 9), (1, 3)], 6);
        check(&[(1, 9), (2, 3), (8, 12)], 11);
    }

    #[test]
    fn what_clients_bore_is_counted() {
        let recorder = Recorder::with_clock(Arc::new(Ticks::default()));
        let mut lane = recorder.lane();
        for _ in 0..5 {
            lane.invoke("add", json!(1)).ok_as_asked();
        }
        recorder.note("kill", json!({"node": "n1"}));
        lane.invoke("add", json!(2)).info("no answer");
        lane.invoke("add", json!(3)).fail("no majority");
        lane.invoke("add", json!(4)).ok_as_asked();
        recorder.note("start", json!({"node": "n1"}));
        let strain = Strain::of(&recorder.history().unwrap());
        assert_eq!(
            strain,
            Strain {
                per_s_before: 5,
                per_s_during: 1,
                given_up: 2,
                silence_ms_max: 700,
            }
        );
    }
}
