//! `souk import`: brings catalogues and baskets into a running cluster.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::json;
use souk_commerce_api::import::{self, CatalogueOptions, ImportError, Progress, Report};
use souk_commerce_api::money::Currency;
use souk_kv_client::Client;

use crate::cluster::ClusterArgs;
use crate::connect::EndpointArgs;
use crate::failure::Failure;
use crate::show;

/// Units of each new product when nothing else is said.
const INITIAL_STOCK: u32 = 100;

/// Load products and past baskets into a running cluster.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  souk import catalog products.jsonl.gz")]
pub(crate) enum ImportCommand {
    /// Load products, and stock for each that is new.
    ///
    /// Reads JSON Lines or CSV, plain or gzip. Loading the same file again changes nothing. Lines that are
    /// no product are counted, named and passed over.
    #[command(
        after_help = "Example:\n  souk import catalog products.jsonl.gz\n  souk import catalog products.csv --json"
    )]
    Catalog {
        #[command(flatten)]
        args: ImportArgs,
        #[command(flatten)]
        options: CatalogOptions,
    },
    /// Count from past baskets what customers bought together.
    ///
    /// Reads CSV, plain or gzip, with a header line: invoice and stock_code, or basket and product.
    #[command(after_help = "Example:\n  souk import baskets transactions.csv.gz")]
    Baskets(ImportArgs),
}

/// What to load, and where to.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The file.
    file: PathBuf,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    endpoints: EndpointArgs,
}

/// How products are loaded.
#[derive(Debug, Clone, Args)]
pub(crate) struct CatalogOptions {
    /// The currency of prices that name none, by its ISO 4217 code.
    #[arg(long, value_name = "CODE", default_value_t = Currency::USD)]
    currency: Currency,
    /// Units of each new product that are received into stock; products that the file calls out of stock
    /// get none.
    #[arg(long, value_name = "UNITS", default_value_t = INITIAL_STOCK)]
    initial_stock: u32,
}

impl Default for CatalogOptions {
    fn default() -> Self {
        Self {
            currency: Currency::USD,
            initial_stock: INITIAL_STOCK,
        }
    }
}

impl CatalogOptions {
    fn as_of_now(&self) -> CatalogueOptions {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        CatalogueOptions {
            currency: self.currency,
            initial_stock: self.initial_stock,
            now_unix_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// Kinds of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Products.
    Catalog,
    /// Past baskets.
    Baskets,
}

/// Runs `souk import`.
pub(crate) async fn run(command: ImportCommand, cluster: &ClusterArgs) -> Result<(), Failure> {
    let (kind, args, options) = match command {
        ImportCommand::Catalog { args, options } => (Kind::Catalog, args, options),
        ImportCommand::Baskets(args) => (Kind::Baskets, args, CatalogOptions::default()),
    };
    let client = args.endpoints.connect(cluster).await?;
    let report = load(kind, &args.file, &client, &options).await?;
    if args.json {
        show::json(&report_json(&report));
    }
    Ok(())
}

/// Loads one file, showing how far it is and what came of it.
///
/// # Errors
/// When the file cannot be read, nothing in it is usable, or the store refuses.
pub(crate) async fn load(
    kind: Kind,
    file: &Path,
    client: &Client,
    options: &CatalogOptions,
) -> Result<Report, ImportError> {
    let bar = show::Progress::begin(format!("loading {}", file.display()));
    let progress = |progress: Progress| show_progress(&bar, progress);
    let report = match kind {
        Kind::Catalog => import::catalogue(file, client, options.as_of_now(), progress).await,
        Kind::Baskets => import::baskets(file, client, progress).await,
    }?;
    show_report(bar, &report);
    Ok(report)
}

/// Loads the generated sample.
///
/// # Errors
/// When the store refuses.
pub(crate) async fn load_sample(
    seed: u64,
    products: usize,
    client: &Client,
    options: &CatalogOptions,
) -> Result<Report, ImportError> {
    let bar = show::Progress::begin(format!("loading a sample of {products} products"));
    let progress = |progress: Progress| show_progress(&bar, progress);
    let report = import::sample(seed, products, client, options.as_of_now(), progress).await?;
    show_report(bar, &report);
    Ok(report)
}

fn show_progress(bar: &show::Progress, progress: Progress) {
    bar.say(progress.stage);
    match progress.total {
        Some(total) => bar.set(progress.done, total),
        None => bar.count(progress.done),
    }
}

fn show_report(bar: show::Progress, report: &Report) {
    let Report {
        lines,
        imported,
        ignored,
        skipped,
        ..
    } = report;
    bar.end(format_args!(
        "{lines} read, {imported} stored, {ignored} passed over, {skipped} skipped"
    ));
    for skipped in &report.skipped_lines {
        show::note(format_args!(
            "  line {} skipped: {}",
            skipped.line, skipped.reason
        ));
    }
}

fn report_json(report: &Report) -> serde_json::Value {
    let skipped = report
        .skipped_lines
        .iter()
        .map(|line| json!({ "line": line.line, "reason": line.reason }));
    json!({
        "lines": report.lines,
        "imported": report.imported,
        "ignored": report.ignored,
        "skipped": report.skipped,
        "skipped_lines": skipped.collect::<Vec<_>>(),
    })
}
