//! `souk up`: a whole cluster and its shop, as real processes on this machine.
//!
//! ```text
//! plan --ports free?--> nodes --ready?--> catalogue --> payment provider --> shop --ready?--> "ready"
//!                                                    (stopping goes the other way round)
//! ```
//!
//! Place: starts this same binary as children (`souk node`, `souk payment-provider`, `souk shop`).
//! Invariants: 1. no child outlives it, even when it is killed outright (see `stop`). 2. the data
//! directory holds everything; started again on it, nothing is lost and nothing is loaded twice.
//! Not here: restarting a node that died; that is for an operator, or a test, with `souk node`.

mod certificates;
mod error;
mod fleet;
mod load;
mod plan;
mod ports;
mod process;
mod ready;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use souk_kv_node::config::ClusterFile;
use tempfile::TempDir;

use certificates::Bearers;
pub(crate) use error::UpError;
use fleet::Fleet;
use load::Load;
use plan::Plan;

use crate::cluster::{ClusterArgs, Found, USUAL_DATA};
use crate::failure::Failure;
use crate::show;
use crate::stop::{StopArgs, StopSignals};

/// Time between two looks at the children of a running cluster.
const WATCH_EVERY: Duration = Duration::from_millis(200);

/// Start a cluster and its shop on this machine, and stop them together.
///
/// Starts every node of the cluster file as a process of its own, waits until all are ready, loads a
/// catalogue, starts the payment provider and the shop, prints where everything listens and then the
/// line `ready`. Ctrl-C or SIGTERM stops everything cleanly. Started again with the same --data,
/// everything is still there.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  souk up
  souk up --ephemeral --no-shop
  souk up --tls
  souk up --nodes 5 --data /tmp/souk --catalog products.jsonl.gz")]
pub(crate) struct UpArgs {
    /// How many nodes, 1 to 99 [default: those of the cluster file]. More than the file names only
    /// with the built-in cluster; ports go on from 7104 and 7204.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=99))]
    nodes: Option<u8>,

    /// Where everything is kept: data, logs and the cluster file in use.
    #[arg(long, value_name = "DIR", default_value = USUAL_DATA)]
    data: PathBuf,

    /// Keep everything in a temporary directory and remove it at the end.
    #[arg(long, conflicts_with = "data")]
    ephemeral: bool,

    /// Products to load, as JSON Lines or CSV, plain or gzip. Without it, an empty catalogue is
    /// filled with a generated sample.
    #[arg(long, value_name = "FILE", conflicts_with = "no_shop")]
    catalog: Option<PathBuf>,

    /// Past baskets to count "customers who bought this also bought" from, as CSV, plain or gzip.
    #[arg(long, value_name = "FILE", conflicts_with = "no_shop")]
    baskets: Option<PathBuf>,

    /// Make certificates below the data directory, and have everybody show them: what `souk cert` does for a cluster
    /// of several machines. Then use `--config DIR/cluster.toml` with other commands, which finds them.
    #[arg(long)]
    tls: bool,

    /// Start only the nodes.
    #[arg(long)]
    no_shop: bool,

    /// How long nodes and shop may take to get ready, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    start_timeout: u64,
}

/// Runs `souk up` until it is told to stop.
pub(crate) async fn run(args: UpArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let found = cluster.load()?;
    let mut file = choose_nodes(&found, args.nodes)?;
    let home = Home::open(&args)?;
    let bearers = match args.tls {
        true => Some(certificates::make(&mut file, &home.path)?),
        false => None,
    };
    let mut signals = StopSignals::listen(StopArgs {
        stop_on_stdin_close: false,
    })
    .map_err(|source| Failure::Runtime { source })?;
    let plan = Plan::new(&file, &home.path, args.no_shop, bearers.as_ref());
    ports::check(&plan, found.path.as_ref())?;
    plan.write_cluster_file(&file)?;

    let mut fleet = Fleet::new(
        file.limits.shutdown_timeout,
        Duration::from_secs(args.start_timeout),
    );
    let load = Load {
        catalog: args.catalog.as_deref(),
        baskets: args.baskets.as_deref(),
        operator: bearers.as_ref().map(|bearers| bearers.operator.clone()),
    };
    let result = tokio::select! {
        result = start_and_watch(&mut fleet, &plan, &load, &file, bearers.as_ref()) => result,
        () = signals.wait() => Ok(()),
    };
    show::note("stopping");
    fleet.stop().await;
    home.remove();
    Ok(result?)
}

async fn start_and_watch(
    fleet: &mut Fleet,
    plan: &Plan,
    load: &Load<'_>,
    file: &ClusterFile,
    bearers: Option<&Bearers>,
) -> Result<(), UpError> {
    fleet.start_all(&plan.nodes).await?;
    if let Some(shop) = &plan.shop {
        fleet
            .start_all(std::slice::from_ref(&shop.provider))
            .await?;
        load.run(&file.endpoints(), &plan.home).await?;
        if let Some(bearers) = bearers {
            bearers.make_shop_token(&file.endpoints()).await?;
        }
        fleet.start_all(std::slice::from_ref(&shop.shop)).await?;
    }
    announce(fleet, plan);
    loop {
        tokio::time::sleep(WATCH_EVERY).await;
        for ended in fleet.take_ended() {
            show::note(format_args!("{ended}"));
        }
    }
}

fn announce(fleet: &Fleet, plan: &Plan) {
    let rows = fleet.processes().map(|process| {
        let server = process.server();
        let addresses: Vec<String> = server.listens.iter().map(|listen| listen.url()).collect();
        [server.name.clone(), process.pid(), addresses.join("  ")]
    });
    show::table(["process", "pid", "addresses"], rows);
    show::line(format_args!("data and logs: {}", plan.home.display()));
    show::line("ready");
}

/// The cluster file with as many nodes as were asked for.
fn choose_nodes(found: &Found, wanted: Option<u8>) -> Result<ClusterFile, UpError> {
    let named = found.file.nodes.len();
    let Some(wanted) = wanted else {
        return Ok(found.file.clone());
    };
    if found.is_builtin() {
        return Ok(ClusterFile::builtin_with(wanted));
    }
    if usize::from(wanted) > named {
        return Err(UpError::TooFewNodes {
            file: found.name(),
            named,
            wanted,
        });
    }
    let mut file = found.file.clone();
    file.nodes.truncate(usize::from(wanted));
    Ok(file)
}

/// The data directory, and whether it goes away at the end.
struct Home {
    path: PathBuf,
    temporary: Option<TempDir>,
}

impl Home {
    fn open(args: &UpArgs) -> Result<Self, UpError> {
        let unusable = |path: PathBuf| move |source| UpError::DataDirectory { path, source };
        if args.ephemeral {
            let temporary = tempfile::Builder::new().prefix("souk-").tempdir();
            let temporary = temporary.map_err(unusable(std::env::temp_dir()))?;
            return Ok(Self {
                path: temporary.path().to_owned(),
                temporary: Some(temporary),
            });
        }
        std::fs::create_dir_all(&args.data).map_err(unusable(args.data.clone()))?;
        let path = args
            .data
            .canonicalize()
            .map_err(unusable(args.data.clone()))?;
        Ok(Self {
            path,
            temporary: None,
        })
    }

    fn remove(self) {
        if let Some(Err(problem)) = self.temporary.map(TempDir::close) {
            show::note(format_args!(
                "could not remove {}: {problem}",
                self.path.display()
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(nodes_count: u8, path: Option<&str>) -> Found {
        let mut file = ClusterFile::builtin_with(nodes_count);
        if path.is_some() {
            file.cluster.id = "other".to_owned();
        }
        Found {
            file,
            path: path.map(PathBuf::from),
        }
    }

    #[test]
    fn only_the_builtin_cluster_grows() {
        let count = |found: &Found, wanted| {
            choose_nodes(found, wanted)
                .map(|file| file.nodes.len())
                .ok()
        };
        assert_eq!(count(&found(3, None), Some(5)), Some(5));
        assert_eq!(count(&found(3, None), None), Some(3));
        assert_eq!(count(&found(3, Some("c.toml")), Some(2)), Some(2));
        assert_eq!(count(&found(3, Some("c.toml")), Some(5)), None);
    }
}
