//! One process: its start, its log, and the signals that it gets.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{HarnessError, ready};

/// How much of the end of a log is shown.
const TAIL_BYTES_MAX: u64 = 8 * 1024;
const TAIL_LINES_MAX: usize = 30;
/// How long the effect of a signal is waited for.
const EFFECT_WITHIN: Duration = Duration::from_secs(5);
/// How long a server may take to stop when it is asked politely.
const STOP_WITHIN: Duration = Duration::from_secs(20);
/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Pause between two questions whether a server is ready.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// A server of the cluster, running or not.
#[derive(Debug)]
pub struct Server {
    name: String,
    binary: PathBuf,
    arguments: Vec<String>,
    /// What starts the binary; see [`super::Plot::prefix`].
    prefix: Vec<String>,
    log: PathBuf,
    readiness: String,
    child: Option<Child>,
    started: Option<Instant>,
}

impl Server {
    pub(super) fn new(
        name: &str,
        binary: &Path,
        arguments: Vec<String>,
        log: PathBuf,
        readiness: String,
    ) -> Server {
        Server {
            name: name.to_owned(),
            binary: binary.to_owned(),
            arguments,
            prefix: Vec::new(),
            log,
            readiness,
            child: None,
            started: None,
        }
    }

    /// The same, started by another program.
    pub(super) fn started_by(mut self, prefix: Vec<String>) -> Server {
        self.prefix = prefix;
        self
    }

    /// Its name, which is also that of its log.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of its process while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// `host:port` of its health and metrics.
    #[must_use]
    pub fn http_address(&self) -> &str {
        &self.readiness
    }

    /// How long ago it was started, while it runs.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        self.child.as_ref().and(self.started).map(|at| at.elapsed())
    }

    /// How it ended, if it did so by itself since it was started; it counts as not running from then on.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn take_end(&mut self) -> Result<Option<ExitStatus>, HarnessError> {
        if self.child.is_none() {
            return Ok(None);
        }
        let ended = self.ended()?;
        if ended.is_some() {
            self.child = None;
        }
        Ok(ended)
    }

    /// Starts it; its output is appended to its log.
    ///
    /// # Errors
    /// When the log or the process cannot be made.
    pub fn start(&mut self) -> Result<(), HarnessError> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.map_err(HarnessError::file(&self.log))?;
        let errors = log.try_clone().map_err(HarnessError::file(&self.log))?;
        let mut command = match self.prefix.split_first() {
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(&self.binary);
                command
            }
            None => Command::new(&self.binary),
        };
        let child = command
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(|source| HarnessError::CannotStart {
                name: self.name.clone(),
                source,
            })?;
        self.child = Some(child);
        self.started = Some(Instant::now());
        Ok(())
    }

    /// Waits until it says that it is ready.
    ///
    /// # Errors
    /// When it ends before, or is not ready in time.
    pub async fn wait_ready(
        &mut self,
        http: &reqwest::Client,
        within: Duration,
    ) -> Result<(), HarnessError> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.ended()? {
                return Err(HarnessError::Ended {
                    name: self.name.clone(),
                    status,
                    tail: self.tail(),
                });
            }
            let last = match ready::ask(http, &self.readiness).await {
                Ok(()) => return Ok(()),
                Err(reason) => reason,
            };
            if begun.elapsed() > within {
                return Err(HarnessError::NotReady {
                    name: self.name.clone(),
                    waited: within,
                    last,
                    tail: self.tail(),
                });
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// Kills it as `kill -9` does, and waits until it is gone. Returns what proves it.
    ///
    /// # Errors
    /// When it does not run, or ended otherwise.
    pub fn kill_9(&mut self) -> Result<String, HarnessError> {
        let mut child = self.running()?;
        let result = child.kill().and_then(|()| child.wait());
        let status = result.map_err(|source| self.cannot("kill", source))?;
        if status.signal() != Some(Signal::KILL.as_raw()) {
            return Err(HarnessError::Ended {
                name: self.name.clone(),
                status,
                tail: self.tail(),
            });
        }
        Ok(format!("process {} ended: {status}", child.id()))
    }

    /// Asks it politely to stop, and waits until it is gone. Returns what proves it.
    ///
    /// # Errors
    /// When it does not run, does not stop in time, or fails while it stops.
    pub fn stop(&mut self) -> Result<String, HarnessError> {
        let mut child = self.running()?;
        let asked = self.signal(&child, Signal::TERM, "stop");
        let gone = asked.and_then(|()| {
            self.await_effect("stop", STOP_WITHIN, || child.try_wait().ok().flatten())
        });
        match gone {
            Ok(status) if status.success() => Ok(format!("process {} ended: {status}", child.id())),
            Ok(status) => Err(HarnessError::Ended {
                name: self.name.clone(),
                status,
                tail: self.tail(),
            }),
            Err(problem) => {
                self.child = Some(child);
                Err(problem)
            }
        }
    }

    /// Freezes it. Returns what proves it.
    ///
    /// # Errors
    /// When it does not run or does not freeze.
    pub fn pause(&self) -> Result<String, HarnessError> {
        self.switch(Signal::STOP, "pause", |state| state == 'T')
    }

    /// Lets it run on. Returns what proves it.
    ///
    /// # Errors
    /// When it does not run, or stays frozen.
    pub fn resume(&self) -> Result<String, HarnessError> {
        self.switch(Signal::CONT, "resume", |state| state != 'T')
    }

    /// The last lines of its log.
    #[must_use]
    pub fn tail(&self) -> String {
        tail(&self.log).unwrap_or_else(|problem| format!("(cannot read it: {problem})"))
    }

    fn switch(
        &self,
        signal: Signal,
        what: &'static str,
        is_done: impl Fn(char) -> bool,
    ) -> Result<String, HarnessError> {
        let child = self.child.as_ref().ok_or_else(|| self.not_running())?;
        self.signal(child, signal, what)?;
        let pid = child.id();
        let look = || state_of(pid).filter(|&state| is_done(state));
        let state = self.await_effect(what, EFFECT_WITHIN, look)?;
        Ok(format!("process {pid} is in state {state}"))
    }

    fn signal(
        &self,
        child: &Child,
        signal: Signal,
        what: &'static str,
    ) -> Result<(), HarnessError> {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| self.not_running())?;
        kill_process(pid, signal).map_err(|problem| self.cannot(what, problem.into()))
    }

    fn await_effect<T>(
        &self,
        what: &'static str,
        within: Duration,
        mut look: impl FnMut() -> Option<T>,
    ) -> Result<T, HarnessError> {
        let begun = Instant::now();
        while begun.elapsed() < within {
            if let Some(seen) = look() {
                return Ok(seen);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Err(HarnessError::NoEffect {
            name: self.name.clone(),
            what,
            waited: within,
        })
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>, HarnessError> {
        let Some(child) = &mut self.child else {
            return Err(self.not_running());
        };
        match child.try_wait() {
            Ok(status) => Ok(status),
            Err(source) => Err(self.cannot("look at", source)),
        }
    }

    fn running(&mut self) -> Result<Child, HarnessError> {
        self.child.take().ok_or_else(|| self.not_running())
    }

    fn not_running(&self) -> HarnessError {
        self.cannot("find", std::io::ErrorKind::NotFound.into())
    }

    fn cannot(&self, what: &'static str, source: std::io::Error) -> HarnessError {
        HarnessError::Signal {
            what,
            name: self.name.clone(),
            source,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only when it has ended already.
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// The state letter of a process, from `/proc`.
fn state_of(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, so look behind the last one.
    stat.rsplit_once(") ")?.1.chars().next()
}

fn tail(log: &Path) -> std::io::Result<String> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES_MAX)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(TAIL_LINES_MAX)..];
    Ok(last.iter().map(|line| format!("  {line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(folder: &Path) -> Server {
        let arguments = vec!["60".to_owned()];
        let log = folder.join("sleeper.log");
        Server::new("sleeper", Path::new("sleep"), arguments, log, String::new())
    }

    #[test]
    fn signals_are_seen_to_work() {
        let folder = tempfile::tempdir().unwrap();
        let mut server = sleeper(folder.path());
        assert!(matches!(server.kill_9(), Err(HarnessError::Signal { .. })));
        server.start().unwrap();
        let pid = server.pid().unwrap();
        assert!(server.pause().unwrap().ends_with("state T"));
        assert_eq!(state_of(pid), Some('T'));
        server.resume().unwrap();
        assert_ne!(state_of(pid), Some('T'));
        assert!(server.kill_9().unwrap().contains("signal: 9"));
        assert_eq!(state_of(pid), None);
        assert_eq!(server.pid(), None);
    }

    #[test]
    fn nothing_outlives_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let mut server = sleeper(folder.path());
        server.start().unwrap();
        let pid = server.pid().unwrap();
        server.pause().unwrap();
        drop(server);
        assert_eq!(state_of(pid), None);
    }

    #[tokio::test]
    async fn an_early_end_is_told_with_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let arguments = vec!["-c".to_owned(), "echo oh dear; exit 3".to_owned()];
        let log = folder.path().join("log");
        let mut server = Server::new(
            "sh",
            Path::new("sh"),
            arguments,
            log,
            "127.0.0.1:1".to_owned(),
        );
        server.start().unwrap();
        let http = reqwest::Client::new();
        let error = server
            .wait_ready(&http, Duration::from_secs(20))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("oh dear"), "{error}");
    }
}
