use super::*;
use crate::money::Currency;

fn product(id: &str, title: &str, brand: &str, path: &[&str], price: i64) -> Product {
    let mut product = Product::new(
        id.parse().unwrap(),
        title.to_owned(),
        Currency::USD,
        price.unsigned_abs(),
    );
    product.brand = brand.to_owned();
    product.category_path = path.iter().map(|level| (*level).to_owned()).collect();
    product.price_minor = Some(price);
    product
}

fn shelf() -> SearchIndex {
    let index = SearchIndex::new().unwrap();
    let mut products = vec![
        product(
            "1",
            "Red running shoes",
            "Fleet",
            &["Shoes", "Running"],
            9_000,
        ),
        product(
            "2",
            "Blue running shoe",
            "Fleet",
            &["Shoes", "Running"],
            7_000,
        ),
        product("3", "Leather boot", "Stride", &["Shoes", "Boots"], 15_000),
        product("4", "Crème brûlée torch", "Flamme", &["Kitchen"], 3_000),
        product("5", "Running jacket", "Fleet", &["Clothes"], 11_000),
    ];
    products[2].rating = Some(5.0);
    products[2].review_count = 1;
    products[1].rating = Some(4.6);
    products[1].review_count = 400;
    index.apply(&products, &[]).unwrap();
    index
}

#[track_caller]
fn check(index: &SearchIndex, change: impl FnOnce(&mut SearchRequest), expected: &[&str]) {
    let mut request = SearchRequest::for_words("");
    change(&mut request);
    let answer = index.search(&request).unwrap();
    let ids: Vec<&str> = answer.hits.iter().map(|card| card.id.as_str()).collect();
    assert_eq!(ids, expected, "{request:?}");
}

#[test]
fn finds_words_in_any_form() {
    let index = shelf();
    check(
        &index,
        |r| r.words = "shoe run".into(),
        &["1", "2", "5", "3"],
    );
    check(&index, |r| r.words = "BOOTS".into(), &["3"]);
    check(&index, |r| r.words = "creme brulee".into(), &["4"]);
}

#[test]
fn a_near_miss_finds_its_neighbour() {
    let index = shelf();
    let answer = index
        .search(&SearchRequest::for_words("lether boott"))
        .unwrap();
    assert_eq!(answer.matched, Matched::SimilarSpelling);
    assert_eq!(answer.hits[0].id.as_str(), "3");
}

#[test]
fn nonsense_finds_nothing() {
    let index = shelf();
    for words in ["zzzqqq", "?!", "the", "\u{0}", "((", "title:"] {
        assert_eq!(
            index
                .search(&SearchRequest::for_words(words))
                .unwrap()
                .total,
            0,
            "{words:?}"
        );
    }
}

#[test]
fn browses_a_category_and_everything_below_it() {
    let index = shelf();
    check(
        &index,
        |r| {
            r.category = Some("Shoes".into());
            r.sort = Sort::PriceAsc;
        },
        &["2", "1", "3"],
    );
    check(&index, |r| r.category = Some("Shoes/Boots".into()), &["3"]);
    check(&index, |r| r.category = Some("Sho".into()), &[]);
}

#[test]
fn sorts_in_every_order() {
    let index = shelf();
    check(
        &index,
        |r| r.sort = Sort::PriceDesc,
        &["3", "5", "1", "2", "4"],
    );
    check(
        &index,
        |r| r.sort = Sort::Newest,
        &["3", "5", "1", "2", "4"],
    );
    check(&index, |r| r.sort = Sort::Name, &["2", "4", "3", "1", "5"]);
    check(
        &index,
        |r| r.sort = Sort::Relevance,
        &["2", "3", "1", "4", "5"],
    );
    // One rating of 5 does not beat four hundred of 4.6.
    check(
        &index,
        |r| r.sort = Sort::Rating,
        &["2", "3", "1", "4", "5"],
    );
}

#[test]
fn a_product_without_a_price_comes_last_both_ways() {
    let index = shelf();
    let mut unsold = product("0", "Running sign", "", &[], 0);
    unsold.price_minor = None;
    index.apply(&[unsold], &[]).unwrap();
    for sort in [Sort::PriceAsc, Sort::PriceDesc] {
        let mut request = SearchRequest::for_words("running");
        request.sort = sort;
        let answer = index.search(&request).unwrap();
        assert_eq!(answer.hits.last().unwrap().id.as_str(), "0", "{sort:?}");
    }
}

#[test]
fn pages_cover_every_hit_once() {
    let index = shelf();
    let mut ids = Vec::new();
    for page in 1..=3 {
        let mut request = SearchRequest::for_words("");
        (request.page, request.size) = (page, 2);
        let answer = index.search(&request).unwrap();
        assert_eq!(answer.total, 5);
        ids.extend(answer.hits.into_iter().map(|card| card.id));
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 5);
    let mut beyond = SearchRequest::for_words("");
    beyond.page = u32::MAX;
    let answer = index.search(&beyond).unwrap();
    assert_eq!((answer.total, answer.hits.len()), (5, 0));
}

#[test]
fn counts_brands_and_categories_of_all_hits() {
    let index = shelf();
    let mut request = SearchRequest::for_words("running");
    request.size = 1;
    let answer = index.search(&request).unwrap();
    assert_eq!(
        answer.brands,
        [FacetCount {
            value: "Fleet".into(),
            count: 3
        }]
    );
    assert_eq!(
        answer.categories[0],
        FacetCount {
            value: "Shoes".into(),
            count: 2
        }
    );
    assert!(answer.categories.contains(&FacetCount {
        value: "Clothes".into(),
        count: 1
    }));
}

#[test]
fn an_update_replaces_and_a_removal_removes() {
    let index = shelf();
    let changed = product("1", "Green sandals", "Fleet", &["Shoes"], 1);
    assert_eq!(index.apply(std::slice::from_ref(&changed), &[]).unwrap(), 1);
    assert_eq!(
        index.apply(&[changed], &[]).unwrap(),
        0,
        "nothing new, nothing written"
    );
    check(&index, |r| r.words = "sandals".into(), &["1"]);
    check(&index, |r| r.words = "red".into(), &[]);
    assert_eq!(
        index.card_of(&"1".parse().unwrap()).unwrap().unwrap().title,
        "Green sandals"
    );
    assert_eq!(index.card_of(&"none".parse().unwrap()).unwrap(), None);
    index.apply(&[], &["1".parse().unwrap()]).unwrap();
    check(&index, |r| r.words = "sandals".into(), &[]);
    assert_eq!(index.len(), 4);
}
