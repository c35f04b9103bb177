//! Names that people give to clusters, nodes and zones.
//!
//! Place: pure; every name in `cluster.toml` and in a layout passes through here.
//! Invariants: 1. one to 63 characters of `a-z`, `0-9` and `-`, so that a name is also a DNS
//!   label, a file name and a metric label without quoting.
//! Not here: uniqueness, which is a property of a layout.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The name of a cluster, a node or a zone: 1 to 63 characters of `a-z`, `0-9` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// The longest allowed name, in characters (which are bytes here).
    pub const CHARS_MAX: usize = 63;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if let Some(found) = text.chars().find(|c| !allowed(*c)) {
            return Err(NameError::Character { name: text, found });
        }
        if text.len() > Name::CHARS_MAX {
            return Err(NameError::TooLong {
                chars: text.len(),
                name: text,
            });
        }
        Ok(Name(text))
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Name::try_from(text.to_owned())
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a text is not a [`Name`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// What: an empty name. Mend: write at least one character.
    #[error("a name is empty; write 1 to {max} characters of a-z, 0-9 and -", max = Name::CHARS_MAX)]
    Empty,
    /// What: a character outside the allowed set. Mend: replace it.
    #[error("name {name:?} holds {found:?}; use only a-z, 0-9 and -")]
    Character {
        /// The refused name.
        name: String,
        /// Its first character that is not allowed.
        found: char,
    },
    /// What: more characters than allowed. Mend: shorten it.
    #[error("name {name:?} has {chars} characters; shorten it to at most {max}", max = Name::CHARS_MAX)]
    TooLong {
        /// The refused name.
        name: String,
        /// Its length.
        chars: usize,
    },
}

#[cfg(test)]
#[path = "name_test.rs"]
mod tests;
