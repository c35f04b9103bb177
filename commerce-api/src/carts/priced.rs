//! A cart with today's prices.
//!
//! Place: pure; shown by the cart endpoints. Checkout fixes prices anew (`crate::checkout::quote`).
//! Invariants: 1. a line whose product is gone or not sold stays visible, without a price, and the cart has then
//! no total: a sum that leaves lines out would mislead.

use serde::{Deserialize, Serialize};
use souk_cart::{CartLine, CartView};

use crate::ids::ProductId;
use crate::money::{Currency, Money};
use crate::search::Card;

/// One line of a cart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PricedLine {
    /// The article.
    pub sku: String,
    /// Its title; `null` when the shop no longer lists it.
    pub title: Option<String>,
    /// Units.
    #[schema(minimum = 1)]
    pub quantity: u64,
    /// What one unit costs now, in minor units; `null` when it is not sold.
    pub unit_price_minor: Option<i64>,
    /// What the line costs now, in minor units; `null` when it is not sold.
    pub line_price_minor: Option<i64>,
    /// The article was removed elsewhere while it was added or changed here: ask the customer.
    pub concurrent: bool,
}

/// A cart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PricedCart {
    /// The cart.
    pub cart_id: String,
    /// One line an article, in the order of their SKUs.
    pub lines: Vec<PricedLine>,
    /// Units over all lines.
    pub units_count: u64,
    /// What everything costs now, in minor units; `null` when some line has no price.
    pub total_minor: Option<i64>,
    /// ISO 4217.
    #[schema(min_length = 3, max_length = 3)]
    pub currency: String,
    /// The last change was accepted with fewer copies than usual; it is safe once the cluster has recovered.
    pub degraded: bool,
}

/// The cart with prices. `cards` are of the products of `view`'s lines, in their order.
#[must_use]
pub fn priced(
    cart_id: &str,
    view: &CartView,
    cards: &[Option<Card>],
    currency: Currency,
    degraded: bool,
) -> PricedCart {
    let lines: Vec<PricedLine> = view
        .lines()
        .iter()
        .zip(cards)
        .map(|(line, card)| price_line(line, card.as_ref(), currency))
        .collect();
    let total_minor = lines
        .iter()
        .try_fold(0_i64, |sum, line| sum.checked_add(line.line_price_minor?));
    PricedCart {
        cart_id: cart_id.to_owned(),
        units_count: view.units_count(),
        total_minor,
        lines,
        currency: currency.code().to_owned(),
        degraded,
    }
}

/// The catalogue's name for what a line holds. A SKU that no product can have is listed nowhere.
#[must_use]
pub fn product_id(line: &CartLine) -> Option<ProductId> {
    line.sku.as_str().parse().ok()
}

fn price_line(line: &CartLine, card: Option<&Card>, currency: Currency) -> PricedLine {
    let price: Option<Money> = card
        .and_then(Card::unit_price)
        .filter(|price| price.currency == currency);
    let line_price =
        price.and_then(|price| price.checked_times(u32::try_from(line.quantity).ok()?).ok());
    PricedLine {
        sku: line.sku.to_string(),
        title: card.map(|card| card.title.clone()),
        quantity: line.quantity,
        unit_price_minor: price.map(|price| price.amount_minor),
        line_price_minor: line_price.map(|price| price.amount_minor),
        concurrent: line.concurrent,
    }
}

#[cfg(test)]
mod tests {
    use souk_cart::{AddTag, Cart, Quantity, Sku};

    use super::*;
    use crate::catalog::Product;

    fn cart(quantities: &[(&str, u32)]) -> CartView {
        let mut cart = Cart::default();
        for (number, (sku, quantity)) in quantities.iter().enumerate() {
            let tag = AddTag::from_bytes([number as u8 + 1; 16]);
            let (sku, quantity) = (Sku::new(*sku).unwrap(), Quantity::new(*quantity).unwrap());
            cart.add(tag, sku, quantity, 1).unwrap();
        }
        cart.view()
    }

    fn card(id: &str, price: i64) -> Card {
        let mut product = Product::new(id.parse().unwrap(), id.to_owned(), Currency::USD, 0);
        product.price_minor = Some(price);
        Card::from(&product)
    }

    #[test]
    fn adds_up() {
        let view = cart(&[("a", 2), ("b", 3)]);
        let products = [Some(card("a", 100)), Some(card("b", 10))];
        let shown = priced("c", &view, &products, Currency::USD, false);
        assert_eq!(shown.total_minor, Some(230));
        assert_eq!(shown.units_count, 5);
    }

    #[test]
    fn a_line_without_a_price_leaves_the_cart_without_a_total() {
        let view = cart(&[("a", 2), ("gone", 1)]);
        let shown = priced("c", &view, &[Some(card("a", 1)), None], Currency::USD, true);
        assert_eq!(shown.total_minor, None);
        assert_eq!(shown.lines[1].title, None);
        assert!(shown.degraded);
    }
}
