//! Looks for an order of operations that explains all answers.
//!
//! Operations that surely ended are placed in the order of their ends, except that those in flight at that
//! moment may go first. So what is placed is a prefix of that order plus a few *ahead* of it, and a
//! configuration is small however long the history is.
//!
//! Operations in doubt are *optional*: they may be placed anywhere after they began, or never. An optional
//! one is placed only right before an operation that does not fit without it (see the requirement of
//! [`super::Model`]), and only when nothing can be done without optional ones. That keeps many time-outs
//! affordable.
//!
//! Source: Wing and Gong, 1993 (the search); Lowe, 2017 (remember configurations that led nowhere). Ours:
//! operations that only look go as early as they fit; and of two configurations that differ only in which
//! optional operations they used up, the one that used fewer can do all that the other can, so the other is not searched.
//!
//! Invariants: 1. an order respects who ended before whom began. 2. the search ends, at the latest after
//! `steps_max` steps.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::hash::Hash;

/// Usual patience, in steps per key; some seconds at worst.
pub const STEPS_MAX: usize = 50_000_000;

/// One operation on one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interval<S> {
    /// Position in the history of its beginning.
    pub invoked: u64,
    /// Position of its end; `None` when it is in doubt.
    pub completed: Option<u64>,
    /// What it did and was told.
    pub step: S,
}

/// What the search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<T> {
    /// There is an order.
    Explained,
    /// There is none.
    Unexplained(Stuck<T>),
    /// It gave up.
    TooLarge,
}

/// How far any order came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck<T> {
    /// Index of the operation that no order could include.
    pub interval: usize,
    /// Indices of the operations that were in flight when it ended.
    pub concurrent: Vec<usize>,
    /// The states in which its turn came.
    pub states: Vec<T>,
}

/// Most configurations that are kept for an explanation.
const KEPT_MAX: usize = 16;

/// The machine, as far as the search needs it.
pub trait Machine<S> {
    /// What it remembers.
    type State: Clone + Eq + Hash + Debug;

    /// The state after a step, or `None` when the step does not fit.
    fn apply(&self, state: &Self::State, step: &S) -> Option<Self::State>;

    /// True when the step changes nothing wherever it fits, such as a read.
    fn only_looks(&self, step: &S) -> bool;

    /// False when `doubtful`, placed before `step`, surely does not make it fit.
    fn may_enable(&self, doubtful: &S, step: &S) -> bool;
}

/// Searches.
pub fn search<S, M: Machine<S>>(
    intervals: &[Interval<S>],
    machine: &M,
    initial: M::State,
    steps_max: usize,
) -> Answer<M::State> {
    let plan = Plan::new(intervals, machine);
    let apply = |state: &M::State, index: usize| machine.apply(state, &intervals[index].step);
    Search { plan, apply }.run(initial, steps_max)
}

struct Search<F> {
    plan: Plan,
    apply: F,
}

impl<F> Search<F> {
    fn run<T>(&self, initial: T, steps_max: usize) -> Answer<T>
    where
        T: Clone + Eq + Hash + Debug,
        F: Fn(&T, usize) -> Option<T>,
    {
        let mut memory = Memory::default();
        let mut furthest = Furthest::default();
        let mut steps = 0;
        let mut open = vec![Configuration::new(initial)];
        // What is left for optional operations, the furthest last.
        let mut waiting: BTreeMap<usize, Vec<Configuration<T>>> = BTreeMap::new();
        loop {
            while let Some(configuration) = open.pop() {
                let (configuration, absorbed) = self.absorb(configuration);
                steps += absorbed;
                if configuration.done == self.plan.certain.len() {
                    return Answer::Explained;
                }
                if !memory.is_news(&configuration) {
                    continue;
                }
                furthest.note(&configuration);
                steps += self.go_on(&configuration, &mut open);
                waiting
                    .entry(configuration.done)
                    .or_default()
                    .push(configuration);
            }
            if steps > steps_max {
                return Answer::TooLarge;
            }
            let Some(mut last) = waiting.last_entry() else {
                return Answer::Unexplained(self.explain(furthest));
            };
            match last.get_mut().pop() {
                Some(configuration) => steps += self.use_doubt(&configuration, &mut open),
                None => drop(last.remove()),
            }
        }
    }

    /// Places every certain operation that fits and only looks: no order is better off with it later. (A write of
    /// what is there already is another matter: later it may be needed.) Also returns the number of steps.
    fn absorb<T: Clone + Eq>(
        &self,
        mut configuration: Configuration<T>,
    ) -> (Configuration<T>, usize)
    where
        F: Fn(&T, usize) -> Option<T>,
    {
        let mut steps = 0;
        while configuration.done < self.plan.certain.len() {
            let is_idle = |&position: &usize| {
                steps += 1;
                let index = self.plan.certain[position];
                self.plan.only_looks[position]
                    && (self.apply)(&configuration.state, index).as_ref()
                        == Some(&configuration.state)
            };
            let Some(position) = self.plan.next(&configuration).find(is_idle) else {
                break;
            };
            let state = configuration.state.clone();
            configuration = configuration.with(position, state);
        }
        (configuration, steps)
    }

    /// Places one certain operation. What is pushed last is tried first: the operation whose end is due.
    /// Returns the number of steps.
    fn go_on<T: Clone + Eq>(
        &self,
        configuration: &Configuration<T>,
        open: &mut Vec<Configuration<T>>,
    ) -> usize
    where
        F: Fn(&T, usize) -> Option<T>,
    {
        let mut steps = 0;
        for position in self.plan.next(configuration) {
            steps += 1;
            let state = (self.apply)(&configuration.state, self.plan.certain[position]);
            open.extend(state.map(|state| configuration.with(position, state)));
        }
        steps
    }

    /// For each certain operation that does not fit: places a chain of optional ones that makes it fit.
    /// Returns the number of steps.
    fn use_doubt<T: Clone + Eq + Hash>(
        &self,
        configuration: &Configuration<T>,
        open: &mut Vec<Configuration<T>>,
    ) -> usize
    where
        F: Fn(&T, usize) -> Option<T>,
    {
        let mut steps = 0;
        for position in self.plan.next(configuration) {
            let index = self.plan.certain[position];
            steps += 1;
            if (self.apply)(&configuration.state, index).is_some() {
                continue;
            }
            let helpers = self.plan.helpers(position, configuration);
            let mut reached: Memory<T> = Memory::default();
            let mut chains = vec![configuration.clone()];
            while let Some(chain) = chains.pop() {
                for &helper in &helpers {
                    steps += 1;
                    let Some(longer) = self.longer(&chain, helper) else {
                        continue;
                    };
                    if !reached.is_news(&longer) {
                        continue;
                    }
                    match (self.apply)(&longer.state, index) {
                        Some(state) => open.push(longer.with(position, state)),
                        None => chains.push(longer),
                    }
                }
            }
        }
        steps
    }

    /// One that changes nothing is better left out.
    fn longer<T: Clone + Eq>(
        &self,
        chain: &Configuration<T>,
        helper: usize,
    ) -> Option<Configuration<T>>
    where
        F: Fn(&T, usize) -> Option<T>,
    {
        if chain.used.binary_search(&helper).is_ok() {
            return None;
        }
        let state = (self.apply)(&chain.state, self.plan.optional[helper])?;
        (state != chain.state).then(|| chain.with_doubtful(helper, state))
    }

    fn explain<T: Clone + Eq>(&self, furthest: Furthest<T>) -> Stuck<T>
    where
        F: Fn(&T, usize) -> Option<T>,
    {
        let mut states: Vec<T> = Vec::new();
        for configuration in &furthest.configurations {
            let doubtful = self.plan.doubtful(configuration);
            let doubtful = doubtful.filter_map(|position| self.longer(configuration, position));
            let doubtful = doubtful.map(|longer| longer.state);
            for state in std::iter::once(configuration.state.clone()).chain(doubtful) {
                if !states.contains(&state) {
                    states.push(state);
                }
            }
        }
        let in_flight = self.plan.in_flight[furthest.done].iter();
        Stuck {
            interval: self.plan.certain[furthest.done],
            concurrent: in_flight
                .map(|&position| self.plan.certain[position])
                .collect(),
            states,
        }
    }
}

/// The history, arranged for the search.
struct Plan {
    /// Indices of operations that ended, in the order of their ends.
    certain: Vec<usize>,
    /// For each of these: whether it only looks.
    only_looks: Vec<bool>,
    /// For each of these: the positions of later ones that had begun when it ended.
    in_flight: Vec<Vec<usize>>,
    /// Indices of operations in doubt, in the order of their beginnings.
    optional: Vec<usize>,
    /// For each certain one: how many of the optional ones had begun when it ended.
    optional_begun: Vec<usize>,
    /// For each certain one: the positions of optional ones that may make it fit.
    enablers: Vec<Vec<usize>>,
    /// The same for each optional one.
    optional_enablers: Vec<Vec<usize>>,
}

impl Plan {
    fn new<S>(intervals: &[Interval<S>], machine: &impl Machine<S>) -> Plan {
        let all = 0..intervals.len();
        let (mut certain, mut optional): (Vec<usize>, Vec<usize>) =
            all.partition(|&index| intervals[index].completed.is_some());
        certain.sort_by_key(|&index| intervals[index].completed);
        optional.sort_by_key(|&index| intervals[index].invoked);

        let mut by_begin: Vec<usize> = (0..certain.len()).collect();
        by_begin.sort_by_key(|&position| intervals[certain[position]].invoked);
        let mut begins = by_begin.into_iter().peekable();
        let mut flying: Vec<usize> = Vec::new();
        let mut in_flight = Vec::with_capacity(certain.len());
        let mut optional_begun = Vec::with_capacity(certain.len());
        for (position, &index) in certain.iter().enumerate() {
            let end = intervals[index].completed.unwrap_or(u64::MAX);
            let has_begun = |&other: &usize| intervals[certain[other]].invoked < end;
            while let Some(begun) = begins.next_if(has_begun) {
                flying.push(begun);
            }
            flying.retain(|&other| other > position);
            in_flight.push(flying.clone());
            optional_begun.push(optional.partition_point(|&other| intervals[other].invoked < end));
        }
        let enablers = |index: &usize| {
            let step = &intervals[*index].step;
            let may =
                |&position: &usize| machine.may_enable(&intervals[optional[position]].step, step);
            (0..optional.len()).filter(may).collect()
        };
        let only_looks = |&index: &usize| machine.only_looks(&intervals[index].step);
        Plan {
            only_looks: certain.iter().map(only_looks).collect(),
            enablers: certain.iter().map(enablers).collect(),
            optional_enablers: optional.iter().map(enablers).collect(),
            certain,
            in_flight,
            optional,
            optional_begun,
        }
    }

    /// Positions of the certain operations that may be placed next, the one whose end is due last.
    fn next<T>(&self, configuration: &Configuration<T>) -> impl Iterator<Item = usize> {
        let done = configuration.done;
        let in_flight = self.in_flight[done].iter().rev().copied();
        let is_open = |position: &usize| configuration.ahead.binary_search(position).is_err();
        in_flight.chain([done]).filter(is_open)
    }

    /// Positions of the optional operations that may, directly or through others, make a certain one fit.
    fn helpers<T>(&self, position: usize, configuration: &Configuration<T>) -> Vec<usize> {
        let begun = self.optional_begun[configuration.done];
        let mut found: Vec<usize> = Vec::new();
        let mut look_at: Vec<&[usize]> = vec![&self.enablers[position]];
        while let Some(enablers) = look_at.pop() {
            for &enabler in enablers.iter().filter(|&&enabler| enabler < begun) {
                let is_used = configuration.used.binary_search(&enabler).is_ok();
                if !is_used && !found.contains(&enabler) {
                    found.push(enabler);
                    look_at.push(&self.optional_enablers[enabler]);
                }
            }
        }
        found
    }

    /// Positions of the optional operations that may be placed next.
    fn doubtful<T>(&self, configuration: &Configuration<T>) -> impl Iterator<Item = usize> {
        let begun = 0..self.optional_begun[configuration.done];
        begun.filter(|position| configuration.used.binary_search(position).is_err())
    }
}

/// Which operations are placed, and the state they led to.
#[derive(Clone, Debug)]
struct Configuration<T> {
    /// All certain operations before this position are placed; this one is not.
    done: usize,
    /// Positions behind `done` that are placed too, ascending.
    ahead: Vec<usize>,
    /// Positions of the optional operations that are placed, ascending.
    used: Vec<usize>,
    state: T,
}

impl<T: Clone> Configuration<T> {
    fn new(state: T) -> Configuration<T> {
        Configuration {
            done: 0,
            ahead: Vec::new(),
            used: Vec::new(),
            state,
        }
    }

    /// With the certain operation at `position`, which is not placed yet.
    fn with(&self, position: usize, state: T) -> Configuration<T> {
        let mut next = Configuration {
            state,
            ..self.clone()
        };
        if position > self.done {
            let place = next.ahead.partition_point(|&other| other < position);
            next.ahead.insert(place, position);
            return next;
        }
        next.done += 1;
        let caught_up = (next.done..)
            .zip(&next.ahead)
            .take_while(|(due, ahead)| due == *ahead)
            .count();
        next.ahead.drain(..caught_up);
        next.done += caught_up;
        next
    }

    /// With the optional operation at `position`, which is not placed yet.
    fn with_doubtful(&self, position: usize, state: T) -> Configuration<T> {
        let mut next = Configuration {
            state,
            ..self.clone()
        };
        let place = next.used.partition_point(|&other| other < position);
        next.used.insert(place, position);
        next
    }
}

/// The configurations that were searched.
struct Memory<T> {
    seen: HashMap<(usize, Vec<usize>, T), Vec<Vec<usize>>>,
}

impl<T> Default for Memory<T> {
    fn default() -> Memory<T> {
        Memory {
            seen: HashMap::new(),
        }
    }
}

impl<T: Clone + Eq + Hash> Memory<T> {
    /// False when one that can do all that this one can was searched; else remembers it.
    fn is_news(&mut self, configuration: &Configuration<T>) -> bool {
        let Configuration {
            done,
            ahead,
            used,
            state,
        } = configuration;
        let key = (*done, ahead.clone(), state.clone());
        let known = self.seen.entry(key).or_default();
        if known.iter().any(|fewer| is_subset(fewer, used)) {
            return false;
        }
        known.retain(|more| !is_subset(used, more));
        known.push(used.clone());
        true
    }
}

fn is_subset(small: &[usize], large: &[usize]) -> bool {
    small.len() <= large.len() && small.iter().all(|item| large.binary_search(item).is_ok())
}

/// How far the search came, for the explanation.
struct Furthest<T> {
    done: usize,
    configurations: Vec<Configuration<T>>,
}

impl<T> Default for Furthest<T> {
    fn default() -> Furthest<T> {
        Furthest {
            done: 0,
            configurations: Vec::new(),
        }
    }
}

impl<T: Clone> Furthest<T> {
    fn note(&mut self, configuration: &Configuration<T>) {
        if configuration.done > self.done {
            self.done = configuration.done;
            self.configurations.clear();
        }
        if configuration.done == self.done && self.configurations.len() < KEPT_MAX {
            self.configurations.push(configuration.clone());
        }
    }
}
