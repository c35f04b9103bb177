//! Carries out a schedule on real processes, and proves each blow.
//!
//! Invariants: 1. every undoing of a blow whose effect is not sure says whether it bit: `"bit"`. 2. after
//! [`RealNemesis::heal`] nothing is broken and everything was started. 3. a server that ended without a blow that explains
//! it is remembered.
//! Not here: waiting until all is ready again, and judging (`crate::run`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};

use super::filter::{Filter, dropped};
use super::ground::Ground;
use super::hosts::Host;
use super::lag::Lag;
use super::members::Operators;
use super::torn::{JournalEnds, tear};
use super::{disk, narrow};
use crate::fault::{Action, Schedule, Step};
use crate::history::Recorder;
use crate::process::{HarnessError, TestCluster};

/// Longest wait for an answer of a node about itself.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// How long a node may take to write something after its syncs began to fail.
const WRITE_WITHIN: Duration = Duration::from_secs(3);
/// How long a node may take to find its files damaged.
const REFUSED_WITHIN: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// A clock that is wrong by less may be right.
const CLOCK_ERROR_MS_MIN: f64 = 50.0;

/// What a node says that finds its files damaged beyond what it mends by itself.
const REMEDY: &str = "the files are damaged; move them away, start the node empty";

/// What a step was seen to do, and whether it bit.
type Seen = (String, Option<bool>);

/// See the module.
#[derive(Debug)]
pub struct RealNemesis<'run> {
    cluster: &'run mut TestCluster,
    ground: &'run Ground,
    /// For the program that delays packets.
    binary: PathBuf,
    http: reqwest::Client,
    recorder: Recorder,
    random: StdRng,
    /// Of the receivers.
    filters: BTreeMap<String, Filter>,
    /// By the step that opened them.
    lags: BTreeMap<String, Vec<Lag>>,
    next_queue: u16,
    /// What was counted when a blow fell.
    before: BTreeMap<(String, Action), u64>,
    /// What a blow did to a node that its start will tell.
    done: BTreeMap<String, bool>,
    /// Nodes that a start has to kill first, and that may end by themselves.
    sick: BTreeSet<String>,
    /// Nodes whose files were damaged. They may refuse to start, and say what their operator has to do.
    damaged: BTreeSet<String>,
    unexplained: Vec<String>,
    /// What must not happen while members change.
    broken: Vec<String>,
}

impl<'run> RealNemesis<'run> {
    /// A nemesis that notes what it does. Equal seeds damage files at equal places, as far as the files are equal.
    /// `binary` is the `souk-jepsen` program.
    pub fn new(
        cluster: &'run mut TestCluster,
        ground: &'run Ground,
        binary: &Path,
        seed: u64,
        recorder: Recorder,
    ) -> RealNemesis<'run> {
        RealNemesis {
            cluster,
            ground,
            binary: binary.to_owned(),
            http: reqwest::Client::new(),
            recorder,
            random: StdRng::seed_from_u64(seed),
            filters: BTreeMap::new(),
            lags: BTreeMap::new(),
            next_queue: 0,
            before: BTreeMap::new(),
            done: BTreeMap::new(),
            sick: BTreeSet::new(),
            damaged: BTreeSet::new(),
            unexplained: Vec::new(),
            broken: Vec::new(),
        }
    }

    /// Performs all steps at their times, counted from now. What a change of members takes is added to all that comes
    /// after it.
    ///
    /// # Errors
    /// When a step could not be done, or had no effect where it has to have one.
    pub async fn perform(&mut self, schedule: &Schedule) -> Result<(), HarnessError> {
        let mut begun = Instant::now();
        for step in &schedule.steps {
            sleep_until(begun + Duration::from_millis(step.at_ms)).await;
            self.bury()?;
            if step.action.changes_members() {
                let beginning = Instant::now();
                self.change_members(step).await?;
                begun += beginning.elapsed();
                continue;
            }
            for node in &step.nodes {
                let seen = if self.cluster.server(node).is_ok() {
                    self.act_on_node(step, node).await?
                } else {
                    ("it is no member".to_owned(), Some(false))
                };
                self.note(step, node, seen);
            }
            if !step.links.is_empty() {
                let seen = self.act_on_links(step)?;
                self.note(step, &step.link_names(), seen);
            }
        }
        Ok(())
    }

    /// Undoes whatever is still broken, and starts every server that does not run.
    ///
    /// # Errors
    /// When something cannot be undone.
    pub async fn heal(&mut self) -> Result<(), HarnessError> {
        // A node that has only just been started may still refuse its files.
        let begun = Instant::now();
        while !self.damaged.is_empty() && begun.elapsed() < REFUSED_WITHIN {
            self.bury()?;
            sleep(LOOK_EVERY).await;
        }
        self.bury()?;
        self.lags.clear();
        // Only where there are rules: a machine may have hosts and no tool for filters.
        for receiver in self.filters.keys() {
            Filter::default().apply(&self.host(receiver)?)?;
        }
        self.filters.clear();
        for name in self.cluster.node_names() {
            if let Some(clocks) = &self.ground.clocks {
                clocks.mend(&name)?;
            }
            if let Some(disks) = &self.ground.disks {
                disks.free(&name)?;
            }
            if let Some(groups) = &self.ground.groups {
                groups.limit_cpu(&name, None)?;
                groups.limit_memory(&name, None)?;
            }
        }
        let mut started = Vec::new();
        for name in self.cluster.server_names() {
            if self.cluster.server(&name)?.pid().is_none() {
                self.cluster.start_server(&name)?;
                started.push(name);
            }
        }
        self.recorder.note("heal", json!({"started": started}));
        Ok(())
    }

    /// What must not happen while members change.
    #[must_use]
    pub fn broken_changes(&self) -> &[String] {
        &self.broken
    }

    /// Servers that ended though nothing was done to them that explains it, and how.
    #[must_use]
    pub fn unexplained_ends(&self) -> &[String] {
        &self.unexplained
    }

    fn note(&self, step: &Step, whom: &str, (seen, bit): Seen) {
        let name = step.action.as_str();
        tracing::info!(at_ms = step.at_ms, whom, seen, bit, "{name}");
        let mut value = json!({"node": whom, "seen": seen});
        if let Some(bit) = bit {
            value["bit"] = json!(bit);
        }
        self.recorder.note(name, value);
    }

    async fn act_on_node(&mut self, step: &Step, node: &str) -> Result<Seen, HarnessError> {
        let amount = step.amount.unwrap_or_default();
        match step.action {
            Action::Kill => Ok((self.kill(node)?, None)),
            Action::Stop => self.stop(node),
            Action::Start => self.start(node).await,
            Action::Pause => self.if_it_runs(node, |cluster| cluster.server(node)?.pause()),
            Action::Resume => self.if_it_runs(node, |cluster| cluster.server(node)?.resume()),
            Action::SetClock | Action::BendClock => {
                self.spoil_clock(step.action, node, amount).await
            }
            Action::MendClock => self.mend_clock(node).await,
            Action::FillDisk => self.fill_disk(node).await,
            Action::FreeDisk => self.free_disk(node).await,
            Action::FailSync => self.fail_sync(node),
            Action::Tear => self.tear(node).await,
            Action::FlipBit => self.flip_bit(node),
            Action::Wipe => self.wipe(node),
            Action::Narrow => {
                let host = self.host(node)?;
                narrow::narrow(&host, amount)?;
                Ok((format!("{amount} kbit/s"), None))
            }
            Action::Widen => {
                let held = narrow::widen(&self.host(node)?)?;
                Ok((format!("{held} packets had to wait"), Some(held > 0)))
            }
            Action::StarveCpu | Action::StarveMemory => self.starve(step.action, node, amount),
            Action::Feed => self.feed(node),
            Action::Cut
            | Action::Mend
            | Action::Delay
            | Action::Shuffle
            | Action::Lose
            | Action::Calm => Ok(("happens to links only".to_owned(), Some(false))),
            Action::Join | Action::Leave | Action::Replace | Action::Settle => {
                Ok(("happens to several at once".to_owned(), Some(false)))
            }
        }
    }

    // Members.

    async fn change_members(&mut self, step: &Step) -> Result<(), HarnessError> {
        let mut operators = Operators {
            cluster: &mut *self.cluster,
            random: &mut self.random,
            http: &self.http,
        };
        let seen = if step.action.is_blow() {
            (operators.change(step).await?, None)
        } else {
            let settled = operators.settle(step).await?;
            self.broken.extend(settled.wrong);
            (settled.seen, Some(settled.bit))
        };
        for node in &step.nodes {
            self.note(step, node, seen.clone());
        }
        Ok(())
    }

    // Processes.

    fn kill(&mut self, node: &str) -> Result<String, HarnessError> {
        let Some(process) = self.cluster.server(node)?.pid() else {
            return Ok("it was down already".to_owned());
        };
        let seen = self.cluster.server(node)?.kill_9()?;
        if let Some(fail_points) = &self.ground.fail_points {
            fail_points.tidy_after(process);
        }
        Ok(seen)
    }

    fn stop(&mut self, node: &str) -> Result<Seen, HarnessError> {
        self.if_it_runs(node, |cluster| cluster.server(node)?.stop())
    }

    /// Whatever the node died of, this starts it; one that is merely running stays.
    async fn start(&mut self, node: &str) -> Result<Seen, HarnessError> {
        let mut told = String::new();
        let mut bit = self.done.remove(node);
        if self.sick.remove(node) {
            let is_stopped = self.is_storage_stopped(node).await;
            let is_down = self.cluster.server(node)?.pid().is_none();
            bit = bit.or(Some(is_stopped || is_down));
            told = match (is_down, is_stopped) {
                (true, _) => "it had ended; ".to_owned(),
                (false, true) => "its storage had stopped; ".to_owned(),
                (false, false) => "nothing was to be seen of it; ".to_owned(),
            };
            self.kill(node)?;
        }
        if self.cluster.server(node)?.pid().is_some() {
            return Ok((format!("{told}it runs already"), bit));
        }
        let started = self.cluster.start_server(node)?;
        Ok((format!("{told}{started}"), bit))
    }

    fn if_it_runs(
        &mut self,
        node: &str,
        act: impl FnOnce(&mut TestCluster) -> Result<String, HarnessError>,
    ) -> Result<Seen, HarnessError> {
        if self.cluster.server(node)?.pid().is_none() {
            return Ok(("it does not run".to_owned(), Some(false)));
        }
        Ok((act(self.cluster)?, None))
    }

    /// Notices servers that ended by themselves.
    fn bury(&mut self) -> Result<(), HarnessError> {
        for name in self.cluster.server_names() {
            let Some(status) = self.cluster.server(&name)?.take_end()? else {
                continue;
            };
            let what = format!("{name} ended by itself: {status}");
            tracing::warn!(what);
            self.recorder
                .note("ended", json!({"whom": name, "seen": what}));
            if self.damaged.contains(&name) && self.tells_to_move_its_files(&name)? {
                self.move_files_away(&name)?;
            } else if !self.sick.contains(&name) {
                self.unexplained.push(what);
            }
        }
        Ok(())
    }

    /// Whether a node refused its damaged files and asked for what [`RealNemesis::move_files_away`] does.
    fn tells_to_move_its_files(&mut self, node: &str) -> Result<bool, HarnessError> {
        let tail = self.cluster.server(node)?.tail();
        Ok(tail
            .lines()
            .last()
            .is_some_and(|line| line.contains(REMEDY)))
    }

    /// Does what an operator would be told to: the damaged files go aside, and the node starts empty.
    fn move_files_away(&mut self, node: &str) -> Result<(), HarnessError> {
        let folder = self.cluster.data_folder(node)?.to_owned();
        let mut number = 1;
        let aside = loop {
            let aside = folder.with_extension(format!("damaged-{number}"));
            if !aside.exists() {
                break aside;
            }
            number += 1;
        };
        std::fs::rename(&folder, &aside).map_err(HarnessError::file(&folder))?;
        let seen = "it refused its damaged files, which were moved away as it asked for";
        self.recorder
            .note("moved", json!({"whom": node, "seen": seen}));
        self.cluster.start_server(node).map(|_| ())
    }

    // Clocks.

    async fn spoil_clock(
        &mut self,
        action: Action,
        node: &str,
        amount: i64,
    ) -> Result<Seen, HarnessError> {
        let clocks = prepared(self.ground.clocks.as_ref(), "clocks")?;
        if action == Action::SetClock {
            clocks.jump(node, amount)?;
        } else {
            let age = self.cluster.server(node)?.age().unwrap_or_default();
            clocks.bend(node, amount, age)?;
        }
        Ok((self.clock_error(node).await.0, None))
    }

    async fn mend_clock(&mut self, node: &str) -> Result<Seen, HarnessError> {
        let (seen, is_wrong) = self.clock_error(node).await;
        let clocks = prepared(self.ground.clocks.as_ref(), "clocks")?;
        clocks.mend(node)?;
        let (after, _) = self.clock_error(node).await;
        Ok((format!("before: {seen}; now: {after}"), Some(is_wrong)))
    }

    /// How wrong the node's own time is, and whether it surely is.
    async fn clock_error(&self, node: &str) -> (String, bool) {
        let Some(theirs) = self.metric(node, "souk_time_of_day_seconds").await else {
            return ("it does not say what time it is".to_owned(), false);
        };
        let ours = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        let error_ms = (theirs - ours.as_secs_f64()) * 1_000.0;
        let is_wrong = error_ms.abs() >= CLOCK_ERROR_MS_MIN;
        (format!("its clock is off by {error_ms:.0} ms"), is_wrong)
    }

    // Disks.

    async fn fill_disk(&mut self, node: &str) -> Result<Seen, HarnessError> {
        let refused = self
            .metric(node, "souk_storage_disk_full_refusals_total")
            .await;
        self.remember(node, Action::FreeDisk, refused.unwrap_or(0.0) as u64);
        // A full disk may stop the storage for good, and only a start helps then.
        self.sick.insert(node.to_owned());
        let disks = prepared(self.ground.disks.as_ref(), "disks")?;
        let filled = disks.fill(node)?;
        Ok((
            format!("{filled} bytes of ballast took all that was free"),
            None,
        ))
    }

    async fn free_disk(&mut self, node: &str) -> Result<Seen, HarnessError> {
        let refused = self
            .metric(node, "souk_storage_disk_full_refusals_total")
            .await;
        let before = self.recall(node, Action::FreeDisk);
        let refused = (refused.unwrap_or(0.0) as u64).saturating_sub(before);
        let is_stopped = self.is_storage_stopped(node).await;
        let disks = prepared(self.ground.disks.as_ref(), "disks")?;
        disks.free(node)?;
        self.sick.remove(node);
        let is_down = self.cluster.server(node)?.pid().is_none();
        let mut seen = format!("{refused} writes were refused");
        if is_stopped || is_down {
            self.kill(node)?;
            self.cluster.start_server(node)?;
            seen += ", its storage had stopped, and it was started again";
        }
        Ok((seen, Some(refused > 0 || is_stopped || is_down)))
    }

    fn fail_sync(&mut self, node: &str) -> Result<Seen, HarnessError> {
        let points = prepared(self.ground.fail_points.as_ref(), "fail points")?;
        let Some(process) = self.cluster.server(node)?.pid() else {
            return Ok(("it does not run".to_owned(), None));
        };
        self.sick.insert(node.to_owned());
        points.fail_syncs(process)?;
        Ok(("from now on every sync fails".to_owned(), None))
    }

    async fn tear(&mut self, node: &str) -> Result<Seen, HarnessError> {
        self.done.insert(node.to_owned(), false);
        let folder = self.cluster.data_folder(node)?.to_owned();
        let ends = JournalEnds::of(&folder)?;
        self.fail_sync(node)?;
        let begun = Instant::now();
        let mut is_stopped = false;
        while !is_stopped && begun.elapsed() < WRITE_WITHIN {
            sleep(LOOK_EVERY).await;
            is_stopped = self.is_storage_stopped(node).await;
        }
        let killed = self.kill(node)?;
        self.sick.remove(node);
        let Some((journal, begin, end)) = ends.last_batch()?.filter(|_| is_stopped) else {
            return Ok((format!("{killed}; no sync of it failed"), None));
        };
        let lost = tear(journal, begin, end, &mut self.random)?;
        self.done.insert(node.to_owned(), true);
        let written = end - begin;
        let seen = format!(
            "{killed}; of {written} bytes that were not synced the last {lost} were torn off"
        );
        Ok((seen, None))
    }

    fn flip_bit(&mut self, node: &str) -> Result<Seen, HarnessError> {
        let killed = self.kill(node)?;
        let flipped = disk::flip_bit(self.cluster.data_folder(node)?, &mut self.random)?;
        self.done.insert(node.to_owned(), flipped.is_some());
        self.damaged.insert(node.to_owned());
        let what = flipped.unwrap_or_else(|| "there was nothing to flip".to_owned());
        Ok((format!("{killed}; {what}"), None))
    }

    fn wipe(&mut self, node: &str) -> Result<Seen, HarnessError> {
        let killed = self.kill(node)?;
        let lost = disk::wipe(self.cluster.data_folder(node)?)?;
        self.done.insert(node.to_owned(), lost > 0);
        Ok((format!("{killed}; then lost {lost} bytes of disk"), None))
    }

    // Shares of the machine.

    fn starve(&mut self, action: Action, node: &str, amount: i64) -> Result<Seen, HarnessError> {
        let groups = prepared(self.ground.groups.as_ref(), "control groups")?;
        let count = groups.missed(node)?;
        let seen = if action == Action::StarveCpu {
            groups.limit_cpu(node, Some(amount))?;
            format!("{amount} thousandths of a processor")
        } else {
            // It may be killed for want of memory.
            self.sick.insert(node.to_owned());
            let bytes = groups.limit_memory(node, Some(amount))?;
            format!("{bytes} bytes of memory, and no more")
        };
        self.remember(node, Action::Feed, count);
        Ok((seen, None))
    }

    fn feed(&mut self, node: &str) -> Result<Seen, HarnessError> {
        let groups = prepared(self.ground.groups.as_ref(), "control groups")?;
        let count = groups.missed(node)?;
        groups.limit_cpu(node, None)?;
        groups.limit_memory(node, None)?;
        let count = count.saturating_sub(self.recall(node, Action::Feed));
        self.sick.remove(node);
        let mut seen = format!("it had to do without {count} times");
        if self.cluster.server(node)?.pid().is_none() {
            self.cluster.start_server(node)?;
            seen += ", was killed for want of memory, and was started again";
        }
        Ok((seen, Some(count > 0)))
    }

    // Links.

    fn act_on_links(&mut self, step: &Step) -> Result<Seen, HarnessError> {
        let whom = step.link_names();
        match step.action {
            Action::Cut | Action::Lose => {
                let count = self.dropped_on(step)?;
                self.refilter(step)?;
                self.remember(&whom, step.action.undo(), count);
                Ok((format!("{} links", step.links.len()), None))
            }
            Action::Delay | Action::Shuffle => {
                let lags = self.open_lags(step)?;
                self.lags.insert(whom, lags);
                Ok((format!("{} links", step.links.len()), None))
            }
            Action::Calm if self.lags.contains_key(&whom) => {
                let lags = self.lags.remove(&whom).unwrap_or_default();
                let held: u64 = lags.into_iter().map(Lag::close).sum();
                Ok((format!("{held} packets were held"), Some(held > 0)))
            }
            _ => {
                let count = self.dropped_on(step)?;
                self.refilter(step)?;
                let lost = count.saturating_sub(self.recall(&whom, step.action));
                Ok((format!("{lost} packets were dropped"), Some(lost > 0)))
            }
        }
    }

    /// Writes the rules of all receivers of a step anew.
    fn refilter(&mut self, step: &Step) -> Result<(), HarnessError> {
        let amount = u32::try_from(step.amount.unwrap_or_default()).unwrap_or(0);
        for (from, to) in &step.links {
            let sender = self.host(from)?.address;
            let filter = self.filters.entry(to.clone()).or_default();
            match step.action {
                Action::Cut => _ = filter.cut.insert(sender),
                Action::Mend => _ = filter.cut.remove(&sender),
                Action::Lose => _ = filter.lose.insert(sender, amount),
                _ => _ = filter.lose.remove(&sender),
            }
        }
        for receiver in receivers(step) {
            if let Some(filter) = self.filters.get(receiver) {
                filter.apply(&self.host(receiver)?)?;
            }
        }
        Ok(())
    }

    fn dropped_on(&self, step: &Step) -> Result<u64, HarnessError> {
        let mut count = 0;
        for receiver in receivers(step) {
            // Before its first rules a host counts nothing.
            if self.filters.contains_key(receiver) {
                count += dropped(&self.host(receiver)?)?;
            }
        }
        Ok(count)
    }

    fn open_lags(&mut self, step: &Step) -> Result<Vec<Lag>, HarnessError> {
        let amount_ms = u64::try_from(step.amount.unwrap_or_default()).unwrap_or(0);
        let delay = Duration::from_millis(amount_ms);
        let mut by_sender: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for (from, to) in &step.links {
            by_sender
                .entry(from)
                .or_default()
                .push(self.host(to)?.address);
        }
        let is_shuffled = step.action == Action::Shuffle;
        let mut lags = Vec::new();
        for (sender, to) in by_sender {
            self.next_queue = self.next_queue.wrapping_add(1);
            let host = self.host(sender)?;
            lags.push(Lag::open(
                &self.binary,
                &host,
                self.next_queue,
                &to,
                delay,
                is_shuffled,
            )?);
        }
        Ok(lags)
    }

    fn host(&self, node: &str) -> Result<Host, HarnessError> {
        let hosts = prepared(self.ground.hosts.as_ref(), "hosts")?;
        hosts.of(node).cloned()
    }

    // Evidence.

    /// Whether it writes nothing any more until it is started again.
    async fn is_storage_stopped(&self, node: &str) -> bool {
        let poisoned = self.metric(node, "souk_storage_poisoned").await;
        poisoned.is_some_and(|poisoned| poisoned > 0.0)
    }

    /// What a node says of itself, summed over labels; none when it does not answer or does not count that.
    async fn metric(&self, node: &str, name: &str) -> Option<f64> {
        let address = self.cluster.http_address(node)?;
        let request = self.http.get(format!("http://{address}/metrics"));
        let response = request.timeout(ANSWER_WITHIN).send().await.ok()?;
        sum_of(&response.text().await.ok()?, name)
    }

    fn remember(&mut self, whom: &str, undo: Action, count: u64) {
        self.before.insert((whom.to_owned(), undo), count);
    }

    fn recall(&mut self, whom: &str, undo: Action) -> u64 {
        let before = self.before.remove(&(whom.to_owned(), undo));
        before.unwrap_or_default()
    }
}

fn receivers(step: &Step) -> BTreeSet<&str> {
    step.links.iter().map(|(_, to)| to.as_str()).collect()
}

/// A part of the ground that these faults need.
fn prepared<'a, T>(part: Option<&'a T>, what: &str) -> Result<&'a T, HarnessError> {
    part.ok_or_else(|| HarnessError::Lacking {
        what: what.to_owned(),
        why: "the run was not prepared for them; this is an error of the harness".to_owned(),
    })
}

/// Reads Prometheus' text format.
fn sum_of(text: &str, name: &str) -> Option<f64> {
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let rest = match rest.strip_prefix('{') {
            Some(labels) => labels.split_once('}')?.1,
            None => rest,
        };
        rest.strip_prefix(' ')?.trim().parse::<f64>().ok()
    });
    values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read_and_summed() {
        let text = "# TYPE souk_up gauge\nsouk_up 1\nsouk_up_more 5\nsouk_up{peer=\"n2\"} 2.5\n";
        assert_eq!(sum_of(text, "souk_up"), Some(3.5));
        assert_eq!(sum_of(text, "souk_down"), None);
    }
}
