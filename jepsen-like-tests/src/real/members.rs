//! Changes the members of a cluster of real processes as operators do: by the command line, two of them at once, while a third
//! one is killed in the middle of it.
//!
//! Place: a part of [`super::RealNemesis`].
//! Invariants: 1. a change that was begun is waited for before the next one. 2. what must not happen is told apart from what
//! the harness could not do: a move that does not settle, or a node that comes back after it has left, are the store's.
//! Not here: which changes, and when (`crate::fault`).

use std::process::{Child, ExitStatus, Output, Stdio};
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::StdRng;
use serde_json::Value as Json;
use tokio::time::{Instant, sleep};

use crate::fault::{Action, Step};
use crate::process::{HarnessError, TestCluster};

/// How long an operator repeats a command that is refused: newcomers knock now and then, and a node may be down.
const COMMAND_WITHIN: Duration = Duration::from_secs(60);
const REPEAT_EVERY: Duration = Duration::from_millis(250);
/// How long copies may move; there are few of them, so whatever takes longer is stuck.
const SETTLE_WITHIN: Duration = Duration::from_secs(180);
/// How long a node may take to hear that it has left, and to refuse to start then.
const LEFT_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The operator who is killed has done something between nothing and everything by then.
const OPERATOR_KILLED_MS_MAX: u64 = 120;
/// What a node says that is no member any more.
const LEFT: &str = "has left the cluster";

/// What came of waiting for the end of a change.
pub(super) struct Settled {
    /// In words.
    pub(super) seen: String,
    /// Whether a layout was decided and copies have moved.
    pub(super) bit: bool,
    /// What must not happen.
    pub(super) wrong: Vec<String>,
}

/// Operators of one cluster.
pub(super) struct Operators<'run> {
    pub(super) cluster: &'run mut TestCluster,
    pub(super) random: &'run mut StdRng,
    pub(super) http: &'run reqwest::Client,
}

impl Operators<'_> {
    /// Stages and applies a change. Returns what was seen of it.
    pub(super) async fn change(&mut self, step: &Step) -> Result<String, HarnessError> {
        let (leaving, joining) = step.leavers_and_joiners();
        for name in joining {
            self.cluster.start_newcomer(name)?;
        }
        let stages: Vec<Vec<&str>> = match step.action {
            Action::Replace => {
                let pairs = leaving.iter().zip(joining);
                pairs
                    .map(|(old, new)| vec!["replace", old.as_str(), new])
                    .collect()
            }
            _ => {
                let leave = leaving.iter().map(|name| vec!["leave", name.as_str()]);
                let join = joining.iter().map(|name| vec!["join", name.as_str()]);
                leave.chain(join).collect()
            }
        };
        let begun = Instant::now();
        for (number, stage) in (1..).zip(&stages) {
            self.stage(stage, number).await?;
        }
        let plan = self.patiently(&["plan"]).await?;
        let (version, epoch) = (&plan["staged_version"], &plan["layout_epoch"]);
        let applied = self.apply(&version.to_string()).await?;
        Ok(format!(
            "version {version} staged on layout epoch {epoch}, {} of {} copies to move; {applied}; after {} ms",
            plan["copies_moving"],
            plan["copies_total"],
            begun.elapsed().as_millis()
        ))
    }

    /// Stages one line, so that there are `number` of them.
    async fn stage(&mut self, words: &[&str], number: usize) -> Result<(), HarnessError> {
        let begun = Instant::now();
        loop {
            let refused = match self.run(words) {
                Ok(_) => return Ok(()),
                Err(refused) => refused,
            };
            // One that was not told how it ended may have done it.
            let plan = self.run(&["plan"]);
            let is_staged = |plan: &Json| plan["staged"].as_array().map(Vec::len) == Some(number);
            if plan.is_ok_and(|plan| is_staged(&plan)) {
                return Ok(());
            }
            if begun.elapsed() > COMMAND_WITHIN {
                return Err(refused);
            }
            sleep(REPEAT_EVERY).await;
        }
    }

    /// One operator is killed while he applies, then two apply at once.
    async fn apply(&mut self, version: &str) -> Result<String, HarnessError> {
        let words = ["apply", "--version", version];
        let mut hasty = self.spawn(&words)?;
        let lived_ms = self.random.random_range(0..=OPERATOR_KILLED_MS_MAX);
        sleep(Duration::from_millis(lived_ms)).await;
        // Fails only when he is done.
        hasty.kill().ok();
        let hasty = finish(hasty)?.status;
        let two = [self.spawn(&words)?, self.spawn(&words)?];
        let mut told = Vec::new();
        for operator in two {
            let output = finish(operator)?;
            // Nobody knows: he looks again.
            let answer = match read(&output) {
                Some(answer) if output.status.success() => answer,
                _ => self.patiently(&words).await?,
            };
            told.push(match answer["applied_before"].as_bool() {
                Some(true) => "found it applied",
                _ => "applied it",
            });
        }
        Ok(format!(
            "one operator was killed after {lived_ms} ms ({}), of two at once one {} and one {}",
            ended(hasty),
            told[0],
            told[1]
        ))
    }

    /// Waits until nothing moves any more, then stops who has left and shows that it stays away.
    pub(super) async fn settle(&mut self, step: &Step) -> Result<Settled, HarnessError> {
        let begun = Instant::now();
        let mut wrong = Vec::new();
        let epoch = loop {
            let last = match self.run(&["plan"]) {
                Ok(plan) if is_at_rest(&plan) => break plan["layout_epoch"].to_string(),
                Ok(plan) => plan["moving"].to_string(),
                Err(problem) => problem.to_string(),
            };
            if begun.elapsed() > SETTLE_WITHIN {
                let transfers =
                    self.cluster
                        .souk(&["admin", "transfers", "--endpoints", &self.endpoints()]);
                let transfers = transfers.unwrap_or_else(|problem| problem.to_string());
                let waited = SETTLE_WITHIN.as_secs();
                wrong.push(format!(
                    "a move does not end within {waited} s: {last}\n{transfers}"
                ));
                return Ok(Settled {
                    seen: last,
                    bit: false,
                    wrong,
                });
            }
            sleep(LOOK_EVERY).await;
        };
        let settled_ms = begun.elapsed().as_millis();
        let members = self.cluster.node_names();
        let left: Vec<&String> = step
            .nodes
            .iter()
            .filter(|name| members.contains(name) && !self.is_member(name))
            .collect();
        for name in left {
            wrong.extend(self.see_off(name).await?);
        }
        Ok(Settled {
            seen: format!("nothing moves in layout epoch {epoch}, waited for {settled_ms} ms"),
            bit: true,
            wrong,
        })
    }

    /// Stops a node that has left, and starts it once more: it has to refuse. Returns what went otherwise.
    async fn see_off(&mut self, name: &str) -> Result<Vec<String>, HarnessError> {
        let mut wrong = Vec::new();
        if self.cluster.server(name)?.pid().is_some() {
            if !self.says_that_it_has_left(name).await? {
                wrong.push(format!("{name} has left and does not say so"));
            }
            self.cluster.server(name)?.stop()?;
        }
        self.cluster.start_server(name)?;
        if !self.says_that_it_has_left(name).await? {
            wrong.push(format!(
                "{name} has left, was started again, and does not say that it may not come back"
            ));
        }
        self.cluster.retire(name)?;
        Ok(wrong)
    }

    /// Whether a node gives as the reason why it is not ready, or why it ended, that it has left.
    async fn says_that_it_has_left(&mut self, name: &str) -> Result<bool, HarnessError> {
        let begun = Instant::now();
        while begun.elapsed() < LEFT_WITHIN {
            let reason = self.cluster.why_not_ready(name, self.http).await;
            if reason.is_some_and(|reason| reason.contains(LEFT)) {
                return Ok(true);
            }
            let server = self.cluster.server(name)?;
            if server.take_end()?.is_some() {
                return Ok(server
                    .tail()
                    .lines()
                    .last()
                    .is_some_and(|line| line.contains(LEFT)));
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(false)
    }

    fn is_member(&self, name: &str) -> bool {
        let plan = self.run(&["plan"]);
        let nodes = plan.ok().and_then(|plan| plan["nodes"].as_array().cloned());
        // When nobody answers, it is taken for one: a member must not be seen off.
        nodes.is_none_or(|nodes| nodes.iter().any(|node| node["name"] == name))
    }

    // The command line.

    fn endpoints(&self) -> String {
        self.cluster.endpoints().join(",")
    }

    fn words(&self, words: &[&str]) -> Vec<String> {
        let endpoints = self.endpoints();
        let around = ["admin", "layout"].into_iter().chain(words.iter().copied());
        let all = around.chain(["--json", "--endpoints", endpoints.as_str()]);
        all.map(ToOwned::to_owned).collect()
    }

    /// `souk admin layout` with these words, once.
    fn run(&self, words: &[&str]) -> Result<Json, HarnessError> {
        let words = self.words(words);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let printed = self.cluster.souk(&words)?;
        Ok(serde_json::from_str(&printed).unwrap_or_default())
    }

    /// The same until it succeeds.
    async fn patiently(&self, words: &[&str]) -> Result<Json, HarnessError> {
        let begun = Instant::now();
        loop {
            match self.run(words) {
                Ok(answer) => return Ok(answer),
                Err(problem) if begun.elapsed() > COMMAND_WITHIN => return Err(problem),
                Err(_) => sleep(REPEAT_EVERY).await,
            }
        }
    }

    fn spawn(&self, words: &[&str]) -> Result<Child, HarnessError> {
        let mut command = self.cluster.souk_command();
        command.args(self.words(words)).stdin(Stdio::null());
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        child.map_err(cannot_start)
    }
}

fn finish(operator: Child) -> Result<Output, HarnessError> {
    operator.wait_with_output().map_err(cannot_start)
}

fn cannot_start(source: std::io::Error) -> HarnessError {
    HarnessError::CannotStart {
        name: "an operator".to_owned(),
        source,
    }
}

fn read(output: &Output) -> Option<Json> {
    serde_json::from_slice(&output.stdout).ok()
}

fn ended(status: ExitStatus) -> &'static str {
    if status.success() {
        "he was done"
    } else {
        "in the middle of it"
    }
}

fn is_at_rest(plan: &Json) -> bool {
    let is_empty = |staged: &Json| staged.as_array().is_some_and(Vec::is_empty);
    plan["moving"] == "" && is_empty(&plan["staged"])
}
