//! `souk cert`: certificates for nodes, operators and clients of one cluster.
//!
//! Place: works on files alone; asks no node. What it puts in place is taken up by running nodes and clients.
//! Not here: tokens, which the cluster itself keeps (`crate::admin`).

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;
use souk_kv_tls::authority::{
    AUTHORITY_LASTS, Authority, CERTIFICATE_LASTS, Description, describe,
};
use souk_kv_tls::{Bearer, BearerKind, Folder};

use crate::cluster::ClusterArgs;
use crate::failure::Failure;
use crate::show;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// The folder when neither the command line nor the cluster file names one.
const USUAL_FOLDER: &str = "certs";
/// From so many days before its end on, a certificate is shown in red.
const DAYS_TO_RENEW: i64 = 30;

/// Make, show and revoke the certificates that nodes, operators and clients show to each other.
///
/// Keep the folder with ca.key off the nodes; give each node ca.crt, its own two files and revoked.crl. Nodes and
/// clients take new files up within a second or two, without a restart.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:
  souk cert ca
  souk cert nodes
  souk cert operator ann
  souk cert client shop --days 90
  souk cert list")]
pub(crate) enum CertCommand {
    /// Make the authority that signs all others.
    ///
    /// With --rotate it makes a new one beside those that are there: give the new ca.crt to everybody, then make all
    /// certificates anew, then take the old authority out of ca.crt.
    #[command(after_help = "Example:
  souk cert ca
  souk cert ca --rotate")]
    Ca(CaArgs),
    /// Make the certificate of one node, in place of the one that is there.
    #[command(after_help = "Example:\n  souk cert node n4 --host n4.example.com --host 10.0.0.4")]
    Node(NodeCertArgs),
    /// Make the certificates of all nodes of the cluster file.
    #[command(after_help = "Example:\n  souk cert nodes --config cluster.toml")]
    Nodes(MakeArgs),
    /// Make the certificate of an operator, who may do everything.
    #[command(after_help = "Example:\n  souk cert operator ann")]
    Operator(BearerCertArgs),
    /// Make the certificate of a client, which needs a token beside it.
    #[command(after_help = "Example:\n  souk cert client shop --days 90")]
    Client(BearerCertArgs),
    /// Put certificates on the list of what is no longer accepted (revoked.crl).
    ///
    /// Nodes that get the list cut their bearers off within a second or two.
    #[command(after_help = "Example:\n  souk cert revoke certs/client.shop.crt")]
    Revoke(RevokeArgs),
    /// Show the certificates of the folder, and when their time is over.
    #[command(after_help = "Example:
  souk cert list
  souk cert list --json | jq '.[] | select(.days_left < 30)'")]
    List(ListArgs),
}

/// Where the files lie.
#[derive(Debug, Args)]
pub(crate) struct FolderArgs {
    /// The folder. Without it, the one that the cluster file names (security.certificates), else ./certs.
    #[arg(long, env = "SOUK_CERTIFICATES", value_name = "DIR")]
    certificates: Option<PathBuf>,
}

/// How an authority is made.
#[derive(Debug, Args)]
pub(crate) struct CaArgs {
    /// How long it is to last, in days, 1 to 36500.
    #[arg(long, default_value_t = AUTHORITY_LASTS.as_secs() / DAY.as_secs(), value_parser = clap::value_parser!(u64).range(1..=36_500))]
    days: u64,
    /// Make a new one beside those that are there.
    #[arg(long)]
    rotate: bool,
    #[command(flatten)]
    folder: FolderArgs,
}

/// How certificates are made.
#[derive(Debug, Args)]
pub(crate) struct MakeArgs {
    /// How long it is to last, in days, 1 to 36500.
    #[arg(long, default_value_t = CERTIFICATE_LASTS.as_secs() / DAY.as_secs(), value_parser = clap::value_parser!(u64).range(1..=36_500))]
    days: u64,
    #[command(flatten)]
    folder: FolderArgs,
}

/// Whom a certificate is for.
#[derive(Debug, Args)]
pub(crate) struct BearerCertArgs {
    /// 1 to 63 characters of a-z, 0-9 and `-`.
    name: String,
    #[command(flatten)]
    make: MakeArgs,
}

/// Which node a certificate is for.
#[derive(Debug, Args)]
pub(crate) struct NodeCertArgs {
    /// Name of the node.
    name: String,
    /// Further host names or addresses, for clients that check those. The node's own address in the cluster file is
    /// always among them.
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,
    #[command(flatten)]
    make: MakeArgs,
}

/// What is to be revoked.
#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    /// Certificates (.crt files).
    #[arg(required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    folder: FolderArgs,
}

/// What is to be shown.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    folder: FolderArgs,
}

/// Runs `souk cert`.
pub(crate) fn run(command: &CertCommand, cluster: &ClusterArgs) -> Result<(), Failure> {
    match command {
        CertCommand::Ca(args) => make_authority(args, cluster),
        CertCommand::Node(args) => {
            let authority = args.make.authority(cluster)?;
            let own = hosts_of(&args.name, cluster)?;
            let hosts: Vec<String> = own.into_iter().chain(args.hosts.clone()).collect();
            issue(&authority, BearerKind::Node, &args.name, &hosts, &args.make)
        }
        CertCommand::Nodes(args) => {
            let authority = args.authority(cluster)?;
            for node in &cluster.load()?.file.nodes {
                let hosts = [node.grpc.host().to_owned()];
                issue(&authority, BearerKind::Node, &node.name, &hosts, args)?;
            }
            Ok(())
        }
        CertCommand::Operator(args) => make_for(BearerKind::Operator, args, cluster),
        CertCommand::Client(args) => make_for(BearerKind::Client, args, cluster),
        CertCommand::Revoke(args) => revoke(args, cluster),
        CertCommand::List(args) => list(args, cluster),
    }
}

impl FolderArgs {
    fn choose(&self, cluster: &ClusterArgs) -> Result<Folder, Failure> {
        if let Some(path) = &self.certificates {
            return Ok(Folder::new(path));
        }
        let named = cluster.load()?.file.security.certificates;
        Ok(Folder::new(named.unwrap_or_else(|| USUAL_FOLDER.into())))
    }
}

impl MakeArgs {
    fn authority(&self, cluster: &ClusterArgs) -> Result<Authority, Failure> {
        Ok(Authority::open(&self.folder.choose(cluster)?)?)
    }
}

fn make_authority(args: &CaArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let folder = args.folder.choose(cluster)?;
    let id = cluster.load()?.file.cluster.id;
    Authority::make(&folder, &id, days(args.days), args.rotate)?;
    show::line(format_args!(
        "authority of cluster `{id}`: {} (give it to everybody) and {} (keep it to yourself)",
        folder.authorities().display(),
        folder.authority_key().display()
    ));
    Ok(())
}

fn make_for(kind: BearerKind, args: &BearerCertArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let authority = args.make.authority(cluster)?;
    issue(&authority, kind, &args.name, &[], &args.make)
}

fn issue(
    authority: &Authority,
    kind: BearerKind,
    name: &str,
    hosts: &[String],
    args: &MakeArgs,
) -> Result<(), Failure> {
    let bearer = authority.issue(kind, name, hosts, days(args.days))?;
    let files = authority.folder().of(kind, name);
    show::line(format_args!(
        "{bearer}: {} and {}, for {} days",
        files.certificate.display(),
        files.key.display(),
        args.days
    ));
    Ok(())
}

/// Where the cluster file says that a node is; nowhere when it does not know the node.
fn hosts_of(name: &str, cluster: &ClusterArgs) -> Result<Option<String>, Failure> {
    let file = cluster.load()?.file;
    Ok(file.node(name).map(|node| node.grpc.host().to_owned()))
}

fn revoke(args: &RevokeArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let folder = args.folder.choose(cluster)?;
    let authority = Authority::open(&folder)?;
    for file in &args.files {
        let is_new = authority.revoke(file)?;
        let what = if is_new {
            "revoked"
        } else {
            "was revoked before"
        };
        show::line(format_args!("{}: {what}", file.display()));
    }
    show::line(format_args!(
        "give {} to every node that has a folder of its own",
        folder.revoked().display()
    ));
    Ok(())
}

fn list(args: &ListArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let folder = args.folder.choose(cluster)?;
    let unreadable = |source| Failure::Unreadable {
        path: folder.path().to_owned(),
        source,
    };
    let mut files = Vec::new();
    for file in fs::read_dir(folder.path()).map_err(unreadable)? {
        let path = file.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "crt") {
            files.push(path);
        }
    }
    files.sort();
    let described = files
        .into_iter()
        .map(|path| Ok((describe(&path)?, path)))
        .collect::<Result<Vec<(Description, PathBuf)>, Failure>>()?;
    let now = jiff::Timestamp::now();
    let days_left = |until: i64| (until - now.as_second()).div_euclid(DAY.as_secs().cast_signed());
    let date = |seconds: i64| {
        jiff::Timestamp::from_second(seconds)
            .map_or_else(|_| seconds.to_string(), |time| time.to_string())
    };
    if args.json {
        let documents = described.iter().map(|(certificate, path)| {
            json!({
                "file": path.display().to_string(),
                "bearer": certificate.bearer.as_ref().map(Bearer::uri),
                "subject": certificate.subject,
                "valid_from": date(certificate.valid_from_unix_s),
                "valid_until": date(certificate.valid_until_unix_s),
                "days_left": days_left(certificate.valid_until_unix_s),
            })
        });
        show::json(&documents.collect());
        return Ok(());
    }
    let rows = described.iter().map(|(certificate, path)| {
        let left = days_left(certificate.valid_until_unix_s);
        let bearer = certificate.bearer.as_ref().map(ToString::to_string);
        [
            path.display().to_string().into(),
            bearer.unwrap_or_else(|| certificate.subject.clone()).into(),
            date(certificate.valid_until_unix_s).into(),
            show::judged(&left.to_string(), left >= DAYS_TO_RENEW),
        ]
    });
    show::table(["file", "bearer", "valid until", "days left"], rows);
    Ok(())
}

fn days(count: u64) -> Duration {
    DAY * u32::try_from(count).unwrap_or(u32::MAX)
}
