//! Turns one object of an outside catalogue into a product.
//!
//! Place: pure; used by `super::catalogue` for JSON Lines and for CSV rows alike.
//! Shape: catalogues name the same thing differently, so each field has a list of names, tried in order;
//! whatever no field takes is kept as an attribute.
//! Invariants: 1. equal input gives an equal product, so importing twice changes nothing.

use serde_json::{Map, Value};

use crate::catalog::Product;
use crate::catalog::product::{AttributeValue, CATEGORY_LEVELS_MAX, HIGHLIGHTS_MAX};
use crate::ids::ProductId;
use crate::money::Currency;

const ID: &[&str] = &["id", "sku", "stock_code", "product"];
const TITLE: &[&str] = &["name", "title", "description"];
const BRAND: &[&str] = &["brand", "manufacturer"];
const CATEGORY: &[&str] = &["category_path", "category", "categories"];
const PRICE: &[&str] = &["price_minor", "price_cents"];
const PRICE_WHOLE: &[&str] = &["price", "median_unit_price_gbp", "unit_price_gbp"];
const SALE_PRICE: &[&str] = &["sale_price_minor", "sale_price_cents"];

/// A product, and whether the catalogue says that there is none to sell.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// The product.
    pub product: Product,
    /// The catalogue's `out_of_stock`; `false` when it says nothing.
    pub out_of_stock: bool,
}

/// What the file does not say.
#[derive(Clone, Copy, Debug)]
pub struct Defaults {
    /// The currency of prices without one.
    pub currency: Currency,
    /// The time a product was made, in Unix milliseconds. A constant of the import, so that it is idempotent.
    pub created_unix_ms: u64,
}

/// Reads one object.
///
/// # Errors
/// A text that says what is missing or wrong.
pub fn product(mut record: Map<String, Value>, defaults: &Defaults) -> Result<Imported, String> {
    let id = take_text(&mut record, ID).ok_or("it has no `id` (or `sku`, `stock_code`)")?;
    let id: ProductId = id.parse().map_err(|error| format!("{error}"))?;
    let title = take_text(&mut record, TITLE).ok_or("it has no `name` (or `title`)")?;
    let currency = match take_text(&mut record, &["currency"]) {
        Some(code) => code.parse().map_err(|error| format!("{error}"))?,
        None => defaults.currency,
    };
    let created = match record.remove("created_unix_ms") {
        Some(value) => value
            .as_u64()
            .ok_or("`created_unix_ms` is not a whole number")?,
        None => defaults.created_unix_ms,
    };
    let mut product = Product::new(id, title, currency, created);
    product.brand = take_text(&mut record, BRAND).unwrap_or_default();
    product.category_path = take_path(&mut record)?;
    product.price_minor = take_price(&mut record, currency)?;
    product.sale_price_minor = take_minor(&mut record, SALE_PRICE)?;
    product.description = take_text(&mut record, &["description"]).unwrap_or_default();
    product.highlights = take_texts(&mut record, "highlights");
    product.highlights.truncate(HIGHLIGHTS_MAX);
    product.rating = record.remove("rating").and_then(|value| number(&value));
    product.review_count = record
        .remove("review_count")
        .and_then(|value| number(&value))
        .map_or(0, |count| count.clamp(0.0, f64::from(u32::MAX)) as u32);
    let out_of_stock = record
        .remove("out_of_stock")
        .is_some_and(|value| is_true(&value));
    if let Some(Value::Object(attributes)) = record.remove("attributes") {
        keep_attributes(&mut product, attributes);
    }
    keep_attributes(&mut product, record);
    product.validate().map_err(|error| error.to_string())?;
    Ok(Imported {
        product,
        out_of_stock,
    })
}

fn keep_attributes(product: &mut Product, values: Map<String, Value>) {
    for (name, value) in values {
        if let Some(value) = attribute(value) {
            product.attributes.insert(name, value);
        }
    }
}

/// `None` for what says nothing: null, an empty text, an empty list.
fn attribute(value: Value) -> Option<AttributeValue> {
    match value {
        Value::Null => None,
        Value::Bool(flag) => Some(AttributeValue::Flag(flag)),
        Value::Number(number) => number
            .as_i64()
            .map(AttributeValue::Whole)
            .or_else(|| number.as_f64().map(AttributeValue::Number)),
        Value::String(text) if text.is_empty() => None,
        Value::String(text) => Some(AttributeValue::Text(text)),
        Value::Array(values) if values.is_empty() => None,
        Value::Array(values) => Some(AttributeValue::List(values.iter().map(text).collect())),
        // Deeper objects have no page to be shown on; keep them readable.
        Value::Object(object) => Some(AttributeValue::Text(Value::Object(object).to_string())),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The first of `names` that is there and says something. A name that is not taken stays for the attributes.
fn take_text(record: &mut Map<String, Value>, names: &[&str]) -> Option<String> {
    let name = names.iter().find(|name| match record.get(**name) {
        Some(Value::String(text)) => !text.trim().is_empty(),
        Some(Value::Number(_)) => true,
        _ => false,
    })?;
    record
        .remove(*name)
        .map(|value| text(&value).trim().to_owned())
}

fn take_texts(record: &mut Map<String, Value>, name: &str) -> Vec<String> {
    match record.remove(name) {
        Some(Value::Array(values)) => values
            .iter()
            .map(text)
            .filter(|text| !text.is_empty())
            .collect(),
        Some(Value::String(text)) if !text.is_empty() => vec![text],
        _ => Vec::new(),
    }
}

/// A list of levels, or one text with levels parted by `>` or `/`.
fn take_path(record: &mut Map<String, Value>) -> Result<Vec<String>, String> {
    let Some(name) = CATEGORY.iter().find(|name| record.contains_key(**name)) else {
        return Ok(Vec::new());
    };
    let levels: Vec<String> = match record.remove(*name) {
        Some(Value::Array(levels)) => levels.iter().map(text).collect(),
        Some(Value::String(path)) if path.contains('>') => {
            path.split('>').map(String::from).collect()
        }
        Some(Value::String(path)) => path.split('/').map(String::from).collect(),
        Some(Value::Null) | None => Vec::new(),
        Some(_) => return Err(format!("`{name}` is neither a list nor a text")),
    };
    let trimmed = levels.iter().map(|level| level.trim().to_owned());
    Ok(trimmed
        .filter(|level| !level.is_empty())
        .take(CATEGORY_LEVELS_MAX)
        .collect())
}

fn take_price(record: &mut Map<String, Value>, currency: Currency) -> Result<Option<i64>, String> {
    if let Some(price) = take_minor(record, PRICE)? {
        return Ok(Some(price));
    }
    let Some(name) = PRICE_WHOLE.iter().find(|name| record.contains_key(**name)) else {
        return Ok(None);
    };
    match record.remove(*name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(value) => minor_units(&text(&value), currency.minor_digits())
            .map(Some)
            .ok_or_else(|| format!("`{name}` is no price")),
    }
}

fn take_minor(record: &mut Map<String, Value>, names: &[&str]) -> Result<Option<i64>, String> {
    let Some(name) = names.iter().find(|name| record.contains_key(**name)) else {
        return Ok(None);
    };
    match record.remove(*name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(value) => text(&value)
            .parse()
            .map(Some)
            .map_err(|_| format!("`{name}` is not a whole number of minor units")),
    }
}

/// Minor units of a decimal such as `2.55`, without passing through a binary fraction; half a unit goes up.
fn minor_units(decimal: &str, digits: u16) -> Option<i64> {
    let (whole, fraction) = decimal
        .trim()
        .split_once('.')
        .unwrap_or((decimal.trim(), ""));
    if whole.is_empty()
        || !whole
            .bytes()
            .chain(fraction.bytes())
            .all(|byte| byte.is_ascii_digit())
    {
        return None;
    }
    let digits = usize::from(digits);
    let mut kept: String = fraction.chars().take(digits).collect();
    while kept.len() < digits {
        kept.push('0');
    }
    let rounds_up = fraction
        .as_bytes()
        .get(digits)
        .is_some_and(|digit| *digit >= b'5');
    let minor: i64 = format!("{whole}{kept}").parse().ok()?;
    minor.checked_add(i64::from(rounds_up))
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

fn is_true(value: &Value) -> bool {
    match value {
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_i64() == Some(1),
        Value::String(text) => matches!(text.as_str(), "true" | "1" | "yes"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const DEFAULTS: Defaults = Defaults {
        currency: Currency::USD,
        created_unix_ms: 1,
    };

    fn read(value: Value) -> Result<Imported, String> {
        let Value::Object(record) = value else {
            panic!("an object")
        };
        product(record, &DEFAULTS)
    }

    #[test]
    fn reads_a_full_record() {
        let imported = read(json!({
            "id": "P1", "name": "Eyeliner", "brand": "Mario", "category_path": ["Makeup", "Eye"],
            "price_cents": 2400, "sale_price_cents": 2000, "rating": 3.8, "review_count": 159,
            "highlights": ["Vegan"], "out_of_stock": true, "size": "1 ml", "variant_count": 0,
            "attributes": {"finish": "matte"}, "ingredients": []
        }))
        .unwrap();
        let product = imported.product;
        assert!(imported.out_of_stock);
        assert_eq!(product.title, "Eyeliner");
        assert_eq!(product.category(), "Makeup/Eye");
        assert_eq!(
            (product.price_minor, product.sale_price_minor),
            (Some(2400), Some(2000))
        );
        assert_eq!(
            product.attributes["finish"],
            AttributeValue::Text("matte".to_owned())
        );
        assert_eq!(
            product.attributes["variant_count"],
            AttributeValue::Whole(0)
        );
        assert!(
            !product.attributes.contains_key("ingredients"),
            "an empty list says nothing"
        );
    }

    #[test]
    fn knows_other_names_for_the_same_thing() {
        let csv_like = read(json!({
            "stock_code": "85123A", "description": "WHITE HANGING HEART", "median_unit_price_gbp": "2.95",
        }))
        .unwrap()
        .product;
        assert_eq!(csv_like.title, "WHITE HANGING HEART");
        assert_eq!(csv_like.price_minor, Some(295));
        let titled = read(json!({"sku": "s", "title": "T", "category": "A > B", "price_minor": 5}));
        assert_eq!(titled.unwrap().product.category_path, ["A", "B"]);
        let both = read(json!({"id": "bb1", "sku": "77", "name": "N"}))
            .unwrap()
            .product;
        assert_eq!(
            both.attributes["sku"],
            AttributeValue::Text("77".to_owned())
        );
    }

    #[track_caller]
    fn check_refused(value: Value, words: &str) {
        let reason = read(value).unwrap_err();
        assert!(reason.contains(words), "{reason}");
    }

    #[test]
    fn says_what_is_wrong() {
        check_refused(json!({"name": "x"}), "no `id`");
        check_refused(json!({"id": "x"}), "no `name`");
        check_refused(json!({"id": "a b", "name": "x"}), "not a product id");
        check_refused(
            json!({"id": "a", "name": "x", "price_cents": -1}),
            "`price_minor` is -1",
        );
        check_refused(
            json!({"id": "a", "name": "x", "price_cents": "free"}),
            "whole number",
        );
        check_refused(json!({"id": "a", "name": "x", "price": "1,5"}), "no price");
        check_refused(
            json!({"id": "a", "name": "x", "currency": "XXY"}),
            "ISO 4217",
        );
        check_refused(json!({"id": "a", "name": "x", "rating": 9}), "`rating`");
        check_refused(
            json!({"id": "a", "name": "x", "category": 7}),
            "neither a list nor a text",
        );
    }

    #[test]
    fn rounds_decimals_exactly() {
        for (decimal, digits, expected) in [
            ("2.55", 2, Some(255)),
            ("2.5", 2, Some(250)),
            ("2", 2, Some(200)),
            ("0.285", 2, Some(29)),
            ("1.005", 2, Some(101)),
            ("12.5", 0, Some(13)),
            ("-1", 2, None),
            ("", 2, None),
            (".5", 2, None),
            ("1e3", 2, None),
            ("99999999999999999999", 2, None),
        ] {
            assert_eq!(minor_units(decimal, digits), expected, "{decimal}");
        }
    }

    proptest! {
        #[test]
        fn minor_units_come_back(minor in 0_i64..1_000_000_000_000) {
            let text = format!("{}.{:02}", minor / 100, minor % 100);
            prop_assert_eq!(minor_units(&text, 2), Some(minor));
        }

        #[test]
        fn odd_objects_never_panic(text in "\\PC{0,60}", number: f64) {
            let _ = read(json!({"id": text, "name": text, "price": number, "category": text,
                "attributes": {text.clone(): number}, "rating": number}));
        }
    }
}
