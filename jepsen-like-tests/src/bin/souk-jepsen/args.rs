//! The table of contents of the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use souk_jepsen_like_tests::fault::Fault;

const EXIT_CODES: &str = "\
Exit codes:
  0  valid
  1  invalid: the store broke a promise
  2  the command or the harness failed, which says nothing of the store
  3  unknown: not enough evidence, or too much to judge

Example:
  souk-jepsen run --real --workload cart,stock --fault kill-one --seed 7 --time 15 --out /tmp/run-7
  souk-jepsen check --model cas-register history.jsonl";

/// Break Souk on purpose and judge what its clients saw.
#[derive(Debug, Parser)]
#[command(name = "souk-jepsen", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(RunArgs),
    Check(CheckArgs),
    List(ListArgs),
    #[command(hide = true)]
    Worker(WorkerArgs),
}

/// Run workloads against a cluster of real processes while something is broken.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  souk-jepsen run --real --workload register --fault kill-one --seed 1 --time 10 --out /tmp/run-1")]
pub(crate) struct RunArgs {
    /// One or more workloads, which run at the same time on one cluster; see `souk-jepsen list`.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', required = true)]
    pub(crate) workload: Vec<String>,
    /// What is broken; see `souk-jepsen list`.
    #[arg(long, value_name = "NAME", default_value_t = Fault::KillOne)]
    pub(crate) fault: Fault,
    /// Chooses when, whom, and what clients do. Without it: a new one, which is printed.
    #[arg(long, env = "SOUK_SEED", value_name = "NUMBER")]
    pub(crate) seed: Option<u64>,
    /// How long clients run, in seconds, 1 to 86400.
    #[arg(
        long,
        env = "SOUK_CHAOS_SECONDS",
        value_name = "SECONDS",
        default_value_t = 15.0
    )]
    pub(crate) time: f64,
    /// Number of nodes, 1 to 9.
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    pub(crate) nodes: u8,
    /// Storage engine of the nodes.
    #[arg(long, value_enum, default_value_t = Engine::Fjall)]
    pub(crate) engine: Engine,
    /// On real processes of this machine.
    #[arg(long, required = true)]
    pub(crate) real: bool,
    /// Where histories, verdicts, data and logs go; new or empty.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: PathBuf,
    /// Print the results as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Storage engines that outlive a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    Fjall,
    Sled,
}

impl Engine {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Engine::Fjall => "fjall",
            Engine::Sled => "sled",
        }
    }
}

/// Judge a history.
///
/// The file has one event a line, in Jepsen's form; which operations it may hold depends on the model.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  souk-jepsen check --model cas-register history.jsonl
  souk-jepsen check --model set --json history.jsonl")]
pub(crate) struct CheckArgs {
    /// What the history should have been.
    #[arg(long, value_enum)]
    pub(crate) model: ModelName,
    /// The history.
    pub(crate) file: PathBuf,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What a history can be judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModelName {
    /// One linearizable register: `read`, `write`, `cas` of [old, new].
    CasRegister,
    /// Many of them: values are [key, value].
    KeyedCasRegister,
    /// Linearizable rows with versions: `get`, `put`, `delete`.
    VersionedMap,
    /// Sets that converge: `add`, `read`, `final-read` of [key, element].
    Set,
    /// Sets of which every read shows all that was acknowledged.
    LinearizableSet,
    /// Stock that is only reserved: `receive`, `reserve`, `final-stock`.
    Stock,
    /// Purchases: `checkout`, `final-orders`.
    Orders,
}

/// List workloads, faults and models.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  souk-jepsen list")]
pub(crate) struct ListArgs {
    /// Print them as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// One process of clients; started by `run`.
#[derive(Debug, Args)]
pub(crate) struct WorkerArgs {
    #[arg(long)]
    pub(crate) workload: String,
    #[arg(long)]
    pub(crate) target: PathBuf,
    #[arg(long)]
    pub(crate) worker: u32,
    #[arg(long)]
    pub(crate) lanes: u32,
    #[arg(long)]
    pub(crate) seed: u64,
    #[arg(long)]
    pub(crate) time: f64,
    #[arg(long)]
    pub(crate) history: PathBuf,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn clap_finds_no_contradiction() {
        Cli::command().debug_assert();
    }
}
