//! One cart: the adds that show, the tags that were removed, and how two copies become one.
//!
//! An add is a line under its own tag. It shows as long as its tag is not among the removed ones.
//! A removal names the tags that its writer saw, so an add that the writer did not see survives it.
//! A change of quantity is both under one request id: it removes the tags seen and adds one.
//!
//! **Which adds are flagged.** Each removal (and each change) also notes under its own tag which SKUs it touched.
//! Each add notes how many of those notes on its SKU its writer had seen (`removals_seen`). A value that holds an add
//! also holds every note its writer knew, because merging only unites; so a larger number of notes now means a removal
//! that the add's writer had not seen. That removal had not seen the add either, or the add would not show. The two
//! were concurrent, and the line is flagged. Counting replaces a set of tags on every add.
//!
//! **Growth.** The payload of an add goes when its tag is removed; the tag and the note stay, about 32 bytes each plus
//! the SKU. They cannot go earlier. Suppose copy 1 removes tag `t` and forgets it; copy 2, written from the same
//! reading, adds `u` and still shows `t`. Their contexts are concurrent, so the store keeps both, and their merge would
//! show `t` again. No reader can prove that no such copy 2 waits in a hint or on a split-off replica, and a time limit
//! would be a guess. Dotted clocks per writer would compress the tags, but a blind add has seen nothing and breaks the
//! run of counters such a clock needs. So the bound is on the whole: adds and changes are refused beyond
//! [`CART_BYTES_MAX`], removals never are (what they drop outweighs what they note), and a shop that gives each order a
//! fresh cart never comes near: some 5,000 changes fit.
//!
//! Place: pure; used by `crate::store` and `souk_commerce_api`.
//! Source: Shapiro et al., Conflict-free Replicated Data Types, 2011, §3.3.5 (observed-remove set).
//! Invariants: 1. no tag is both shown and removed. 2. an add's SKU and quantity never change under its tag.
//! 3. `removed` and `removals` only grow. 4. [`Cart::merge`] is the least upper bound: commutative, associative,
//! idempotent.
//! Not here: reading and writing values (`crate::store`), their byte form (`crate::format`).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::error::CartError;
use crate::line::{Quantity, SKU_BYTES_MAX, Sku};
use crate::tag::{AddTag, RemovalTag};

/// Most adds that a cart shows at once. Real wholesale orders reach 1,114 lines.
pub const ADDS_MAX: usize = 2_000;

/// Size of the stored form, in bytes, from which adds and changes are refused.
///
/// The store's default value limit is 1 MiB. The gap leaves room for siblings that each kept the limit and are merged.
pub const CART_BYTES_MAX: usize = 640 * 1024;

const _: () = {
    // A full load of the longest lines has to fit, or `ADDS_MAX` would promise too much: per add two quoted texts
    // (tag and SKU), three numbers and the field names.
    let add_bytes_max = 32 + SKU_BYTES_MAX + 5 + 20 + 10 + 80;
    assert!(ADDS_MAX * add_bytes_max < CART_BYTES_MAX);
};

/// One add: a line that shows until its tag is removed. Its content never changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CartAdd {
    /// The article.
    pub sku: Sku,
    /// The units that this add contributes.
    pub quantity: Quantity,
    /// When its writer added it, in Unix milliseconds by the writer's clock; for display and sorting only.
    pub added_unix_ms: u64,
    /// How many removals and changes of this SKU its writer had seen, its own included.
    pub removals_seen: u32,
}

/// What a command did to a cart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CartEffect {
    /// The cart changed and has to be written.
    Changed,
    /// Nothing changed: the request was applied before, or there was nothing to remove.
    Unchanged,
}

/// A cart as one value of the store holds it. `Cart::default()` is the empty cart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cart {
    pub(crate) adds: BTreeMap<AddTag, CartAdd>,
    pub(crate) removed: BTreeSet<AddTag>,
    pub(crate) removals: BTreeMap<RemovalTag, BTreeSet<Sku>>,
}

impl Cart {
    /// Adds `quantity` units of `sku` under a tag of its own, beside any that are there already.
    ///
    /// `added_unix_ms` is the writer's clock in Unix milliseconds. Sending the same request again changes nothing, also
    /// when the line has been removed since.
    ///
    /// # Errors
    /// [`CartError::TooManyAdds`], [`CartError::CartTooLarge`], or [`CartError::TagReused`].
    pub fn add(
        &mut self,
        tag: AddTag,
        sku: Sku,
        quantity: Quantity,
        added_unix_ms: u64,
    ) -> Result<CartEffect, CartError> {
        if self.is_replay(tag, &sku, quantity)? {
            return Ok(CartEffect::Unchanged);
        }
        if self.adds.len() >= ADDS_MAX {
            return Err(CartError::TooManyAdds {
                adds_count: self.adds.len(),
            });
        }
        self.check_size()?;
        let removals_seen = self.removals_of(&sku);
        self.adds.insert(
            tag,
            CartAdd {
                sku,
                quantity,
                added_unix_ms,
                removals_seen,
            },
        );
        Ok(CartEffect::Changed)
    }

    /// Makes `quantity` the whole quantity of `sku`: removes the tags that show and adds one, under one request id.
    ///
    /// # Errors
    /// [`CartError::NotInCart`] when the article does not show, so that a late change never brings back what was
    /// removed; [`CartError::CartTooLarge`] or [`CartError::TagReused`].
    pub fn change(
        &mut self,
        tag: AddTag,
        sku: &Sku,
        quantity: Quantity,
        changed_unix_ms: u64,
    ) -> Result<CartEffect, CartError> {
        if self.is_replay(tag, sku, quantity)? {
            return Ok(CartEffect::Unchanged);
        }
        let observed = self.shown_tags(sku);
        if observed.is_empty() {
            return Err(CartError::NotInCart { sku: sku.clone() });
        }
        self.check_size()?;
        self.strike(tag.into(), sku, &observed);
        let removals_seen = self.removals_of(sku);
        let add = CartAdd {
            sku: sku.clone(),
            quantity,
            added_unix_ms: changed_unix_ms,
            removals_seen,
        };
        self.adds.insert(tag, add);
        Ok(CartEffect::Changed)
    }

    /// Removes every add of `sku` that shows here. Removing what is not there succeeds and changes nothing.
    ///
    /// An add that this copy has not seen survives, and its line is then flagged.
    pub fn remove(&mut self, tag: RemovalTag, sku: &Sku) -> CartEffect {
        let observed = self.shown_tags(sku);
        if observed.is_empty()
            || self
                .removals
                .get(&tag)
                .is_some_and(|skus| skus.contains(sku))
        {
            return CartEffect::Unchanged;
        }
        self.strike(tag, sku, &observed);
        CartEffect::Changed
    }

    /// Removes exactly the adds that an order took, as its [`crate::CartLine`]s named them.
    ///
    /// The tags count as removed even where this copy has not seen them: the order did contain them. Whatever was added
    /// or changed while the checkout ran stays in the cart, flagged.
    pub fn remove_ordered<'a>(
        &mut self,
        tag: RemovalTag,
        lines: impl IntoIterator<Item = (&'a Sku, &'a [AddTag])>,
    ) -> CartEffect {
        let mut effect = CartEffect::Unchanged;
        for (sku, tags) in lines {
            let noted = self
                .removals
                .get(&tag)
                .is_some_and(|skus| skus.contains(sku));
            if tags.is_empty() || (noted && tags.iter().all(|tag| self.removed.contains(tag))) {
                continue;
            }
            self.strike(tag, sku, tags);
            effect = CartEffect::Changed;
        }
        effect
    }

    /// Takes in everything that another copy of the same cart knows.
    ///
    /// Never refuses and never loses an add; the limits bind writers, not merging.
    pub fn merge(&mut self, other: &Self) {
        self.removed.extend(other.removed.iter().copied());
        for (tag, skus) in &other.removals {
            self.removals
                .entry(*tag)
                .or_default()
                .extend(skus.iter().cloned());
        }
        for (tag, add) in &other.adds {
            let kept = self.adds.entry(*tag).or_insert_with(|| add.clone());
            // A retry that read another state notes another time or count under the same tag; that, or a broken writer,
            // must not part the copies, so the larger content wins everywhere.
            if *kept < *add {
                kept.clone_from(add);
            }
        }
        self.drop_removed();
    }

    /// Merges the siblings that one read returned; none of them gives the empty cart.
    pub fn merge_all<'a>(siblings: impl IntoIterator<Item = &'a Self>) -> Self {
        siblings
            .into_iter()
            .fold(Self::default(), |mut merged, sibling| {
                merged.merge(sibling);
                merged
            })
    }

    /// The adds that show, in the order of their tags.
    pub fn adds(&self) -> impl ExactSizeIterator<Item = (AddTag, &CartAdd)> {
        self.adds.iter().map(|(tag, add)| (*tag, add))
    }

    /// Whether the add of this tag ever reached this copy, shown or removed.
    pub fn knows(&self, tag: AddTag) -> bool {
        self.adds.contains_key(&tag) || self.removed.contains(&tag)
    }

    /// Whether the removal or change of this tag ever reached this copy.
    pub fn knows_removal(&self, tag: RemovalTag) -> bool {
        self.removals.contains_key(&tag)
    }

    /// How many removed tags this copy keeps.
    pub fn removed_count(&self) -> usize {
        self.removed.len()
    }

    /// How many removals and changes have touched `sku`, as far as this copy knows.
    pub(crate) fn removals_of(&self, sku: &Sku) -> u32 {
        let count = self
            .removals
            .values()
            .filter(|skus| skus.contains(sku))
            .count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Restores invariant 1 after `removed` grew.
    pub(crate) fn drop_removed(&mut self) {
        let removed = &self.removed;
        self.adds.retain(|tag, _| !removed.contains(tag));
    }

    /// Whether this very add was applied before. A removed add has lost its payload and counts as the same request.
    fn is_replay(&self, tag: AddTag, sku: &Sku, quantity: Quantity) -> Result<bool, CartError> {
        match self.adds.get(&tag) {
            Some(add) if add.sku == *sku && add.quantity == quantity => Ok(true),
            Some(_) => Err(CartError::TagReused { tag }),
            None => Ok(self.removed.contains(&tag)),
        }
    }

    fn check_size(&self) -> Result<(), CartError> {
        let bytes = self.bytes_count();
        if bytes >= CART_BYTES_MAX {
            Err(CartError::CartTooLarge { bytes })
        } else {
            Ok(())
        }
    }

    fn shown_tags(&self, sku: &Sku) -> Vec<AddTag> {
        self.adds
            .iter()
            .filter(|(_, add)| add.sku == *sku)
            .map(|(tag, _)| *tag)
            .collect()
    }

    fn strike(&mut self, by: RemovalTag, sku: &Sku, tags: &[AddTag]) {
        self.removals.entry(by).or_default().insert(sku.clone());
        for tag in tags {
            self.adds.remove(tag);
            self.removed.insert(*tag);
        }
    }
}

#[cfg(test)]
#[path = "cart_test.rs"]
mod tests;
