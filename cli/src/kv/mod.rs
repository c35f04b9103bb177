//! `souk kv`: reads and writes single rows, for people and scripts.
//!
//! Shape: `words` turns arguments into bytes and back, `read` and `write` do the work, `explain` shows how the
//! cluster did it.

mod explain;
mod read;
mod words;
mod write;

use clap::{Args, Subcommand};

use souk_kv_client::Consistency;

use crate::cluster::ClusterArgs;
use crate::connect::EndpointArgs;
use crate::failure::Failure;

pub(crate) use words::bytes_of;
use words::{ContentArgs, KeyArgs};

/// Read and write keys.
///
/// A key is a bucket, a partition key and, where rows are kept under it, a sort key. All rows of one
/// partition key live together.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:
  souk admin bucket create notes
  souk kv put notes greeting --value hello
  souk kv get notes greeting")]
pub(crate) enum KvCommand {
    /// Read one key.
    ///
    /// Shows every concurrent value and the context to pass to the next write; in a register bucket the
    /// value and its version. A missing key has exit code 4.
    #[command(after_help = "Example:
  souk kv get notes greeting
  souk kv get notes greeting --raw > greeting.txt
  souk kv get notes greeting --explain
  souk kv get carts customer-17 --json | jq .context")]
    Get(GetArgs),

    /// Write one key of a siblings or lww bucket.
    ///
    /// Without a context the write does not follow any read: in a siblings bucket it stands beside what
    /// is there already. With --context it replaces what that read saw, with --replace what is there now.
    #[command(after_help = "Example:
  souk kv put notes greeting --value hello
  souk kv put notes greeting --value hi --replace
  souk kv put notes picture --file cat.png --content-type image/png")]
    Put(PutArgs),

    /// Delete one key of a siblings or lww bucket.
    ///
    /// Deletes what --context saw; without it, what is there now.
    #[command(after_help = "Example:
  souk kv delete notes greeting")]
    Delete(DeleteArgs),

    /// List rows of one partition key in the order of their sort keys.
    #[command(after_help = "Example:
  souk kv scan orders order-17
  souk kv scan notes diary --prefix 2026- --reverse --limit 10 --json")]
    Scan(ScanArgs),

    /// Write or delete one row of a register bucket, on a condition.
    ///
    /// Exactly one of several concurrent calls with the same condition succeeds. When the condition does
    /// not hold, the row is shown as it is, and the exit code is 5. Exit code 3 means that nobody knows
    /// whether it was done: read the row before trying again.
    #[command(after_help = "Example:
  souk admin bucket create seats --mode register
  souk kv cas seats 12A --if-absent --value alice
  souk kv cas seats 12A --if-version \"$VERSION\" --value bob
  souk kv cas seats 12A --if-version \"$VERSION\" --delete")]
    Cas(CasArgs),
}

/// Arguments of `souk kv get`.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    key: KeyArgs,
    /// Write only the bytes of the value; refused when there are several.
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    #[command(flatten)]
    wish: WishArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// Arguments of `souk kv put`.
#[derive(Debug, Args)]
pub(crate) struct PutArgs {
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    content: ContentArgs,
    /// The context of the read that this write follows, as `get` shows it.
    #[arg(long, value_name = "BASE64")]
    context: Option<String>,
    /// Read first, and replace every value that is there.
    #[arg(long, conflicts_with = "context")]
    replace: bool,
    /// Forget the value after so many milliseconds.
    #[arg(long, value_name = "MS")]
    ttl_ms: Option<u64>,
    #[command(flatten)]
    wish: WishArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// Arguments of `souk kv delete`.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    key: KeyArgs,
    /// The context of the read that this delete follows, as `get` shows it.
    #[arg(long, value_name = "BASE64")]
    context: Option<String>,
    #[command(flatten)]
    common: CommonArgs,
}

/// Arguments of `souk kv scan`.
#[derive(Debug, Args)]
pub(crate) struct ScanArgs {
    /// Name of the bucket.
    bucket: String,
    /// Whose rows.
    partition_key: String,
    /// Only rows whose sort key begins so.
    #[arg(long, default_value = "")]
    prefix: String,
    /// First sort key, inclusive.
    #[arg(long, default_value = "")]
    start: String,
    /// Last sort key, exclusive.
    #[arg(long, default_value = "")]
    end: String,
    /// Most rows to show, 1 to 1000000.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
    /// From the last row to the first.
    #[arg(long)]
    reverse: bool,
    /// Keys and values are hexadecimal.
    #[arg(long)]
    hex: bool,
    #[command(flatten)]
    common: CommonArgs,
}

/// Arguments of `souk kv cas`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("condition").required(true))]
pub(crate) struct CasArgs {
    #[command(flatten)]
    key: KeyArgs,
    /// The row must be there in this version, as `get` shows it.
    #[arg(long, value_name = "BASE64", group = "condition")]
    if_version: Option<String>,
    /// The row must not be there.
    #[arg(long, group = "condition")]
    if_absent: bool,
    /// Delete the row instead of writing it.
    #[arg(long, conflicts_with_all = ["value", "file", "if_absent"])]
    delete: bool,
    #[command(flatten)]
    content: ContentArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// How many nodes are to be heard, and whether to tell.
#[derive(Debug, Args)]
pub(crate) struct WishArgs {
    /// How many copies to hear from: one, quorum or all [default: what the bucket says].
    #[arg(long, value_name = "LEVEL", value_parser = ["one", "quorum", "all"])]
    consistency: Option<String>,
    /// Ask the nodes that own the key, and nobody in their stead.
    #[arg(long)]
    strict: bool,
    /// Show who was asked, what each said and when, and what is repaired. Not for register buckets.
    #[arg(long)]
    explain: bool,
}

impl WishArgs {
    fn consistency(&self) -> Consistency {
        match self.consistency.as_deref() {
            Some("one") => Consistency::One,
            Some("quorum") => Consistency::Quorum,
            Some("all") => Consistency::All,
            _ => Consistency::Bucket,
        }
    }
}

/// What all of them take.
#[derive(Debug, Args)]
pub(crate) struct CommonArgs {
    /// Print one JSON document; bytes are base64.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    endpoints: EndpointArgs,
}

/// Runs `souk kv`.
pub(crate) async fn run(command: KvCommand, cluster: &ClusterArgs) -> Result<(), Failure> {
    match command {
        KvCommand::Get(args) => read::get(args, cluster).await,
        KvCommand::Scan(args) => read::scan(args, cluster).await,
        KvCommand::Put(args) => write::put(args, cluster).await,
        KvCommand::Delete(args) => write::delete(args, cluster).await,
        KvCommand::Cas(args) => write::cas(args, cluster).await,
    }
}
