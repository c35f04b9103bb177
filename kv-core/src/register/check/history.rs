//! What clients asked and were told, in the words of a simple map.
//!
//! Every put writes a tag of its own, so that a tag names a write and stands for the version it made.

/// Rows of the group under test.
pub(super) const ROWS: usize = 3;

/// The content of one put, unique in its history.
pub(super) type Tag = u64;

/// The rows, by number.
pub(super) type State = [Option<Tag>; ROWS];

/// What a part of a change needs of its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    Nothing,
    Absent,
    Exists,
    Holds(Tag),
}

/// One row's part of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) row: usize,
    pub(super) need: Need,
    /// A put, or a delete.
    pub(super) write: Option<Tag>,
}

/// What a client asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Change(Vec<Part>),
    Read,
}

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Applied,
    /// The parts that failed, with what their rows held where the answer says so.
    NotApplied(Vec<(usize, Option<Option<Tag>>)>),
    Rows(State),
    /// It had no effect and never will, whatever the rows held.
    Never,
    /// Nobody knows.
    Unknown,
}

/// One call with its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Operation {
    pub(super) call: Call,
    pub(super) invoked: u64,
    /// When the answer came; never for an unknown one, which may take effect at any later time.
    pub(super) completed: u64,
    pub(super) told: Told,
}

impl Operation {
    /// The state after this operation took effect on `state`, or `None` when its answer does not fit there.
    pub(super) fn apply(&self, state: &State) -> Option<State> {
        match (&self.call, &self.told) {
            (Call::Read, Told::Rows(rows)) => (rows == state).then_some(*state),
            (Call::Change(parts), Told::Applied | Told::Unknown) => {
                if !parts.iter().all(|part| part.holds(state)) {
                    return None;
                }
                let mut after = *state;
                parts.iter().for_each(|part| after[part.row] = part.write);
                Some(after)
            }
            (Call::Change(parts), Told::NotApplied(failed)) => {
                let fits = |index: usize, part: &Part| match failed
                    .iter()
                    .find(|(failed, _)| *failed == index)
                {
                    None => part.holds(state),
                    Some((_, held)) => {
                        !part.holds(state) && held.is_none_or(|held| held == state[part.row])
                    }
                };
                parts
                    .iter()
                    .enumerate()
                    .all(|(index, part)| fits(index, part))
                    .then_some(*state)
            }
            _ => None,
        }
    }
}

impl Part {
    fn holds(&self, state: &State) -> bool {
        match self.need {
            Need::Nothing => true,
            Need::Absent => state[self.row].is_none(),
            Need::Exists => state[self.row].is_some(),
            Need::Holds(tag) => state[self.row] == Some(tag),
        }
    }
}
