//! Why `souk up` could not start a cluster.

use std::path::PathBuf;
use std::process::ExitStatus;

use souk_kv_node::config::Address;

use super::certificates::TokenError;
use super::load::LoadError;

/// Why `souk up` could not start a cluster.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpError {
    /// More nodes were asked for than the file names.
    #[error(
        "{file} names {named} nodes, {wanted} were asked for; add a [[node]] section for each further one"
    )]
    TooFewNodes {
        /// The cluster file.
        file: String,
        /// How many it names.
        named: usize,
        /// How many were asked for.
        wanted: u8,
    },
    /// The data directory cannot be used.
    #[error("cannot use {} as the data directory; choose another one with --data", path.display())]
    DataDirectory {
        /// The directory, or a file in it.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Somebody else listens there.
    #[error(
        "{address} is in use, and {who} needs it; stop the process that listens there, or change \
         `{key}` in {}", file_or_builtin(file.as_ref())
    )]
    PortInUse {
        /// The address.
        address: Address,
        /// The process that was to listen there.
        who: String,
        /// The key of the cluster file.
        key: String,
        /// The cluster file in use.
        file: Option<PathBuf>,
    },
    /// Cannot listen there for another reason.
    #[error("{who} cannot listen on {address}; change `{key}` in the cluster file")]
    CannotListen {
        /// The address.
        address: Address,
        /// The process that was to listen there.
        who: String,
        /// The key of the cluster file.
        key: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The shop could not be given a token.
    #[error("the shop has no token")]
    Token(#[from] TokenError),
    /// A child could not be started.
    #[error("cannot start {name}")]
    CannotStart {
        /// The child.
        name: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A child ended before it was ready.
    #[error("{name} ended with {status} before it was ready; the end of {}:\n{tail}", log.display())]
    Died {
        /// The child.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// Its log.
        log: PathBuf,
        /// The last lines of its log.
        tail: String,
    },
    /// A child was not ready in time.
    #[error(
        "{name} was not ready after {waited_s} s: {reason}; see {}, or allow more time with --start-timeout",
        log.display()
    )]
    NotReady {
        /// The child.
        name: String,
        /// In its own words.
        reason: String,
        /// How long.
        waited_s: u64,
        /// Its log.
        log: PathBuf,
    },
    /// The catalogue or the baskets could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
}

fn file_or_builtin(file: Option<&PathBuf>) -> String {
    match file {
        Some(path) => path.display().to_string(),
        None => {
            "a cluster file (`souk config show > cluster.toml` writes one to begin with)".to_owned()
        }
    }
}
