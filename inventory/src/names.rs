//! What a stock is called, and how many units one command may name.
//!
//! Place: pure; used by every other module here.
//! Shape: a stock is one [`Sku`] in one [`Centre`]; its partition key is `sku@centre`.
//! Invariants: 1. a partition key reads back to the same stock: a centre never contains `@`.
//! 2. a [`Quantity`] is never zero. 3. the rule for a SKU equals the one of `souk_cart`, which this room may not see.
//! Not here: whether the article exists (`souk_commerce_api::catalog`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest SKU in bytes of UTF-8.
pub const SKU_BYTES_MAX: usize = 64;

/// Longest name of a centre in bytes.
pub const CENTRE_BYTES_MAX: usize = 32;

/// Most shards of one stock.
pub const SHARDS_MAX: u8 = 64;

/// Largest quantity of one command, in units.
pub const QUANTITY_MAX: u32 = 1_000_000_000;

/// Why a name or a quantity is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
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
    /// What: the name of a fulfilment centre is not usable in a key. Mend: use the name from the configuration.
    #[error(
        "`{text}` is not a fulfilment centre; use 1 to {} of a-z, 0-9 and -",
        CENTRE_BYTES_MAX
    )]
    Centre {
        /// The text that was refused.
        text: String,
    },
    /// What: a partition key that is not `sku@centre`. Mend: find out who else writes to the bucket.
    #[error("`{text}` is not a stock; write `sku@centre`")]
    StockId {
        /// The text that was refused.
        text: String,
    },
    /// What: the quantity lies outside 1 to [`QUANTITY_MAX`]. Mend: name at least one unit.
    #[error("a quantity of {quantity} is outside 1 to {}", QUANTITY_MAX)]
    Quantity {
        /// The quantity asked for.
        quantity: u32,
    },
}

impl NameError {
    /// A short name that does not change, for logs and problem documents.
    pub fn code(&self) -> &'static str {
        match self {
            Self::SkuEmpty | Self::SkuTooLong { .. } | Self::SkuCharacter { .. } => "sku_invalid",
            Self::Centre { .. } => "centre_invalid",
            Self::StockId { .. } => "stock_id_invalid",
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
    /// [`NameError`] when it is empty, too long, or holds a character that is not allowed.
    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let text = text.into();
        if text.is_empty() {
            return Err(NameError::SkuEmpty);
        }
        if text.len() > SKU_BYTES_MAX {
            return Err(NameError::SkuTooLong { bytes: text.len() });
        }
        if let Some(character) = text
            .chars()
            .find(|c| c.is_control() || matches!(c, '"' | '\\'))
        {
            return Err(NameError::SkuCharacter { character });
        }
        let edges = [text.chars().next(), text.chars().next_back()];
        if let Some(character) = edges.into_iter().flatten().find(|c| c.is_whitespace()) {
            return Err(NameError::SkuCharacter { character });
        }
        Ok(Self(text))
    }

    /// The SKU as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Sku {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl FromStr for Sku {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
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

/// A fulfilment centre: 1 to [`CENTRE_BYTES_MAX`] of `a`-`z`, `0`-`9` and `-`. Or one shard of it, for a stock that was
/// split: the centre, a `/`, and the shard's number from 1 to [`SHARDS_MAX`] - 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Centre(String);

impl Centre {
    /// Checks the name of a centre.
    ///
    /// # Errors
    /// [`NameError::Centre`] when it is empty, too long, or holds another character.
    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let text = text.into();
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let (name, shard) = match text.split_once('/') {
            Some((name, shard)) => (name, Some(shard)),
            None => (text.as_str(), None),
        };
        let is_shard = |text: &str| {
            let number = text.parse::<u8>();
            // One spelling each: not `01`, not `+1`.
            number
                .is_ok_and(|number| (1..SHARDS_MAX).contains(&number) && number.to_string() == text)
        };
        if name.is_empty()
            || name.len() > CENTRE_BYTES_MAX
            || !name.bytes().all(allowed)
            || !shard.is_none_or(is_shard)
        {
            return Err(NameError::Centre { text });
        }
        Ok(Self(text))
    }

    /// The centre whose shard this is; itself, if it is none.
    pub fn undivided(&self) -> Self {
        let name = self
            .0
            .split_once('/')
            .map_or(self.as_str(), |(name, _)| name);
        Self(name.to_owned())
    }

    /// One shard of the centre; 0 is the undivided one. A number above the range counts as the highest.
    pub fn shard(&self, number: u8) -> Self {
        let Self(name) = self.undivided();
        match number.min(SHARDS_MAX - 1) {
            0 => Self(name),
            number => Self(format!("{name}/{number}")),
        }
    }

    /// Which shard this is; 0 for the undivided centre.
    pub fn shard_number(&self) -> u8 {
        let number = self.0.split_once('/').map(|(_, number)| number.parse());
        number.map_or(0, |number| {
            number.expect("the constructors checked the number")
        })
    }

    /// The centre as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Centre {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl FromStr for Centre {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl From<Centre> for String {
    fn from(centre: Centre) -> Self {
        centre.0
    }
}

impl fmt::Display for Centre {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One stock: an article in a centre, or in one shard of it. Its text, `sku@centre`, is the partition key of its register group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StockId {
    /// The article.
    pub sku: Sku,
    /// Where it lies.
    pub centre: Centre,
}

impl StockId {
    /// One shard of this stock; 0 is the undivided one.
    pub fn shard(&self, number: u8) -> Self {
        Self {
            sku: self.sku.clone(),
            centre: self.centre.shard(number),
        }
    }
}

impl fmt::Display for StockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.sku, self.centre)
    }
}

impl FromStr for StockId {
    type Err = NameError;

    /// Splits at the last `@`, which a SKU may contain and a centre may not.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (sku, centre) = text.rsplit_once('@').ok_or_else(|| NameError::StockId {
            text: text.to_owned(),
        })?;
        Ok(Self {
            sku: sku.parse()?,
            centre: centre.parse()?,
        })
    }
}

/// How many units one command moves: 1 to [`QUANTITY_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Quantity(u32);

impl Quantity {
    /// Checks a quantity, in units.
    ///
    /// # Errors
    /// [`NameError::Quantity`] when it lies outside 1 to [`QUANTITY_MAX`].
    pub fn new(units: u32) -> Result<Self, NameError> {
        if (1..=QUANTITY_MAX).contains(&units) {
            Ok(Self(units))
        } else {
            Err(NameError::Quantity { quantity: units })
        }
    }

    /// The number of units.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Quantity {
    type Error = NameError;

    fn try_from(units: u32) -> Result<Self, NameError> {
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

    fn check_sku(text: &str, expected: Result<(), NameError>) {
        assert_eq!(Sku::new(text).map(|_| ()), expected, "{text:?}");
    }

    #[test]
    fn sku_edges() {
        check_sku("85123A", Ok(()));
        check_sku("BANK CHARGES", Ok(()));
        check_sku("é/ü", Ok(()));
        check_sku(&"x".repeat(SKU_BYTES_MAX), Ok(()));
        check_sku("", Err(NameError::SkuEmpty));
        check_sku(&"x".repeat(65), Err(NameError::SkuTooLong { bytes: 65 }));
        check_sku("a\"b", Err(NameError::SkuCharacter { character: '"' }));
        check_sku(
            "a\u{7}",
            Err(NameError::SkuCharacter { character: '\u{7}' }),
        );
        check_sku(" a", Err(NameError::SkuCharacter { character: ' ' }));
        check_sku("a ", Err(NameError::SkuCharacter { character: ' ' }));
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
    fn centre_edges() {
        for (text, allowed) in [
            ("lisbon-1", true),
            ("", false),
            ("Lisbon", false),
            ("a@b", false),
        ] {
            assert_eq!(Centre::new(text).is_ok(), allowed, "{text}");
        }
        assert!(Centre::new("c".repeat(CENTRE_BYTES_MAX)).is_ok());
        assert!(Centre::new("c".repeat(CENTRE_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn shards_are_named_after_their_centre() {
        let centre = Centre::new("main").unwrap();
        assert_eq!(
            (centre.shard_number(), centre.shard(0)),
            (0, centre.clone())
        );
        let third = centre.shard(3);
        assert_eq!((third.as_str(), third.shard_number()), ("main/3", 3));
        assert_eq!(
            (third.undivided(), third.shard(1)),
            (centre.clone(), centre.shard(1))
        );
        assert_eq!(Centre::new("main/3"), Ok(third));
        assert_eq!(centre.shard(255).shard_number(), SHARDS_MAX - 1);
        for text in [
            "main/0", "main/01", "main/+1", "main/", "/1", "main/64", "main/1/2",
        ] {
            assert!(Centre::new(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_stock_reads_back_even_when_its_sku_contains_the_separator() {
        let stock = StockId {
            sku: Sku::new("a@b").unwrap(),
            centre: Centre::new("c").unwrap(),
        };
        assert_eq!(stock.to_string(), "a@b@c");
        assert_eq!("a@b@c".parse(), Ok(stock));
        assert!("abc".parse::<StockId>().is_err());
    }
}
