//! How many units of each article an order needs, over all its lines.
//!
//! Two lines that name the same article would each pass a check alone, and together take more than there is. So demand
//! is summed first, and each article is reserved once.
//!
//! Place: pure; used by checkout.
//! Invariants: 1. one entry per SKU, in SKU order: reserving in one order keeps two checkouts from blocking each other.
//! Not here: choosing centres.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::names::{QUANTITY_MAX, Quantity, Sku};

/// Why lines do not add up to a demand.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DemandError {
    /// What: a line asks for no units. Mend: leave the line out.
    #[error("a line of {sku} asks for 0 units; leave it out")]
    Nothing {
        /// The article.
        sku: Sku,
    },
    /// What: the lines of one article ask for more than [`QUANTITY_MAX`] units together. Mend: split the order.
    #[error(
        "the lines of {sku} ask for {units} units together, at most {} are allowed; split the order",
        QUANTITY_MAX
    )]
    TooMuch {
        /// The article.
        sku: Sku,
        /// The sum so far.
        units: u64,
    },
}

/// Sums lines of (SKU, units) into one quantity per SKU.
///
/// # Errors
/// [`DemandError`] for a line without units, and for a sum that one command cannot name.
pub fn sum_demand(
    lines: impl IntoIterator<Item = (Sku, u64)>,
) -> Result<BTreeMap<Sku, Quantity>, DemandError> {
    let mut sums: BTreeMap<Sku, u64> = BTreeMap::new();
    for (sku, units) in lines {
        if units == 0 {
            return Err(DemandError::Nothing { sku });
        }
        let sum = sums.entry(sku).or_default();
        *sum = sum.saturating_add(units);
    }
    sums.into_iter()
        .map(
            |(sku, units)| match u32::try_from(units).map(Quantity::new) {
                Ok(Ok(quantity)) => Ok((sku, quantity)),
                Ok(Err(_)) | Err(_) => Err(DemandError::TooMuch { sku, units }),
            },
        )
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: &[(&str, u64)], expected: Result<&[(&str, u32)], &str>) {
        let lines = lines
            .iter()
            .map(|(sku, units)| (Sku::new(*sku).unwrap(), *units));
        let found = sum_demand(lines).map_err(|error| error.to_string());
        match (&found, expected) {
            (Ok(demand), Ok(expected)) => {
                let demand: Vec<_> = demand
                    .iter()
                    .map(|(sku, units)| (sku.as_str(), units.get()))
                    .collect();
                assert_eq!(demand, expected);
            }
            (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
            _ => panic!("{found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn lines_of_one_article_are_one_demand() {
        check(&[], Ok(&[]));
        check(&[("b", 1), ("a", 2), ("b", 3)], Ok(&[("a", 2), ("b", 4)]));
        check(
            &[("a", u64::from(QUANTITY_MAX))],
            Ok(&[("a", QUANTITY_MAX)]),
        );
    }

    #[test]
    fn sums_that_no_command_can_name_are_refused() {
        check(&[("a", 0)], Err("0 units"));
        check(
            &[("a", u64::from(QUANTITY_MAX)), ("a", 1)],
            Err("split the order"),
        );
        check(&[("a", u64::MAX), ("a", 1)], Err("split the order"));
    }
}
