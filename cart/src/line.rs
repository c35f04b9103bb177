//! The two parts of a cart line that come from outside: which article, and how many.
//!
//! Place: pure; used by [`crate::Cart`].
//! Invariants: 1. a [`Sku`] needs no escaping in JSON, so its length bounds its stored size.
//! 2. a [`Quantity`] is never zero: removing an article is a removal, not a quantity.
//! Not here: whether the article exists (`souk_commerce_api::catalog`) or is in stock (`souk_inventory`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest SKU in bytes of UTF-8.
pub const SKU_BYTES_MAX: usize = 64;

/// Largest quantity of one add, in units.
pub const QUANTITY_MAX: u32 = 99_999;

/// Why a SKU or a quantity is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LineError {
    /// What: the SKU is empty. Mend: name an article.
    #[error("the SKU is empty; give the article's stock-keeping unit")]
    SkuEmpty,
    /// What: the SKU has more than [`SKU_BYTES_MAX`] bytes. Mend: use the catalogue's own SKU.
    #[error("the SKU has {bytes} bytes, at most {} are allowed", SKU_BYTES_MAX)]
    SkuTooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// What: a character that cannot stand in a SKU. Mend: leave it out.
    #[error("a SKU may not contain {character:?}, nor begin or end with a space")]
    SkuCharacter {
        /// The first character that was refused.
        character: char,
    },
    /// What: the quantity lies outside 1 to [`QUANTITY_MAX`]. Mend: to take an article out, remove it.
    #[error(
        "a quantity of {quantity} is outside 1 to {}; to take an article out, remove it",
        QUANTITY_MAX
    )]
    Quantity {
        /// The quantity asked for.
        quantity: u32,
    },
}

impl LineError {
    /// A short name that does not change, for logs and problem documents.
    pub fn code(&self) -> &'static str {
        match self {
            Self::SkuEmpty | Self::SkuTooLong { .. } | Self::SkuCharacter { .. } => "sku_invalid",
            Self::Quantity { .. } => "quantity_invalid",
        }
    }
}

/// A stock-keeping unit: the shop's name for one sellable article.
///
/// 1 to [`SKU_BYTES_MAX`] bytes of UTF-8 without control characters, `"` and `\`, and without a space at either end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sku(String);

impl Sku {
    /// Checks a SKU.
    ///
    /// # Errors
    /// [`LineError`] when it is empty, too long, or holds a character that is not allowed.
    pub fn new(text: impl Into<String>) -> Result<Self, LineError> {
        let text = text.into();
        if text.is_empty() {
            return Err(LineError::SkuEmpty);
        }
        if text.len() > SKU_BYTES_MAX {
            return Err(LineError::SkuTooLong { bytes: text.len() });
        }
        if let Some(character) = text
            .chars()
            .find(|c| c.is_control() || matches!(c, '"' | '\\'))
        {
            return Err(LineError::SkuCharacter { character });
        }
        let edges = [text.chars().next(), text.chars().next_back()];
        if let Some(character) = edges.into_iter().flatten().find(|c| c.is_whitespace()) {
            return Err(LineError::SkuCharacter { character });
        }
        Ok(Self(text))
    }

    /// The SKU as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Sku {
    type Error = LineError;

    fn try_from(text: String) -> Result<Self, LineError> {
        Self::new(text)
    }
}

impl FromStr for Sku {
    type Err = LineError;

    fn from_str(text: &str) -> Result<Self, LineError> {
        Self::new(text)
    }
}

impl From<Sku> for String {
    fn from(sku: Sku) -> Self {
        sku.0
    }
}

impl fmt::Display for Sku {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How many units one add puts into the cart: 1 to [`QUANTITY_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Quantity(u32);

impl Quantity {
    /// Checks a quantity, in units.
    ///
    /// # Errors
    /// [`LineError::Quantity`] when it lies outside 1 to [`QUANTITY_MAX`].
    pub fn new(units: u32) -> Result<Self, LineError> {
        if (1..=QUANTITY_MAX).contains(&units) {
            Ok(Self(units))
        } else {
            Err(LineError::Quantity { quantity: units })
        }
    }

    /// The number of units.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Quantity {
    type Error = LineError;

    fn try_from(units: u32) -> Result<Self, LineError> {
        Self::new(units)
    }
}

impl From<Quantity> for u32 {
    fn from(quantity: Quantity) -> Self {
        quantity.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_sku(text: &str, expected: Result<(), LineError>) {
        assert_eq!(Sku::new(text).map(|_| ()), expected, "{text:?}");
    }

    #[test]
    fn sku_edges() {
        check_sku("85123A", Ok(()));
        check_sku("BANK CHARGES", Ok(()));
        check_sku("é/ü", Ok(()));
        check_sku(&"x".repeat(SKU_BYTES_MAX), Ok(()));
        check_sku("", Err(LineError::SkuEmpty));
        check_sku(&"x".repeat(65), Err(LineError::SkuTooLong { bytes: 65 }));
        check_sku("a\"b", Err(LineError::SkuCharacter { character: '"' }));
        check_sku(
            "a\u{7}",
            Err(LineError::SkuCharacter { character: '\u{7}' }),
        );
        check_sku(" a", Err(LineError::SkuCharacter { character: ' ' }));
        check_sku("a ", Err(LineError::SkuCharacter { character: ' ' }));
    }

    #[test]
    fn quantity_edges() {
        for (units, allowed) in [
            (0, false),
            (1, true),
            (QUANTITY_MAX, true),
            (QUANTITY_MAX + 1, false),
        ] {
            assert_eq!(Quantity::new(units).is_ok(), allowed, "{units}");
        }
    }

    #[test]
    fn a_sku_is_stored_without_escapes() {
        let sku = Sku::new("é/ü'<>&").unwrap();
        assert_eq!(
            serde_json::to_string(&sku).unwrap().len(),
            sku.as_str().len() + 2
        );
    }
}
