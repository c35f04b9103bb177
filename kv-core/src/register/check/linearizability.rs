//! Could one machine, doing one thing at a time, have given all these answers?
//!
//! The judge looks for an order of the operations that respects who finished before whom, and in which every
//! answer is the right one. It remembers every (set of operations placed, state) that led nowhere.
//!
//! Source: Wing and Gong, Testing and Verifying Concurrent Objects, 1993; Lowe, Testing for Linearizability, 2017
//! (the memory).
//! Invariants: an unknown operation may be placed anywhere after it was asked, or nowhere.

use std::collections::HashSet;

use super::history::{Operation, ROWS, State, Told};

/// True when some order explains the history.
pub(super) fn is_linearizable(history: &[Operation]) -> bool {
    let mut operations: Vec<_> = history
        .iter()
        .filter(|operation| operation.told != Told::Never)
        .cloned()
        .collect();
    operations.sort_by_key(|operation| operation.invoked);
    let placed = vec![0; operations.len().div_ceil(64)];
    let mut judge = Judge {
        operations,
        dead_ends: HashSet::new(),
    };
    judge.explains(placed, [None; ROWS])
}

struct Judge {
    operations: Vec<Operation>,
    dead_ends: HashSet<(Vec<u64>, State)>,
}

impl Judge {
    fn explains(&mut self, placed: Vec<u64>, state: State) -> bool {
        let mut open = vec![(placed, state)];
        while let Some((placed, state)) = open.pop() {
            if !self.dead_ends.insert((placed.clone(), state)) {
                continue;
            }
            let Some(candidates) = self.candidates(&placed) else {
                return true;
            };
            for index in candidates.into_iter().rev() {
                if let Some(after) = self.operations[index].apply(&state) {
                    let mut placed = placed.clone();
                    placed[index / 64] |= 1 << (index % 64);
                    open.push((placed, after));
                }
            }
        }
        false
    }

    /// The operations that may come next: those asked before any that is still to be placed was answered.
    /// `None` when every answered operation is placed.
    fn candidates(&self, placed: &[u64]) -> Option<Vec<usize>> {
        let is_open = |index: &usize| placed[index / 64] >> (index % 64) & 1 == 0;
        let mut first_answer = u64::MAX;
        let mut candidates = Vec::new();
        for index in (0..self.operations.len()).filter(is_open) {
            let operation = &self.operations[index];
            if operation.invoked > first_answer {
                break;
            }
            if operation.told != Told::Unknown {
                first_answer = first_answer.min(operation.completed);
            }
            candidates.push(index);
        }
        candidates.retain(|index| self.operations[*index].invoked <= first_answer);
        (first_answer != u64::MAX).then_some(candidates)
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::{Call, Need, Part};
    use super::*;

    fn put(need: Need, tag: u64, times: (u64, u64), told: Told) -> Operation {
        let call = Call::Change(vec![Part {
            row: 0,
            need,
            write: Some(tag),
        }]);
        Operation {
            call,
            invoked: times.0,
            completed: times.1,
            told,
        }
    }

    fn read(tag: Option<u64>, times: (u64, u64)) -> Operation {
        let told = Told::Rows([tag, None, None]);
        Operation {
            call: Call::Read,
            invoked: times.0,
            completed: times.1,
            told,
        }
    }

    fn check(history: &[Operation], expected: bool) {
        assert_eq!(is_linearizable(history), expected, "{history:?}");
    }

    #[test]
    fn answers_have_to_fit_an_order() {
        let first = || put(Need::Nothing, 1, (0, 10), Told::Applied);
        check(&[first(), read(Some(1), (20, 30))], true);
        check(&[first(), read(None, (20, 30))], false);
        check(&[first(), read(None, (5, 30))], true);
        check(&[first(), read(Some(1), (1, 2)), read(None, (3, 4))], false);
        check(
            &[first(), put(Need::Absent, 2, (20, 30), Told::Applied)],
            false,
        );
        check(
            &[
                first(),
                put(
                    Need::Absent,
                    2,
                    (20, 30),
                    Told::NotApplied(vec![(0, Some(Some(1)))]),
                ),
            ],
            true,
        );
        check(
            &[
                first(),
                put(
                    Need::Absent,
                    2,
                    (20, 30),
                    Told::NotApplied(vec![(0, Some(None))]),
                ),
            ],
            false,
        );
    }

    #[test]
    fn unknown_may_be_now_later_or_never() {
        let unknown = || put(Need::Nothing, 1, (0, u64::MAX), Told::Unknown);
        check(&[unknown(), read(None, (20, 30))], true);
        check(
            &[unknown(), read(None, (20, 30)), read(Some(1), (40, 50))],
            true,
        );
        check(
            &[unknown(), read(Some(1), (20, 30)), read(None, (40, 50))],
            false,
        );
    }
}
