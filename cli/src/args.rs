//! The table of contents of the command line.
//!
//! Place: clap's view of every command; each command keeps its own arguments beside its code.

use clap::{Parser, Subcommand};

use crate::cluster::ClusterArgs;
use crate::failure::Failure;
use crate::logging::LogFormat;
use crate::{admin, bench, cert, config, import, kv, node, payment_provider, shop, up};

/// Shown below the help of `souk` itself.
const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed; a write that failed so was not applied
  2  wrong usage or configuration
  3  the outcome of a write is unknown: read before trying again
  4  not found
  5  a condition did not hold (`kv cas`)

Example:
  souk up
  souk kv put notes greeting --value hello";

/// A replicated key-value store with a shop on top.
#[derive(Debug, Parser)]
#[command(name = "souk", version, after_help = EXIT_CODES, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,

    /// How log lines look on standard error. Which ones appear: SOUK_LOG, for example
    /// `SOUK_LOG=info,souk_kv_node=debug`.
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    pub(crate) log_format: LogFormat,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Up(up::UpArgs),
    Node(node::NodeArgs),
    Shop(shop::ShopArgs),
    PaymentProvider(payment_provider::ProviderArgs),
    #[command(subcommand)]
    Kv(kv::KvCommand),
    #[command(subcommand)]
    Admin(admin::AdminCommand),
    #[command(subcommand)]
    Import(import::ImportCommand),
    Bench(bench::BenchArgs),
    #[command(subcommand)]
    Cert(cert::CertCommand),
    #[command(subcommand)]
    Config(config::ConfigCommand),
}

impl Command {
    /// Whether its log is all that tells what it does.
    pub(crate) fn is_server(&self) -> bool {
        matches!(
            self,
            Self::Node(_) | Self::Shop(_) | Self::PaymentProvider(_)
        )
    }

    /// Runs the command to its end.
    ///
    /// # Errors
    /// What the command could not do; see the exit codes.
    pub(crate) async fn run(self, cluster: &ClusterArgs) -> Result<(), Failure> {
        match self {
            Self::Up(args) => up::run(args, cluster).await,
            Self::Node(args) => node::run(args, cluster).await,
            Self::Shop(args) => shop::run(args, cluster).await,
            Self::PaymentProvider(args) => payment_provider::run(args, cluster).await,
            Self::Kv(command) => kv::run(command, cluster).await,
            Self::Admin(command) => admin::run(command, cluster).await,
            Self::Import(command) => import::run(command, cluster).await,
            Self::Bench(args) => bench::run(args, cluster).await,
            Self::Cert(command) => cert::run(&command, cluster),
            Self::Config(command) => config::run(&command, cluster),
        }
    }
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
