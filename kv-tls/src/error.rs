//! Why certificates cannot be used, made or revoked.

use std::{io, path::PathBuf};

use crate::Reason;

/// Why the files of a bearer cannot be used. The message says which file, and how to mend it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// What: a file is missing or cannot be read or written.
    #[error("cannot use {path} ({cause}): {mend}", path = path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
        /// What to do.
        mend: &'static str,
    },
    /// What: a file holds something else than it should.
    #[error("{path} {problem}: {mend}", path = path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        mend: &'static str,
    },
    /// What: everybody on the machine can read a private key.
    #[error("every user of this machine can read the private key {path}: `chmod 600 {path}`", path = path.display())]
    KeyExposed {
        /// Which file.
        path: PathBuf,
    },
    /// What: the own certificate would be refused by everybody else.
    #[error("{path} would be refused, {problem}: {mend}", path = path.display())]
    Refused {
        /// The certificate.
        path: PathBuf,
        /// What for.
        reason: Reason,
        /// The same in words.
        problem: String,
        /// What to do.
        mend: String,
    },
    /// What: a certificate is for somebody else than who wants to use it.
    #[error("{path} is the certificate of {found}, not of {wanted}: name the right file, or make it with `souk cert`", path = path.display())]
    SomebodyElse {
        /// The certificate.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        wanted: String,
    },
    /// What: the authority could not make what it was asked for.
    #[error("the certificate could not be made ({cause}): {mend}")]
    NotMade {
        /// What the library said.
        cause: String,
        /// What to do.
        mend: &'static str,
    },
    /// What: a file that must not be overwritten is there already.
    #[error("{path} is there already: {mend}", path = path.display())]
    Exists {
        /// Which file.
        path: PathBuf,
        /// What to do.
        mend: &'static str,
    },
    /// What: a name that certificates cannot carry.
    #[error("`{name}` cannot stand in a certificate: use 1 to 63 characters of a-z, 0-9 and `-`")]
    Name {
        /// The name.
        name: String,
    },
}
