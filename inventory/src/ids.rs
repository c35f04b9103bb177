//! The ids that make a command count once: 16 bytes each, made by the caller.
//!
//! Place: pure; used by every command and row key.
//! Shape: normally a UUID; written as 32 hexadecimal digits.
//! Invariants: 1. an id names one thing for ever; sending a command again reuses its ids.
//! Not here: making ids. Randomness belongs to the caller, so that a simulation can repeat a run.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{text}` is not an id; write 32 hexadecimal digits, with or without the hyphens of a UUID"
)]
pub struct IdError {
    /// The text that was refused, as it came.
    pub text: String,
}

/// Reads 32 hexadecimal digits, passing over the hyphens of the usual UUID notation.
fn parse(text: &str) -> Result<[u8; 16], IdError> {
    let refused = || IdError {
        text: text.to_owned(),
    };
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    // The digit check also keeps out the leading `+` that integer parsing would allow.
    if digits.len() != 32 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(refused());
    }
    u128::from_str_radix(&digits, 16)
        .map(u128::to_be_bytes)
        .map_err(|_| refused())
}

macro_rules! id_16 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// Wraps the 16 bytes of an id.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The 16 bytes of the id.
            pub const fn to_bytes(self) -> [u8; 16] {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", u128::from_be_bytes(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    };
}

id_16! {
    /// Names one reservation, from the hold to the shipment.
    ReservationId
}

id_16! {
    /// Names one order.
    OrderId
}

id_16! {
    /// Names one receipt, damage, discard or adjustment.
    CommandId
}

id_16! {
    /// Names one return, from its arrival to its inspection.
    ReturnId
}

id_16! {
    /// Names one transfer between centres, at both ends.
    TransferId
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<u128>) {
        let found = text
            .parse::<ReservationId>()
            .ok()
            .map(|id| u128::from_be_bytes(id.to_bytes()));
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn reads_plain_and_hyphenated_digits_only() {
        check("000000000000000000000000000000ff", Some(255));
        check("00000000-0000-0000-0000-0000000000FF", Some(255));
        check("ff", None);
        check("+00000000000000000000000000000ff", None);
        check("0000000000000000000000000000zzzz", None);
        check("00000000000000000000000000000000ff", None);
        check("", None);
    }

    #[test]
    fn display_reads_back() {
        let id = ReservationId::from_bytes([0xab; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().len(), 32);
    }
}
