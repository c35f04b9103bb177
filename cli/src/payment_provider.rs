//! `souk payment-provider`: the simulated outside party that takes payments.

use std::path::PathBuf;

use clap::Args;
use souk_commerce_api::payment_provider;

use crate::cluster::{ClusterArgs, USUAL_DATA};
use crate::failure::Failure;
use crate::stop::{StopArgs, StopSignals};

/// Its file below the data directory.
const PAYMENTS_FILE: &str = "payments.jsonl";

/// Run the simulated payment provider until it is told to stop.
///
/// It listens where the cluster file says (shop.payment_provider), and keeps every payment in a file
/// that it syncs before it answers. It decides by the token of a payment, such as tok_ok or tok_declined.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  souk payment-provider --data souk-data")]
pub(crate) struct ProviderArgs {
    /// Where the payments are kept, in a file of its own.
    #[arg(long, value_name = "DIR", default_value = USUAL_DATA)]
    data: PathBuf,

    #[command(flatten)]
    stop: StopArgs,
}

/// Runs the payment provider until it is told to stop.
pub(crate) async fn run(args: ProviderArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let file = cluster.load()?.file;
    let listen = crate::shop::resolve(&file.shop.payment_provider)?;
    let signals = StopSignals::listen(args.stop).map_err(|source| Failure::Runtime { source })?;
    let stop = signals.wait_then_insist(file.limits.shutdown_timeout);
    Ok(payment_provider::serve(listen, args.data.join(PAYMENTS_FILE), stop).await?)
}
