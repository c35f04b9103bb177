//! Whole numbers in JSON: `3.0` is as whole as `3`.
//!
//! Source: JSON Schema 2020-12, validation §6.1.1: a number with a zero fraction is an `integer`. serde's integers refuse
//! `3.0`, so what the document allows would be refused without this.

use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// The largest number up to which every whole number is exact in a binary fraction.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// Reads a whole number.
pub(super) fn whole<'de, D: Deserializer<'de>, T: TryFrom<i64>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let number = serde_json::Number::deserialize(deserializer)?;
    let exact = number.as_i64().or_else(|| {
        let float = number.as_f64()?;
        (float.fract() == 0.0 && float.abs() <= EXACT_MAX).then_some(float as i64)
    });
    let fitting = exact.and_then(|exact| T::try_from(exact).ok());
    fitting.ok_or_else(|| {
        D::Error::custom(format!(
            "{number} is not a whole number in the allowed range"
        ))
    })
}

/// Reads a whole number that may be `null`. Use it with `default`, so that it may also be left out.
pub(super) fn maybe_whole<'de, D: Deserializer<'de>, T: TryFrom<i64>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    #[derive(Deserialize)]
    #[serde(bound = "T: TryFrom<i64>")]
    struct Whole<T>(#[serde(deserialize_with = "whole")] T);
    Ok(Option::<Whole<T>>::deserialize(deserializer)?.map(|whole| whole.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Body {
        #[serde(deserialize_with = "whole")]
        units: u32,
        #[serde(default, deserialize_with = "maybe_whole")]
        price: Option<i64>,
    }

    #[track_caller]
    fn check(units: &str, price: &str, expected: Option<(u32, Option<i64>)>) {
        let body = serde_json::from_str::<Body>(&format!("{{\"units\":{units}{price}}}"));
        assert_eq!(
            body.ok().map(|body| (body.units, body.price)),
            expected,
            "{units} {price}"
        );
    }

    #[test]
    fn takes_what_is_whole_and_nothing_else() {
        check("3", "", Some((3, None)));
        check("3.0", ",\"price\":4.0", Some((3, Some(4))));
        check("3e2", ",\"price\":null", Some((300, None)));
        check("3.5", "", None);
        check("-1", "", None);
        check("4294967296", "", None);
        check("\"3\"", "", None);
        check("true", "", None);
        check("1", ",\"price\":1e300", None);
    }
}
