//! Measures souk beside etcd, PostgreSQL and the bare disk, in the same run on the same machine.
//!
//! ```text
//! start all systems ──> round 1: every measure, one after another ──> round 2 ──> … ──> medians, ratios, goals
//! ```
//!
//! All systems stay up the whole time and one of them works at a time. Rounds are interleaved, so that a machine that
//! gets slower or faster meanwhile does so for everybody, and a median forgives one bad round.
//!
//! Place: outermost; starts the `souk` binary, `etcd` and `postgres` as real processes with real disks, and sees none
//! of the other rooms. Durability is never traded: every system acknowledges a write after a sync.
//! Shape: a [`System`] is a place to measure, a [`Measure`] one workload there, a [`Figure`] what came of it.
//! Not here: what souk's own workloads do (`souk bench`); tuning of other people's systems beyond their defaults.

mod disk;
mod error;
mod etcd;
mod figure;
mod goals;
mod measure;
mod postgres;
mod process;
mod report;
mod souk;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use error::CompareError;
use figure::{Figure, median};
use measure::{Measure, System};
use report::Report;

/// Measure souk beside etcd, PostgreSQL and the bare disk.
///
/// Systems that are not installed are skipped, and the report says so. Each system keeps its data below one temporary
/// directory, so that all of them use the same disk.
#[derive(Debug, Parser)]
#[command(
    name = "souk-compare",
    version,
    after_help = "Example:
  scripts/compare                         # builds everything needed, then runs this
  souk-compare --souk target/release/souk --rounds 3 --time 4
  souk-compare --souk target/release/souk --only disk,souk --json"
)]
struct Args {
    /// The `souk` binary; a release build, or the figures mean nothing.
    #[arg(long, value_name = "FILE", default_value = "target/release/souk")]
    souk: PathBuf,

    /// Rounds over all measures, 1 to 99; an odd number has a median of its own.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,

    /// How long each measure takes in each round, in seconds, 1 to 600.
    #[arg(long, value_name = "SECONDS", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=600))]
    time: u64,

    /// Clients of the crowded measures, 2 to 256.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(2..=256))]
    clients: u32,

    /// Measure only these systems.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<System>,

    /// Where the temporary directory is made; the disk that it lies on is what is measured.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                eprintln!("  because {cause}");
                source = cause.source();
            }
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), CompareError> {
    let home = process::home(args.dir.as_deref())?;
    let mut bench = Bench::start(args, home.path())?;
    let measures: Vec<Measure> = Measure::all(args.clients)
        .into_iter()
        .filter(|measure| bench.has(measure.system))
        .collect();
    let mut figures: BTreeMap<Measure, Vec<Figure>> = BTreeMap::new();
    for round in 1..=args.rounds {
        for measure in &measures {
            let figure = bench.run(measure, Duration::from_secs(args.time))?;
            eprintln!(
                "round {round} of {}: {measure}: {:.0}/s",
                args.rounds, figure.ops_per_s
            );
            figures.entry(*measure).or_default().push(figure);
        }
    }
    let medians = figures
        .into_iter()
        .filter_map(|(measure, figures)| Some((measure, median(&figures)?)))
        .collect();
    let report = Report::new(args.rounds, args.time, args.clients, medians, bench.skipped);
    report.show(args.json);
    Ok(())
}

/// The systems that run.
struct Bench {
    disk: Option<disk::Disk>,
    souk: Option<souk::Souk>,
    etcd: Option<etcd::Etcd>,
    single: Option<postgres::Postgres>,
    quorum: Option<postgres::Postgres>,
    /// What cannot be measured here, and why.
    skipped: Vec<(System, String)>,
}

impl Bench {
    fn start(args: &Args, home: &std::path::Path) -> Result<Self, CompareError> {
        let wanted = |system| args.only.is_empty() || args.only.contains(&system);
        let mut skipped = Vec::new();
        let mut start = |system: System, missing: Option<String>| {
            if !wanted(system) {
                return false;
            }
            match missing {
                None => {
                    eprintln!("starting {system}");
                    true
                }
                Some(why) => {
                    eprintln!("skipping {system}: {why}");
                    skipped.push((system, why));
                    false
                }
            }
        };
        let clients = args.clients;
        Ok(Self {
            disk: start(System::Disk, None)
                .then(|| disk::Disk::new(home))
                .transpose()?,
            souk: start(System::Souk, souk::missing(&args.souk))
                .then(|| souk::Souk::start(&args.souk, home))
                .transpose()?,
            etcd: start(System::Etcd, etcd::missing())
                .then(|| etcd::Etcd::start(home, clients))
                .transpose()?,
            single: start(System::Postgres, postgres::missing())
                .then(|| postgres::Postgres::start(home, "single", 0))
                .transpose()?,
            quorum: start(System::PostgresQuorum, postgres::missing())
                .then(|| postgres::Postgres::start(home, "quorum", 2))
                .transpose()?,
            skipped,
        })
    }

    fn has(&self, system: System) -> bool {
        match system {
            System::Disk => self.disk.is_some(),
            System::Souk => self.souk.is_some(),
            System::Etcd => self.etcd.is_some(),
            System::Postgres => self.single.is_some(),
            System::PostgresQuorum => self.quorum.is_some(),
        }
    }

    fn run(&mut self, measure: &Measure, time: Duration) -> Result<Figure, CompareError> {
        let absent = || CompareError::NotRunning {
            system: measure.system,
        };
        match measure.system {
            System::Disk => self.disk.as_mut().ok_or_else(absent)?.run(time),
            System::Souk => self.souk.as_ref().ok_or_else(absent)?.run(measure, time),
            System::Etcd => self.etcd.as_mut().ok_or_else(absent)?.run(measure, time),
            System::Postgres => self.single.as_ref().ok_or_else(absent)?.run(measure, time),
            System::PostgresQuorum => self.quorum.as_ref().ok_or_else(absent)?.run(measure, time),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn clap_finds_no_contradiction() {
        Args::command().debug_assert();
    }
}
