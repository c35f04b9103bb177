//! The table of contents of the command line.

use std::path::PathBuf;

use clap::builder::TypedValueParser as _;
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use souk_jepsen_like_tests::fault::Fault;
use souk_jepsen_like_tests::real::HostsWanted;
use souk_jepsen_like_tests::sim::CLIENTS_MAX;

const EXIT_CODES: &str = "\
Exit codes:
  0  valid
  1  invalid: the store broke a promise
  2  the command or the harness failed, which says nothing of the store
  3  unknown: not enough evidence, or too much to judge
  4  skipped: this machine cannot do what was asked for; what is missing is said

Example:
  souk-jepsen run --sim --workload register --fault kill-one,split-halves --seed 7 --out /tmp/sim-7
  souk-jepsen run --real --workload cart,stock --fault kill-one --seed 7 --time 15 --out /tmp/run-7
  souk-jepsen run --real --workload register --fault split-halves,clock-jump --time 30 --out /tmp/run-8
  souk-jepsen matrix --sim --seeds 2 --time 60 --out /tmp/matrix
  souk-jepsen matrix --real --time 20 --out /tmp/cells
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
    Replay(ReplayArgs),
    Shrink(ShrinkArgs),
    Matrix(MatrixArgs),
    /// Run 200 simulated seeds over all cells in turn, and 12 runs on real processes.
    #[command(after_help = "Example:\n  souk-jepsen ci-full --out /tmp/ci-full")]
    CiFull(SuiteArgs),
    /// Run 2,000 simulated seeds, every cell at least six times, and 48 runs on real processes.
    #[command(
        after_help = "Example:\n  souk-jepsen nightly --first-seed 20270101 --out /tmp/nightly"
    )]
    Nightly(SuiteArgs),
    Mutants(MutantsArgs),
    Churn(ChurnArgs),
    Check(CheckArgs),
    List(ListArgs),
    #[command(hide = true)]
    Worker(WorkerArgs),
    #[command(hide = true)]
    Hunt(HuntArgs),
    #[command(hide = true)]
    Lag(LagArgs),
}

/// Run workloads while something is broken: on a simulated cluster, or on one of real processes.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("where").required(true).args(["sim", "real"])))]
#[command(after_help = "Example:
  souk-jepsen run --sim --workload cart --fault split-one,clock-jump --seed 1 --time 60 --out /tmp/sim-1
  souk-jepsen run --real --workload register --fault split-halves --seed 1 --time 20 --out /tmp/run-1")]
pub(crate) struct RunArgs {
    /// What clients do; see `souk-jepsen list`. With --real one or more, which run at the same time on one cluster.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', required = true)]
    pub(crate) workload: Vec<String>,
    /// What is broken, one or more, which overlap; see `souk-jepsen list`.
    #[arg(
        long,
        value_name = "NAME,...",
        value_delimiter = ',',
        default_value = "kill-one"
    )]
    pub(crate) fault: Vec<Fault>,
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
    /// Storage engine of real nodes.
    #[arg(long, value_enum, default_value_t = Engine::Fjall)]
    pub(crate) engine: Engine,
    /// Number of simulated clients, 1 to 64; real workloads have a crowd of their own.
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=i64::from(CLIENTS_MAX)))]
    pub(crate) clients: u32,
    /// Stretches the pauses between the requests of a simulated client, 0.01 to 1000.
    #[arg(long, value_name = "FACTOR", default_value_t = 4.0)]
    pub(crate) pace: f64,
    /// Which hosts real nodes live on.
    #[arg(long, value_enum, default_value_t = HostsName::Auto)]
    pub(crate) hosts: HostsName,
    /// In a simulation: one thread, and the same again for the same seed.
    #[arg(long)]
    pub(crate) sim: bool,
    /// On real processes of this machine.
    #[arg(long)]
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

/// Where real nodes live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum HostsName {
    /// Network namespaces where they can be made, else side by side on 127.0.0.1.
    Auto,
    /// Network namespaces, or the run is skipped.
    Namespaces,
    /// Side by side on 127.0.0.1: no splits, no loss.
    Loopback,
}

impl From<HostsName> for HostsWanted {
    fn from(name: HostsName) -> HostsWanted {
        match name {
            HostsName::Auto => HostsWanted::Auto,
            HostsName::Namespaces => HostsWanted::Namespaces,
            HostsName::Loopback => HostsWanted::Loopback,
        }
    }
}

/// Run a simulated run again, from the folder that it left, by the schedule in it.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  souk-jepsen replay /tmp/sim-1 --out /tmp/sim-1-again")]
pub(crate) struct ReplayArgs {
    /// The folder of the run.
    pub(crate) folder: PathBuf,
    /// Where the new files go; new or empty.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: PathBuf,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Make the schedule of a simulated run that broke a promise small, as long as it breaks that promise.
///
/// Leaves windows of faults out and cuts the run short, try after try, and writes the smallest run that is left, with the
/// story of what went wrong in `explanation.txt`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  souk-jepsen shrink /tmp/matrix/cart-kill-one-7 --out /tmp/small")]
pub(crate) struct ShrinkArgs {
    /// The folder of the run.
    pub(crate) folder: PathBuf,
    /// Most runs that are tried.
    #[arg(long, value_name = "COUNT", default_value_t = 60)]
    pub(crate) tries: u32,
    /// Where the files of the smallest run go; new or empty.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: PathBuf,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Run every workload under every fault, in simulation or on real processes, and print a table.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("where").args(["sim", "real"])))]
#[command(after_help = "Example:
  souk-jepsen matrix --out /tmp/matrix
  souk-jepsen matrix --real --workload register,checkout --fault split-ring,kill-one --time 20 --out /tmp/cells
  souk-jepsen matrix --workload cart,set --fault kill-one,split-halves --seeds 20 --out /tmp/matrix-2")]
pub(crate) struct MatrixArgs {
    /// Simulate; that is what is done when neither is named.
    #[arg(long)]
    pub(crate) sim: bool,
    /// On real processes, one cell after the other; without names each fault meets three workloads that it may hurt.
    #[arg(long)]
    pub(crate) real: bool,
    /// Which workloads; all that can be simulated when none is named.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub(crate) workload: Vec<String>,
    /// Which faults; all when none is named.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub(crate) fault: Vec<Fault>,
    /// Seeds of each cell.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub(crate) seeds: u64,
    /// How long the clients of each run work, in (simulated) seconds, 1 to 1200.
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
    pub(crate) time: f64,
    /// Number of nodes, 1 to 9.
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=9))]
    pub(crate) nodes: u32,
    /// Stretches the pauses between the requests of a simulated client, 0.01 to 1000.
    #[arg(long, value_name = "FACTOR", default_value_t = 4.0)]
    pub(crate) pace: f64,
    #[command(flatten)]
    pub(crate) sweep: SweepArgs,
    /// Print the table as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Many runs, each with a seed of its own.
#[derive(Debug, Args)]
pub(crate) struct SweepArgs {
    /// The first seed; each run has another one.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub(crate) first_seed: u64,
    /// Simulated runs at once; without it one for each processor.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=256).map(usize::from))]
    jobs: Option<usize>,
    /// Where the files of runs that are not valid go, and the table if there is one; new or empty.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: PathBuf,
}

impl SweepArgs {
    /// Simulated runs at once.
    pub(crate) fn jobs(&self) -> usize {
        let processors = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.jobs.unwrap_or_else(processors)
    }
}

/// How a suite is run.
#[derive(Debug, Args)]
pub(crate) struct SuiteArgs {
    /// Leaves the runs on real processes out.
    #[arg(long)]
    pub(crate) no_real: bool,
    #[command(flatten)]
    pub(crate) sweep: SweepArgs,
}

/// Judge a history.
///
/// The file holds events in Jepsen's form, as JSON Lines or as EDN; which operations it may hold depends on the model.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  souk-jepsen check --model cas-register history.jsonl
  souk-jepsen check --model cas-register history.edn
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
    /// Carts with removals: `add`, `remove`, `final-read`.
    Cart,
    /// Values that replace what their writers saw: `put`, `delete`, `read`, `final-read`.
    Causal,
    /// The same, of which every read shows all that was acknowledged.
    StrictCausal,
    /// Keys of which the latest put wins: `put`, `read`, `final-read`.
    Latest,
    /// Transfers between accounts: `open`, `transfer`, `read`, `final-read`.
    Ledger,
    /// Stock that is only reserved: `receive`, `reserve`, `final-stock`.
    Stock,
    /// Purchases: `checkout`, `final-orders`.
    Orders,
}

/// List workloads, faults and models.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  souk-jepsen list
  souk-jepsen list --real")]
pub(crate) struct ListArgs {
    /// Try which faults can be done to real processes on this machine, and say what is missing for the others.
    #[arg(long)]
    pub(crate) real: bool,
    /// Print them as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Simulate hours, seed after seed, with three faults at once that each seed chooses.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  souk-jepsen churn --hours 12 --workload siblings,deletes,cart-changes --time 600 --out /tmp/churn")]
pub(crate) struct ChurnArgs {
    /// Which workloads, in turn.
    #[arg(
        long,
        value_name = "NAME,...",
        value_delimiter = ',',
        default_value = "siblings,deletes,cart-changes"
    )]
    pub(crate) workload: Vec<String>,
    /// Simulated hours in all.
    #[arg(long, value_name = "HOURS", default_value_t = 1.0)]
    pub(crate) hours: f64,
    /// How long the clients of each run work, in simulated seconds, 1 to 1200.
    #[arg(long, value_name = "SECONDS", default_value_t = 300.0)]
    pub(crate) time: f64,
    /// Number of nodes, 1 to 9.
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=9))]
    pub(crate) nodes: u32,
    /// Stretches the pauses between the requests of a client, 0.01 to 1000.
    #[arg(long, value_name = "FACTOR", default_value_t = 10.0)]
    pub(crate) pace: f64,
    #[command(flatten)]
    pub(crate) sweep: SweepArgs,
    /// Print the sum as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Break the store on purpose in many ways, and show that each is noticed.
///
/// Builds this program once more, with all breakages in it, into a folder of its own.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  souk-jepsen mutants
  souk-jepsen mutants --name get-asks-one,merge-keeps-local --seeds 50")]
pub(crate) struct MutantsArgs {
    /// Which; all when none is named.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub(crate) name: Vec<String>,
    /// Seeds after which a mutant counts as not caught.
    #[arg(long, value_name = "COUNT", default_value_t = 200)]
    pub(crate) seeds: u64,
    /// How long the clients of each run work, in simulated seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0)]
    pub(crate) time: f64,
    /// Where to build.
    #[arg(long, value_name = "FOLDER", default_value = "target/mutants")]
    pub(crate) target_dir: PathBuf,
    /// A program that was built with the breakages; nothing is built then.
    #[arg(long, value_name = "FILE")]
    pub(crate) binary: Option<PathBuf>,
    /// Print the table as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Seeds against one mutant; started by `mutants`, in a program that contains it.
#[derive(Debug, Args)]
pub(crate) struct HuntArgs {
    pub(crate) name: String,
    #[arg(long)]
    pub(crate) seeds: u64,
    #[arg(long)]
    pub(crate) time: f64,
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

/// Delays packets of the network namespace that it is started in; started by `run`.
#[derive(Debug, Args)]
pub(crate) struct LagArgs {
    #[arg(long)]
    pub(crate) queue: u16,
    #[arg(long)]
    pub(crate) delay_ms: u64,
    #[arg(long)]
    pub(crate) shuffle: bool,
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
