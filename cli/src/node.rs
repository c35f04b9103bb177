//! `souk node`: one node of the store, in this process.

use std::path::PathBuf;

use clap::Args;
use souk_kv_node::NodeOptions;

use crate::cluster::{ClusterArgs, USUAL_DATA};
use crate::failure::Failure;
use crate::stop::{StopArgs, StopSignals};

/// Run one node of the cluster file until it is told to stop.
///
/// Its data lies in DIR/NAME. Ctrl-C or SIGTERM stops it cleanly; after kill -9 it recovers when it is
/// started again.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  souk node --name n1
  souk node --name n2 --config /etc/souk/cluster.toml --data /var/lib/souk")]
pub(crate) struct NodeArgs {
    /// Which node of the cluster file this is.
    #[arg(long)]
    name: String,

    /// Where nodes keep their data, each in a folder of its name.
    #[arg(long, value_name = "DIR", default_value = USUAL_DATA)]
    data: PathBuf,

    #[command(flatten)]
    stop: StopArgs,
}

/// Runs a node until it is told to stop.
pub(crate) async fn run(args: NodeArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let found = cluster.load()?;
    if found.file.node(&args.name).is_none() {
        let names: Vec<&str> = found
            .file
            .nodes
            .iter()
            .map(|node| node.name.as_str())
            .collect();
        let problem = format!("{} names no node `{}`", found.name(), args.name);
        return Err(Failure::usage(
            problem,
            format!("its nodes are {}", names.join(", ")),
        ));
    }
    let signals = StopSignals::listen(args.stop).map_err(|source| Failure::Runtime { source })?;
    let stop = signals.wait_then_insist(found.file.limits.shutdown_timeout);
    let data = args.data.join(&args.name);
    let options = NodeOptions {
        config: found.file,
        name: args.name,
        data,
    };
    Ok(souk_kv_node::run(options, stop).await?)
}
