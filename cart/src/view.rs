//! What a shopper sees of a cart: one line per article, with its whole quantity.
//!
//! Place: pure; made by [`Cart::view`], read by the pages and by checkout.
//! Invariants: 1. lines are in SKU order, one per SKU. 2. a line's quantity is the sum over its adds, each counted once.
//! Not here: prices, titles, stock (`souk_commerce_api`).

use std::collections::BTreeMap;

use crate::cart::Cart;
use crate::line::Sku;
use crate::tag::AddTag;

/// One article in a cart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CartLine {
    /// The article.
    pub sku: Sku,
    /// Units over all its adds; at least 1.
    pub quantity: u64,
    /// The adds behind this line, in tag order; what [`Cart::remove_ordered`] takes after a checkout.
    pub tags: Vec<AddTag>,
    /// When its oldest add was made, in Unix milliseconds by that writer's clock.
    pub first_added_unix_ms: u64,
    /// Whether one of the adds was made concurrently with a removal or a change of the same article: the line came back
    /// although somebody removed it, or its quantity was set in two places. Any later change of the line clears it.
    pub concurrent: bool,
}

/// A cart as its lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CartView {
    lines: Vec<CartLine>,
}

impl CartView {
    /// The lines in SKU order.
    pub fn lines(&self) -> &[CartLine] {
        &self.lines
    }

    /// The line of one article.
    pub fn line(&self, sku: &Sku) -> Option<&CartLine> {
        let at = self.lines.binary_search_by(|line| line.sku.cmp(sku)).ok()?;
        self.lines.get(at)
    }

    /// Units over all lines.
    pub fn units_count(&self) -> u64 {
        self.lines.iter().map(|line| line.quantity).sum()
    }

    /// Whether nothing shows.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The lines as [`Cart::remove_ordered`] takes them.
    pub fn ordered(&self) -> impl Iterator<Item = (&Sku, &[AddTag])> {
        self.lines
            .iter()
            .map(|line| (&line.sku, line.tags.as_slice()))
    }
}

impl Cart {
    /// Sums the adds that show into one line per SKU.
    pub fn view(&self) -> CartView {
        let mut removals: BTreeMap<&Sku, u32> = BTreeMap::new();
        for sku in self.removals.values().flatten() {
            *removals.entry(sku).or_default() += 1;
        }
        let mut lines: BTreeMap<&Sku, CartLine> = BTreeMap::new();
        for (tag, add) in &self.adds {
            let line = lines.entry(&add.sku).or_insert_with(|| CartLine {
                sku: add.sku.clone(),
                quantity: 0,
                tags: Vec::new(),
                first_added_unix_ms: add.added_unix_ms,
                concurrent: false,
            });
            line.quantity += u64::from(add.quantity.get());
            line.tags.push(*tag);
            line.first_added_unix_ms = line.first_added_unix_ms.min(add.added_unix_ms);
            line.concurrent |= removals
                .get(&add.sku)
                .is_some_and(|count| *count > add.removals_seen);
        }
        CartView {
            lines: lines.into_values().collect(),
        }
    }
}
