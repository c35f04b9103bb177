//! Scores the search engine against judged searches: prints nDCG@10 twice, with unjudged hits counted as
//! worthless and with judged products only.
//!
//! ```console
//! $ SOUK_DATA=path/to/data cargo run --release -p souk-commerce-api --example judge_search
//! ```
//!
//! `SOUK_DATA` holds `icecat-electronics/products.jsonl.gz` and `icecat-electronics/judgments-dev.csv`
//! (columns `query_id,query,product_id,grade`). Two numbers as arguments replace the weights
//! of what names a product and of everything. `SOUK_JUDGE_VERBOSE=1` prints each search.
//!
//! Definition: gain 2^grade - 1, discount 1/log2(rank + 1), ideal from all judged products of the query,
//! mean over the queries with a positive grade.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use souk_commerce_api::catalog::Product;
use souk_commerce_api::import::record::{Defaults, product};
use souk_commerce_api::money::Currency;
use souk_commerce_api::search::{SearchIndex, SearchRequest, Weights};

const RANKS: usize = 10;

/// One judged search: the words, and the grade of each judged product.
struct Judged {
    words: String,
    grades: BTreeMap<String, u32>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let Ok(data) = std::env::var("SOUK_DATA") else {
        eprintln!("skipped: set SOUK_DATA to a folder with icecat-electronics/ in it");
        return Ok(());
    };
    let folder = Path::new(&data).join("icecat-electronics");
    let index = SearchIndex::with_weights(weights()?)?;
    index.apply(&products(&folder.join("products.jsonl.gz"))?, &[])?;
    let (mut with_unjudged, mut judged_only, mut counted) = (0.0, 0.0, 0_u32);
    let mut hopeless = Vec::new();
    for judged in judgements(&folder.join("judgments-dev.csv"))?.values() {
        let ids = search(&index, &judged.words)?;
        if judged.grades.values().all(|grade| *grade == 0) {
            hopeless.push(format!("{} ({} hits)", judged.words, ids.len()));
            continue;
        }
        let all: Vec<u32> = ids
            .iter()
            .map(|id| grade(judged, id).unwrap_or(0))
            .collect();
        let known: Vec<u32> = ids.iter().filter_map(|id| grade(judged, id)).collect();
        let ideal = ideal(judged);
        if std::env::var_os("SOUK_JUDGE_VERBOSE").is_some() {
            println!(
                "{:.3} {:.3}  {}",
                dcg(&all) / ideal,
                dcg(&known) / ideal,
                judged.words
            );
        }
        with_unjudged += dcg(&all) / ideal;
        judged_only += dcg(&known) / ideal;
        counted += 1;
    }
    println!("products {}, searches {counted}", index.len());
    println!(
        "nDCG@10 unjudged = 0:  {:.3}",
        with_unjudged / f64::from(counted)
    );
    println!(
        "nDCG@10 judged only:   {:.3}",
        judged_only / f64::from(counted)
    );
    println!("searches without a good product: {}", hopeless.join(", "));
    Ok(())
}

fn weights() -> Result<Weights, Box<dyn Error>> {
    let numbers: Vec<f32> = std::env::args()
        .skip(1)
        .map(|text| text.parse())
        .collect::<Result<_, _>>()?;
    match numbers[..] {
        [] => Ok(Weights::default()),
        [naming, everything] => Ok(Weights { naming, everything }),
        _ => Err("give two weights or none".into()),
    }
}

fn products(path: &Path) -> Result<Vec<Product>, Box<dyn Error>> {
    let defaults = Defaults {
        currency: Currency::USD,
        created_unix_ms: 0,
    };
    let mut products = Vec::new();
    let unpacked = flate2::read::MultiGzDecoder::new(File::open(path)?);
    for line in BufReader::new(unpacked).lines() {
        products.push(product(serde_json::from_str(&line?)?, &defaults)?.product);
    }
    Ok(products)
}

fn judgements(path: &Path) -> Result<BTreeMap<String, Judged>, Box<dyn Error>> {
    let mut searches = BTreeMap::new();
    for row in csv::Reader::from_path(path)?.deserialize() {
        let row: BTreeMap<String, String> = row?;
        let search: &mut Judged =
            searches
                .entry(row["query_id"].clone())
                .or_insert_with(|| Judged {
                    words: row["query"].clone(),
                    grades: BTreeMap::new(),
                });
        search
            .grades
            .insert(row["product_id"].clone(), row["grade"].parse()?);
    }
    Ok(searches)
}

/// The ids of the best 200 hits: deep enough to meet ten judged products.
fn search(index: &SearchIndex, words: &str) -> Result<Vec<String>, Box<dyn Error>> {
    let mut ids = Vec::new();
    for page in 1..=2 {
        let mut request = SearchRequest::for_words(words);
        (request.page, request.size) = (page, 100);
        ids.extend(
            index
                .search(&request)?
                .hits
                .into_iter()
                .map(|card| card.id.into()),
        );
    }
    Ok(ids)
}

fn grade(judged: &Judged, id: &str) -> Option<u32> {
    judged.grades.get(id).copied()
}

fn dcg(grades: &[u32]) -> f64 {
    let gain = |grade: u32| f64::from((1_u32 << grade) - 1);
    let ranked = grades.iter().take(RANKS).zip(2_u32..);
    ranked
        .map(|(grade, rank)| gain(*grade) / f64::from(rank).log2())
        .sum()
}

fn ideal(judged: &Judged) -> f64 {
    let mut grades: Vec<u32> = judged.grades.values().copied().collect();
    grades.sort_unstable_by(|a, b| b.cmp(a));
    dcg(&grades)
}
