//! `souk admin bucket`: buckets and their settings.

use std::fmt;
use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value as Json, json};
use souk_kv_client::{BucketConfig, BucketMode};

use super::CommonArgs;
use crate::cluster::ClusterArgs;
use crate::failure::Failure;
use crate::show;

/// Create, list and show buckets.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  souk admin bucket create notes\n  souk admin bucket list")]
pub(crate) enum BucketCommand {
    /// Create a bucket.
    ///
    /// Creating it again with the same settings is no error; with other settings it is one. Settings that
    /// are left out are taken from the cluster.
    #[command(after_help = "Example:
  souk admin bucket create notes
  souk admin bucket create seats --mode register
  souk admin bucket create carts --write-floor 1
  souk admin bucket create views --mode lww --durability interval:50ms")]
    Create(CreateArgs),
    /// List all buckets.
    #[command(after_help = "Example:\n  souk admin bucket list --json | jq -r '.[].name'")]
    List(CommonArgs),
    /// Show one bucket with all its settings.
    #[command(after_help = "Example:\n  souk admin bucket show carts")]
    Show {
        /// Name of the bucket.
        name: String,
        #[command(flatten)]
        common: CommonArgs,
    },
}

/// What a bucket promises.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Mode {
    /// Always writable; a read returns every concurrent value.
    Siblings,
    /// Always writable; of concurrent writes the later one stays.
    Lww,
    /// Linearizable conditional writes.
    Register,
}

/// When an acknowledged write is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Durability {
    /// 0 is before the answer.
    interval_ms: u32,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.interval_ms {
            0 => f.write_str("synced"),
            ms => write!(f, "interval:{ms}ms"),
        }
    }
}

impl FromStr for Durability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "synced" {
            return Ok(Self { interval_ms: 0 });
        }
        let number = text
            .strip_prefix("interval:")
            .and_then(|interval| interval.strip_suffix("ms"));
        match number.and_then(|number| number.parse().ok()) {
            Some(interval_ms) if interval_ms > 0 => Ok(Self { interval_ms }),
            _ => Err("use `synced`, or `interval:50ms` with 1 to 10000 ms".to_owned()),
        }
    }
}

/// Name and settings of a new bucket.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// 1 to 63 characters of a-z, 0-9, `-` and `_`, beginning with a letter.
    name: String,
    /// What the bucket promises.
    #[arg(long, value_enum, default_value = "siblings")]
    mode: Mode,
    /// Copies of every key (N); the cluster's when left out.
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    replicas: u32,
    /// Answers that a read waits for (R); a majority when left out.
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    read_quorum: u32,
    /// Answers that a write waits for (W); a majority when left out.
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    write_quorum: u32,
    /// Accept a write with this many copies when W nodes cannot be reached; 0 means never.
    #[arg(long, default_value_t = 0)]
    write_floor: u32,
    /// Forget values after so many milliseconds; 0 means never.
    #[arg(long, default_value_t = 0)]
    ttl_ms: u64,
    /// Largest value, in bytes; the cluster's when left out.
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    value_bytes_max: u32,
    /// Most concurrent values of one key; 100 when left out.
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    siblings_max: u32,
    /// When an acknowledged write is on disk: `synced` before the answer, `interval:50ms` at most 50 ms
    /// after it; a power cut may then lose the last 50 ms. Not for registers.
    #[arg(long, default_value = "synced", value_name = "synced|interval:MS")]
    durability: Durability,
    #[command(flatten)]
    common: CommonArgs,
}

impl CreateArgs {
    fn config(&self) -> BucketConfig {
        let mode = match self.mode {
            Mode::Siblings => BucketMode::Siblings,
            Mode::Lww => BucketMode::Lww,
            Mode::Register => BucketMode::Register,
        };
        BucketConfig {
            name: self.name.clone(),
            id: 0,
            mode: mode.into(),
            replicas_n: self.replicas,
            read_quorum: self.read_quorum,
            write_quorum: self.write_quorum,
            write_floor: self.write_floor,
            ttl_ms: self.ttl_ms,
            value_bytes_max: self.value_bytes_max,
            siblings_max: self.siblings_max,
            durability_interval_ms: self.durability.interval_ms,
        }
    }
}

/// Runs `souk admin bucket`.
pub(crate) async fn run(command: BucketCommand, cluster: &ClusterArgs) -> Result<(), Failure> {
    match command {
        BucketCommand::Create(args) => create(args, cluster).await,
        BucketCommand::List(common) => list(&common, cluster).await,
        BucketCommand::Show { name, common } => show_one(&name, &common, cluster).await,
    }
}

async fn create(args: CreateArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let client = args.common.endpoints.connect(cluster).await?;
    let created = client.admin().create_bucket(args.config()).await?;
    if args.common.json {
        show::json(&json!({ "name": args.name, "created": created }));
    } else if created {
        show::line(format_args!("bucket {} created", args.name));
    } else {
        show::line(format_args!(
            "bucket {} was there already, with the same settings",
            args.name
        ));
    }
    Ok(())
}

async fn list(common: &CommonArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let buckets = common
        .endpoints
        .connect(cluster)
        .await?
        .admin()
        .list_buckets()
        .await?;
    if common.json {
        show::json(&buckets.iter().map(bucket_json).collect());
        return Ok(());
    }
    let rows = buckets.iter().map(|bucket| {
        let quorums = [
            bucket.replicas_n,
            bucket.read_quorum,
            bucket.write_quorum,
            bucket.write_floor,
        ];
        let [n, r, w, floor] = quorums.map(number_or_usual);
        [
            bucket.name.clone(),
            mode_name(bucket).to_owned(),
            n,
            r,
            w,
            floor,
        ]
    });
    show::table(["bucket", "mode", "N", "R", "W", "floor"], rows);
    Ok(())
}

async fn show_one(name: &str, common: &CommonArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let buckets = common
        .endpoints
        .connect(cluster)
        .await?
        .admin()
        .list_buckets()
        .await?;
    let found = buckets.iter().find(|bucket| bucket.name == name);
    let bucket = found.ok_or_else(|| Failure::NotFound {
        what: format!("bucket {name}"),
    })?;
    if common.json {
        show::json(&bucket_json(bucket));
        return Ok(());
    }
    let settings = [
        ("name", bucket.name.clone()),
        ("mode", mode_name(bucket).to_owned()),
        ("replicas_n", number_or_usual(bucket.replicas_n)),
        ("read_quorum", number_or_usual(bucket.read_quorum)),
        ("write_quorum", number_or_usual(bucket.write_quorum)),
        ("write_floor", bucket.write_floor.to_string()),
        ("ttl_ms", bucket.ttl_ms.to_string()),
        ("value_bytes_max", number_or_usual(bucket.value_bytes_max)),
        ("siblings_max", number_or_usual(bucket.siblings_max)),
        ("durability", durability(bucket).to_string()),
    ];
    show::table(
        ["setting", "value"],
        settings.map(|(setting, value)| [setting.to_owned(), value]),
    );
    Ok(())
}

fn number_or_usual(number: u32) -> String {
    if number == 0 {
        "-".to_owned()
    } else {
        number.to_string()
    }
}

fn durability(bucket: &BucketConfig) -> Durability {
    Durability {
        interval_ms: bucket.durability_interval_ms,
    }
}

fn mode_name(bucket: &BucketConfig) -> &'static str {
    match bucket.mode() {
        BucketMode::Siblings => "siblings",
        BucketMode::Lww => "lww",
        BucketMode::Register => "register",
        BucketMode::Unspecified => "unknown",
    }
}

fn bucket_json(bucket: &BucketConfig) -> Json {
    json!({
        "name": bucket.name,
        "id": bucket.id,
        "mode": mode_name(bucket),
        "replicas_n": bucket.replicas_n,
        "read_quorum": bucket.read_quorum,
        "write_quorum": bucket.write_quorum,
        "write_floor": bucket.write_floor,
        "ttl_ms": bucket.ttl_ms,
        "value_bytes_max": bucket.value_bytes_max,
        "siblings_max": bucket.siblings_max,
        "durability": durability(bucket).to_string(),
    })
}
