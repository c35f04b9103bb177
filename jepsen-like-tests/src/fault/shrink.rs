//! Finds a small schedule that still breaks what a large one broke.
//!
//! A mechanic who hears a rattle takes out one part after the other, as long as it still rattles; what cannot be taken out is the
//! cause.
//!
//! Shape: the parts are the windows, a blow together with what undoes it. Windows are left out in halves, quarters and
//! so on; then the run is cut short.
//!
//! Place: pure; whoever asks runs the schedules.
//! Source: Zeller and Hildebrandt, Simplifying and Isolating Failure-Inducing Input, 2002 (delta debugging).
//! Invariants: 1. what is returned was seen to fail, or is the schedule that was given. 2. at most as many tries as allowed.

use std::collections::BTreeMap;

use super::{Action, Schedule, Step};

/// The shortest run that is tried.
const TIME_MS_MIN: u64 = 1_000;

/// A schedule that fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shrunk {
    /// The smallest that was found.
    pub schedule: Schedule,
    /// How many schedules were tried.
    pub tries: u32,
}

/// Makes a failing schedule small, with at most so many tries.
///
/// # Errors
/// The first that `still_fails` returns.
pub fn shrink<E>(
    schedule: &Schedule,
    tries_max: u32,
    still_fails: impl FnMut(&Schedule) -> Result<bool, E>,
) -> Result<Shrunk, E> {
    let mut search = Search {
        best: schedule.clone(),
        tries: 0,
        tries_max,
        still_fails,
    };
    search.leave_windows_out()?;
    search.cut_short()?;
    // A shorter run may need fewer windows.
    search.leave_windows_out()?;
    Ok(Shrunk {
        schedule: search.best,
        tries: search.tries,
    })
}

struct Search<F> {
    best: Schedule,
    tries: u32,
    tries_max: u32,
    still_fails: F,
}

impl<E, F: FnMut(&Schedule) -> Result<bool, E>> Search<F> {
    fn leave_windows_out(&mut self) -> Result<(), E> {
        let mut parts = 2;
        loop {
            let windows = windows_of(&self.best);
            if windows.is_empty() || self.tries >= self.tries_max {
                return Ok(());
            }
            let parts_now = parts.min(windows.len());
            let size = windows.len().div_ceil(parts_now);
            let mut is_smaller = false;
            for left_out in windows.chunks(size) {
                let rest: Vec<Step> = windows
                    .iter()
                    .filter(|window| !left_out.contains(window))
                    .flatten()
                    .cloned()
                    .collect();
                is_smaller = self.is_taken(rest, self.best.time_ms)?;
                if is_smaller {
                    break;
                }
            }
            match is_smaller {
                true => parts = parts_now.saturating_sub(1).max(2),
                false if size == 1 => return Ok(()),
                false => parts = parts_now * 2,
            }
        }
    }

    fn cut_short(&mut self) -> Result<(), E> {
        while self.best.time_ms > TIME_MS_MIN {
            let time_ms = self.best.time_ms;
            let mut is_shorter = false;
            for shorter in [time_ms / 4, time_ms / 2, time_ms * 3 / 4] {
                let is_inside = |window: &Vec<Step>| window.iter().all(|step| step.at_ms < shorter);
                let rest = windows_of(&self.best).into_iter().filter(is_inside);
                is_shorter = self.is_taken(rest.flatten().collect(), shorter.max(TIME_MS_MIN))?;
                if is_shorter {
                    break;
                }
            }
            if !is_shorter {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Tries these steps, and keeps them when they fail as well.
    fn is_taken(&mut self, mut steps: Vec<Step>, time_ms: u64) -> Result<bool, E> {
        if self.tries >= self.tries_max {
            return Ok(false);
        }
        self.tries += 1;
        steps.sort_by_key(|step| step.at_ms);
        let candidate = Schedule {
            steps,
            time_ms,
            ..self.best.clone()
        };
        let fails = (self.still_fails)(&candidate)?;
        if fails {
            self.best = candidate;
        }
        Ok(fails)
    }
}

/// The steps of a schedule, each blow together with what undoes it.
fn windows_of(schedule: &Schedule) -> Vec<Vec<Step>> {
    let mut windows: Vec<Vec<Step>> = Vec::new();
    let mut open: BTreeMap<(Action, &[String], &[super::Link]), usize> = BTreeMap::new();
    for step in &schedule.steps {
        let key = (step.action.undo(), &step.nodes[..], &step.links[..]);
        if step.action.is_blow() {
            open.insert(key, windows.len());
            windows.push(vec![step.clone()]);
        } else if let Some(position) = open.remove(&key) {
            windows[position].push(step.clone());
        } else {
            windows.push(vec![step.clone()]);
        }
    }
    windows
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::fault::Fault;

    fn schedule() -> Schedule {
        let nodes = ["n1", "n2", "n3"].map(str::to_owned);
        Schedule::plan(&[Fault::KillOne, Fault::SplitOne], 7, 120_000, &nodes)
    }

    fn kills(schedule: &Schedule) -> Vec<&Step> {
        let steps = schedule.steps.iter();
        steps.filter(|step| step.action == Action::Kill).collect()
    }

    fn check(whole: &Schedule, fails: impl Fn(&Schedule) -> bool, tries_max: u32) -> Shrunk {
        let shrunk = shrink(whole, tries_max, |schedule| {
            Ok::<_, Infallible>(fails(schedule))
        });
        let Ok(shrunk) = shrunk;
        assert!(fails(&shrunk.schedule) || shrunk.schedule == *whole);
        assert!(shrunk.tries <= tries_max);
        shrunk
    }

    #[test]
    fn one_cause_is_found() {
        let whole = schedule();
        let culprit = kills(&whole)[5].clone();
        let shrunk = check(&whole, |schedule| schedule.steps.contains(&culprit), 100);
        let actions: Vec<Action> = shrunk
            .schedule
            .steps
            .iter()
            .map(|step| step.action)
            .collect();
        assert_eq!(actions, [Action::Kill, Action::Start]);
        assert!(shrunk.schedule.time_ms > culprit.at_ms && shrunk.schedule.time_ms < 120_000);
    }

    #[test]
    fn causes_that_need_one_another_are_both_kept() {
        let whole = schedule();
        let (first, last) = (kills(&whole)[0].clone(), kills(&whole)[9].clone());
        let fails =
            |schedule: &Schedule| schedule.steps.contains(&first) && schedule.steps.contains(&last);
        let shrunk = check(&whole, fails, 200);
        assert_eq!(shrunk.schedule.steps.len(), 4);
    }

    #[test]
    fn without_a_cause_nothing_is_left_and_without_patience_everything_is() {
        let whole = schedule();
        let shrunk = check(&whole, |_| true, 100);
        assert!(shrunk.schedule.steps.is_empty());
        assert_eq!(check(&whole, |_| false, 100).schedule, whole);
        assert_eq!(check(&whole, |_| true, 0).schedule, whole);
    }
}
