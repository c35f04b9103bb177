//! How commands fail: what people read, and which exit code scripts see.
//!
//! Place: the edge where errors end. Rooms return typed errors; here each gets its code and is printed
//! once, with its causes. A cluster file's problems are shown in their lines on a terminal, and one a
//! line anywhere else.

use std::fmt;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use miette::{Diagnostic, LabeledSpan, NamedSource, Report, SourceCode};
use souk_inventory::StockId;
use souk_inventory::store::StockStoreError;
use souk_kv_client::{ClientError, ErrorCode, Outcome, RequestError};
use souk_kv_node::config::{Address, ConfigError, InvalidFile, Problem};
use souk_kv_tls::TlsError;

use souk_commerce_api::ShopError;
use souk_commerce_api::import::ImportError;
use souk_commerce_api::payment_provider::ProviderServeError;
use souk_kv_node::NodeError;

use crate::up::UpError;

/// What scripts see. Documented in `args::EXIT_CODES`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// A write that failed so was not applied.
    Failed = 1,
    /// Wrong usage or configuration; clap uses it too.
    Usage = 2,
    /// Nobody knows whether the write was applied.
    Unknown = 3,
    /// No such key, bucket or node.
    NotFound = 4,
    /// The condition of a write did not hold.
    Condition = 5,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The cluster file cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The arguments make no sense.
    #[error("{problem}; {mend}")]
    Usage {
        /// What is wrong.
        problem: String,
        /// What to do instead.
        mend: String,
    },
    /// A file named on the command line cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file named on the command line cannot be written.
    #[error("cannot write {}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The operating system refused something basic.
    #[error("cannot start")]
    Runtime {
        /// What it said.
        source: std::io::Error,
    },
    /// Certificates cannot be used or made.
    #[error(transparent)]
    Certificates(#[from] TlsError),
    /// Nobody answered.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The store answered with an error, or not in time.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// There is no such thing.
    #[error("{what} was not found")]
    NotFound {
        /// What was looked for.
        what: String,
    },
    /// One value was wanted and there are several.
    #[error("{key} has {count} concurrent values; leave out --raw to see them all")]
    Siblings {
        /// The key.
        key: String,
        /// How many.
        count: usize,
    },
    /// The condition did not hold.
    #[error("the condition on {key} did not hold; nothing was changed")]
    Condition {
        /// The key.
        key: String,
    },
    /// Compare-and-sets were lost or done twice.
    #[error(
        "the hot row grew by {grown}, but {applied} increments were applied and {unknown} are unknown; \
         unless another `souk bench` wrote the row meanwhile, this is a bug of the store: please report it"
    )]
    BenchCheck {
        /// By how much the row grew.
        grown: u64,
        /// Increments that were answered.
        applied: u64,
        /// Increments whose answer never came.
        unknown: u64,
    },
    /// The units of `bench reserve-hot` do not add up.
    #[error("{problem} in stock {stock}; this is a bug of the store: please report it")]
    BenchStock {
        /// The stock.
        stock: StockId,
        /// What does not add up.
        problem: String,
    },
    /// A stock of `bench reserve-hot` could not be filled or read.
    #[error(transparent)]
    Stock(Box<StockStoreError>),
    /// Some nodes did not do their part.
    #[error("not everywhere: {}", failed.join("; "))]
    Incomplete {
        /// `node: why` each.
        failed: Vec<String>,
    },
    /// A host has no address.
    #[error("cannot find the host of {address}; change it in the cluster file")]
    Unresolved {
        /// The address.
        address: Address,
        /// Why not.
        source: std::io::Error,
    },
    /// A node could not start or go on.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The shop could not start or go on.
    #[error(transparent)]
    Shop(#[from] ShopError),
    /// The payment provider could not start or go on.
    #[error(transparent)]
    Provider(#[from] ProviderServeError),
    /// A file could not be imported.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The cluster could not be started.
    #[error(transparent)]
    Up(#[from] UpError),
}

impl From<StockStoreError> for Failure {
    fn from(error: StockStoreError) -> Self {
        Self::Stock(Box::new(error))
    }
}

impl Failure {
    /// Wrong usage, and what to do instead.
    pub(crate) fn usage(problem: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::Usage {
            problem: problem.into(),
            mend: mend.into(),
        }
    }

    /// The exit code.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Config(_)
            | Self::Usage { .. }
            | Self::Unreadable { .. }
            | Self::Unwritable { .. }
            | Self::Certificates(_)
            | Self::Unresolved { .. } => Exit::Usage,
            Self::Client(ClientError::Option { .. } | ClientError::Certificates(_))
            | Self::Node(NodeError::Certificates(_))
            | Self::Up(UpError::TooFewNodes { .. }) => Exit::Usage,
            Self::Request(error) => exit_of_request(error),
            Self::NotFound { .. } => Exit::NotFound,
            Self::Condition { .. } => Exit::Condition,
            Self::Runtime { .. }
            | Self::Client(_)
            | Self::Siblings { .. }
            | Self::Incomplete { .. }
            | Self::BenchCheck { .. }
            | Self::BenchStock { .. } => Exit::Failed,
            Self::Stock(error) => match error.outcome() {
                Outcome::Unknown => Exit::Unknown,
                Outcome::Applied | Outcome::NotApplied => Exit::Failed,
            },
            Self::Node(_) | Self::Shop(_) | Self::Provider(_) | Self::Import(_) | Self::Up(_) => {
                Exit::Failed
            }
        }
    }
}

fn exit_of_request(error: &RequestError) -> Exit {
    match (error.outcome(), error.code) {
        (Outcome::Unknown, _) => Exit::Unknown,
        (_, ErrorCode::BucketNotFound) => Exit::NotFound,
        (_, ErrorCode::InvalidArgument | ErrorCode::ValueTooLarge | ErrorCode::WrongMode) => {
            Exit::Usage
        }
        (Outcome::Applied | Outcome::NotApplied, _) => Exit::Failed,
    }
}

/// Prints why, and gives the exit code.
pub(crate) fn report(failure: &Failure) -> ExitCode {
    match failure {
        Failure::Config(ConfigError::Invalid(file)) if std::io::stderr().is_terminal() => {
            eprintln!("{:?}", Report::new(FileReport::of(file)));
        }
        other => eprintln!("error: {}", WithCauses(other)),
    }
    ExitCode::from(failure.exit() as u8)
}

/// An error and what caused it, joined by colons.
struct WithCauses<'a>(&'a dyn std::error::Error);

impl fmt::Display for WithCauses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let causes = std::iter::successors(self.0.source(), |error| error.source());
        causes
            .into_iter()
            .try_for_each(|cause| write!(f, ": {cause}"))
    }
}

/// A cluster file's problems, each shown in its line.
#[derive(Debug, thiserror::Error)]
#[error("the cluster file cannot be used")]
struct FileReport {
    problems: Vec<ProblemReport>,
}

/// One of them.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
struct ProblemReport {
    problem: Problem,
    text: NamedSource<String>,
}

impl FileReport {
    fn of(file: &InvalidFile) -> Self {
        let text = NamedSource::new(file.path.display().to_string(), file.text.to_string());
        let problem = |problem: &Problem| ProblemReport {
            problem: problem.clone(),
            text: text.clone(),
        };
        Self {
            problems: file.problems.iter().map(problem).collect(),
        }
    }
}

impl Diagnostic for FileReport {
    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(
            self.problems
                .iter()
                .map(|problem| problem as &dyn Diagnostic),
        ))
    }
}

impl Diagnostic for ProblemReport {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.problem.fault.mend()))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.text)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = LabeledSpan::new_with_span(Some("here".to_owned()), self.problem.span.clone());
        Some(Box::new(std::iter::once(label)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: ErrorCode, outcome: Outcome, expected: Exit) {
        let message = String::new();
        let error = RequestError {
            code,
            outcome,
            message,
            retry_after: None,
            node: None,
            retryable: false,
        };
        assert_eq!(Failure::from(error).exit(), expected);
    }

    #[test]
    fn an_unknown_outcome_has_its_own_exit_code() {
        check(ErrorCode::Timeout, Outcome::Unknown, Exit::Unknown);
        check(ErrorCode::InvalidArgument, Outcome::Unknown, Exit::Unknown);
        check(ErrorCode::Timeout, Outcome::NotApplied, Exit::Failed);
        check(
            ErrorCode::BucketNotFound,
            Outcome::NotApplied,
            Exit::NotFound,
        );
        check(ErrorCode::WrongMode, Outcome::NotApplied, Exit::Usage);
    }

    #[test]
    fn causes_are_told() {
        let source = std::io::Error::other("no space");
        let failure = Failure::Unreadable {
            path: "x".into(),
            source,
        };
        assert_eq!(WithCauses(&failure).to_string(), "cannot read x: no space");
    }
}
