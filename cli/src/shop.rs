//! `souk shop`: the shop in front of the store, in this process.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use clap::Args;
use souk_commerce_api::ShopOptions;
use souk_commerce_api::money::Currency;
use souk_kv_node::config::Address;

use crate::cluster::ClusterArgs;
use crate::connect::BearerArgs;
use crate::failure::Failure;
use crate::stop::{StopArgs, StopSignals};

/// Run the shop until it is told to stop.
///
/// It listens where the cluster file says (shop.listen), creates its buckets on first start and keeps
/// everything in the store, so that any number of shops can run in front of one cluster. The API is
/// described at /api/v1/openapi.json.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  souk shop
  souk shop --endpoints 127.0.0.1:7101,127.0.0.1:7102")]
pub(crate) struct ShopArgs {
    /// One or more nodes to begin with; the others are learnt from them. Without it, the nodes of the
    /// cluster file.
    #[arg(
        long,
        env = "SOUK_ENDPOINTS",
        value_name = "HOST:PORT,...",
        value_delimiter = ','
    )]
    endpoints: Vec<String>,

    #[command(flatten)]
    bearer: BearerArgs,

    /// Bearer token that the admin endpoints ask for; without it they are closed.
    #[arg(long, env = "SOUK_ADMIN_TOKEN", hide_env_values = true)]
    admin_token: Option<String>,

    /// What the shop sells in, by its ISO 4217 code.
    #[arg(long, value_name = "CODE", default_value = "USD")]
    currency: Currency,

    /// How long a checkout keeps the units that it reserved while it is not paid, in seconds, 1 to 86400; without it,
    /// what the cluster file says (shop.checkout_hold_ms).
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    checkout_hold: Option<u64>,

    /// How long the units of a cart are kept when its customer asks, in seconds, 0 (switched off) to 86400; without it,
    /// what the cluster file says (shop.cart_hold_ms).
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=86_400))]
    cart_hold: Option<u64>,

    #[command(flatten)]
    stop: StopArgs,
}

/// Runs the shop until it is told to stop.
pub(crate) async fn run(args: ShopArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let file = cluster.load()?.file;
    let endpoints = if args.endpoints.is_empty() {
        file.endpoints()
    } else {
        args.endpoints
    };
    let signals = StopSignals::listen(args.stop).map_err(|source| Failure::Runtime { source })?;
    let stop = signals.wait_then_insist(file.limits.shutdown_timeout);
    let payment_url = format!("http://{}", file.shop.payment_provider);
    let mut options = ShopOptions::new(resolve(&file.shop.listen)?, endpoints, payment_url);
    options.certificates = args.bearer.files(cluster)?;
    options.token_file = args.bearer.token_file;
    options.currency = args.currency;
    options.admin_token = args.admin_token;
    options.checkout_hold = args
        .checkout_hold
        .map_or(file.shop.checkout_hold, Duration::from_secs);
    options.cart_hold = args
        .cart_hold
        .map_or(file.shop.cart_hold, Duration::from_secs);
    Ok(souk_commerce_api::serve(options, stop).await?)
}

/// The first socket address of a host.
pub(crate) fn resolve(address: &Address) -> Result<SocketAddr, Failure> {
    let unresolved = |source| Failure::Unresolved {
        address: address.clone(),
        source,
    };
    let mut found = (address.host(), address.port())
        .to_socket_addrs()
        .map_err(unresolved)?;
    found
        .next()
        .ok_or_else(|| unresolved(std::io::ErrorKind::NotFound.into()))
}
