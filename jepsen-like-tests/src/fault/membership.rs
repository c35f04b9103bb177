//! Members that come, go and are replaced, one change after the other, with a kill in the middle of each.
//!
//! Shape: from three nodes to five, four, six, another six, four, five and three again. A window is a change: its blow
//! stages and applies it, its undoing waits until nothing moves. Meanwhile a node that gains copies is killed and comes back.
//!
//! Place: pure; a part of [`super::Schedule`].
//! Invariants: 1. one change at a time. 2. nobody joins under a name that was used before. 3. there are never fewer members
//! than in the beginning.

use rand::Rng as _;
use rand::rngs::StdRng;

use super::schedule::Step;
use super::{Action, schedule::WINDOW_EVERY_MS};

/// How many come, go or are replaced in turn; together they change nothing.
const CHANGES: [(Action, usize); 7] = [
    (Action::Join, 2),
    (Action::Leave, 1),
    (Action::Join, 2),
    (Action::Replace, 1),
    (Action::Leave, 2),
    (Action::Join, 1),
    (Action::Leave, 2),
];
/// Changes of one run, so that it needs no more hosts than a machine can have.
const CHANGES_MAX: u64 = 28;
/// Changes of a short run: growing, shrinking, growing.
const CHANGES_MIN: u64 = 3;

/// The changes of a run of `time_ms` on these nodes, in order of time. `victims` are the nodes in a random order.
pub(super) fn steps(time_ms: u64, victims: &[String], random: &mut StdRng) -> Vec<Step> {
    let count = (time_ms / WINDOW_EVERY_MS).clamp(CHANGES_MIN, CHANGES_MAX);
    let slot_ms = time_ms * 8 / 10 / count;
    let mut members = victims.to_vec();
    let mut names = (victims.len() + 1..)
        .map(|number| format!("n{number}"))
        .filter(|name| !victims.contains(name));
    let mut steps = Vec::new();
    for (number, (action, size)) in (0..count).zip(CHANGES.into_iter().cycle()) {
        let mut leaving = Vec::new();
        if action != Action::Join {
            for _ in 0..size.min(members.len()) {
                leaving.push(members.remove(random.random_range(0..members.len())));
            }
        }
        let staying = members.clone();
        let joining: Vec<String> = match action {
            Action::Leave => Vec::new(),
            _ => names.by_ref().take(size).collect(),
        };
        members.extend(joining.iter().cloned());
        // Who stays gains the copies of those who leave.
        let gaining = joining.first().or(staying.first()).cloned();
        let at_ms = time_ms / 10 + number * slot_ms + random.random_range(0..=slot_ms / 10);
        let hold_ms = random.random_range(slot_ms * 4 / 10..=slot_ms * 6 / 10);
        let step = |at_ms: u64, action: Action, nodes: &[String]| Step {
            at_ms,
            action,
            nodes: nodes.to_vec(),
            links: Vec::new(),
            amount: None,
        };
        let changed = [leaving, joining].concat();
        steps.push(step(at_ms, action, &changed));
        if let Some(gaining) = gaining {
            let killed = [gaining];
            steps.push(step(at_ms + hold_ms / 8, Action::Kill, &killed));
            steps.push(step(at_ms + hold_ms / 2, Action::Start, &killed));
        }
        steps.push(step(at_ms + hold_ms, Action::Settle, &changed));
    }
    steps
}

impl Step {
    /// Who leaves and who joins, if it is a change of the members.
    #[must_use]
    pub fn leavers_and_joiners(&self) -> (&[String], &[String]) {
        let nodes = &self.nodes[..];
        match self.action {
            Action::Join => (&[], nodes),
            Action::Leave => (nodes, &[]),
            Action::Replace => nodes.split_at(nodes.len() / 2),
            _ => (&[], &[]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::{Fault, Schedule};
    use super::*;

    /// How many members there are after each change.
    fn sizes(time_ms: u64, founders: usize) -> Vec<usize> {
        let nodes: Vec<String> = (1..=founders).map(|number| format!("n{number}")).collect();
        let schedule = Schedule::plan(&[Fault::Membership], 7, time_ms, &nodes);
        let mut members: BTreeSet<String> = nodes.into_iter().collect();
        let mut seen = members.clone();
        let mut sizes = Vec::new();
        for step in &schedule.steps {
            let (leaving, joining) = step.leavers_and_joiners();
            for name in leaving {
                assert!(members.remove(name), "{name} is no member");
            }
            for name in joining {
                assert!(members.insert(name.clone()) && seen.insert(name.clone()));
            }
            if step.action == Action::Kill {
                assert!(members.contains(&step.nodes[0]));
            }
            if step.action.changes_members() && step.action.is_blow() {
                sizes.push(members.len());
            }
        }
        let newcomers: BTreeSet<String> = schedule.newcomers().into_iter().collect();
        assert_eq!(newcomers.len() + founders, seen.len());
        sizes
    }

    #[test]
    fn three_grow_to_five_shrink_to_four_and_grow_to_six() {
        assert_eq!(sizes(20_000, 3), [5, 4, 6]);
        assert_eq!(sizes(80_000, 3), [5, 4, 6, 6, 4, 5, 3, 5]);
        assert_eq!(sizes(10_000_000, 1).len(), 28);
    }
}
