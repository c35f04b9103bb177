//! `souk admin`: what operators ask of a cluster.

mod bucket;
mod collection;
mod hints;
mod layout;
mod recover;
mod show_cluster;
mod token;
mod upkeep;

use clap::{Args, Subcommand};

use crate::cert;
use crate::cluster::ClusterArgs;
use crate::connect::EndpointArgs;
use crate::failure::Failure;

pub(crate) use bucket::BucketCommand;
use hints::HintsArgs;
use layout::LayoutCommand;
pub(crate) use token::{wait_for_news, write_secret};

/// Look at a cluster and change it.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  souk admin status\n  souk admin bucket list")]
pub(crate) enum AdminCommand {
    /// Show the nodes, and how one of them sees the others.
    #[command(after_help = "Example:
  souk admin status
  souk admin status --node n2 --json | jq '.nodes[] | select(.state != \"up\")'")]
    Status(StatusArgs),
    /// The same as `souk cert`, for who looks for it here.
    #[command(subcommand, hide = true)]
    Cert(cert::CertCommand),
    /// Make, show, replace and end the tokens that clients show.
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Create, list and show buckets.
    #[command(subcommand)]
    Bucket(BucketCommand),
    /// Show which nodes hold a key, in the order in which they are asked.
    #[command(after_help = "Example:\n  souk admin endpoints carts customer-17")]
    Endpoints(PlaceArgs),
    /// Show the writes that nodes keep for absent nodes, and steer their delivery.
    #[command(after_help = "Example:
  souk admin hints
  souk admin hints pause --target n3
  souk admin hints deliver-now --node n1
  souk admin hints drop --target n3 --accept-data-loss")]
    Hints(HintsArgs),
    /// Show the deletes on their way out, and which nodes hold them up.
    #[command(after_help = "Example:
  souk admin tombstones
  souk admin tombstones --collect --json | jq '.[].waiting_for'")]
    Tombstones(collection::TombstonesArgs),
    /// Give up the store of a node that will not come back: it may only rejoin empty.
    #[command(after_help = "Example:\n  souk admin forget n3 --accept-data-loss")]
    Forget(collection::ForgetArgs),
    /// Change the members: stage, look at the plan, apply.
    #[command(subcommand)]
    Layout(LayoutCommand),
    /// Show how far the copies are that move to other nodes.
    #[command(after_help = "Example:
  souk admin transfers
  souk admin transfers --json | jq '.nodes[] | select(.partitions_left > 0)'")]
    Transfers(CommonArgs),
    /// Look into register groups.
    #[command(subcommand)]
    Register(RegisterCommand),
    /// Compare all replicas now, and bring together what differs.
    ///
    /// Nodes do this by themselves all the time; this does it at once and says what it found. Node after node
    /// compares itself with the others, each pair once.
    #[command(after_help = "Example:
  souk admin repair
  souk admin repair --bucket carts --json | jq .keys_pushed
  souk admin repair --node n2")]
    Repair(RepairArgs),
    /// Read everything that the nodes have stored, and mend what is damaged.
    ///
    /// Nodes do this by themselves, slowly; this does it at once and says what it found.
    #[command(after_help = "Example:
  souk admin scrub
  souk admin scrub --node n1 --json | jq '.nodes[0].unmended'")]
    Scrub(ScrubArgs),
}

/// Look into register groups.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  souk admin register show seats 12A")]
pub(crate) enum RegisterCommand {
    /// Show ballots and rows of one group, at each of its acceptors.
    #[command(after_help = "Example:\n  souk admin register show seats 12A")]
    Show(PlaceArgs),
    /// Go on with the copies that are left, when too few members are sure of their past.
    ///
    /// Without --accept-data-loss it only says what would be given up. The nodes whose copies no longer count have
    /// to be started again, empty or as they are: they learn from the survivors.
    #[command(after_help = "Example:
  souk admin register recover --node n1
  souk admin register recover --node n1 --accept-data-loss")]
    Recover(RecoverArgs),
}

/// From which copies to go on.
#[derive(Debug, Args)]
pub(crate) struct RecoverArgs {
    /// Go on with the copy of this node, and of those that it can reach and that are sure of their past.
    #[arg(long)]
    node: String,
    /// Give up what only the lost members knew. It cannot be undone.
    #[arg(long)]
    accept_data_loss: bool,
    #[command(flatten)]
    common: CommonArgs,
}

/// Whom to ask.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Ask this node; any one that answers when left out.
    #[arg(long)]
    node: Option<String>,
    #[command(flatten)]
    common: CommonArgs,
}

/// A place on the ring.
#[derive(Debug, Args)]
pub(crate) struct PlaceArgs {
    /// Name of the bucket.
    bucket: String,
    /// Chooses the place.
    partition_key: String,
    /// The partition key is hexadecimal.
    #[arg(long)]
    hex: bool,
    #[command(flatten)]
    common: CommonArgs,
}

/// What to compare.
#[derive(Debug, Args)]
pub(crate) struct RepairArgs {
    /// Compare this bucket alone.
    #[arg(long)]
    bucket: Option<String>,
    /// Compare this node with the others; all nodes when left out.
    #[arg(long)]
    node: Option<String>,
    #[command(flatten)]
    common: CommonArgs,
}

/// What to read.
#[derive(Debug, Args)]
pub(crate) struct ScrubArgs {
    /// Read the data of this node; of all nodes, one after the other, when left out.
    #[arg(long)]
    node: Option<String>,
    #[command(flatten)]
    common: CommonArgs,
}

/// What all of them take.
#[derive(Debug, Args)]
pub(crate) struct CommonArgs {
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    endpoints: EndpointArgs,
}

/// Runs `souk admin`.
pub(crate) async fn run(command: AdminCommand, cluster: &ClusterArgs) -> Result<(), Failure> {
    match command {
        AdminCommand::Status(args) => show_cluster::status(args, cluster).await,
        AdminCommand::Cert(command) => cert::run(&command, cluster),
        AdminCommand::Token(command) => token::run(command, cluster).await,
        AdminCommand::Bucket(command) => bucket::run(command, cluster).await,
        AdminCommand::Endpoints(args) => show_cluster::endpoints(args, cluster).await,
        AdminCommand::Hints(args) => hints::run(args, cluster).await,
        AdminCommand::Layout(command) => layout::run(command, cluster).await,
        AdminCommand::Transfers(args) => layout::transfers(args, cluster).await,
        AdminCommand::Tombstones(args) => collection::tombstones(args, cluster).await,
        AdminCommand::Forget(args) => collection::forget(args, cluster).await,
        AdminCommand::Register(RegisterCommand::Show(args)) => {
            show_cluster::register(args, cluster).await
        }
        AdminCommand::Repair(args) => upkeep::repair(args, cluster).await,
        AdminCommand::Scrub(args) => upkeep::scrub(args, cluster).await,
        AdminCommand::Register(RegisterCommand::Recover(args)) => {
            recover::recover(args, cluster).await
        }
    }
}
