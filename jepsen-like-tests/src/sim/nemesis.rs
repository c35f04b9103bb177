//! Performs a schedule on a simulated cluster, and shows that each blow landed.
//!
//! Place: between [`crate::fault`], which plans, and [`super::cluster`], which can be broken.
//! Invariants: 1. every undoing says in the history whether its blow bit: `"bit"`. 2. after [`SimNemesis::heal`]
//! everything runs and nothing is broken.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use serde_json::json;

use super::cluster::SimCluster;
use super::machine::State;
use super::members::{self, Seen};
use super::trace::mix;
use crate::fault::{Action, Link, Schedule, Step, all_links};
use crate::history::Recorder;
use crate::workload::Target;

/// See the module.
pub(super) struct SimNemesis {
    steps: VecDeque<Step>,
    seed: u64,
    recorder: Recorder,
    /// Nodes whose power fails with their next unsynced write.
    tearing: BTreeSet<String>,
    /// Nodes that a start has to kill first.
    sick: BTreeSet<String>,
    /// What was counted when a blow fell, by node.
    before: BTreeMap<(String, Action), u64>,
    blows: u64,
    /// A change of members that an operator is about to make, or waits for.
    change: Option<Change>,
    /// How long changes took, by which all that comes after them is late.
    late: Duration,
    /// What must not happen while members change.
    broken: Vec<String>,
}

/// The work of an operator.
struct Change {
    step: Step,
    begun: Duration,
    told: Rc<RefCell<Option<Result<Seen, String>>>>,
}

/// An operator goes away so long after he began to apply.
const HASTY_MS_MAX: u64 = 60;

impl SimNemesis {
    pub(super) fn new(schedule: &Schedule, recorder: Recorder) -> SimNemesis {
        SimNemesis {
            steps: schedule.steps.iter().cloned().collect(),
            seed: schedule.seed,
            recorder,
            tearing: BTreeSet::new(),
            sick: BTreeSet::new(),
            before: BTreeMap::new(),
            blows: 0,
            change: None,
            late: Duration::ZERO,
            broken: Vec::new(),
        }
    }

    /// Performs what is due so long after the beginning. `target_of` gives an operator what he needs, by his name.
    pub(super) fn perform_until(
        &mut self,
        cluster: &mut SimCluster,
        since: Duration,
        target_of: impl Fn(&SimCluster, &str) -> Target,
    ) {
        self.tear_those_who_write(cluster);
        self.end_change(cluster, since);
        while self.change.is_none()
            && let Some(step) = self.steps.front()
            && Duration::from_millis(step.at_ms) + self.late <= since
        {
            let step = self.steps.pop_front().expect("one was just looked at");
            if step.action.changes_members() {
                self.begin_change(cluster, step, since, &target_of);
            } else {
                self.perform(cluster, &step);
            }
        }
    }

    /// What must not happen while members change.
    pub(super) fn broken_changes(&self) -> &[String] {
        &self.broken
    }

    fn begin_change(
        &mut self,
        cluster: &mut SimCluster,
        step: Step,
        since: Duration,
        target_of: impl Fn(&SimCluster, &str) -> Target,
    ) {
        self.blows += 1;
        let operator = format!("operator-{}", self.blows);
        let target = target_of(cluster, &operator);
        let told = if step.action.is_blow() {
            for name in step.leavers_and_joiners().1 {
                cluster.add_newcomer(name);
            }
            let hasty_ms = mix(self.seed ^ self.blows) % HASTY_MS_MAX;
            let hasty = Duration::from_millis(hasty_ms);
            cluster.client(&operator, members::change(target, step.clone(), hasty))
        } else {
            cluster.client(&operator, members::rest(target))
        };
        self.change = Some(Change {
            step,
            begun: since,
            told,
        });
    }

    fn end_change(&mut self, cluster: &mut SimCluster, since: Duration) {
        let Some(change) = &self.change else { return };
        let Some(told) = change.told.borrow_mut().take() else {
            return;
        };
        let Some(Change { step, begun, .. }) = self.change.take() else {
            return;
        };
        self.late += since - begun;
        let is_undoing = !step.action.is_blow();
        let (words, bit) = match told {
            Ok(seen) => {
                if is_undoing {
                    self.see_off(cluster, &step.nodes, &seen);
                }
                (seen.words, is_undoing.then_some(true))
            }
            Err(what) => {
                self.broken.push(what.clone());
                (what, is_undoing.then_some(false))
            }
        };
        for node in &step.nodes {
            self.note(&step, node, &words, bit);
        }
    }

    /// Switches off who is no member any more.
    pub(super) fn see_off(&self, cluster: &mut SimCluster, nodes: &[String], seen: &Seen) {
        for node in nodes {
            if cluster.has(node) && !seen.members.contains(node) {
                cluster.remove(node);
            }
        }
    }

    /// Undoes everything and starts everything.
    pub(super) fn heal(&mut self, cluster: &mut SimCluster) {
        self.tearing.clear();
        let names = cluster.names();
        let everything = all_links(&names);
        cluster.mend(&everything);
        cluster.calm(&everything);
        cluster.weather.clear(&everything);
        for name in &names {
            cluster.resume(name);
            let machine = cluster.machine(name);
            machine.clock.mend();
            machine.disk().set_capacity_bytes(None);
            if matches!(machine.state(), State::Refused(_)) {
                self.sick.insert(name.clone());
            }
            self.start(cluster, name);
        }
        self.recorder.note("heal", json!({"nodes": names}));
    }

    fn perform(&mut self, cluster: &mut SimCluster, step: &Step) {
        self.blows += 1;
        for node in &step.nodes {
            let (seen, bit) = if cluster.has(node) {
                self.act_on_node(cluster, step, node)
            } else {
                ("it is no member".to_owned(), Some(false))
            };
            self.note(step, node, &seen, bit);
        }
        if !step.links.is_empty() {
            let (seen, bit) = self.act_on_links(cluster, step);
            self.note(step, &step.link_names(), &seen, bit);
        }
    }

    fn note(&self, step: &Step, whom: &str, seen: &str, bit: Option<bool>) {
        let mut value = json!({"node": whom, "seen": seen});
        if let Some(bit) = bit {
            value["bit"] = json!(bit);
        }
        tracing::debug!(at_ms = step.at_ms, whom, seen, "{}", step.action.as_str());
        self.recorder.note(step.action.as_str(), value);
    }

    fn act_on_node(
        &mut self,
        cluster: &mut SimCluster,
        step: &Step,
        node: &str,
    ) -> (String, Option<bool>) {
        let machine = cluster.machine(node);
        let amount = step.amount.unwrap_or_default();
        match step.action {
            Action::Kill => (self.kill(cluster, node), None),
            Action::Stop => {
                machine.ask_to_stop();
                // One that takes too long is killed by the start.
                self.sick.insert(node.to_owned());
                self.remember(node, Action::Start, machine.lives());
                ("asked to stop".to_owned(), None)
            }
            Action::Start => self.start(cluster, node),
            Action::Pause => {
                cluster.weather.worsen(&links_around(cluster, node), 0);
                cluster.pause(node);
                ("its messages are held".to_owned(), None)
            }
            Action::Resume => {
                cluster.resume(node);
                let held = cluster.weather.clear(&links_around(cluster, node));
                (format!("{held} packets were held"), Some(held > 0))
            }
            Action::SetClock => {
                machine.clock.jump(amount);
                self.remember(node, Action::MendClock, machine.clock.reads());
                (format!("off by {} ms", machine.clock.error_ms()), None)
            }
            Action::BendClock => {
                machine.clock.bend(amount);
                self.remember(node, Action::MendClock, machine.clock.reads());
                (format!("at {amount} thousandths of its pace"), None)
            }
            Action::MendClock => {
                let error_ms = machine.clock.error_ms();
                machine.clock.mend();
                let reads = machine.clock.reads() - self.recall(node, Action::MendClock);
                let seen = format!("was off by {error_ms} ms and read {reads} times");
                (seen, Some(error_ms != 0))
            }
            Action::FillDisk => {
                let disk = machine.disk();
                disk.set_capacity_bytes(Some(disk.used_bytes()));
                self.remember(node, Action::FreeDisk, disk.found_full_count());
                (format!("full with {} bytes", disk.used_bytes()), None)
            }
            Action::FreeDisk => {
                let disk = machine.disk();
                disk.set_capacity_bytes(None);
                let found = disk
                    .found_full_count()
                    .saturating_sub(self.recall(node, Action::FreeDisk));
                (format!("found full {found} times"), Some(found > 0))
            }
            Action::FailSync => {
                machine.disk().fail_next_sync();
                self.sick.insert(node.to_owned());
                self.remember(node, Action::Start, machine.lives());
                ("the next sync fails".to_owned(), None)
            }
            Action::Tear => {
                self.tearing.insert(node.to_owned());
                self.remember(node, Action::Start, machine.lives());
                ("waits for a write".to_owned(), None)
            }
            Action::FlipBit => {
                let killed = self.kill(cluster, node);
                let flipped = machine.disk().flip_bit(mix(self.seed ^ self.blows));
                if !flipped {
                    self.remember(node, Action::Start, u64::MAX);
                }
                (format!("{killed}, then a bit flipped: {flipped}"), None)
            }
            Action::Wipe => {
                let killed = self.kill(cluster, node);
                let bytes = machine.new_disk();
                (format!("{killed}, then lost {bytes} bytes of disk"), None)
            }
            Action::Cut
            | Action::Mend
            | Action::Delay
            | Action::Shuffle
            | Action::Lose
            | Action::Calm => ("happens to links only".to_owned(), None),
            Action::Narrow
            | Action::Widen
            | Action::StarveCpu
            | Action::StarveMemory
            | Action::Feed => ("happens to real nodes only".to_owned(), Some(false)),
            Action::Join | Action::Leave | Action::Replace | Action::Settle => {
                ("happens to several at once".to_owned(), Some(false))
            }
        }
    }

    fn act_on_links(&mut self, cluster: &mut SimCluster, step: &Step) -> (String, Option<bool>) {
        let links = &step.links;
        let amount = u64::try_from(step.amount.unwrap_or_default()).unwrap_or(0);
        let lose = if step.action == Action::Lose {
            u32::try_from(amount).unwrap_or(u32::MAX)
        } else {
            0
        };
        match step.action {
            Action::Cut => cluster.cut(links),
            Action::Mend => cluster.mend(links),
            Action::Delay => cluster.delay(links, Duration::from_millis(amount)),
            Action::Shuffle => cluster.shuffle(links, Duration::from_millis(amount)),
            Action::Calm => cluster.calm(links),
            _ => {}
        }
        if step.action.is_blow() {
            cluster.weather.worsen(links, lose);
            (format!("{} links", links.len()), None)
        } else {
            let affected = cluster.weather.clear(links);
            (
                format!("{affected} packets were affected"),
                Some(affected > 0),
            )
        }
    }

    fn kill(&mut self, cluster: &mut SimCluster, node: &str) -> String {
        let lives = cluster.machine(node).lives();
        self.remember(node, Action::Start, lives);
        if !cluster.runs(node) {
            return "it was down already".to_owned();
        }
        let unsynced = cluster.kill(node);
        format!("dead, with {unsynced} bytes unsynced")
    }

    /// Whatever the node died of, this starts it; one that is merely running stays.
    fn start(&mut self, cluster: &mut SimCluster, node: &str) -> (String, Option<bool>) {
        let before = self.before.remove(&(node.to_owned(), Action::Start));
        let was_tearing = self.tearing.remove(node);
        let is_pending = cluster.machine(node).disk().is_sync_failure_pending();
        let is_sick = self.sick.remove(node);
        if is_sick && cluster.runs(node) {
            cluster.kill(node);
        }
        let bit = before.map(|lives| !was_tearing && !is_pending && lives != u64::MAX);
        if cluster.runs(node) {
            return ("it runs already".to_owned(), bit.map(|_| false));
        }
        cluster.start(node);
        ("started".to_owned(), bit)
    }

    fn tear_those_who_write(&mut self, cluster: &mut SimCluster) {
        if self.tearing.is_empty() {
            return;
        }
        for node in self.tearing.clone() {
            if cluster.runs(&node) && cluster.machine(&node).disk().unsynced_bytes() > 0 {
                let seen = self.kill(cluster, &node);
                self.tearing.remove(&node);
                self.recorder
                    .note("torn", json!({"whom": node, "seen": seen}));
            }
        }
    }

    fn remember(&mut self, node: &str, undo: Action, count: u64) {
        self.before.insert((node.to_owned(), undo), count);
    }

    fn recall(&mut self, node: &str, undo: Action) -> u64 {
        let before = self.before.remove(&(node.to_owned(), undo));
        before.unwrap_or_default()
    }
}

fn links_around(cluster: &SimCluster, node: &str) -> Vec<Link> {
    let mut links = all_links(&cluster.names());
    links.retain(|(a, b)| a == node || b == node);
    links
}
