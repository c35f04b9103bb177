//! `souk admin token`: who may do what in a cluster with certificates.
//!
//! Invariants: a secret goes into a file that its owner alone can read, or once to standard output; never into a log.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use souk_kv_client::{Client, TokenInfo, TokenSecret};

use super::CommonArgs;
use crate::cluster::ClusterArgs;
use crate::failure::Failure;
use crate::show;

const HOUR: Duration = Duration::from_secs(3600);
/// How long a command waits for all nodes to know what it changed.
const NEWS_WITHIN: Duration = Duration::from_secs(2);
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Make, show, replace and end the tokens that clients show.
///
/// A token allows roles on all buckets whose names begin alike: `read`, `write`, `admin` (make buckets and look after
/// them; on `*`, look after the whole cluster and its tokens). What changes holds on every node as soon as it hears of
/// it, with the next request; nothing is restarted.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:
  souk admin token create shop --grant read,write,admin:shop- --grant read:catalog --out shop.token
  souk admin token list
  souk admin token rotate shop --overlap-hours 2 --out shop.token
  souk admin token revoke shop")]
pub(crate) enum TokenCommand {
    /// Make a token. Its secret is told this once.
    #[command(after_help = "Example:
  souk admin token create cart-reader --grant read:cart --expires-days 30 --out cart-reader.token")]
    Create(CreateArgs),
    /// Show all tokens, without their secrets.
    #[command(after_help = "Example:\n  souk admin token list --json | jq '.[].name'")]
    List(ListArgs),
    /// Give a token a new secret; the former one stays good for a while.
    ///
    /// Clients that read the token from a file take the new one up by themselves.
    #[command(
        after_help = "Example:\n  souk admin token rotate shop --overlap-hours 2 --out shop.token"
    )]
    Rotate(RotateArgs),
    /// End a token at once.
    #[command(after_help = "Example:\n  souk admin token revoke shop")]
    Revoke(RevokeArgs),
}

/// What a new token is to be.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// What to call it: 1 to 63 characters of a-z, 0-9 and `-`.
    name: String,
    /// What it allows, as ROLES:PREFIX; `*` stands for all buckets. May be given several times.
    #[arg(long = "grant", value_name = "ROLES:PREFIX", required = true)]
    grants: Vec<String>,
    /// After how many days it ends; without it, never.
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    expires_days: Option<u32>,
    #[command(flatten)]
    out: OutArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// Where a secret goes.
#[derive(Debug, Args)]
pub(crate) struct OutArgs {
    /// Write the token into this file, for its owner's eyes only, in place of one that is there. Without it, it is
    /// printed.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// What to list.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    common: CommonArgs,
}

/// What to replace.
#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    /// Which token.
    name: String,
    /// How long the former secret stays good, in hours, 0 to 720.
    #[arg(long, default_value_t = 24, value_name = "HOURS", value_parser = clap::value_parser!(u32).range(0..=720))]
    overlap_hours: u32,
    #[command(flatten)]
    out: OutArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// What to end.
#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    /// Which token.
    name: String,
    #[command(flatten)]
    common: CommonArgs,
}

/// Runs `souk admin token`.
pub(crate) async fn run(command: TokenCommand, cluster: &ClusterArgs) -> Result<(), Failure> {
    match command {
        TokenCommand::Create(args) => {
            let client = args.common.endpoints.connect(cluster).await?;
            let lasts = args.expires_days.map(|days| HOUR * 24 * days);
            let admin = client.admin();
            let made = admin.create_token(&args.name, &args.grants, lasts).await?;
            tell_who_waits(&client).await;
            tell(made, &args.out, args.common.json)
        }
        TokenCommand::List(args) => {
            let client = args.common.endpoints.connect(cluster).await?;
            list(&client.admin().list_tokens().await?, args.common.json);
            Ok(())
        }
        TokenCommand::Rotate(args) => {
            let client = args.common.endpoints.connect(cluster).await?;
            let overlap = HOUR * args.overlap_hours;
            let rotated = client.admin().rotate_token(&args.name, overlap).await?;
            tell_who_waits(&client).await;
            tell(rotated, &args.out, args.common.json)
        }
        TokenCommand::Revoke(args) => {
            let client = args.common.endpoints.connect(cluster).await?;
            let revoked = client.admin().revoke_token(&args.name).await?;
            tell_who_waits(&client).await;
            match revoked.token.filter(|_| args.common.json) {
                Some(token) => show::json(&document(&token)),
                None => show::line(format_args!(
                    "token `{}` is worth nothing any more",
                    args.name
                )),
            }
            Ok(())
        }
    }
}

/// Says which nodes do not know yet what has just been changed; what they do not know does not hold there.
async fn tell_who_waits(client: &Client) {
    let late = wait_for_news(client).await;
    if !late.is_empty() {
        show::note(format_args!(
            "not known yet on {}; it holds there as soon as they hear of it",
            late.join(", ")
        ));
    }
}

/// Waits a moment until all nodes know the newest catalogue that one of them knows; gives those that do not.
pub(crate) async fn wait_for_news(client: &Client) -> Vec<String> {
    let nodes: Vec<String> = client
        .topology()
        .nodes()
        .values()
        .map(|node| node.name.to_string())
        .collect();
    let until = tokio::time::Instant::now() + NEWS_WITHIN;
    loop {
        let admin = client.admin();
        let asked = nodes.iter().map(|node| {
            let status = tokio::time::timeout(NEWS_WITHIN, admin.status(Some(node)));
            async move {
                status
                    .await
                    .ok()?
                    .ok()
                    .map(|status| status.catalogue_version)
            }
        });
        let versions = futures::future::join_all(asked).await;
        let newest = versions.iter().flatten().max().copied();
        let late = nodes
            .iter()
            .zip(&versions)
            .filter(|(_, version)| **version < newest)
            .map(|(node, _)| node.clone());
        let late: Vec<String> = late.collect();
        if late.is_empty() || tokio::time::Instant::now() >= until {
            return late;
        }
        tokio::time::sleep(ASK_AGAIN_AFTER).await;
    }
}

fn tell(made: TokenSecret, out: &OutArgs, as_json: bool) -> Result<(), Failure> {
    let info = made.info.unwrap_or_default();
    if let Some(path) = &out.out {
        write_secret(path, &made.token)?;
    }
    if as_json {
        let mut document = document(&info);
        if out.out.is_none() {
            document["token"] = made.token.into();
        }
        show::json(&document);
        return Ok(());
    }
    let (name, grants) = (&info.name, info.grants.join(" "));
    match &out.out {
        Some(path) => show::line(format_args!(
            "token `{name}` ({grants}) is in {}",
            path.display()
        )),
        None => {
            show::note(format_args!(
                "token `{name}` ({grants}); it is told this once:"
            ));
            show::line(made.token);
        }
    }
    Ok(())
}

/// Puts a secret in place whole, so that a client that reads the file meanwhile finds the old one or the new one.
pub(crate) fn write_secret(path: &Path, secret: &str) -> Result<(), Failure> {
    let beside = path.with_extension("new");
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)?;
        writeln!(file, "{secret}")?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().map_err(|source| Failure::Unwritable {
        path: path.to_owned(),
        source,
    })
}

fn list(tokens: &[TokenInfo], as_json: bool) {
    if as_json {
        show::json(&tokens.iter().map(document).collect());
        return;
    }
    let rows = tokens.iter().map(|token| {
        [
            token.name.clone(),
            token.id.clone(),
            token.grants.join(" "),
            date(token.created_unix_ms, "-"),
            date(token.expires_unix_ms, "never"),
            date(token.former_until_unix_ms, "-"),
        ]
    });
    show::table(
        [
            "name",
            "id",
            "grants",
            "made",
            "ends",
            "former secret good until",
        ],
        rows,
    );
}

fn document(token: &TokenInfo) -> Value {
    json!({
        "name": token.name,
        "id": token.id,
        "grants": token.grants,
        "created_unix_ms": token.created_unix_ms,
        "expires_unix_ms": token.expires_unix_ms,
        "former_until_unix_ms": token.former_until_unix_ms,
    })
}

fn date(unix_ms: u64, none: &str) -> String {
    if unix_ms == 0 {
        return none.to_owned();
    }
    let time = i64::try_from(unix_ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.map_or_else(|| unix_ms.to_string(), |time| time.to_string())
}
