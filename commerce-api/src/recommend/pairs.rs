//! Counts which products are bought together, and scores the pairs.
//!
//! Place: pure; used by `crate::import::baskets`.
//! Source: Deshpande and Karypis, "Item-Based Top-N Recommendation Algorithms", ACM TOIS 22(1), 2004 (cosine of
//! item columns).
//! Shape: score = together / sqrt(baskets of a × baskets of b) × together / (together + [`DAMPING`]).
//! The second factor keeps two rare products that met once from looking inseparable.
//! Invariants: 1. memory is bounded by [`PAIRS_MAX`]. 2. equal baskets in equal order give equal lists.

use std::collections::HashMap;

use crate::ids::ProductId;

/// Recommendations kept for one product.
pub const LIST_MAX: usize = 20;
/// Best sellers kept.
pub const BEST_SELLERS_MAX: usize = 50;
/// Products of one basket that are paired. A basket of a thousand lines is a reseller's shelf, not a taste: pairing
/// all of it would be half a million pairs that say little. The first ones of the basket count.
pub const BASKET_PRODUCTS_MAX: usize = 100;
/// Pairs counted at once, at most; about 24 bytes each. When it is reached, pairs seen once are forgotten.
pub const PAIRS_MAX: usize = 4_000_000;
/// How many times a pair has to be seen for half of its weight.
pub const DAMPING: f64 = 5.0;
/// Pairs seen fewer times are coincidence.
const TOGETHER_MIN: u32 = 2;

/// Counts baskets one by one.
#[derive(Default)]
pub struct PairCounter {
    numbers: HashMap<ProductId, u32>,
    products: Vec<ProductId>,
    baskets: Vec<u32>,
    pairs: HashMap<(u32, u32), u32>,
}

/// One recommendation.
#[derive(Clone, Debug, PartialEq)]
pub struct Recommended {
    /// What is also bought.
    pub id: ProductId,
    /// How strongly the two belong together, above 0 and up to 1.
    pub score: f64,
}

/// What the baskets say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Learned {
    /// For each product, in the order of their first baskets: up to [`LIST_MAX`] others, best first.
    pub lists: Vec<(ProductId, Vec<Recommended>)>,
    /// The products in the most baskets, most first, up to [`BEST_SELLERS_MAX`].
    pub best_sellers: Vec<ProductId>,
}

impl PairCounter {
    /// Counts one basket. A product counts once, however many units or lines it has.
    pub fn add(&mut self, basket: &[ProductId]) {
        let mut numbers: Vec<u32> = Vec::with_capacity(basket.len());
        for product in basket {
            let number = self.number(product);
            numbers.push(number);
        }
        numbers.sort_unstable();
        numbers.dedup();
        for number in &numbers {
            self.baskets[*number as usize] += 1;
        }
        numbers.truncate(BASKET_PRODUCTS_MAX);
        for (place, first) in numbers.iter().enumerate() {
            for second in &numbers[place + 1..] {
                *self.pairs.entry((*first, *second)).or_default() += 1;
            }
        }
        if self.pairs.len() > PAIRS_MAX {
            self.pairs.retain(|_, together| *together > 1);
        }
    }

    /// Products seen so far.
    #[must_use]
    pub fn products_count(&self) -> usize {
        self.products.len()
    }

    /// Scores everything counted.
    #[must_use]
    pub fn finish(self) -> Learned {
        let mut lists: Vec<Vec<(f64, u32)>> = vec![Vec::new(); self.products.len()];
        for (&(first, second), &together) in &self.pairs {
            if together < TOGETHER_MIN {
                continue;
            }
            let score = self.score(first, second, together);
            lists[first as usize].push((score, second));
            lists[second as usize].push((score, first));
        }
        let lists = lists
            .into_iter()
            .zip(&self.products)
            .filter(|(list, _)| !list.is_empty());
        let lists = lists.map(|(mut list, product)| {
            // The order within a hash map differs from run to run; sorting by score and number removes it.
            list.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            list.truncate(LIST_MAX);
            let recommended = list.into_iter().map(|(score, number)| Recommended {
                id: self.products[number as usize].clone(),
                score,
            });
            (product.clone(), recommended.collect())
        });
        let mut best: Vec<u32> = (0..).take(self.products.len()).collect();
        best.sort_by_key(|number| (std::cmp::Reverse(self.baskets[*number as usize]), *number));
        let best_sellers = best.into_iter().take(BEST_SELLERS_MAX);
        let best_sellers = best_sellers.map(|number| self.products[number as usize].clone());
        Learned {
            best_sellers: best_sellers.collect(),
            lists: lists.collect(),
        }
    }

    fn number(&mut self, product: &ProductId) -> u32 {
        if let Some(number) = self.numbers.get(product) {
            return *number;
        }
        let number = u32::try_from(self.products.len()).expect("memory ends before 2^32 products");
        self.numbers.insert(product.clone(), number);
        self.products.push(product.clone());
        self.baskets.push(0);
        number
    }

    fn score(&self, first: u32, second: u32, together: u32) -> f64 {
        let baskets = |number: u32| f64::from(self.baskets[number as usize]);
        let together = f64::from(together);
        together / (baskets(first) * baskets(second)).sqrt() * together / (together + DAMPING)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn learn(baskets: &[&[&str]]) -> Learned {
        let mut counter = PairCounter::default();
        for basket in baskets {
            let ids: Vec<ProductId> = basket.iter().map(|id| id.parse().unwrap()).collect();
            counter.add(&ids);
        }
        counter.finish()
    }

    fn also(learned: &Learned, id: &str) -> Vec<String> {
        let list = learned
            .lists
            .iter()
            .find(|(product, _)| product.as_str() == id);
        list.map(|(_, list)| list.iter().map(|one| one.id.to_string()).collect())
            .unwrap_or_default()
    }

    #[test]
    fn what_is_bought_together_is_recommended() {
        let tea: &[&str] = &["tea", "pot"];
        let learned = learn(&[
            tea,
            tea,
            tea,
            &["tea", "bag"],
            &["bag", "hat"],
            &["bag", "hat"],
        ]);
        assert_eq!(also(&learned, "tea"), ["pot"], "bag and tea met only once");
        assert_eq!(also(&learned, "hat"), ["bag"]);
        assert_eq!(learned.best_sellers[0].as_str(), "tea");
    }

    #[test]
    fn one_basket_of_a_thousand_products_stays_small() {
        let ids: Vec<ProductId> = (0..1_114)
            .map(|n| format!("p{n}").parse().unwrap())
            .collect();
        let mut counter = PairCounter::default();
        counter.add(&ids);
        counter.add(&ids);
        assert!(counter.pairs.len() <= BASKET_PRODUCTS_MAX * BASKET_PRODUCTS_MAX / 2);
        assert_eq!(counter.products_count(), 1_114);
    }

    proptest! {
        #[test]
        fn lists_are_symmetric_sorted_and_bounded(
            baskets in proptest::collection::vec(proptest::collection::vec(0_u8..12, 0..8), 0..40)
        ) {
            let mut counter = PairCounter::default();
            for basket in &baskets {
                let ids: Vec<ProductId> = basket.iter().map(|n| format!("p{n}").parse().unwrap()).collect();
                counter.add(&ids);
            }
            let learned = counter.finish();
            for (id, list) in &learned.lists {
                prop_assert!(list.len() <= LIST_MAX);
                prop_assert!(list.is_sorted_by(|a, b| a.score >= b.score));
                for one in list {
                    prop_assert!(one.score > 0.0 && one.score <= 1.0);
                    prop_assert!(&one.id != id);
                    let back = learned.lists.iter().find(|(other, _)| *other == one.id).unwrap();
                    prop_assert!(back.1.iter().any(|other| other.id == *id));
                }
            }
        }
    }
}
