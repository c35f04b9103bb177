//! How much happened in a run: without evidence no verdict is believed.

use std::collections::BTreeMap;

use crate::checker::Verdict;
use crate::fault::{Fault, Schedule, windows};
use crate::history::History;

/// Of all requests, so many have to be answered, with a result or a condition that did not hold.
const ANSWERED_MIN: f64 = 0.3;
/// So many windows have to show that their fault bit; all of them, if the schedule has fewer.
const WINDOWS_MIN: usize = 3;

/// How much happened.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Evidence {
    pub(crate) asked: usize,
    pub(crate) answered: usize,
    pub(crate) windows: usize,
    pub(crate) bitten: usize,
}

impl Evidence {
    pub(crate) fn of(history: &History) -> Evidence {
        let operations = history.operations();
        let windows = windows(history);
        Evidence {
            asked: operations.len(),
            answered: operations
                .iter()
                .filter(|operation| operation.is_answered())
                .count(),
            windows: windows.len(),
            bitten: windows
                .iter()
                .filter(|window| window.bit != Some(false))
                .count(),
        }
    }

    /// Whether a verdict may rest on it.
    pub(crate) fn verdict(&self, schedule: &Schedule) -> Verdict {
        let Evidence {
            asked,
            answered,
            windows,
            bitten,
        } = *self;
        if (answered as f64) < ANSWERED_MIN * asked as f64 || answered == 0 {
            return Verdict::unknown(format!("only {answered} of {asked} requests were answered"));
        }
        let is_quiet = schedule.faults.iter().all(|fault| *fault == Fault::None);
        if !is_quiet && (bitten < WINDOWS_MIN.min(schedule.windows_count()) || bitten == 0) {
            return Verdict::unknown(format!(
                "only {bitten} of {windows} fault windows show that they bit"
            ));
        }
        Verdict::Valid
    }

    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        BTreeMap::from([
            ("requests", count(self.asked)),
            ("requests_answered", count(self.answered)),
            ("windows", count(self.windows)),
            ("windows_bitten", count(self.bitten)),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_evidence_is_unknown() {
        let full = Evidence {
            asked: 100,
            answered: 30,
            windows: 3,
            bitten: 3,
        };
        let nodes = ["n1".to_owned(), "n2".to_owned(), "n3".to_owned()];
        let check = |evidence: Evidence, fault: Fault, time_ms: u64, is_valid: bool| {
            let schedule = Schedule::plan(&[fault], 1, time_ms, &nodes);
            let verdict = evidence.verdict(&schedule);
            assert_eq!(verdict.is_valid(), is_valid, "{evidence:?} {fault}");
        };
        check(full, Fault::KillOne, 60_000, true);
        let answered = 29;
        check(Evidence { answered, ..full }, Fault::KillOne, 60_000, false);
        check(
            Evidence { bitten: 2, ..full },
            Fault::KillOne,
            60_000,
            false,
        );
        // A short run kills its majority once: two windows are all there are.
        check(
            Evidence { bitten: 2, ..full },
            Fault::KillMajority,
            12_000,
            true,
        );
        check(
            Evidence { bitten: 1, ..full },
            Fault::KillMajority,
            12_000,
            false,
        );
        check(Evidence { bitten: 0, ..full }, Fault::None, 60_000, true);
        check(Evidence::default(), Fault::None, 60_000, false);
    }
}
