//! The product record: what a page shows and what a cart charges.
//!
//! Place: pure; stored by `super::store`, indexed by `crate::search`, filled by `crate::import` and the admin calls.
//! Shape: JSON with a format number; prices are whole minor units beside one currency.
//! Invariants: 1. a product that passed [`Product::validate`] keeps every limit named here.
//! 2. equal products have equal bytes, so an entity tag may be their digest.
//! Not here: stock levels, which change far more often than what is written about a product.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ids::{ProductId, digest};
use crate::money::{Currency, Money, PRICE_MINOR_MAX};

/// The longest title, in characters.
pub const TITLE_CHARS_MAX: usize = 500;
/// The longest brand, in characters.
pub const BRAND_CHARS_MAX: usize = 200;
/// The longest description, in characters.
pub const DESCRIPTION_CHARS_MAX: usize = 20_000;
/// The deepest category path.
pub const CATEGORY_LEVELS_MAX: usize = 8;
/// The longest name of one category level, in characters.
pub const CATEGORY_CHARS_MAX: usize = 120;
/// The most attributes of one product.
pub const ATTRIBUTES_MAX: usize = 500;
/// The longest text of one attribute, or all texts of a list together, in characters. Lists of ingredients are long.
pub const ATTRIBUTE_CHARS_MAX: usize = 50_000;
/// The most highlights of one product.
pub const HIGHLIGHTS_MAX: usize = 50;

/// The stored format; a newer one is refused.
const FORMAT: u32 = 1;

/// A value of an attribute: what catalogues write beside a name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum AttributeValue {
    /// Yes or no.
    Flag(bool),
    /// A whole number.
    Whole(i64),
    /// A measure.
    Number(f64),
    /// Words.
    Text(String),
    /// Several words.
    List(Vec<String>),
}

/// Derived, this would be a `oneOf` in which a whole number matches twice.
impl utoipa::PartialSchema for AttributeValue {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        use utoipa::openapi::schema::{AnyOfBuilder, ArrayBuilder, ObjectBuilder, Schema, Type};
        let of = |kind: Type| ObjectBuilder::new().schema_type(kind);
        let text = of(Type::String).max_length(Some(ATTRIBUTE_CHARS_MAX));
        let values = AnyOfBuilder::new()
            .item(of(Type::Boolean))
            .item(of(Type::Number))
            .item(text)
            .item(ArrayBuilder::new().items(of(Type::String)))
            .description(Some("Yes or no, a measure, words, or several words."));
        Schema::AnyOf(values.build()).into()
    }
}

impl utoipa::ToSchema for AttributeValue {}

/// One thing for sale.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Product {
    format: u32,
    /// The id, which is also its SKU.
    pub id: ProductId,
    /// 1 to [`TITLE_CHARS_MAX`] characters.
    pub title: String,
    /// Up to [`BRAND_CHARS_MAX`] characters; empty when the catalogue names none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub brand: String,
    /// From the widest category to the narrowest; empty when the catalogue has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub category_path: Vec<String>,
    /// The usual price of one unit, `0..=PRICE_MINOR_MAX`; `None` when the product is listed but not sold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_minor: Option<i64>,
    /// The reduced price, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sale_price_minor: Option<i64>,
    /// The currency of both prices.
    pub currency: Currency,
    /// Up to [`DESCRIPTION_CHARS_MAX`] characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Selling points, in the catalogue's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub highlights: Vec<String>,
    /// Everything else the catalogue says, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, AttributeValue>,
    /// Mean of the ratings the catalogue came with, `0.0..=5.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rating: Option<f64>,
    /// Ratings behind that mean.
    #[serde(default)]
    pub review_count: u32,
    /// When the product was first stored, in Unix milliseconds.
    pub created_unix_ms: u64,
}

impl Product {
    /// A product with nothing but its id, title and currency.
    #[must_use]
    pub fn new(id: ProductId, title: String, currency: Currency, created_unix_ms: u64) -> Self {
        Self {
            format: FORMAT,
            id,
            title,
            brand: String::new(),
            category_path: Vec::new(),
            price_minor: None,
            sale_price_minor: None,
            currency,
            description: String::new(),
            highlights: Vec::new(),
            attributes: BTreeMap::new(),
            rating: None,
            review_count: 0,
            created_unix_ms,
        }
    }

    /// What one unit costs now: the reduced price where it is lower; `None` when the product is not sold.
    #[must_use]
    pub fn unit_price(&self) -> Option<Money> {
        let usual = self.price_minor?;
        let price = self.sale_price_minor.map_or(usual, |sale| sale.min(usual));
        Some(Money::new(price, self.currency))
    }

    /// The category as one text, `Makeup/Eye/Eyeliner`: what filters and facets speak.
    #[must_use]
    pub fn category(&self) -> String {
        self.category_path.join("/")
    }

    /// Every category the product is in, from the widest to the narrowest: `Makeup`, `Makeup/Eye`.
    pub fn categories(&self) -> impl Iterator<Item = String> + '_ {
        (1..=self.category_path.len()).map(|levels| self.category_path[..levels].join("/"))
    }

    /// The stored form.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a product has text keys and finite numbers only")
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// The bytes are no product, or were written by a newer shop.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ProductError> {
        let product: Product =
            serde_json::from_slice(bytes).map_err(|error| ProductError::Unreadable {
                why: error.to_string(),
            })?;
        if product.format > FORMAT {
            return Err(ProductError::Newer {
                format: product.format,
            });
        }
        Ok(product)
    }

    /// The digest of the stored form: equal for equal products.
    #[must_use]
    pub fn digest(&self) -> Uuid {
        digest(&self.to_bytes())
    }

    /// Checks every limit.
    ///
    /// # Errors
    /// The first limit that is broken.
    pub fn validate(&self) -> Result<(), ProductError> {
        check_chars("title", &self.title, 1, TITLE_CHARS_MAX)?;
        check_chars("brand", &self.brand, 0, BRAND_CHARS_MAX)?;
        check_chars("description", &self.description, 0, DESCRIPTION_CHARS_MAX)?;
        check_count(
            "category_path",
            self.category_path.len(),
            CATEGORY_LEVELS_MAX,
        )?;
        for level in &self.category_path {
            check_chars("category_path", level, 1, CATEGORY_CHARS_MAX)?;
        }
        check_count("highlights", self.highlights.len(), HIGHLIGHTS_MAX)?;
        for highlight in &self.highlights {
            check_chars("highlights", highlight, 1, ATTRIBUTE_CHARS_MAX)?;
        }
        check_price("price_minor", self.price_minor)?;
        check_price("sale_price_minor", self.sale_price_minor)?;
        if let Some(rating) = self.rating
            && !(0.0..=5.0).contains(&rating)
        {
            return Err(ProductError::Rating);
        }
        self.validate_attributes()
    }

    fn validate_attributes(&self) -> Result<(), ProductError> {
        check_count("attributes", self.attributes.len(), ATTRIBUTES_MAX)?;
        for (name, value) in &self.attributes {
            check_chars("attributes", name, 0, CATEGORY_CHARS_MAX)?;
            match value {
                AttributeValue::Text(text) => {
                    check_chars("attributes", text, 0, ATTRIBUTE_CHARS_MAX)?;
                }
                AttributeValue::List(texts) => {
                    let chars: usize = texts.iter().map(|text| text.chars().count()).sum();
                    check_length("attributes", chars, 0, ATTRIBUTE_CHARS_MAX)?;
                }
                AttributeValue::Number(number) if !number.is_finite() => {
                    return Err(ProductError::NotFinite { name: name.clone() });
                }
                AttributeValue::Flag(_) | AttributeValue::Whole(_) | AttributeValue::Number(_) => {}
            }
        }
        Ok(())
    }
}

fn check_chars(
    field: &'static str,
    text: &str,
    chars_min: usize,
    chars_max: usize,
) -> Result<(), ProductError> {
    check_length(field, text.chars().count(), chars_min, chars_max)
}

fn check_length(
    field: &'static str,
    chars: usize,
    chars_min: usize,
    chars_max: usize,
) -> Result<(), ProductError> {
    if chars < chars_min || chars > chars_max {
        return Err(ProductError::Length {
            field,
            chars,
            chars_min,
            chars_max,
        });
    }
    Ok(())
}

fn check_count(field: &'static str, count: usize, max: usize) -> Result<(), ProductError> {
    if count > max {
        return Err(ProductError::TooMany { field, count, max });
    }
    Ok(())
}

fn check_price(field: &'static str, price: Option<i64>) -> Result<(), ProductError> {
    match price {
        Some(price) if !(0..=PRICE_MINOR_MAX).contains(&price) => {
            Err(ProductError::Price { field, price })
        }
        Some(_) | None => Ok(()),
    }
}

/// Why a product is not accepted or cannot be read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ProductError {
    /// What: a text is too short or too long.
    #[error("`{field}` has {chars} characters; {chars_min} to {chars_max} are allowed")]
    Length {
        /// The field.
        field: &'static str,
        /// Its characters.
        chars: usize,
        /// The fewest allowed.
        chars_min: usize,
        /// The most allowed.
        chars_max: usize,
    },
    /// What: a list is too long.
    #[error("`{field}` has {count} entries; at most {max} are allowed")]
    TooMany {
        /// The field.
        field: &'static str,
        /// Its entries.
        count: usize,
        /// The most allowed.
        max: usize,
    },
    /// What: a price is negative or absurdly high.
    #[error("`{field}` is {price}; write whole minor units from 0 to {PRICE_MINOR_MAX}")]
    Price {
        /// The field.
        field: &'static str,
        /// Its value.
        price: i64,
    },
    /// What: the rating is outside its scale.
    #[error("`rating` has to lie between 0 and 5")]
    Rating,
    /// What: an attribute is infinite or no number.
    #[error("attribute `{name}` is not a finite number")]
    NotFinite {
        /// The attribute.
        name: String,
    },
    /// What: stored bytes are no product. Mend: import the product again.
    #[error("a stored product cannot be read ({why}); import it again")]
    Unreadable {
        /// What the reader says.
        why: String,
    },
    /// What: a newer shop wrote this record. Mend: upgrade this process.
    #[error(
        "a stored product has format {format}, this shop knows up to {FORMAT}; upgrade this shop"
    )]
    Newer {
        /// The format found.
        format: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product() -> Product {
        let mut product =
            Product::new("p1".parse().unwrap(), "Kettle".to_owned(), Currency::USD, 7);
        product.category_path = vec!["Home".to_owned(), "Kitchen".to_owned()];
        product.price_minor = Some(4_000);
        product
    }

    #[test]
    fn charges_the_lower_price() {
        let mut kettle = product();
        assert_eq!(kettle.unit_price().unwrap().amount_minor, 4_000);
        kettle.sale_price_minor = Some(3_000);
        assert_eq!(kettle.unit_price().unwrap().amount_minor, 3_000);
        kettle.sale_price_minor = Some(5_000);
        assert_eq!(kettle.unit_price().unwrap().amount_minor, 4_000);
        kettle.price_minor = None;
        assert_eq!(kettle.unit_price(), None);
    }

    #[test]
    fn names_every_category_above() {
        assert_eq!(
            product().categories().collect::<Vec<_>>(),
            ["Home", "Home/Kitchen"]
        );
    }

    fn check_refused(change: impl FnOnce(&mut Product), words: &str) {
        let mut kettle = product();
        change(&mut kettle);
        let message = kettle.validate().unwrap_err().to_string();
        assert!(message.contains(words), "{message}");
    }

    #[test]
    fn refuses_what_breaks_a_limit() {
        check_refused(|p| p.title.clear(), "`title` has 0");
        check_refused(|p| p.brand = "b".repeat(201), "`brand` has 201");
        check_refused(|p| p.price_minor = Some(-1), "`price_minor` is -1");
        check_refused(
            |p| p.sale_price_minor = Some(i64::MAX),
            "`sale_price_minor`",
        );
        check_refused(|p| p.rating = Some(5.1), "`rating`");
        check_refused(
            |p| {
                p.attributes
                    .insert("w".to_owned(), AttributeValue::Number(f64::NAN));
            },
            "not a finite number",
        );
        product().validate().unwrap();
    }

    #[test]
    fn survives_its_stored_form() {
        let mut kettle = product();
        kettle
            .attributes
            .insert("watts".to_owned(), AttributeValue::Whole(2_000));
        kettle
            .attributes
            .insert("litres".to_owned(), AttributeValue::Number(1.7));
        kettle
            .attributes
            .insert("cordless".to_owned(), AttributeValue::Flag(true));
        let read = Product::from_bytes(&kettle.to_bytes()).unwrap();
        assert_eq!(read, kettle);
        assert_eq!(read.digest(), kettle.digest());
    }

    #[test]
    fn refuses_bytes_of_another_kind() {
        assert!(matches!(
            Product::from_bytes(b"{"),
            Err(ProductError::Unreadable { .. })
        ));
        let mut newer = product();
        newer.format = FORMAT + 1;
        assert!(matches!(
            Product::from_bytes(&newer.to_bytes()),
            Err(ProductError::Newer { format: 2 })
        ));
    }
}
