//! What can go wrong with the harness itself, as opposed to the store that it tests.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// The harness could not do its part. A run that ends so says nothing about the store.
#[derive(Debug, thiserror::Error)]
pub enum HarnessError {
    /// The `souk` binary could not be built or found. Mend: `cargo build -p souk-cli`, or set `SOUK_BINARY`.
    #[error("no `souk` binary: {what}; run `cargo build -p souk-cli` or set SOUK_BINARY")]
    NoBinary {
        /// What was tried.
        what: String,
    },
    /// A file or folder of the harness. Mend: look at its permissions and the free space.
    #[error("cannot use {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Too few free ports. Mend: stop what listens on 127.0.0.1.
    #[error("cannot find {wanted} free ports on 127.0.0.1; stop what listens there")]
    NoPorts {
        /// How many were wanted.
        wanted: usize,
    },
    /// A process could not be started.
    #[error("cannot start {name}")]
    CannotStart {
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A process could not be signalled or looked at.
    #[error("cannot {what} {name}")]
    Signal {
        /// What was tried.
        what: &'static str,
        /// On which process.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// This machine cannot do what a fault needs.
    #[error("{what} cannot be done on this machine: {why}")]
    Lacking {
        /// The fault, or what else was asked for.
        what: String,
        /// What is missing and how to mend it.
        why: String,
    },
    /// A tool of the system failed.
    #[error("`{command}` failed: {output}")]
    Tool {
        /// With its arguments.
        command: String,
        /// What it said.
        output: String,
    },
    /// A signal had no effect that could be seen.
    #[error("{name} was told to {what}, but does not look like it after {waited:?}")]
    NoEffect {
        /// Which.
        name: String,
        /// What it was told.
        what: &'static str,
        /// How long its effect was waited for.
        waited: Duration,
    },
    /// A server ended before it was ready.
    #[error("{name} ended ({status}) before it was ready; the end of its log:\n{tail}")]
    Ended {
        /// Which.
        name: String,
        /// How.
        status: ExitStatus,
        /// The last lines of its log.
        tail: String,
    },
    /// A server is not ready in time.
    #[error("{name} is not ready after {waited:?}, it says: {last}; the end of its log:\n{tail}")]
    NotReady {
        /// Which.
        name: String,
        /// How long it was waited for.
        waited: Duration,
        /// What it said last.
        last: String,
        /// The last lines of its log.
        tail: String,
    },
    /// A command of the `souk` binary failed.
    #[error("`souk {arguments}` failed ({status}):\n{output}")]
    Command {
        /// Its arguments.
        arguments: String,
        /// How it ended.
        status: ExitStatus,
        /// What it printed.
        output: String,
    },
    /// The cluster has no such server.
    #[error("the cluster has no server `{name}`")]
    NoSuchServer {
        /// The name.
        name: String,
    },
}

impl HarnessError {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> HarnessError {
        let path = path.into();
        move |source| HarnessError::File { path, source }
    }
}
