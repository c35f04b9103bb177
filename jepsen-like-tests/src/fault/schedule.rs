//! Faults as data: a plan made from a seed.
//!
//! Each fault of a run has windows of its own, laid one after the other into the middle of the run; the windows
//! of different faults overlap as chance wills.

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};

use super::{Action, Fault, membership, shape};

/// One more window of a fault for each such stretch of a run.
pub(super) const WINDOW_EVERY_MS: u64 = 10_000;
/// Least number of windows of a fault that needs no node in turn.
const WINDOWS_MIN: u64 = 3;
/// A flapping or strobing window changes so often.
const BEATS: u64 = 6;
const DELAY_MS: i64 = 200;
const SHUFFLE_MS: i64 = 120;
const LOSE_PER_MILLE: i64 = 50;
/// Farthest jump of a clock.
const JUMP_MS_MAX: i64 = 300_000;
const NARROW_KBIT_PER_S: i64 = 400;
/// Thousandths of one processor.
const CPU_PER_MILLE: i64 = 30;
/// Memory that a starved node has left.
const MEMORY_MIB: i64 = 1;
/// The process that serves the shop.
const SHOP: &str = "shop";

/// A direction between two nodes, from the first to the second.
pub type Link = (String, String);

/// One line of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// When, in milliseconds from the beginning of the workload.
    pub at_ms: u64,
    /// What.
    pub action: Action,
    /// To which nodes, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
    /// To which links, by the names of their ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
    /// How much; what it counts is said at the [`Action`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<i64>,
}

impl Step {
    /// The names of its links: `n1-n2` where both ways are meant, once for each pair, and `n1>n2` for one way.
    #[must_use]
    pub fn link_names(&self) -> String {
        let mut names = Vec::new();
        for (a, b) in &self.links {
            let is_both = self.links.contains(&(b.clone(), a.clone()));
            match (is_both, a < b) {
                (true, true) => names.push(format!("{a}-{b}")),
                (true, false) => {}
                (false, _) => names.push(format!("{a}>{b}")),
            }
        }
        names.join(" ")
    }
}

/// What is broken, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// The kinds of trouble.
    pub faults: Vec<Fault>,
    /// What it was made from.
    pub seed: u64,
    /// How long the workload runs, in milliseconds.
    pub time_ms: u64,
    /// In order of time.
    pub steps: Vec<Step>,
}

/// A blow that lasts: what happens to whom in one window.
#[derive(Clone)]
struct Blow {
    action: Action,
    nodes: Vec<String>,
    links: Vec<Link>,
    amount: Option<i64>,
    /// How often it falls and is undone within its window.
    beats: u64,
}

impl Schedule {
    /// Plans `faults` into the middle of a workload of `time_ms`: the first and last tenths are quiet, so that
    /// there is something before and after to compare with.
    #[must_use]
    pub fn plan(faults: &[Fault], seed: u64, time_ms: u64, nodes: &[String]) -> Schedule {
        let mut steps = Vec::new();
        for (position, fault) in (0_u64..).zip(faults) {
            let mut random =
                StdRng::seed_from_u64(seed ^ position.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut victims = nodes.to_vec();
            victims.shuffle(&mut random);
            if *fault == Fault::Membership {
                steps.extend(membership::steps(time_ms, &victims, &mut random));
                continue;
            }
            let blows = blows(*fault, time_ms, &victims, &mut random);
            lay(&blows, time_ms, &mut random, &mut steps);
        }
        steps.sort_by_key(|step: &Step| step.at_ms);
        Schedule {
            faults: faults.to_vec(),
            seed,
            time_ms,
            steps,
        }
    }

    /// How many windows it has: blows, one for each node.
    #[must_use]
    pub fn windows_count(&self) -> usize {
        let blows = self.steps.iter().filter(|step| step.action.is_blow());
        blows
            .map(|step| step.nodes.len() + usize::from(!step.links.is_empty()))
            .sum()
    }

    /// Nodes that are not there in the beginning and join.
    #[must_use]
    pub fn newcomers(&self) -> Vec<String> {
        let joining = self.steps.iter().map(|step| step.leavers_and_joiners().1);
        joining.flatten().cloned().collect()
    }

    /// The names of the faults, for people.
    #[must_use]
    pub fn fault_names(&self) -> String {
        Fault::names(&self.faults)
    }
}

/// The windows of one fault, in order.
fn blows(fault: Fault, time_ms: u64, victims: &[String], random: &mut StdRng) -> Vec<Blow> {
    let windows = (time_ms / WINDOW_EVERY_MS).max(WINDOWS_MIN);
    let turn = |number: u64| {
        let position = usize::try_from(number).unwrap_or(0) % victims.len();
        &victims[position]
    };
    let mut made = Vec::new();
    for number in 0..windows {
        let node = turn(number);
        let others = |node: &String| shape::others(node, victims);
        let blow = match fault {
            // Its windows depend on one another.
            Fault::None | Fault::Membership => return Vec::new(),
            // A majority in one window, so that all of it is down at once.
            Fault::KillMajority if number > time_ms / (3 * WINDOW_EVERY_MS) => break,
            Fault::KillMajority => {
                let majority = victims.len() / 2 + 1;
                let mut nodes = victims.to_vec();
                nodes.rotate_left(usize::try_from(number).unwrap_or(0) % victims.len());
                nodes.truncate(majority);
                Blow::of_nodes(Action::Kill, nodes)
            }
            Fault::KillOne => Blow::of_node(Action::Kill, node),
            Fault::PauseOne => Blow::of_node(Action::Pause, node),
            Fault::Restart => Blow::of_node(Action::Stop, node),
            Fault::SplitOne => {
                Blow::cut(shape::both_ways(std::slice::from_ref(node), &others(node)))
            }
            Fault::SplitHalves => Blow::cut(shape::halves(&shuffled(victims, random))),
            Fault::SplitRing => Blow::cut(shape::majorities_ring(&shuffled(victims, random))),
            Fault::SplitBridge => Blow::cut(shape::bridge(&shuffled(victims, random))),
            Fault::SplitOneWay => {
                Blow::cut(shape::one_way(node, &others(node), random.random_bool(0.5)))
            }
            Fault::SplitFlapping => {
                let links = shape::both_ways(std::slice::from_ref(node), &others(node));
                Blow::cut(links).beating()
            }
            Fault::Slow => Blow::of_links(Action::Delay, node, victims, DELAY_MS),
            Fault::Lossy => Blow::of_links(Action::Lose, node, victims, LOSE_PER_MILLE),
            Fault::Jitter => Blow {
                links: shape::all(victims),
                ..Blow::of_links(Action::Shuffle, node, victims, SHUFFLE_MS)
            },
            Fault::ClockJump => Blow::of_clock(Action::SetClock, node, jump(random)),
            Fault::ClockStrobe => Blow::of_clock(Action::SetClock, node, jump(random)).beating(),
            Fault::ClockRate => {
                let pace = if random.random_bool(0.5) {
                    random.random_range(500..950)
                } else {
                    random.random_range(1_050..3_000)
                };
                Blow::of_clock(Action::BendClock, node, pace)
            }
            Fault::DiskFull => Blow::of_node(Action::FillDisk, node),
            Fault::SyncError => Blow::of_node(Action::FailSync, node),
            Fault::TornWrite => Blow::of_node(Action::Tear, node),
            Fault::BitFlip => Blow::of_node(Action::FlipBit, &victims[0]),
            Fault::Wipe => Blow::of_node(Action::Wipe, &victims[0]),
            Fault::Narrow => Blow::of_node(Action::Narrow, node).by(NARROW_KBIT_PER_S),
            Fault::CpuStarved => Blow::of_node(Action::StarveCpu, node).by(CPU_PER_MILLE),
            Fault::MemoryStarved => Blow::of_node(Action::StarveMemory, node).by(MEMORY_MIB),
            Fault::KillShop => Blow::of_node(Action::Kill, SHOP),
        };
        made.push(blow);
    }
    made
}

/// Lays the windows one after the other into the middle of the run.
fn lay(blows: &[Blow], time_ms: u64, random: &mut StdRng, steps: &mut Vec<Step>) {
    let slot_ms = time_ms * 8 / 10 / u64::try_from(blows.len().max(1)).unwrap_or(1);
    for (number, blow) in (0..).zip(blows) {
        let start_ms = time_ms / 10 + number * slot_ms;
        let wait_ms = random.random_range(0..=slot_ms / 10);
        let hold_ms = random.random_range(slot_ms * 4 / 10..=slot_ms * 6 / 10);
        for beat in 0..blow.beats {
            let at_ms = start_ms + wait_ms + beat * hold_ms / blow.beats;
            let until_ms = if blow.beats == 1 {
                at_ms + hold_ms
            } else {
                at_ms + hold_ms / blow.beats / 2
            };
            steps.push(blow.step(at_ms, blow.action));
            steps.push(blow.step(until_ms, blow.action.undo()));
        }
    }
}

fn shuffled(victims: &[String], random: &mut StdRng) -> Vec<String> {
    let mut victims = victims.to_vec();
    victims.shuffle(random);
    victims
}

/// Small and large jumps are equally likely.
fn jump(random: &mut StdRng) -> i64 {
    let size = 10_i64
        .pow(random.random_range(2..=5))
        .saturating_mul(random.random_range(1..=9));
    let size = size.min(JUMP_MS_MAX);
    if random.random_bool(0.5) { size } else { -size }
}

impl Blow {
    fn of_nodes(action: Action, nodes: Vec<String>) -> Blow {
        Blow {
            action,
            nodes,
            links: Vec::new(),
            amount: None,
            beats: 1,
        }
    }

    fn of_node(action: Action, node: &str) -> Blow {
        Blow::of_nodes(action, vec![node.to_owned()])
    }

    fn cut(links: Vec<Link>) -> Blow {
        Blow {
            links,
            ..Blow::of_nodes(Action::Cut, Vec::new())
        }
    }

    fn of_links(action: Action, node: &String, victims: &[String], amount: i64) -> Blow {
        let others = shape::others(node, victims);
        Blow {
            links: shape::both_ways(std::slice::from_ref(node), &others),
            amount: Some(amount),
            ..Blow::of_nodes(action, Vec::new())
        }
    }

    fn of_clock(action: Action, node: &str, amount: i64) -> Blow {
        Blow::of_node(action, node).by(amount)
    }

    fn by(self, amount: i64) -> Blow {
        Blow {
            amount: Some(amount),
            ..self
        }
    }

    fn beating(self) -> Blow {
        Blow {
            beats: BEATS,
            ..self
        }
    }

    fn step(&self, at_ms: u64, action: Action) -> Step {
        Step {
            at_ms,
            action,
            nodes: self.nodes.clone(),
            links: self.links.clone(),
            amount: self.amount.filter(|_| action.is_blow()),
        }
    }
}

#[cfg(test)]
#[path = "schedule_test.rs"]
mod tests;
