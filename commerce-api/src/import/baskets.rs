//! Imports past baskets and learns from them what is bought together.
//!
//! Shape: CSV with a header. Columns: the basket (`invoice` or `basket`), the product (`stock_code` or `product`) and
//! `quantity`; others are ignored. Lines of one basket need not stand together.
//! Passed over, and counted as ignored: cancellations (`C...`), quantities below 1, and stock codes that do not begin
//! with a digit, which in such exports are postage, fees and the like.
//! Invariants: 1. the lists depend on the file alone; importing it again writes the same.

use std::path::Path;

use indexmap::IndexMap;

use super::lines::open;
use super::report::{ImportError, Progress, Report};
use crate::ids::ProductId;
use crate::recommend::{Learned, PairCounter, RecommendationStore};

/// Lines between two calls of `progress`.
const PROGRESS_EVERY: u64 = 20_000;

/// Which columns hold what.
struct Columns {
    basket: usize,
    product: usize,
    quantity: usize,
    /// The file's products are stock codes, among which services hide.
    has_services: bool,
}

/// Imports the baskets in `path`.
///
/// # Errors
/// The file cannot be read or lacks a column, or the store refuses.
pub async fn import(
    path: &Path,
    store: &RecommendationStore,
    progress: impl Fn(Progress) + Send + Sync,
) -> Result<Report, ImportError> {
    let (learned, mut report) = learn(path, &progress)?;
    let total = learned.lists.len() as u64 + 1;
    let stored = |done: usize| {
        let done = done as u64;
        progress(Progress {
            stage: "recommendations",
            done,
            total: Some(total),
        });
    };
    store
        .replace(&learned, stored)
        .await
        .map_err(|fault| ImportError::Store {
            what: "recommendations".to_owned(),
            why: fault.to_string(),
        })?;
    report.imported = learned.lists.len() as u64;
    Ok(report)
}

/// Reads the file and learns from it, without storing anything.
///
/// # Errors
/// The file cannot be read or lacks a column.
pub fn learn(
    path: &Path,
    progress: &(impl Fn(Progress) + Send + Sync),
) -> Result<(Learned, Report), ImportError> {
    let mut rows = csv::ReaderBuilder::new()
        .flexible(true)
        .from_reader(open(path)?);
    let unreadable = |error: csv::Error| ImportError::File {
        path: path.to_owned(),
        source: std::io::Error::other(error),
    };
    let columns = columns(path, rows.headers().map_err(unreadable)?)?;
    let mut report = Report::default();
    // The first appearance orders the baskets, so that equal files are learned from equally.
    let mut baskets: IndexMap<String, Vec<ProductId>> = IndexMap::new();
    let mut row = csv::StringRecord::new();
    loop {
        let line = rows.position().line();
        match rows.read_record(&mut row) {
            Ok(false) => break,
            Ok(true) => {}
            Err(error) if error.is_io_error() => return Err(unreadable(error)),
            Err(error) => {
                report.lines += 1;
                report.skip(line, error.to_string());
                continue;
            }
        }
        report.lines += 1;
        let line = row.position().map_or(line, csv::Position::line);
        match read_row(&row, &columns) {
            Ok(Some((basket, product))) => match baskets.get_mut(basket) {
                Some(products) => products.push(product),
                None => {
                    baskets.insert(basket.to_owned(), vec![product]);
                }
            },
            Ok(None) => report.ignored += 1,
            Err(reason) => report.skip(line, reason),
        }
        if report.lines.is_multiple_of(PROGRESS_EVERY) {
            progress(Progress {
                stage: "basket lines",
                done: report.lines,
                total: None,
            });
        }
    }
    let mut counter = PairCounter::default();
    for basket in baskets.values() {
        counter.add(basket);
    }
    Ok((counter.finish(), report))
}

fn columns(path: &Path, header: &csv::StringRecord) -> Result<Columns, ImportError> {
    let find = |names: &[&'static str]| {
        names
            .iter()
            .find_map(|name| header.iter().position(|column| column == *name))
            .ok_or_else(|| ImportError::Column {
                path: path.to_owned(),
                column: names[0],
            })
    };
    Ok(Columns {
        basket: find(&["invoice", "basket"])?,
        product: find(&["stock_code", "product"])?,
        quantity: find(&["quantity"])?,
        has_services: header.iter().any(|column| column == "stock_code"),
    })
}

/// The basket and the product of a line; `None` for a line that is passed over.
fn read_row<'a>(
    row: &'a csv::StringRecord,
    columns: &Columns,
) -> Result<Option<(&'a str, ProductId)>, String> {
    let cell = |column: usize| row.get(column).map(str::trim).unwrap_or_default();
    let (basket, product) = (cell(columns.basket), cell(columns.product));
    if basket.is_empty() {
        return Err("it names no basket".to_owned());
    }
    let quantity: f64 = cell(columns.quantity)
        .parse()
        .map_err(|_| format!("`{}` is no quantity", cell(columns.quantity)))?;
    let is_service = columns.has_services && !product.starts_with(|c: char| c.is_ascii_digit());
    if basket.starts_with('C') || quantity < 1.0 || is_service {
        return Ok(None);
    }
    let product = product.parse().map_err(|error| format!("{error}"))?;
    Ok(Some((basket, product)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learn_from(text: &str) -> Result<(Learned, Report), ImportError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("baskets.csv");
        std::fs::write(&path, text).unwrap();
        learn(&path, &|_| {})
    }

    #[test]
    fn learns_from_order_lines() {
        let (learned, report) = learn_from(
            "invoice,ts,customer_id,country,stock_code,quantity\n\
             1,t,c,UK,10A,2\n2,t,c,UK,10A,1\n1,t,c,UK,20,1\n2,t,c,UK,20,1\n\
             C3,t,c,UK,30,-1\n4,t,c,UK,POST,1\n5,t,c,UK,30,-7\n6,t,c,UK,30,many\n",
        )
        .unwrap();
        assert_eq!((report.lines, report.ignored, report.skipped), (8, 3, 1));
        assert_eq!(report.skipped_lines[0].line, 9);
        assert_eq!(learned.lists.len(), 2);
        assert_eq!(learned.lists[0].1[0].id.as_str(), "20");
    }

    #[test]
    fn knows_the_other_column_names() {
        let (learned, _) =
            learn_from("basket,product,quantity,sales_cents\n1,a,1,5\n1,b,1,5\n2,b,1,5\n2,a,2,9\n")
                .unwrap();
        assert_eq!(learned.lists.len(), 2);
    }

    #[test]
    fn names_a_missing_column() {
        let error = learn_from("invoice,quantity\n1,1\n").unwrap_err();
        assert!(error.to_string().contains("`stock_code`"), "{error}");
    }
}
