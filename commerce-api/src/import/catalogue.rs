//! Imports a catalogue: JSON Lines or CSV with a header, gzip or plain.
//!
//! Shape: the file is read in batches; a batch is compared with what is stored, and only what differs is written.
//! Each new product gets its first stock.
//! Invariants: 1. importing a file again writes nothing. 2. the marks that tell shops of changes are written after
//! the products, also when the import stops halfway.

use std::collections::BTreeSet;
use std::io::BufRead;
use std::path::Path;

use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Map, Value};
use souk_inventory::{CommandId, Quantity, StockCommand};

use super::lines::{next_line, open};
use super::record::{Defaults, Imported, product};
use super::report::{ImportError, Progress, Report};
use crate::catalog::store::shard;
use crate::catalog::{CatalogStore, Product, Shard};
use crate::fault::StoreFault;
use crate::ids::{ProductId, digest};
use crate::money::Currency;
use crate::stock::{SharedStocks, StockFault};

/// Products compared and written at once.
const BATCH: usize = 200;
/// First receipts under way at the same time. Each is a register group of its own, so they do not disturb each other.
const RECEIPTS_AT_ONCE: usize = 128;

/// What an import works with.
#[derive(Clone)]
pub struct Target {
    /// Where products go.
    pub catalog: CatalogStore,
    /// Where their stock goes.
    pub stocks: SharedStocks,
}

/// How to import.
#[derive(Clone, Copy, Debug)]
pub struct CatalogueOptions {
    /// The currency of prices without one.
    pub currency: Currency,
    /// Units of each new product that are received; products that the file calls out of stock get none.
    pub initial_stock: u32,
    /// The creation time of new products, in Unix milliseconds.
    pub now_unix_ms: u64,
}

/// Imports the catalogue in `path`.
///
/// # Errors
/// The file cannot be read, not one line of it is a product, or the store refuses.
pub async fn import(
    path: &Path,
    target: &Target,
    options: CatalogueOptions,
    progress: impl Fn(Progress) + Send + Sync,
) -> Result<Report, ImportError> {
    let mut records = Records::open(path)?;
    let mut run = Run {
        target,
        options,
        report: Report::default(),
        changed: BTreeSet::new(),
    };
    let result = run.all(&mut records, &progress).await;
    // Shops have to hear of what was stored, also when the rest failed.
    let marked = target.catalog.mark(&run.changed).await;
    result?;
    marked.map_err(|fault| store_error("the marks of changed shards", &fault))?;
    match run.report.skipped_lines.first() {
        Some(bad) if run.report.skipped == run.report.lines => Err(ImportError::NothingUsable {
            path: path.to_owned(),
            line: bad.line,
            reason: bad.reason.clone(),
        }),
        _ => Ok(run.report),
    }
}

/// Imports products that are there already, such as the sample catalogue.
///
/// # Errors
/// The store refuses.
pub async fn import_products(
    products: Vec<Product>,
    target: &Target,
    options: CatalogueOptions,
    progress: impl Fn(Progress) + Send + Sync,
) -> Result<Report, ImportError> {
    let mut run = Run {
        target,
        options,
        report: Report::default(),
        changed: BTreeSet::new(),
    };
    let total = products.len() as u64;
    let batches: Vec<Vec<Imported>> = products
        .chunks(BATCH)
        .map(|batch| {
            let import = |product: &Product| Imported {
                product: product.clone(),
                out_of_stock: false,
            };
            batch.iter().map(import).collect()
        })
        .collect();
    let mut result = Ok(());
    for batch in batches {
        run.report.lines += batch.len() as u64;
        result = run.store(batch).await;
        if result.is_err() {
            break;
        }
        progress(Progress {
            stage: "products",
            done: run.report.lines,
            total: Some(total),
        });
    }
    let marked = target.catalog.mark(&run.changed).await;
    result?;
    marked.map_err(|fault| store_error("the marks of changed shards", &fault))?;
    Ok(run.report)
}

struct Run<'a> {
    target: &'a Target,
    options: CatalogueOptions,
    report: Report,
    changed: BTreeSet<Shard>,
}

impl Run<'_> {
    async fn all(
        &mut self,
        records: &mut Records<'_>,
        progress: &(impl Fn(Progress) + Send + Sync),
    ) -> Result<(), ImportError> {
        let defaults = Defaults {
            currency: self.options.currency,
            created_unix_ms: self.options.now_unix_ms,
        };
        loop {
            let mut batch = Vec::with_capacity(BATCH);
            while batch.len() < BATCH {
                let Some((line, record)) = records.next()? else {
                    break;
                };
                self.report.lines += 1;
                match record.and_then(|record| product(record, &defaults)) {
                    Ok(imported) => batch.push(imported),
                    Err(reason) => self.report.skip(line, reason),
                }
            }
            if batch.is_empty() {
                return Ok(());
            }
            self.store(batch).await?;
            progress(Progress {
                stage: "products",
                done: self.report.lines,
                total: None,
            });
        }
    }

    /// Stores what is new or different of one batch, and receives the first stock of what is new.
    async fn store(&mut self, batch: Vec<Imported>) -> Result<(), ImportError> {
        let fail = |fault: &StoreFault| store_error("products", fault);
        let ids: Vec<ProductId> = batch.iter().map(|one| one.product.id.clone()).collect();
        let stored = self
            .target
            .catalog
            .get_many(&ids)
            .await
            .map_err(|fault| fail(&fault))?;
        self.report.imported += batch.len() as u64;
        let mut different = Vec::new();
        for (imported, stored) in batch.iter().zip(&stored) {
            let mut product = imported.product.clone();
            if let Some(stored) = stored {
                product.created_unix_ms = stored.created_unix_ms;
            }
            if stored.as_ref() != Some(&product) {
                different.push(product);
            }
        }
        // Stock comes first: a product without stock could not be bought, stock without a product harms nobody.
        self.receive(&batch).await?;
        for (product, written) in different
            .iter()
            .zip(self.target.catalog.put_many(&different).await)
        {
            written.map_err(|fault| fail(&fault))?;
            self.changed.insert(shard(&product.id));
        }
        Ok(())
    }

    async fn receive(&self, batch: &[Imported]) -> Result<(), ImportError> {
        let Ok(quantity) = Quantity::new(self.options.initial_stock) else {
            return Ok(());
        };
        let receipts = batch.iter().filter(|one| !one.out_of_stock).map(|one| {
            let (stocks, sku) = (self.target.stocks.clone(), one.product.id.clone());
            async move { receive_first(&stocks, &sku, quantity).await }
        });
        let receipts: Vec<_> = receipts.collect();
        let done = stream::iter(receipts)
            .buffer_unordered(RECEIPTS_AT_ONCE)
            .try_collect::<Vec<()>>();
        done.await.map(|_| ()).map_err(|fault| ImportError::Store {
            what: "the first stock".to_owned(),
            why: fault.to_string(),
        })
    }
}

/// Receives the first units of an article, once: a stock that has ever received anything is left alone.
async fn receive_first(
    stocks: &SharedStocks,
    sku: &ProductId,
    quantity: Quantity,
) -> Result<(), StockFault> {
    if stocks.counts(sku).await?.is_some() {
        return Ok(());
    }
    // One receipt for ever, so that two imports at once receive once.
    let command_id = CommandId::from_bytes(digest(format!("first/{sku}").as_bytes()).into_bytes());
    match stocks
        .command(
            sku,
            StockCommand::Receive {
                command_id,
                quantity,
            },
        )
        .await
    {
        Ok(_) => Ok(()),
        // Received before with another quantity: the first one stands.
        Err(StockFault::Refused(souk_inventory::StockError::IdReused { .. })) => Ok(()),
        Err(fault) => Err(fault),
    }
}

fn store_error(what: &str, fault: &StoreFault) -> ImportError {
    ImportError::Store {
        what: what.to_owned(),
        why: fault.to_string(),
    }
}

/// The objects of a file, one by one.
enum Records<'a> {
    Json {
        path: &'a Path,
        reader: Box<dyn BufRead + Send>,
        line: u64,
    },
    Csv {
        rows: csv::StringRecordsIntoIter<Box<dyn BufRead + Send>>,
        header: csv::StringRecord,
    },
}

/// A line's number and its object, or what is wrong with it.
type Numbered = (u64, Result<Map<String, Value>, String>);

impl<'a> Records<'a> {
    fn open(path: &'a Path) -> Result<Self, ImportError> {
        let mut reader = open(path)?;
        let start = reader.fill_buf().map_err(|source| ImportError::File {
            path: path.to_owned(),
            source,
        })?;
        // JSON Lines begin with an object; everything else is read as CSV.
        if start
            .iter()
            .find(|byte| !byte.is_ascii_whitespace())
            .is_none_or(|byte| *byte == b'{')
        {
            return Ok(Self::Json {
                path,
                reader,
                line: 0,
            });
        }
        let mut rows = csv::ReaderBuilder::new()
            .flexible(false)
            .from_reader(reader);
        let header = rows.headers().map_err(|error| ImportError::File {
            path: path.to_owned(),
            source: std::io::Error::other(error),
        })?;
        let header = header.clone();
        Ok(Self::Csv {
            rows: rows.into_records(),
            header,
        })
    }

    fn next(&mut self) -> Result<Option<Numbered>, ImportError> {
        match self {
            Self::Json { path, reader, line } => loop {
                let next = next_line(reader.as_mut()).map_err(|source| ImportError::File {
                    path: path.to_owned(),
                    source,
                })?;
                let Some(text) = next else { return Ok(None) };
                *line += 1;
                match text {
                    Ok(text) if text.trim().is_empty() => {}
                    Ok(text) => return Ok(Some((*line, parse(&text)))),
                    Err(reason) => return Ok(Some((*line, Err(reason)))),
                }
            },
            Self::Csv { rows, header } => {
                let line = rows.reader().position().line();
                Ok(rows.next().map(|row| match row {
                    Ok(row) => {
                        let line = row.position().map_or(line, csv::Position::line);
                        let cells = header.iter().zip(&row);
                        let object = cells
                            .map(|(name, cell)| (name.to_owned(), Value::String(cell.to_owned())));
                        (line, Ok(object.collect()))
                    }
                    Err(error) => (line, Err(error.to_string())),
                }))
            }
        }
    }
}

fn parse(text: &str) -> Result<Map<String, Value>, String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("it is JSON, but no object".to_owned()),
        Err(error) => Err(format!("it is no JSON: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use super::*;
    use crate::stock::StockShelf;
    use crate::testing::MemoryKv;

    const OPTIONS: CatalogueOptions = CatalogueOptions {
        currency: Currency::USD,
        initial_stock: 7,
        now_unix_ms: 1,
    };

    fn target(kv: &MemoryKv) -> Target {
        let stocks = Arc::new(StockShelf::over(kv.clone()));
        Target {
            catalog: CatalogStore::new(Arc::new(kv.clone())),
            stocks,
        }
    }

    async fn import_text(text: &str, target: &Target) -> Result<Report, ImportError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("catalogue");
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), Default::default());
        packed.write_all(text.as_bytes()).unwrap();
        std::fs::write(&path, packed.finish().unwrap()).unwrap();
        import(&path, target, OPTIONS, |_| {}).await
    }

    #[tokio::test]
    async fn imports_what_is_good_and_names_what_is_not() {
        let (kv, lines) = (
            MemoryKv::default(),
            "{\"id\":\"a\",\"name\":\"A\",\"price_cents\":5}\n\
            \n{oops\n{\"id\":\"b\",\"name\":\"B\",\"out_of_stock\":true}\n[1]\n",
        );
        let target = target(&kv);
        let report = import_text(lines, &target).await.unwrap();
        assert_eq!((report.lines, report.imported, report.skipped), (4, 2, 2));
        let named: Vec<u64> = report.skipped_lines.iter().map(|one| one.line).collect();
        assert_eq!(named, [3, 5]);
        let counts = |id: &str| {
            let (stocks, id) = (Arc::clone(&target.stocks), id.parse().unwrap());
            async move {
                stocks
                    .counts(&id)
                    .await
                    .unwrap()
                    .map(|counts| counts.available)
            }
        };
        assert_eq!((counts("a").await, counts("b").await), (Some(7), None));
    }

    #[tokio::test]
    async fn importing_again_writes_nothing() {
        let kv = MemoryKv::default();
        let target = target(&kv);
        let text = "stock_code,description,median_unit_price_gbp\n1,ONE,0.85\n2,TWO,1\n";
        import_text(text, &target).await.unwrap();
        let written = kv.writes_count();
        let report = import_text(text, &target).await.unwrap();
        assert_eq!(report.imported, 2);
        assert_eq!(kv.writes_count(), written);
        let changed = text.replace("ONE", "UNO");
        import_text(&changed, &target).await.unwrap();
        let product = target
            .catalog
            .get(&"1".parse().unwrap())
            .await
            .unwrap()
            .unwrap()
            .product;
        assert_eq!(
            (product.title.as_str(), product.price_minor),
            ("UNO", Some(85))
        );
        assert_eq!(
            kv.writes_count(),
            written + 2,
            "the product and its shard's mark"
        );
    }

    #[tokio::test]
    async fn a_file_without_one_product_is_an_error() {
        let error = import_text("{oops\n", &target(&MemoryKv::default()))
            .await
            .unwrap_err();
        assert!(
            matches!(error, ImportError::NothingUsable { line: 1, .. }),
            "{error}"
        );
    }
}
