//! What an import tells its caller while it runs and when it is done.

use std::io;
use std::path::PathBuf;

/// Skipped lines that a report names one by one; further ones are only counted.
pub const SKIPPED_NAMED_MAX: usize = 20;

/// How far an import is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done now, for example `products`.
    pub stage: &'static str,
    /// Things done in this stage.
    pub done: u64,
    /// Things to do in this stage, where that is known beforehand.
    pub total: Option<u64>,
}

/// A line that was not imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedLine {
    /// The line, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// The result of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Lines read, blank ones not counted.
    pub lines: u64,
    /// Things stored: products, or products with recommendations.
    pub imported: u64,
    /// Lines that were passed over for a documented reason (cancellations, services), not for being wrong.
    pub ignored: u64,
    /// Lines skipped because they are wrong.
    pub skipped: u64,
    /// The first [`SKIPPED_NAMED_MAX`] of them.
    pub skipped_lines: Vec<SkippedLine>,
}

impl Report {
    pub(super) fn skip(&mut self, line: u64, reason: String) {
        self.skipped += 1;
        if self.skipped_lines.len() < SKIPPED_NAMED_MAX {
            self.skipped_lines.push(SkippedLine { line, reason });
        }
    }
}

/// Why an import stopped.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// What: the file cannot be opened or read. Mend: check the path and its permissions.
    #[error("cannot read {path}; check the path and its permissions")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What: not one line of the file could be used. Mend: see the reasons; is it the right kind of file?
    #[error("no line of {path} could be imported; line {line}: {reason}")]
    NothingUsable {
        /// The file.
        path: PathBuf,
        /// The first bad line.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// What: a CSV file lacks a column. Mend: give it a header line with that column.
    #[error("{path} has no column `{column}`; its first line has to name the columns")]
    Column {
        /// The file.
        path: PathBuf,
        /// The missing column.
        column: &'static str,
    },
    /// What: the store did not accept a write, even after retries. Mend: see the reason; then import again.
    #[error("the store refused {what} ({why}); mend that and import again, which is safe")]
    Store {
        /// What was written.
        what: String,
        /// What the store said.
        why: String,
    },
}
