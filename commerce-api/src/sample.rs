//! The project's own small catalogue and baskets, for trying the shop without any file.
//!
//! Place: pure; used by `souk up` when no catalogue is given, and by tests.
//! Shape: a few departments, each with makers, materials and things; a seed picks from them.
//! Invariants: 1. equal seed and count give equal products, on every machine. 2. ids are distinct.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::catalog::Product;
use crate::catalog::product::AttributeValue;
use crate::ids::ProductId;
use crate::money::Currency;

/// Products of a sample catalogue when no other number is asked for.
pub const COUNT_DEFAULT: usize = 400;
/// The creation time of the first sample product: 2026-01-01, in Unix milliseconds.
const CREATED_UNIX_MS: u64 = 1_767_225_600_000;

/// One department: where its products hang, who makes them, of what, and what they are.
struct Department {
    path: [&'static str; 2],
    makers: [&'static str; 4],
    qualities: [&'static str; 6],
    things: [&'static str; 8],
    price_minor: (i64, i64),
}

const DEPARTMENTS: [Department; 6] = [
    Department {
        path: ["Kitchen", "Tea & Coffee"],
        makers: ["Brasswick", "Morrow & Daughters", "Qahwa", "Northpot"],
        qualities: [
            "copper",
            "enamel",
            "glass",
            "cast iron",
            "stoneware",
            "travel",
        ],
        things: [
            "teapot",
            "kettle",
            "coffee grinder",
            "milk jug",
            "moka pot",
            "tea caddy",
            "strainer",
            "espresso cup",
        ],
        price_minor: (600, 9_000),
    },
    Department {
        path: ["Kitchen", "Spices"],
        makers: ["Attar Lane", "Saffron Row", "Dunya", "Hillside"],
        qualities: ["smoked", "whole", "ground", "organic", "roasted", "mild"],
        things: [
            "paprika",
            "cumin",
            "cardamom",
            "sumac",
            "turmeric",
            "black pepper",
            "coriander",
            "cinnamon",
        ],
        price_minor: (250, 1_500),
    },
    Department {
        path: ["Home", "Lamps"],
        makers: ["Fanous", "Lumen Works", "Wick & Son", "Aurel"],
        qualities: ["hanging", "brass", "mosaic", "paper", "dimmable", "solar"],
        things: [
            "lantern",
            "table lamp",
            "floor lamp",
            "night light",
            "string lights",
            "wall lamp",
            "reading lamp",
            "candle holder",
        ],
        price_minor: (1_200, 24_000),
    },
    Department {
        path: ["Home", "Textiles"],
        makers: ["Loom Street", "Kilim House", "Sable", "Cotton & Co"],
        qualities: [
            "woven",
            "linen",
            "wool",
            "striped",
            "embroidered",
            "quilted",
        ],
        things: [
            "rug",
            "cushion",
            "throw",
            "curtain",
            "table runner",
            "towel",
            "bedspread",
            "doormat",
        ],
        price_minor: (900, 30_000),
    },
    Department {
        path: ["Leather", "Bags"],
        makers: ["Tannery Nine", "Saddle & Stitch", "Oued", "Brandt"],
        qualities: [
            "full-grain",
            "suede",
            "waxed",
            "slim",
            "vegan",
            "hand-stitched",
        ],
        things: [
            "satchel",
            "wallet",
            "backpack",
            "belt",
            "purse",
            "laptop sleeve",
            "key case",
            "weekend bag",
        ],
        price_minor: (1_900, 45_000),
    },
    Department {
        path: ["Workshop", "Tools"],
        makers: ["Ironmark", "Plumb", "Vise Brothers", "Gritstone"],
        qualities: [
            "forged",
            "compact",
            "insulated",
            "magnetic",
            "folding",
            "precision",
        ],
        things: [
            "hammer",
            "screwdriver set",
            "spirit level",
            "pliers",
            "hand saw",
            "tape measure",
            "chisel",
            "clamp",
        ],
        price_minor: (700, 12_000),
    },
];

/// `count` products from `seed`, priced in `currency`.
pub fn generate(seed: u64, count: usize, currency: Currency) -> impl Iterator<Item = Product> {
    let mut random = StdRng::seed_from_u64(seed);
    (0..count).map(move |number| product(&mut random, number, currency))
}

/// `count` baskets of products out of `catalogue`. Products next to each other in it are bought together more often,
/// so that there is something to learn.
pub fn baskets(seed: u64, catalogue: &[ProductId], count: usize) -> Vec<Vec<ProductId>> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut baskets = Vec::with_capacity(count);
    if catalogue.is_empty() {
        return baskets;
    }
    for _ in 0..count {
        let start = random.random_range(0..catalogue.len());
        let near = |random: &mut StdRng| (start + random.random_range(0..6)) % catalogue.len();
        let products = random.random_range(1..5);
        let mut basket: Vec<usize> = (0..products).map(|_| near(&mut random)).collect();
        basket.sort_unstable();
        basket.dedup();
        baskets.push(
            basket
                .into_iter()
                .map(|place| catalogue[place].clone())
                .collect(),
        );
    }
    baskets
}

fn product(random: &mut StdRng, number: usize, currency: Currency) -> Product {
    let department = &DEPARTMENTS[number % DEPARTMENTS.len()];
    let pick = |random: &mut StdRng, from: &[&'static str]| {
        *from.choose(random).expect("the lists above are not empty")
    };
    let (maker, quality, thing) = (
        pick(random, &department.makers),
        pick(random, &department.qualities),
        pick(random, &department.things),
    );
    let id = format!("sample-{number:04}")
        .parse()
        .expect("letters, digits and a hyphen");
    let title = format!("{}{} {thing}", quality[..1].to_uppercase(), &quality[1..]);
    let created_unix_ms = CREATED_UNIX_MS + number as u64 * 60_000;
    let mut product = Product::new(id, title, currency, created_unix_ms);
    let (low, high) = department.price_minor;
    let price = random.random_range(low..high) / 50 * 50 - 1;
    product.brand = maker.to_owned();
    product.category_path = department
        .path
        .iter()
        .map(|level| (*level).to_owned())
        .collect();
    product.price_minor = Some(price);
    if random.random_range(0..5) == 0 {
        product.sale_price_minor = Some(price * 4 / 5);
    }
    product.description = format!(
        "A {quality} {thing} by {maker}, from the {} shelf of the souk.",
        department.path[1].to_lowercase()
    );
    product.review_count = random.random_range(0..300);
    if product.review_count > 0 {
        product.rating = Some(f64::from(random.random_range(25_u32..=50)) / 10.0);
    }
    product.attributes.insert(
        "quality".to_owned(),
        AttributeValue::Text(quality.to_owned()),
    );
    let weight = AttributeValue::Whole(random.random_range(50..4_000));
    product.attributes.insert("weight_g".to_owned(), weight);
    product
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_sample_is_a_valid_product_of_its_own() {
        let products: Vec<Product> = generate(1, COUNT_DEFAULT, Currency::USD).collect();
        for product in &products {
            product.validate().unwrap();
            assert!(product.price_minor.unwrap() > 0);
        }
        let ids: BTreeSet<&str> = products.iter().map(|product| product.id.as_str()).collect();
        assert_eq!(ids.len(), COUNT_DEFAULT);
    }

    #[test]
    fn equal_seeds_give_equal_samples() {
        let sample = |seed| generate(seed, 50, Currency::USD).collect::<Vec<_>>();
        assert_eq!(sample(7), sample(7));
        assert_ne!(sample(7), sample(8));
        let ids: Vec<ProductId> = sample(7).into_iter().map(|product| product.id).collect();
        assert_eq!(baskets(3, &ids, 20), baskets(3, &ids, 20));
    }
}
