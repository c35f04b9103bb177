//! Why a comparison cannot go on.

use std::path::PathBuf;

use thiserror::Error;

use crate::measure::System;

/// Why a comparison cannot go on.
#[derive(Debug, Error)]
pub(crate) enum CompareError {
    /// What: a file or folder cannot be used. Mend: choose another place with --dir.
    #[error("cannot use {}; choose another place with --dir", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What: a program does not start. Mend: install it, or leave its system out with --only.
    #[error("{program} does not start; install it, or leave its system out with --only")]
    Start {
        /// Which.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What: a program ended with a failure. Mend: as it says itself.
    #[error("{program} failed: {said}")]
    Failed {
        /// Which.
        program: String,
        /// What it said, the end of it.
        said: String,
    },
    /// What: a server that was started does not answer. Mend: look at its log.
    #[error("{program} was not ready within {waited_s} s; see {}", log.display())]
    NotReady {
        /// Which.
        program: String,
        /// How long it had.
        waited_s: u64,
        /// What it wrote.
        log: PathBuf,
    },
    /// What: the output of a load generator lacks a figure. Mend: report it with the output.
    #[error("{program} said nothing of {wanted}: {said}")]
    Unreadable {
        /// Which.
        program: String,
        /// The figure.
        wanted: &'static str,
        /// What it said instead.
        said: String,
    },
    /// What: no port is free on 127.0.0.1. Mend: stop what holds them.
    #[error("no free port on 127.0.0.1; stop what holds them")]
    NoPort,
    /// What: a request outside a measured window failed. Mend: look at the system's log.
    #[error("etcd refused a request: {why}")]
    Etcd {
        /// What it answered.
        why: String,
    },
    /// What: a measure of a system that was not started. Mend: this is a bug; report it.
    #[error("{system} is measured but was not started; report this as a bug")]
    NotRunning {
        /// Which.
        system: System,
    },
}
