//! Certificates of a cluster: who is at the other end of a connection, and how that is checked.
//!
//! Think of a building with badges. Every badge names the house, the kind of its bearer and the bearer; the doors
//! know whose stamp is good, and look the list of lost badges up each time it is changed. Nobody asks at which
//! address a bearer lives, so machines may move.
//!
//! | module | idea |
//! |---|---|
//! | `name` | what a certificate says of its bearer, and how it is written into it |
//! | `files` | where the files of a bearer lie, and reading them |
//! | `keyring` | what was read, kept up to date while files change, with the connections that hang on it |
//! | `dial`, `listen` | both ends of a handshake |
//! | `explain` | why a handshake failed, in words that say how to mend it |
//! | `authority` | making, renewing and revoking certificates (feature `authority`) |
//!
//! Place: I/O; below the wire: `souk_kv_proto::network` plugs it in, nothing here knows a message.
//! Source: RFC 8446 (TLS 1.3), RFC 5280 (certificates and their revocation), the SPIFFE idea of naming bearers by URI.
//! Invariants: 1. both ends show a certificate of the cluster, always. 2. what is new in the files holds for every
//! handshake from then on; what cannot be read changes nothing. 3. a connection whose certificate is revoked or has
//! expired is cut. 4. no key is ever printed.
//! Not here: what a bearer may do (`souk_kv_core::access`), which peer is expected (`souk_kv_node`).

#[cfg(feature = "authority")]
pub mod authority;
mod dial;
mod error;
mod explain;
mod files;
mod keyring;
mod listen;
mod name;
#[cfg(all(test, feature = "authority"))]
mod tests;

pub use dial::{ClientWire, Expected, dial};
pub use error::TlsError;
pub use explain::{HandshakeError, Reason, bottom_of};
pub use files::{BearerFiles, Folder};
pub use keyring::Keyring;
pub use listen::{SecureIncoming, ServerWire, accept};
pub use name::{Bearer, BearerKind};
