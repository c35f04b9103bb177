//! Money as whole minor units and an ISO 4217 currency, so that no cent is ever rounded away.
//!
//! Place: pure; used by every room that names a price.
//! Source: ISO 4217 (currencies and their minor units).
//! Shape: `Money` is an `i64` of minor units (cents, pence, yen) and a `Currency`.
//! Invariants: 1. arithmetic is checked: an overflow is an error, never a wrap. 2. two currencies never mix.
//! Not here: exchange rates (the shop sells in one currency), taxes, formatting for people's locales.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The largest price of one unit, in minor units: one hundred million of a currency with cents.
///
/// With at most [`QUANTITY_MAX`](crate::carts::QUANTITY_MAX) units a line and
/// [`LINES_MAX`](crate::carts::LINES_MAX) lines an order, a total stays far below `i64::MAX`.
pub const PRICE_MINOR_MAX: i64 = 10_000_000_000;

/// An ISO 4217 currency that is in use, such as `USD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency(iso_currency::Currency);

impl Currency {
    /// The shop's default.
    pub const USD: Currency = Currency(iso_currency::Currency::USD);

    /// The three letters, for example `USD`.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.0.code()
    }

    /// Digits after the decimal point in everyday writing: 2 for `USD`, 0 for `JPY`.
    #[must_use]
    pub fn minor_digits(self) -> u16 {
        self.0.exponent().unwrap_or(0)
    }
}

impl Default for Currency {
    fn default() -> Self {
        Self::USD
    }
}

impl FromStr for Currency {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        iso_currency::Currency::from_code(text)
            .map(Currency)
            .ok_or_else(|| MoneyError::UnknownCurrency {
                code: text.chars().take(16).collect(),
            })
    }
}

impl TryFrom<String> for Currency {
    type Error = MoneyError;

    fn try_from(text: String) -> Result<Self, MoneyError> {
        text.parse()
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> String {
        currency.code().to_owned()
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.code())
    }
}

/// An amount in minor units of one currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Money {
    /// Whole minor units; may be negative in differences.
    pub amount_minor: i64,
    /// The currency of the amount.
    pub currency: Currency,
}

impl Money {
    /// An amount of `amount_minor` minor units.
    #[must_use]
    pub fn new(amount_minor: i64, currency: Currency) -> Self {
        Self {
            amount_minor,
            currency,
        }
    }

    /// Nothing, in `currency`.
    #[must_use]
    pub fn zero(currency: Currency) -> Self {
        Self::new(0, currency)
    }

    /// The sum of two amounts.
    ///
    /// # Errors
    /// Currencies differ, or the sum does not fit.
    pub fn checked_add(self, other: Money) -> Result<Money, MoneyError> {
        if self.currency != other.currency {
            return Err(MoneyError::CurrenciesDiffer {
                left: self.currency,
                right: other.currency,
            });
        }
        let sum = self
            .amount_minor
            .checked_add(other.amount_minor)
            .ok_or(MoneyError::Overflow)?;
        Ok(Money::new(sum, self.currency))
    }

    /// The price of `quantity` units.
    ///
    /// # Errors
    /// The product does not fit.
    pub fn checked_times(self, quantity: u32) -> Result<Money, MoneyError> {
        let product = self
            .amount_minor
            .checked_mul(i64::from(quantity))
            .ok_or(MoneyError::Overflow)?;
        Ok(Money::new(product, self.currency))
    }
}

impl fmt::Display for Money {
    /// Writes `USD 12.50`; for logs and messages, not for a locale.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = usize::from(self.currency.minor_digits());
        let sign = if self.amount_minor < 0 { "-" } else { "" };
        let text = format!(
            "{:0width$}",
            self.amount_minor.unsigned_abs(),
            width = digits + 1
        );
        let (whole, fraction) = text.split_at(text.len() - digits);
        let point = if digits == 0 { "" } else { "." };
        write!(
            formatter,
            "{} {sign}{whole}{point}{fraction}",
            self.currency
        )
    }
}

/// Why an amount could not be computed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// What: the letters name no currency. Mend: use an ISO 4217 code in capitals, such as `USD`.
    #[error("`{code}` is no ISO 4217 currency; write three capital letters such as `USD`")]
    UnknownCurrency {
        /// What was given, at most 16 characters of it.
        code: String,
    },
    /// What: two currencies in one sum. Mend: price everything of one order in one currency.
    #[error("{left} and {right} cannot be added; price everything in one currency")]
    CurrenciesDiffer {
        /// The currency of the first amount.
        left: Currency,
        /// The currency of the second amount.
        right: Currency,
    },
    /// What: more minor units than 64 bits hold. Mend: order less at once.
    #[error("the amount is too large to be represented; order less at once")]
    Overflow,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check_display(amount: i64, code: &str, expected: &str) {
        let money = Money::new(amount, code.parse().unwrap());
        assert_eq!(money.to_string(), expected);
    }

    #[test]
    fn shows_the_right_digits() {
        check_display(1250, "USD", "USD 12.50");
        check_display(5, "USD", "USD 0.05");
        check_display(-5, "USD", "USD -0.05");
        check_display(5, "JPY", "JPY 5");
        check_display(1_234, "KWD", "KWD 1.234");
        check_display(i64::MIN, "JPY", "JPY -9223372036854775808");
    }

    #[test]
    fn refuses_what_is_no_currency() {
        for bad in ["", "usd", "US", "DOLLARS", "ZZZ", "U$D"] {
            assert!(bad.parse::<Currency>().is_err(), "{bad}");
        }
    }

    #[test]
    fn never_mixes_currencies() {
        let pounds = Money::new(1, "GBP".parse().unwrap());
        assert!(matches!(
            Money::new(1, Currency::USD).checked_add(pounds),
            Err(MoneyError::CurrenciesDiffer { .. })
        ));
    }

    proptest! {
        #[test]
        fn agrees_with_wide_arithmetic(left: i64, right: i64, quantity: u32) {
            let (a, b) = (Money::new(left, Currency::USD), Money::new(right, Currency::USD));
            let sum = i128::from(left) + i128::from(right);
            prop_assert_eq!(a.checked_add(b).ok().map(|m| i128::from(m.amount_minor)),
                i64::try_from(sum).ok().map(i128::from));
            let product = i128::from(left) * i128::from(quantity);
            prop_assert_eq!(a.checked_times(quantity).ok().map(|m| i128::from(m.amount_minor)),
                i64::try_from(product).ok().map(i128::from));
        }

        #[test]
        fn survives_json(amount: i64) {
            let money = Money::new(amount, Currency::USD);
            let text = serde_json::to_string(&money).unwrap();
            prop_assert_eq!(serde_json::from_str::<Money>(&text).unwrap(), money);
        }
    }
}
