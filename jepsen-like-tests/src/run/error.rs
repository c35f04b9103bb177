//! Why a run ended without a verdict.

use std::io;
use std::path::PathBuf;

use crate::history::LineError;
use crate::process::HarnessError;
use crate::workload::WorkloadError;

/// Why a run ended without a verdict.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The harness failed.
    #[error(transparent)]
    Harness(#[from] HarnessError),
    /// A workload could not do its part.
    #[error("workload {workload}")]
    Workload {
        /// Which.
        workload: &'static str,
        /// Why.
        #[source]
        source: WorkloadError,
    },
    /// There is no such workload.
    #[error("{0}")]
    NoWorkload(String),
    /// A worker process failed.
    #[error("a worker of {workload} failed: {what}; its output is in {log}")]
    Worker {
        /// Of which workload.
        workload: &'static str,
        /// How.
        what: String,
        /// Where its output is.
        log: PathBuf,
    },
    /// A worker wrote no proper history.
    #[error("the history {path}")]
    History {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: LineError,
    },
    /// A file of the run.
    #[error("cannot use {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl RunError {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> RunError {
        let path = path.into();
        move |source| RunError::File { path, source }
    }
}
