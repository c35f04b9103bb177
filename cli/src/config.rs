//! `souk config`: checks and shows the cluster file.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;
use souk_kv_node::config::ClusterFile;

use crate::cluster::{ClusterArgs, Found};
use crate::failure::Failure;
use crate::show;

/// Check or show the cluster file.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  souk config check cluster.toml")]
pub(crate) enum ConfigCommand {
    /// Check a cluster file and list all that is wrong with it.
    ///
    /// Every problem is shown with its line, its key and how to mend it; the exit code is then 2.
    #[command(
        after_help = "Example:\n  souk config check cluster.toml\n  souk config check --json | jq .nodes"
    )]
    Check {
        /// The file; as --config when left out.
        file: Option<PathBuf>,
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the cluster file in use, with a comment for every key.
    ///
    /// Without any file this is the built-in cluster, a good beginning for a file of your own.
    #[command(after_help = "Example:\n  souk config show > cluster.toml")]
    Show,
}

/// Runs `souk config`.
pub(crate) fn run(command: &ConfigCommand, cluster: &ClusterArgs) -> Result<(), Failure> {
    match command {
        ConfigCommand::Check { file, json } => {
            let config = file.clone().or_else(|| cluster.config.clone());
            check(&ClusterArgs { config }.load()?, *json);
        }
        ConfigCommand::Show => show::bytes(cluster.load()?.file.render().as_bytes()),
    }
    Ok(())
}

fn check(found: &Found, as_json: bool) {
    let file = &found.file;
    if as_json {
        show::json(&summary(found));
        return;
    }
    let (name, id) = (found.name(), &file.cluster.id);
    let (nodes, partitions) = (file.nodes.len(), file.cluster.partitions_count);
    show::line(format_args!("{name}: {}", show::good("ok")));
    show::line(format_args!(
        "cluster {id}: {nodes} nodes, {partitions} partitions, {} copies",
        file.cluster.replicas_n
    ));
    let rows = file.nodes.iter().map(|node| {
        [
            &node.name,
            &node.zone,
            &node.grpc.to_string(),
            &node.http.to_string(),
            file.engine_of(node).as_str(),
        ]
        .map(|cell: &str| cell.to_owned())
    });
    show::table(["node", "zone", "grpc", "http", "engine"], rows);
}

fn summary(found: &Found) -> serde_json::Value {
    let file: &ClusterFile = &found.file;
    let node = |node: &souk_kv_node::config::NodeSection| {
        json!({
            "name": node.name,
            "zone": node.zone,
            "weight": node.weight,
            "grpc": node.grpc.to_string(),
            "http": node.http.to_string(),
            "engine": file.engine_of(node).as_str(),
        })
    };
    json!({
        "file": found.name(),
        "cluster": file.cluster.id,
        "partitions_count": file.cluster.partitions_count,
        "replicas_n": file.cluster.replicas_n,
        "nodes": file.nodes.iter().map(node).collect::<Vec<_>>(),
        "shop": file.shop.listen.to_string(),
        "payment_provider": file.shop.payment_provider.to_string(),
    })
}
