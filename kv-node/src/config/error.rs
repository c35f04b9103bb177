//! What can be wrong with a `cluster.toml`, where, and how to mend it.
//!
//! Place: pure; made by `reader` and `check`, shown by the command line with the lines in question.
//! Shape: all problems of a file are reported at once, in the order of their lines.
//! Invariants: every problem names its line, its key and a way to mend it.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// Why a cluster file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// What: the file is not there or cannot be read.
    /// Mend: give the right path, or leave it out to use the built-in cluster.
    #[error("cannot read the cluster file {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// What: the file was read, but says something that cannot be used.
    #[error(transparent)]
    Invalid(Box<InvalidFile>),
}

/// A cluster file with at least one problem.
#[derive(Debug)]
pub struct InvalidFile {
    /// Where it came from, as shown to people.
    pub path: PathBuf,
    /// Its whole text; the spans of the problems point into it.
    pub text: Arc<str>,
    /// Never empty; in the order of their lines.
    pub problems: Vec<Problem>,
}

impl std::error::Error for InvalidFile {}

impl fmt::Display for InvalidFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        let noun = if count == 1 { "problem" } else { "problems" };
        write!(f, "{}: {count} {noun}", self.path.display())?;
        for problem in &self.problems {
            write!(f, "\n  {problem}; {}", problem.fault.mend())?;
        }
        Ok(())
    }
}

/// One thing to mend.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// Bytes of the text that are at fault.
    pub span: Range<usize>,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Dotted, for example `limits.request_timeout_ms` or `node.grpc`; empty when it is the whole file.
    pub key: String,
    /// What is wrong.
    pub fault: Fault,
}

impl Problem {
    /// Finds line and column of `span` in `text`.
    pub(super) fn new(
        text: &str,
        span: Range<usize>,
        key: impl Into<String>,
        fault: Fault,
    ) -> Self {
        let before = text.get(..span.start).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            span,
            key: key.into(),
            fault,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.line)?;
        if !self.key.is_empty() {
            write!(f, ", key {}", self.key)?;
        }
        write!(f, ": {}", self.fault)
    }
}

/// What is wrong at one place of the file.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Fault {
    /// The text is not TOML.
    #[error("not valid TOML: {message}")]
    Syntax {
        /// In the words of the parser.
        message: String,
    },
    /// No such section.
    #[error("there is no section [{found}]")]
    UnknownSection {
        /// As written.
        found: String,
        /// The nearest name, if one is near.
        nearest: Option<&'static str>,
        /// All that exist.
        known: Vec<&'static str>,
    },
    /// No such key in this section.
    #[error("there is no key `{found}` in [{section}]")]
    UnknownKey {
        /// As written.
        found: String,
        /// Where.
        section: &'static str,
        /// The nearest name, if one is near.
        nearest: Option<&'static str>,
        /// All that exist there.
        known: Vec<&'static str>,
    },
    /// A key without a default is missing.
    #[error("`{name}` is missing")]
    Missing {
        /// The key.
        name: &'static str,
        /// A line that would do.
        example: String,
    },
    /// A value of another kind.
    #[error("expected {expected}, found {found}")]
    WrongKind {
        /// For example `a whole number`.
        expected: &'static str,
        /// In the words of TOML.
        found: &'static str,
    },
    /// A value outside its range.
    #[error("{value} is out of range")]
    OutOfRange {
        /// As written.
        value: String,
        /// In words, with the unit.
        range: String,
        /// As it would be written.
        default: Option<String>,
    },
    /// Not one of the words that are known.
    #[error("`{value}` is not known")]
    UnknownChoice {
        /// As written.
        value: String,
        /// All that exist.
        known: &'static [&'static str],
        /// The nearest, if one is near.
        nearest: Option<&'static str>,
    },
    /// Not a name.
    #[error("`{value}` is not a name")]
    BadName {
        /// As written.
        value: String,
    },
    /// Not `host:port`.
    #[error("`{value}` is not an address")]
    BadAddress {
        /// As written.
        value: String,
    },
    /// Two nodes with one name.
    #[error("the name `{value}` is taken by the node on line {first_line}")]
    DuplicateName {
        /// The name.
        value: String,
        /// Where it was first.
        first_line: usize,
    },
    /// Two servers on one address.
    #[error("the address {value} is taken by {first_key} on line {first_line}")]
    DuplicateAddress {
        /// The address.
        value: String,
        /// Who has it.
        first_key: String,
        /// Where.
        first_line: usize,
    },
    /// A server without TLS of its own on an address that other machines can reach.
    #[error("{value} is not a loopback address, and the simulated payment provider knows no TLS")]
    ExposedProvider {
        /// The address.
        value: String,
    },
    /// An address that other machines can reach, without protection.
    #[error("{value} is not a loopback address, and no certificates are named")]
    Exposed {
        /// The address.
        value: String,
    },
    /// A cluster of nobody.
    #[error("no node is named")]
    NoNodes,
    /// Two values that do not fit together.
    #[error("{value} is less than {other} ({other_value})")]
    LessThan {
        /// This value.
        value: u64,
        /// The other key.
        other: String,
        /// The value of the other key.
        other_value: u64,
    },
}

impl Fault {
    /// What to change so that it works.
    #[must_use]
    pub fn mend(&self) -> String {
        match self {
            Self::Syntax { .. } => "write `key = value` lines below [section] headings; texts stand in double quotes".into(),
            Self::UnknownSection { nearest: Some(near), .. } => format!("did you mean [{near}]?"),
            Self::UnknownSection { known, .. } => format!("the sections are {}", list(known)),
            Self::UnknownKey { nearest: Some(near), .. } => format!("did you mean `{near}`?"),
            Self::UnknownKey { known, .. } => format!("the keys are {}", list(known)),
            Self::Missing { example, .. } => format!("add a line such as `{example}`"),
            Self::WrongKind { expected, .. } => format!("write {expected}"),
            Self::OutOfRange { range, default: Some(default), .. } => format!("write {range}, for example the default {default}"),
            Self::OutOfRange { range, default: None, .. } => format!("write {range}"),
            Self::UnknownChoice { nearest: Some(near), .. } => format!("did you mean \"{near}\"?"),
            Self::UnknownChoice { known, .. } => format!("write one of {}", list(known)),
            Self::BadName { .. } => "use 1 to 63 characters of a-z, 0-9 and `-`".into(),
            Self::BadAddress { .. } => "write \"host:port\", for example \"127.0.0.1:7101\"; the port is 1 to 65535".into(),
            Self::DuplicateName { .. } => "give every node a name of its own".into(),
            Self::DuplicateAddress { .. } => "give every server an address of its own, for example the next free port".into(),
            Self::Exposed { .. } => "make certificates with `souk cert` and name their folder as `certificates` in [security], or use 127.0.0.1 or ::1; in a network that you trust wholly, write `insecure = true` there".into(),
            Self::ExposedProvider { .. } => "use 127.0.0.1 or ::1; in a network that you trust wholly, write `insecure = true` in [security]".into(),
            Self::NoNodes => "add at least one [[node]] section with name, grpc and http".into(),
            Self::LessThan { other, other_value, .. } => format!("raise it to {other_value} or more, or lower {other}"),
        }
    }
}

fn list(words: &[&str]) -> String {
    words.join(", ")
}
