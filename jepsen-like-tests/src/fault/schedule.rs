//! Faults as data.

use std::fmt;
use std::str::FromStr;

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};

/// A kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Nothing.
    None,
    /// One node at a time is killed with signal 9 and started again, another one each time.
    KillOne,
    /// A majority of the nodes is killed with signal 9 at once, and started again.
    KillMajority,
    /// One node at a time is frozen, and goes on later with connections that others gave up.
    PauseOne,
    /// Every node in turn is stopped politely and started again.
    Restart,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 5] = [
        Fault::None,
        Fault::KillOne,
        Fault::KillMajority,
        Fault::PauseOne,
        Fault::Restart,
    ];

    /// Its name on the command line and in files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Fault::None => "none",
            Fault::KillOne => "kill-one",
            Fault::KillMajority => "kill-majority",
            Fault::PauseOne => "pause-one",
            Fault::Restart => "restart",
        }
    }

    /// What it does, in a line.
    #[must_use]
    pub fn about(self) -> &'static str {
        match self {
            Fault::None => "nothing is broken",
            Fault::KillOne => "kill -9 of one node at a time, then started again",
            Fault::KillMajority => "kill -9 of a majority at once, then started again",
            Fault::PauseOne => "SIGSTOP and SIGCONT of one node at a time",
            Fault::Restart => "every node in turn is stopped politely and started again",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Fault, String> {
        let found = Fault::ALL.into_iter().find(|fault| fault.as_str() == text);
        found.ok_or_else(|| {
            let names = Fault::ALL.map(Fault::as_str).join(", ");
            format!("there is no fault `{text}`; the faults are {names}")
        })
    }
}

/// One blow, or its undoing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Signal 9.
    Kill,
    /// Signal 15, and wait.
    Stop,
    /// Start again.
    Start,
    /// Signal STOP.
    Pause,
    /// Signal CONT.
    Resume,
}

impl Action {
    /// All of them.
    pub const ALL: [Action; 5] = [
        Action::Kill,
        Action::Stop,
        Action::Start,
        Action::Pause,
        Action::Resume,
    ];

    /// Its name in histories.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Kill => "kill",
            Action::Stop => "stop",
            Action::Start => "start",
            Action::Pause => "pause",
            Action::Resume => "resume",
        }
    }

    /// Whether it makes things worse.
    #[must_use]
    pub fn is_blow(self) -> bool {
        match self {
            Action::Kill | Action::Stop | Action::Pause => true,
            Action::Start | Action::Resume => false,
        }
    }

    fn undo(self) -> Action {
        match self {
            Action::Kill | Action::Stop | Action::Start => Action::Start,
            Action::Pause | Action::Resume => Action::Resume,
        }
    }
}

/// One line of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// When, in milliseconds from the beginning of the workload.
    pub at_ms: u64,
    /// What.
    pub action: Action,
    /// To which nodes, by name.
    pub nodes: Vec<String>,
}

/// What is broken, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// The kind of trouble.
    pub fault: Fault,
    /// What it was made from.
    pub seed: u64,
    /// How long the workload runs, in milliseconds.
    pub time_ms: u64,
    /// In order of time.
    pub steps: Vec<Step>,
}

impl Schedule {
    /// Plans `fault` into the middle of a workload of `time_ms`: the first and last tenths are quiet, so that
    /// there is something before and after to compare with.
    #[must_use]
    pub fn plan(fault: Fault, seed: u64, time_ms: u64, nodes: &[String]) -> Schedule {
        let mut random = StdRng::seed_from_u64(seed);
        let mut victims = nodes.to_vec();
        victims.shuffle(&mut random);
        let (blow, windows): (Action, Vec<Vec<String>>) = match fault {
            Fault::None => (Action::Kill, Vec::new()),
            Fault::KillOne => (Action::Kill, one_at_a_time(&victims, 2)),
            Fault::PauseOne => (Action::Pause, one_at_a_time(&victims, 2)),
            Fault::Restart => (Action::Stop, one_at_a_time(&victims, victims.len())),
            Fault::KillMajority => {
                let majority = victims.len() / 2 + 1;
                (Action::Kill, vec![victims[..majority].to_vec()])
            }
        };
        let slot_ms = time_ms * 8 / 10 / u64::try_from(windows.len().max(1)).unwrap_or(1);
        let mut steps = Vec::with_capacity(windows.len() * 2);
        for (number, nodes) in (0..).zip(windows) {
            let start_ms = time_ms / 10 + number * slot_ms;
            let wait_ms = random.random_range(0..=slot_ms / 10);
            let hold_ms = random.random_range(slot_ms * 4 / 10..=slot_ms * 6 / 10);
            let at_ms = start_ms + wait_ms;
            steps.push(Step {
                at_ms,
                action: blow,
                nodes: nodes.clone(),
            });
            steps.push(Step {
                at_ms: at_ms + hold_ms,
                action: blow.undo(),
                nodes,
            });
        }
        Schedule {
            fault,
            seed,
            time_ms,
            steps,
        }
    }
}

fn one_at_a_time(victims: &[String], most: usize) -> Vec<Vec<String>> {
    victims
        .iter()
        .take(most)
        .map(|victim| vec![victim.clone()])
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn schedules_repeat_and_heal(
            fault in prop::sample::select(Fault::ALL.to_vec()),
            seed in any::<u64>(),
            time_ms in 1_000..100_000_u64,
            count in 1..6_usize,
        ) {
            let nodes: Vec<String> = (0..count).map(|number| format!("n{number}")).collect();
            let schedule = Schedule::plan(fault, seed, time_ms, &nodes);
            prop_assert_eq!(&schedule, &Schedule::plan(fault, seed, time_ms, &nodes));
            prop_assert_eq!(schedule.steps.is_empty(), fault == Fault::None);
            let mut down = BTreeSet::new();
            let mut last_ms = time_ms / 10;
            for step in &schedule.steps {
                prop_assert!(step.at_ms >= last_ms && step.at_ms <= time_ms * 9 / 10);
                last_ms = step.at_ms;
                for node in &step.nodes {
                    let is_news = if step.action.is_blow() {
                        down.insert(node.clone())
                    } else {
                        down.remove(node)
                    };
                    prop_assert!(is_news, "{:?}", step);
                }
                let most = if fault == Fault::KillMajority { count / 2 + 1 } else { 1 };
                prop_assert!(down.len() <= most);
            }
            prop_assert!(down.is_empty());
            let text = serde_json::to_string(&schedule).unwrap();
            prop_assert_eq!(serde_json::from_str::<Schedule>(&text).unwrap(), schedule);
        }
    }

    #[test]
    fn names_are_read_back() {
        for fault in Fault::ALL {
            assert_eq!(fault.as_str().parse(), Ok(fault));
        }
        assert!("meteor".parse::<Fault>().unwrap_err().contains("kill-one"));
    }
}
