//! The `souk` command: starts clusters and their parts, asks them, fills them and measures them.
//!
//! Place: the outermost room. It reads arguments, calls the rooms that do the work, and shows what they
//! answer; errors become text and an exit code here and nowhere else.
//! Shape: one folder or file per command; `args` is the table of contents.
//! Not here: anything a library user would need too.

mod admin;
mod args;
mod bench;
mod cert;
mod cluster;
mod config;
mod connect;
mod failure;
mod import;
mod kv;
mod logging;
mod node;
mod payment_provider;
mod shop;
mod show;
mod stop;
mod up;

use std::process::ExitCode;

use clap::Parser as _;

use args::Cli;
use failure::{Failure, report};

/// The system's allocator took about a fifth of a node's processor time under small writes.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::start(cli.log_format, cli.command.is_server());
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure),
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|source| Failure::Runtime { source })?;
    let result = runtime.block_on(cli.command.run(&cli.cluster));
    // A thread that still reads standard input must not hold up the end of the process.
    runtime.shutdown_background();
    result
}
