//! `souk bench`: a closed loop of clients against a running cluster.
//!
//! ```text
//! load (keys exist, contexts and versions are known) -> warm-up -> measured window -> report -> check
//! ```
//!
//! One client library instance is shared by all clients, each of which sends its next request when the
//! last one is answered. A request belongs to the window when it began in it; a success counts if it
//! also ended in it, a failure always does, so that nothing slow or broken is left out.
//!
//! Source: workloads A and B of Cooper et al., Benchmarking Cloud Serving Systems with YCSB, SoCC 2010.
//! Not here: an open loop, which would tell more about latency under overload.

mod choose;
mod field;
mod load;
mod report;
mod shelf;
mod tally;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use souk_kv_client::Client;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::cluster::ClusterArgs;
use crate::connect::EndpointArgs;
use crate::failure::Failure;
use crate::show::Progress;

use choose::Chooser;
use field::Field;
use report::Report;
use shelf::Shelves;
use tally::Tally;
use worker::Worker;

/// Time between two looks at the clock for the progress bar.
const SHOW_EVERY: Duration = Duration::from_millis(200);

/// What the clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// Reads, all keys equally often.
    Get,
    /// Writes, all keys equally often, each key by one client.
    Put,
    /// Writes in batches; every key of a batch counts as one operation.
    PutBatch,
    /// Half reads, half writes, some keys far more often than others (Zipf, 0.99).
    YcsbA,
    /// As ycsb-a with 95 % reads.
    YcsbB,
    /// Compare-and-set, each row by one client.
    CasSpread,
    /// Compare-and-set of one row by all clients; an operation is one successful increment.
    CasHot,
    /// All clients reserve units of one article in one stock, through the inventory's store.
    ReserveHot,
}

impl Workload {
    /// As it is given on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::PutBatch => "put-batch",
            Self::YcsbA => "ycsb-a",
            Self::YcsbB => "ycsb-b",
            Self::CasSpread => "cas-spread",
            Self::CasHot => "cas-hot",
            Self::ReserveHot => "reserve-hot",
        }
    }

    fn is_conditional(self) -> bool {
        matches!(self, Self::CasSpread | Self::CasHot)
    }

    /// Whether every key belongs to one client.
    fn divides_keys(self) -> bool {
        matches!(self, Self::Put | Self::PutBatch | Self::CasSpread)
    }
}

/// The mode of the bucket that plain reads and writes use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PlainMode {
    /// Every write passes on the context of the last answer, as a cart does.
    Siblings,
    /// Last writer wins.
    Lww,
}

/// Measure a running cluster.
///
/// Prints operations per second, latencies and every failure by kind. Uses buckets of its own: `bench`,
/// `bench-lww`, `bench-cas` and `bench-stock`. cas-hot and reserve-hot also check in the end that nothing was lost,
/// done twice or oversold. --json prints exactly workload, clients, seconds, ops, ops_per_s, p50_ms, p99_ms, p999_ms,
/// errors and unknown.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  souk bench ycsb-a
  souk bench cas-hot --clients 256 --time 30 --json
  souk bench reserve-hot --units 5000         # sells out one stock after another, and counts every unit")]
pub(crate) struct BenchArgs {
    /// What the clients do.
    #[arg(value_enum, required_unless_present = "workload")]
    what: Option<Workload>,

    /// The same, as an option.
    #[arg(long, value_enum, conflicts_with = "what")]
    workload: Option<Workload>,

    /// How many clients send at the same time, 1 to 10000.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    clients: u32,

    /// How long to measure, in seconds, 1 to 86400.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    time: u64,

    /// How long to run before measuring begins, in seconds, 0 to 3600.
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=3_600))]
    warm_up: u64,

    /// Size of each value, 8 to 1048576.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(8..=1_048_576))]
    value_bytes: u32,

    /// How many keys, 1 to 10000000.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    keys: u32,

    /// Writes per batch of put-batch, 1 to 1000.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    batch: u32,

    /// Units in each stock of reserve-hot, 1 to 150000. When they are reserved, the clients go on with the next stock.
    #[arg(long, default_value_t = shelf::UNITS_MAX, value_parser = clap::value_parser!(u32).range(1..=i64::from(shelf::UNITS_MAX)))]
    units: u32,

    /// Live holds that each stock of reserve-hot has before its units are reserved, 0 to 150000; together with
    /// --units at most 200000.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=i64::from(shelf::UNITS_MAX)))]
    holds: u32,

    /// Shards of each stock of reserve-hot, 1 to 64.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=i64::from(souk_inventory::SHARDS_MAX)))]
    shards: u8,

    /// The bucket that get, put, put-batch and ycsb use.
    #[arg(long, value_enum, default_value = "siblings")]
    mode: PlainMode,

    /// Chooses the same keys in the same order again.
    #[arg(long)]
    seed: Option<u64>,

    /// Print one JSON document.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    endpoints: EndpointArgs,
}

impl BenchArgs {
    fn workload(&self) -> Workload {
        self.what
            .or(self.workload)
            .expect("clap asks for one of the two")
    }

    /// From the first request to the end of the window.
    fn whole_time(&self) -> Duration {
        Duration::from_secs(self.warm_up + self.time)
    }

    fn check(&self) -> Result<(), Failure> {
        let workload = self.workload();
        if workload.divides_keys() && self.keys < self.clients {
            let problem = format!(
                "{} keys are too few for {} clients",
                self.keys, self.clients
            );
            return Err(Failure::usage(problem, "raise --keys or lower --clients"));
        }
        if workload == Workload::ReserveHot {
            shelf::check(self.units, self.holds, self.whole_time())?;
        }
        Ok(())
    }
}

/// What the clients work on.
#[derive(Debug)]
enum Ground {
    Rows(Field),
    Stock(Shelves),
}

impl Ground {
    async fn prepare(client: Client, args: &BenchArgs) -> Result<Self, Failure> {
        Ok(match args.workload() {
            Workload::ReserveHot => Self::Stock(Shelves::prepare(client, args).await?),
            _ => Self::Rows(Field::prepare(client, args).await?),
        })
    }

    /// That the store kept its promises under this load, as far as the workload can tell.
    async fn check(&self, workload: Workload, tally: &Tally) -> Result<(), Failure> {
        match self {
            Self::Rows(field) => field.check(workload, tally).await,
            Self::Stock(shelves) => shelves.check().await,
        }
    }
}

/// Runs `souk bench`.
pub(crate) async fn run(args: BenchArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    args.check()?;
    let in_flight = usize::try_from(args.clients).unwrap_or(usize::MAX);
    let client = args.endpoints.connect_with(cluster, |options| {
        options.in_flight_max = options.in_flight_max.max(in_flight);
    });
    let client = client.await?;
    let workload = args.workload();
    let ground = Arc::new(Ground::prepare(client, &args).await?);
    let tally = measure(&args, &ground).await;
    let window = Duration::from_secs(args.time);
    Report::new(workload, args.clients, window, &tally).show(args.json);
    ground.check(workload, &tally).await
}

async fn measure(args: &BenchArgs, ground: &Arc<Ground>) -> Tally {
    let begin = Instant::now();
    let measured_from = begin + Duration::from_secs(args.warm_up);
    let measured_until = begin + args.whole_time();
    let seed = args.seed.unwrap_or_else(rand::random);
    let mut workers = JoinSet::new();
    for number in 0..args.clients {
        let chooser = Chooser::new(
            args.workload(),
            args.keys,
            (number, args.clients),
            args.batch,
            seed,
        );
        let worker = Worker::new(Arc::clone(ground), chooser, measured_from, measured_until);
        workers.spawn(worker.run());
    }
    let label = format!(
        "{}, {} clients, seconds",
        args.workload().name(),
        args.clients
    );
    let progress = Progress::begin(label);
    let mut total = Tally::new();
    loop {
        tokio::select! {
            ended = workers.join_next() => match ended {
                Some(Ok(tally)) => total.add(&tally),
                Some(Err(problem)) => std::panic::resume_unwind(problem.into_panic()),
                None => break,
            },
            () = tokio::time::sleep(SHOW_EVERY) => progress.set(begin.elapsed().as_secs(), args.warm_up + args.time),
        }
    }
    progress.end("done");
    total
}
