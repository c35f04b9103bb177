//! One child process: its start, its end, and the last lines of its log.
//!
//! A child runs in a process group of its own, so that Ctrl-C on the terminal reaches only `souk up`,
//! which then stops everything in order. It is told to stop by closing its standard input (see
//! `crate::stop`), which also happens by itself if `souk up` is killed.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};

use super::UpError;
use super::plan::Server;

/// How much of the end of a log is looked at.
const TAIL_BYTES_MAX: u64 = 16 * 1024;
/// How many lines of it are shown.
const TAIL_LINES_MAX: usize = 20;

/// How many threads a process runs its tasks on; the runtime reads it. More of them than processors only pass
/// work back and forth: a tenth of all processor time, with three nodes on two processors.
const WORKER_THREADS: &str = "TOKIO_WORKER_THREADS";

/// A child that was started.
#[derive(Debug)]
pub(crate) struct Process {
    server: Server,
    pid: u32,
    child: Child,
}

impl Process {
    /// Starts this same binary with the server's arguments; its output is appended to its log. `of` so many
    /// processes on this machine, it takes its share of the processors.
    ///
    /// # Errors
    /// When the log or the process cannot be made.
    pub(crate) fn start(server: &Server, of: usize) -> Result<Self, UpError> {
        let cannot = |source| UpError::CannotStart {
            name: server.name.clone(),
            source,
        };
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&server.log)
            .map_err(cannot)?;
        let program = std::env::current_exe().map_err(cannot)?;
        let mut command = Command::new(program);
        if std::env::var_os(WORKER_THREADS).is_none() {
            let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
            command.env(WORKER_THREADS, (processors / of).max(1).to_string());
        }
        let child = command
            .args(&server.arguments)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().map_err(cannot)?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(cannot)?;
        let pid = child.id().unwrap_or_default();
        Ok(Self {
            server: server.clone(),
            pid,
            child,
        })
    }

    /// What it was started as.
    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// Number of the process.
    pub(crate) fn pid(&self) -> String {
        self.pid.to_string()
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        // An error here would mean that the child is not ours, which it is.
        self.child.try_wait().ok().flatten()
    }

    /// The error to tell when it ended before it was ready.
    pub(crate) fn died(&self, status: ExitStatus) -> UpError {
        UpError::Died {
            name: self.server.name.clone(),
            status,
            log: self.server.log.clone(),
            tail: tail(&self.server.log),
        }
    }

    /// Tells it to stop, waits `patience`, then kills it.
    pub(crate) async fn stop(mut self, patience: Duration) -> Stopped {
        drop(self.child.stdin.take());
        let name = self.server.name.clone();
        match tokio::time::timeout(patience, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Stopped {
                name,
                how: How::Cleanly,
            },
            Ok(Ok(status)) => Stopped {
                name,
                how: How::With(status),
            },
            Ok(Err(_)) | Err(_) => {
                // When killing fails the process has ended already.
                self.child.kill().await.ok();
                Stopped {
                    name,
                    how: How::Killed(patience),
                }
            }
        }
    }
}

/// What became of a child that was told to stop.
#[derive(Debug)]
pub(crate) struct Stopped {
    name: String,
    how: How,
}

#[derive(Debug)]
enum How {
    Cleanly,
    With(ExitStatus),
    Killed(Duration),
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match self.how {
            How::Cleanly => write!(f, "{name} stopped"),
            How::With(status) => write!(f, "{name} stopped with {status}"),
            How::Killed(patience) => write!(
                f,
                "{name} did not stop within {} ms and was killed",
                patience.as_millis()
            ),
        }
    }
}

/// The last lines of a log, indented.
fn tail(log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES_MAX)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_else(|problem| format!("(cannot read it: {problem})"));
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(TAIL_LINES_MAX)..];
    last.iter()
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let mut log = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut log, text.as_bytes()).unwrap();
        assert_eq!(tail(log.path()), expected);
    }

    #[test]
    fn the_tail_of_a_log_is_short() {
        check("", "");
        check("a\nb\n", "  a\n  b");
        let many: String = (0..10_000).map(|number| format!("{number}\n")).collect();
        let last: Vec<String> = (9_980..10_000)
            .map(|number| format!("  {number}"))
            .collect();
        check(&many, &last.join("\n"));
    }
}
