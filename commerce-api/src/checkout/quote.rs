//! Fixes what is bought and at which price.
//!
//! Place: pure; used by `super::driver` before an order is made.
//! Invariants: 1. one line a SKU, so that each demand is checked against the whole stock of its SKU. 2. a cart that
//! cannot be bought whole is not bought at all; the customer is told why.

use souk_cart::CartView;

use crate::carts::QUANTITY_MAX;
use crate::catalog::Product;
use crate::money::Currency;
use crate::orders::record::OrderLine;

/// Why a cart cannot be bought.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuoteError {
    /// What: nothing in it. Why: it was bought already, or never filled. Mend: put something in.
    #[error("cart `{cart_id}` is empty; put something in before checking out")]
    Empty {
        /// The cart.
        cart_id: String,
    },
    /// What: the shop does not sell it (any more). Mend: take it out.
    #[error("`{sku}` is not sold; take it out of the cart")]
    NotSold {
        /// The article.
        sku: String,
    },
    /// What: more units than one order takes. Mend: buy fewer.
    #[error(
        "{quantity} units of `{sku}` are more than one order takes ({QUANTITY_MAX}); buy fewer"
    )]
    TooMany {
        /// The article.
        sku: String,
        /// Units in the cart.
        quantity: u64,
    },
    /// What: it is priced in another currency. Mend: take it out.
    #[error("`{sku}` is priced in {found}, this shop sells in {wanted}; take it out of the cart")]
    Currency {
        /// The article.
        sku: String,
        /// Its currency.
        found: Currency,
        /// The shop's.
        wanted: Currency,
    },
    /// What: the whole order costs nothing, and providers take no payment of nothing. Mend: add something with a price.
    #[error("the order costs nothing; add something with a price")]
    Free,
}

/// The lines of an order. `products` are those of `view.lines`, in their order.
///
/// # Errors
/// The first line that cannot be bought.
pub fn quote(
    cart_id: &str,
    view: &CartView,
    products: &[Option<Product>],
    currency: Currency,
) -> Result<Vec<OrderLine>, QuoteError> {
    if view.is_empty() {
        return Err(QuoteError::Empty {
            cart_id: cart_id.to_owned(),
        });
    }
    let mut lines = Vec::with_capacity(view.lines().len());
    for (line, product) in view.lines().iter().zip(products) {
        let sku = || line.sku.to_string();
        let product = product
            .as_ref()
            .ok_or_else(|| QuoteError::NotSold { sku: sku() })?;
        let unit_price = product
            .unit_price()
            .ok_or_else(|| QuoteError::NotSold { sku: sku() })?;
        if unit_price.currency != currency {
            let found = unit_price.currency;
            return Err(QuoteError::Currency {
                sku: sku(),
                found,
                wanted: currency,
            });
        }
        let quantity = u32::try_from(line.quantity)
            .ok()
            .filter(|quantity| *quantity <= QUANTITY_MAX)
            .ok_or_else(|| QuoteError::TooMany {
                sku: sku(),
                quantity: line.quantity,
            })?;
        lines.push(OrderLine {
            sku: product.id.clone(),
            title: product.title.clone(),
            quantity,
            unit_price,
            cart_tags: line.tags.iter().map(ToString::to_string).collect(),
        });
    }
    if lines.iter().all(|line| line.unit_price.amount_minor == 0) {
        return Err(QuoteError::Free);
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use souk_cart::{AddTag, Cart, Quantity, Sku};

    use super::*;

    fn cart(quantities: &[(&str, u32)]) -> CartView {
        let mut cart = Cart::default();
        for (number, (sku, quantity)) in quantities.iter().enumerate() {
            let tag = AddTag::from_bytes([number as u8 + 1; 16]);
            let (sku, quantity) = (Sku::new(*sku).unwrap(), Quantity::new(*quantity).unwrap());
            cart.add(tag, sku, quantity, 1).unwrap();
        }
        cart.view()
    }

    fn product(id: &str, price: Option<i64>) -> Option<Product> {
        let mut product = Product::new(id.parse().unwrap(), id.to_owned(), Currency::USD, 0);
        product.price_minor = price;
        Some(product)
    }

    #[test]
    fn sums_adds_of_one_article_into_one_line() {
        let view = cart(&[("a", 2), ("a", 3)]);
        let lines = quote("c", &view, &[product("a", Some(10))], Currency::USD).unwrap();
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].quantity, 5);
        assert_eq!(lines[0].cart_tags.len(), 2);
    }

    #[track_caller]
    fn check_refused(view: &CartView, products: &[Option<Product>], currency: &str, words: &str) {
        let error = quote("c", view, products, currency.parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }

    #[test]
    fn refuses_what_cannot_be_bought() {
        let one = cart(&[("a", 1)]);
        check_refused(&cart(&[]), &[], "USD", "is empty");
        check_refused(&one, &[None], "USD", "is not sold");
        check_refused(&one, &[product("a", None)], "USD", "is not sold");
        check_refused(&one, &[product("a", Some(1))], "EUR", "priced in USD");
        check_refused(&one, &[product("a", Some(0))], "USD", "costs nothing");
        let many = cart(&[("a", QUANTITY_MAX), ("a", 1)]);
        check_refused(
            &many,
            &[product("a", Some(1))],
            "USD",
            "more than one order takes",
        );
    }
}
