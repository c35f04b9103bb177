//! Who may do what: tokens, what they are worth, and how long.
//!
//! A token is like a key card of a hotel: the desk writes down which doors it opens and until when, keeps no copy of
//! the card itself, and may void it at any moment. Whoever holds the card needs no name.
//!
//! | file | idea |
//! |---|---|
//! | `grant` | a role on all buckets whose names begin alike |
//! | `token` | the card, and what the desk keeps of it |
//! | `book` | all cards that are good, and judging one that is shown |
//!
//! Place: pure; randomness and time are arguments. The book is replicated and asked by `souk_kv_node`.
//! Source: bearer tokens, RFC 6750; that a random secret of 256 bits needs no slow hash, NIST SP 800-63B §5.1.2.
//! Invariants: 1. nothing here prints a secret. 2. secrets are compared in constant time. 3. without a grant nothing
//! is allowed.
//! Not here: certificates (`souk_kv_tls`), which request needs what (`souk_kv_node::access`).

mod book;
mod grant;
mod token;

pub use book::{Refusal, TokenBook};
pub use grant::{Grant, GrantError, Role, Roles};
pub use token::{Holder, SECRET_BYTES, SecretHash, Token, TokenId, TokenText};
