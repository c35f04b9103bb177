//! The name of one cart.
//!
//! Place: used by [`super::CartStore`] and the shop.
//! Shape: its text is the partition key of the cart's row.
//! Not here: whose cart it is (`souk_commerce_api`).

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Longest cart id in bytes.
pub const CART_ID_BYTES_MAX: usize = 64;

/// Why a text is not a cart id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{text}` is not a cart id; use 1 to {} of a-z, A-Z, 0-9, `-`, `_`, `.` and `:`",
    CART_ID_BYTES_MAX
)]
pub struct CartIdError {
    /// The text that was refused.
    pub text: String,
}

/// The name of one cart: 1 to [`CART_ID_BYTES_MAX`] letters, digits, `-`, `_`, `.` and `:`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CartId(String);

impl CartId {
    /// Checks a cart id.
    ///
    /// # Errors
    /// [`CartIdError`] when it is empty, too long, or holds another character.
    pub fn new(text: impl Into<String>) -> Result<Self, CartIdError> {
        let text = text.into();
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
        if text.is_empty() || text.len() > CART_ID_BYTES_MAX || !text.bytes().all(allowed) {
            return Err(CartIdError { text });
        }
        Ok(Self(text))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CartId {
    type Err = CartIdError;

    fn from_str(text: &str) -> Result<Self, CartIdError> {
        Self::new(text)
    }
}

impl fmt::Display for CartId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cart_id_edges() {
        for (text, allowed) in [
            ("customer-17", true),
            ("a.B_c:9", true),
            ("", false),
            ("a/b", false),
            ("é", false),
        ] {
            assert_eq!(CartId::new(text).is_ok(), allowed, "{text}");
        }
        assert!(CartId::new("c".repeat(CART_ID_BYTES_MAX)).is_ok());
        assert!(CartId::new("c".repeat(CART_ID_BYTES_MAX + 1)).is_err());
    }
}
