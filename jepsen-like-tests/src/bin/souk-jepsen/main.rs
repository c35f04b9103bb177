//! `souk-jepsen`: runs workloads under faults, and judges histories.
//!
//! Place: the command line of the library `souk_jepsen_like_tests`.
//! Not here: what is run and judged.

mod apart;
mod args;
mod cells;
mod check;
mod churn;
mod list;
mod matrix;
mod mutants;
mod real_cells;
mod run;
mod shrink;
mod simulate;
mod suite;

use std::process::ExitCode;

use clap::Parser as _;

use args::{Cli, Command};

/// Which log lines appear when SOUK_LOG does not say: the stages of a run.
const USUAL_LOG: &str = "warn,souk_jepsen_like_tests=info";

/// Everything is valid.
const VALID: u8 = 0;
/// Some history is not valid.
const INVALID: u8 = 1;
/// The run or the command failed, which says nothing of the store.
const FAILED: u8 = 2;
/// There was not enough evidence, or too much to judge.
const UNKNOWN: u8 = 3;
/// This machine cannot do what was asked for.
const SKIPPED: u8 = 4;

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_env("SOUK_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(USUAL_LOG));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let result = match Cli::parse().command {
        Command::CiFull(args) => suite::suite(suite::CI_FULL, &args),
        Command::Nightly(args) => suite::suite(suite::NIGHTLY, &args),
        Command::Churn(args) => churn::churn(&args),
        Command::Check(args) => check::check(&args),
        Command::List(args) => list::list(&args),
        Command::Hunt(args) => mutants::hunt(&args),
        Command::Mutants(args) => mutants::mutants(&args),
        Command::Lag(args) => run::lag(&args),
        Command::Matrix(args) if args.real => real_cells::matrix(&args),
        Command::Matrix(args) => matrix::matrix(&args),
        Command::Replay(args) => simulate::replay(&args),
        Command::Shrink(args) => shrink::shrink_run(&args),
        Command::Run(args) if args.sim => simulate::simulate(&args),
        Command::Run(args) => run::run(&args),
        Command::Worker(args) => run::work(args),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(problem) => {
            eprintln!("error: {problem}");
            let mut source = problem.source();
            while let Some(cause) = source {
                eprintln!("  because: {cause}");
                source = cause.source();
            }
            ExitCode::from(FAILED)
        }
    }
}

/// The exit code of a verdict.
fn code_of(verdict: &souk_jepsen_like_tests::checker::Verdict) -> u8 {
    use souk_jepsen_like_tests::checker::Verdict;
    match verdict {
        Verdict::Valid => VALID,
        Verdict::Invalid { .. } => INVALID,
        Verdict::Unknown { .. } => UNKNOWN,
    }
}
