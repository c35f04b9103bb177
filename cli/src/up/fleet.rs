//! The children of `souk up`: started in groups, watched, stopped in the opposite order.

use std::time::{Duration, Instant};

use futures::future::join_all;

use super::UpError;
use super::plan::Server;
use super::process::Process;
use super::ready::{self, Readiness};
use crate::show::{self, Progress};

/// Time between two questions whether a child is ready.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// What a child may take beyond its own limit to notice that it should stop and to end.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// All children, in groups that were started together.
#[derive(Debug)]
pub(crate) struct Fleet {
    groups: Vec<Vec<Process>>,
    stop_within: Duration,
    start_within: Duration,
    http: reqwest::Client,
}

impl Fleet {
    /// No children yet. `stop_within` is how long one may take to stop, `start_within` to get ready.
    pub(crate) fn new(stop_within: Duration, start_within: Duration) -> Self {
        Self {
            groups: Vec::new(),
            stop_within,
            start_within,
            http: reqwest::Client::new(),
        }
    }

    /// Starts servers together and waits until each of them is ready.
    ///
    /// # Errors
    /// The first child that cannot be started, ends, or is not ready in time. What was started stays
    /// until [`Fleet::stop`].
    pub(crate) async fn start_all(&mut self, servers: &[Server]) -> Result<(), UpError> {
        let names: Vec<&str> = servers.iter().map(|server| server.name.as_str()).collect();
        let progress = Progress::begin(format!("starting {}", names.join(", ")));
        let began = Instant::now();
        self.groups.push(Vec::new());
        for server in servers {
            let process = Process::start(server, servers.len())?;
            self.groups
                .last_mut()
                .expect("a group was pushed above")
                .push(process);
        }
        for index in 0..servers.len() {
            self.wait_ready(index, began, &progress).await?;
        }
        progress.end(format_args!(
            "ready after {:.1} s",
            began.elapsed().as_secs_f64()
        ));
        Ok(())
    }

    async fn wait_ready(
        &mut self,
        index: usize,
        began: Instant,
        progress: &Progress,
    ) -> Result<(), UpError> {
        let group = self.groups.last_mut().expect("the caller pushed a group");
        loop {
            for process in group.iter_mut() {
                if let Some(status) = process.ended() {
                    return Err(process.died(status));
                }
            }
            let server = group[index].server();
            let reason = match ready::ask(&self.http, &server.readiness).await {
                Readiness::Ready => return Ok(()),
                Readiness::NotReady(reason) => reason,
            };
            if began.elapsed() >= self.start_within {
                let (name, log) = (server.name.clone(), server.log.clone());
                return Err(UpError::NotReady {
                    name,
                    reason,
                    waited_s: self.start_within.as_secs(),
                    log,
                });
            }
            progress.say(format_args!("{}: {reason}", server.name));
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// All children that have not ended.
    pub(crate) fn processes(&self) -> impl Iterator<Item = &Process> {
        self.groups.iter().flatten()
    }

    /// What to say of children that ended by themselves since the last look; they are forgotten.
    pub(crate) fn take_ended(&mut self) -> Vec<String> {
        let mut ended = Vec::new();
        for group in &mut self.groups {
            group.retain_mut(|process| {
                let Some(status) = process.ended() else {
                    return true;
                };
                let server = process.server();
                let (name, log, command) = (&server.name, server.log.display(), server.command());
                ended.push(format!(
                    "{name} ended with {status}; see {log}; to start it again: {command}"
                ));
                false
            });
        }
        ended
    }

    /// Stops all children, the last started group first, and says so.
    pub(crate) async fn stop(&mut self) {
        let patience = self.stop_within + STOP_GRACE;
        for group in std::mem::take(&mut self.groups).into_iter().rev() {
            for stopped in join_all(group.into_iter().map(|process| process.stop(patience))).await {
                show::note(stopped);
            }
        }
    }
}
