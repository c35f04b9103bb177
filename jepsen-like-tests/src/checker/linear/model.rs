//! What a machine is, for the search.

use std::fmt::Debug;
use std::hash::Hash;

use crate::checker::{Malformed, Violation};
use crate::history::Operation;

/// A machine that does one thing at a time, one per key.
///
/// **Requirement.** Whoever replaces does not look: if a step fits both before and after another one, then the
/// other one may as well come after it, or is overwritten by it. So a doubtful operation can wait until some
/// step does not fit without it, which is what the search relies on. Registers and maps are like that;
/// a list to which operations append is not, and would be misjudged.
pub trait Model {
    /// What it remembers.
    type State: Clone + Eq + Hash + Debug;
    /// An operation with its answer.
    type Step: Clone + Debug;

    /// For reports.
    fn name(&self) -> &'static str;

    /// What a key holds before anything happened.
    fn initial(&self) -> Self::State;

    /// Which key an operation touches and what it says; `None` when it says nothing, such as a read that
    /// was not answered.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read(&self, operation: &Operation) -> Result<Option<Read<Self::Step>>, Malformed>;

    /// The state after the step, or `None` when its answer does not fit the state. A step in doubt has no
    /// answer that could not fit, but may have a condition that does not hold.
    fn apply(&self, state: &Self::State, step: &Self::Step) -> Option<Self::State>;

    /// True when the step changes nothing wherever it fits, such as a read. Saying so makes the search faster.
    fn only_looks(&self, _step: &Self::Step) -> bool {
        false
    }

    /// False when a step in doubt, placed before `step`, surely does not make it fit. The better it knows,
    /// the faster is the search of histories with many time-outs.
    fn may_enable(&self, _doubtful: &Self::Step, _step: &Self::Step) -> bool {
        true
    }

    /// A state in words.
    fn show(&self, state: &Self::State) -> String {
        format!("{state:?}")
    }

    /// What can be seen to be wrong without a search.
    fn more_violations(&self, _operations: &[Operation]) -> Vec<Violation> {
        Vec::new()
    }
}

/// An operation as the model understands it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read<S> {
    /// Whose part of the history it belongs to.
    pub key: String,
    /// What it says.
    pub step: S,
}
