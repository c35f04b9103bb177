//! `souk node`: one node of the store, in this process.

use std::path::PathBuf;

use clap::Args;
use souk_kv_node::{
    JoinOptions, NodeOptions,
    config::{Address, NodeSection, Overrides},
};

use crate::cluster::{ClusterArgs, USUAL_DATA};
use crate::failure::Failure;
use crate::stop::{StopArgs, StopSignals};

/// Run one node of the cluster file, or one that joins it, until it is told to stop.
///
/// Its data lies in DIR/NAME. Ctrl-C or SIGTERM stops it cleanly; after kill -9 it recovers when it is
/// started again.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  souk node --name n1
  souk node --name n2 --config /etc/souk/cluster.toml --data /var/lib/souk
  souk node --name n2 --certificates /etc/souk/certs
  souk node --name n4 --join 127.0.0.1:7101 --grpc 127.0.0.1:7104 --http 127.0.0.1:7204")]
pub(crate) struct NodeArgs {
    /// Which node of the cluster file this is.
    #[arg(long)]
    name: String,

    /// Where nodes keep their data, each in a folder of its name.
    #[arg(long, value_name = "DIR", default_value = USUAL_DATA)]
    data: PathBuf,

    /// Where the node's certificate, its key and ca.crt lie (see `souk cert`); without it, what the cluster file says
    /// (security.certificates).
    #[arg(long, env = "SOUK_CERTIFICATES", value_name = "DIR")]
    certificates: Option<PathBuf>,

    /// Serve addresses that other machines can reach without TLS and tokens: everybody there may then read and change
    /// everything.
    #[arg(long)]
    insecure: bool,

    #[command(flatten)]
    join: JoinArgs,

    #[command(flatten)]
    stop: StopArgs,
}

/// A node that the cluster file does not name.
#[derive(Debug, Args)]
struct JoinArgs {
    /// Join the cluster of these members, or come back to it; the node waits until an operator lets it in
    /// (`souk admin layout join`).
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', requires_all = ["grpc", "http"])]
    join: Vec<String>,

    /// Where clients and peers find a node that joins.
    #[arg(long, value_name = "HOST:PORT", requires = "join")]
    grpc: Option<String>,

    /// Where a node that joins answers health checks and metrics.
    #[arg(long, value_name = "HOST:PORT", requires = "join")]
    http: Option<String>,

    /// What fails together with a node that joins; its name when left out.
    #[arg(long, requires = "join")]
    zone: Option<String>,

    /// Its share of the load, 1 to 1000.
    #[arg(long, requires = "join", default_value_t = 1)]
    weight: u32,
}

impl JoinArgs {
    fn options(&self, name: &str) -> Result<Option<JoinOptions>, Failure> {
        let (Some(grpc), Some(http)) = (&self.grpc, &self.http) else {
            return Ok(None);
        };
        let address = |text: &str| {
            Address::parse(text).ok_or_else(|| {
                Failure::usage(
                    format!("`{text}` is no address"),
                    "write HOST:PORT, for example 127.0.0.1:7104".to_owned(),
                )
            })
        };
        Ok(Some(JoinOptions {
            section: NodeSection {
                name: name.to_owned(),
                zone: self.zone.clone().unwrap_or_else(|| name.to_owned()),
                weight: self.weight,
                grpc: address(grpc)?,
                http: address(http)?,
                engine: None,
            },
            doors: self.join.clone(),
        }))
    }
}

/// Runs a node until it is told to stop.
pub(crate) async fn run(args: NodeArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let found = cluster.load_with(&Overrides {
        insecure: args.insecure,
        certificates: args.certificates,
    })?;
    let join = args.join.options(&args.name)?;
    if found.file.node(&args.name).is_none() && join.is_none() {
        let names: Vec<&str> = found
            .file
            .nodes
            .iter()
            .map(|node| node.name.as_str())
            .collect();
        let problem = format!("{} names no node `{}`", found.name(), args.name);
        return Err(Failure::usage(
            problem,
            format!(
                "its nodes are {}; another one joins with --join HOST:PORT --grpc HOST:PORT --http HOST:PORT",
                names.join(", ")
            ),
        ));
    }
    let signals = StopSignals::listen(args.stop).map_err(|source| Failure::Runtime { source })?;
    let stop = signals.wait_then_insist(found.file.limits.shutdown_timeout);
    let data = args.data.join(&args.name);
    let options = NodeOptions {
        config: found.file,
        name: args.name,
        data,
        join,
    };
    Ok(souk_kv_node::run(options, stop).await?)
}
