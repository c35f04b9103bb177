//! `souk admin layout` and `souk admin transfers`: changing the members, in steps that can be looked at first.
//!
//! Staging writes a line on a list that all members share; nothing moves before the list is applied, and what is
//! applied is named by the version that `plan` has shown.

use clap::{Args, Subcommand};
use comfy_table::Cell;
use serde_json::{Value as Json, json};
use souk_kv_client::{
    Client, LayoutPlanResponse, LayoutStageRequest, NodeTransfers, PlannedNode, StageChange,
    StageJoin, StageReplace, StageWeight, StageZone, TransfersResponse,
};

use super::CommonArgs;
use crate::cluster::ClusterArgs;
use crate::failure::Failure;
use crate::show;

/// Change the members of a cluster.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:
  souk node --name n4 --join 127.0.0.1:7101 --grpc 127.0.0.1:7104 --http 127.0.0.1:7204
  souk admin layout join n4
  souk admin layout plan
  souk admin layout apply --version 1
  souk admin transfers")]
pub(crate) enum LayoutCommand {
    /// Show the layout in force, what is staged, and where that would lead.
    #[command(
        visible_alias = "show",
        after_help = "Example:\n  souk admin layout plan\n  souk admin layout plan --json | jq .warnings"
    )]
    Plan(CommonArgs),
    /// Stage: a node that was started with --join becomes a member.
    #[command(after_help = "Example:\n  souk admin layout join n4 --zone east --weight 2")]
    Join(JoinArgs),
    /// Stage: a member leaves; its copies go to the others first.
    #[command(after_help = "Example:\n  souk admin layout leave n2")]
    Leave(NameArgs),
    /// Stage: a member leaves and another node takes its place, so that nothing moves twice.
    #[command(after_help = "Example:\n  souk admin layout replace n2 n4")]
    Replace(ReplaceArgs),
    /// Stage: a member gets another share of the load.
    #[command(after_help = "Example:\n  souk admin layout weight n2 2")]
    Weight(WeightArgs),
    /// Stage: a member stands in another zone.
    #[command(after_help = "Example:\n  souk admin layout zone n2 west")]
    Zone(ZoneArgs),
    /// Do what is staged, if it still is what `plan` has shown.
    // Its --version is that of the staged changes, not that of the program.
    #[command(
        disable_version_flag = true,
        after_help = "Example:\n  souk admin layout apply --version 3"
    )]
    Apply(ApplyArgs),
    /// Forget what is staged.
    #[command(after_help = "Example:\n  souk admin layout revert")]
    Revert(CommonArgs),
    /// Give up the change that is under way: everything is owned as before, who was joining is not let in.
    #[command(after_help = "Example:\n  souk admin layout call-off")]
    CallOff(CommonArgs),
    /// Show which layouts a node has adopted, and what each of them changed.
    #[command(after_help = "Example:\n  souk admin layout history --node n1")]
    History(HistoryArgs),
}

/// A node.
#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    /// Its name.
    name: String,
    #[command(flatten)]
    common: CommonArgs,
}

/// A node that joins.
#[derive(Debug, Args)]
pub(crate) struct JoinArgs {
    /// Its name; it has been started with --join.
    name: String,
    /// Its zone; the one that it was started with when left out.
    #[arg(long)]
    zone: Option<String>,
    /// Its share of the load, 1 to 1000; the one that it was started with when left out.
    #[arg(long)]
    weight: Option<u32>,
    #[command(flatten)]
    common: CommonArgs,
}

/// Who goes and who comes.
#[derive(Debug, Args)]
pub(crate) struct ReplaceArgs {
    /// The member that leaves.
    leaving: String,
    /// The node that joins; it has been started with --join.
    joining: String,
    #[command(flatten)]
    common: CommonArgs,
}

/// A share of the load.
#[derive(Debug, Args)]
pub(crate) struct WeightArgs {
    /// The member.
    name: String,
    /// 1 to 1000; members have 1 unless said otherwise.
    weight: u32,
    #[command(flatten)]
    common: CommonArgs,
}

/// A place.
#[derive(Debug, Args)]
pub(crate) struct ZoneArgs {
    /// The member.
    name: String,
    /// What fails together with it.
    zone: String,
    #[command(flatten)]
    common: CommonArgs,
}

/// What to apply.
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// The version of the staged changes that `plan` has shown.
    #[arg(long)]
    version: u64,
    #[command(flatten)]
    common: CommonArgs,
}

/// Whose history.
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// Ask this node; any one that answers when left out.
    #[arg(long)]
    node: Option<String>,
    #[command(flatten)]
    common: CommonArgs,
}

/// Runs `souk admin layout`.
pub(crate) async fn run(command: LayoutCommand, cluster: &ClusterArgs) -> Result<(), Failure> {
    match command {
        LayoutCommand::Plan(common) => {
            let client = common.endpoints.connect(cluster).await?;
            let plan = client.admin().layout_plan().await?;
            show_plan(&plan, common.json);
            Ok(())
        }
        LayoutCommand::Join(args) => {
            let join = StageJoin {
                name: args.name,
                zone: args.zone.unwrap_or_default(),
                weight: args.weight.unwrap_or_default(),
            };
            stage(&args.common, cluster, StageChange::Join(join)).await
        }
        LayoutCommand::Leave(args) => {
            stage(&args.common, cluster, StageChange::Leave(args.name)).await
        }
        LayoutCommand::Replace(args) => {
            let with = StageJoin {
                name: args.joining,
                ..StageJoin::default()
            };
            let replace = StageReplace {
                name: args.leaving,
                with: Some(with),
            };
            stage(&args.common, cluster, StageChange::Replace(replace)).await
        }
        LayoutCommand::Weight(args) => {
            let WeightArgs {
                name,
                weight,
                common,
            } = args;
            let change = StageChange::Weight(StageWeight { name, weight });
            stage(&common, cluster, change).await
        }
        LayoutCommand::Zone(args) => {
            let ZoneArgs { name, zone, common } = args;
            let change = StageChange::Zone(StageZone { name, zone });
            stage(&common, cluster, change).await
        }
        LayoutCommand::Apply(args) => apply(&args, cluster).await,
        LayoutCommand::Revert(common) => {
            let client = common.endpoints.connect(cluster).await?;
            let reverted = client.admin().layout_revert().await?;
            if common.json {
                show::json(&json!({ "staged_version": reverted.staged_version }));
            } else {
                show::line("nothing is staged any more");
            }
            Ok(())
        }
        LayoutCommand::CallOff(common) => {
            let client = common.endpoints.connect(cluster).await?;
            let called_off = client.admin().layout_call_off().await?;
            if common.json {
                show::json(&json!({ "layout_epoch": called_off.layout_epoch }));
            } else {
                show::line(format_args!(
                    "{} in layout epoch {}: everything is owned as before",
                    show::good("called off"),
                    called_off.layout_epoch
                ));
            }
            Ok(())
        }
        LayoutCommand::History(args) => history(&args, cluster).await,
    }
}

async fn stage(
    common: &CommonArgs,
    cluster: &ClusterArgs,
    change: StageChange,
) -> Result<(), Failure> {
    let client = common.endpoints.connect(cluster).await?;
    let request = LayoutStageRequest {
        change: Some(change),
    };
    let staged = client.admin().layout_stage(request).await?;
    if common.json {
        show::json(&json!({
            "staged_version": staged.staged_version,
            "staged": staged.staged,
        }));
        return Ok(());
    }
    show_staged(&staged.staged);
    show::line(format_args!(
        "nothing has changed yet: look at `souk admin layout plan`, then `souk admin layout apply --version {}`",
        staged.staged_version
    ));
    Ok(())
}

async fn apply(args: &ApplyArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let client = args.common.endpoints.connect(cluster).await?;
    let applied = client.admin().layout_apply(args.version).await?;
    if args.common.json {
        show::json(&json!({
            "layout_epoch": applied.layout_epoch,
            "moving": applied.moving,
            "applied_before": applied.applied_before,
        }));
        return Ok(());
    }
    let done = if applied.applied_before {
        "was applied before"
    } else {
        "applied"
    };
    show::line(format_args!(
        "version {} {}, the layout is at epoch {}",
        args.version,
        show::good(done),
        applied.layout_epoch
    ));
    if applied.moving {
        show::line("copies are on their way: `souk admin transfers` shows how far they are");
    }
    Ok(())
}

async fn history(args: &HistoryArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let client = args.common.endpoints.connect(cluster).await?;
    let history = client.admin().layout_history(args.node.as_deref()).await?;
    if args.common.json {
        let deed = |deed: &souk_kv_client::LayoutDeed| {
            json!({
                "layout_epoch": deed.layout_epoch,
                "adopted_unix_ms": deed.adopted_unix_ms,
                "what": deed.what,
            })
        };
        let deeds: Vec<Json> = history.deeds.iter().map(deed).collect();
        show::json(&json!({ "deeds": deeds }));
        return Ok(());
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now_ms = now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
    let rows = history.deeds.iter().map(|deed| {
        let ago = now_ms.saturating_sub(deed.adopted_unix_ms) / 1000;
        [
            deed.layout_epoch.to_string(),
            format!("{ago} s"),
            deed.what.join("; "),
        ]
    });
    show::table(["epoch", "adopted ago", "what changed"], rows);
    Ok(())
}

fn show_staged(staged: &[String]) {
    if staged.is_empty() {
        show::line("nothing is staged");
    }
    for (number, change) in (1..).zip(staged) {
        show::line(format_args!("staged {number}: {change}"));
    }
}

fn show_plan(plan: &LayoutPlanResponse, as_json: bool) {
    if as_json {
        show::json(&plan_json(plan));
        return;
    }
    show::line(format_args!("layout epoch {}", plan.layout_epoch));
    if !plan.moving.is_empty() {
        show::line(format_args!("under way: {}", plan.moving));
    }
    show_staged(&plan.staged);
    let heading = [
        "node",
        "zone",
        "weight",
        "",
        "copies now",
        "afterwards",
        "gains",
        "gives up",
    ];
    show::table(heading, plan.nodes.iter().map(planned_row));
    for newcomer in &plan.newcomers {
        show::line(format_args!(
            "waits to be let in: {} at {} (`souk admin layout join {}`)",
            newcomer.name, newcomer.grpc_address, newcomer.name
        ));
    }
    if plan.staged.is_empty() {
        return;
    }
    show::line(format_args!(
        "{} of {} copies move, about {}",
        plan.copies_moving,
        plan.copies_total,
        show::size(plan.bytes_moving)
    ));
    show::line(format_args!(
        "partitions in fewer zones than could be: {} now, {} afterwards",
        plan.partitions_unsafe, plan.partitions_unsafe_after
    ));
    for warning in &plan.warnings {
        show::line(format_args!("{}: {warning}", show::bad("warning")));
    }
    if plan.refused.is_empty() {
        show::line(format_args!(
            "to do this: souk admin layout apply --version {}",
            plan.staged_version
        ));
    } else {
        show::line(format_args!(
            "{}: {}",
            show::bad("cannot be applied"),
            plan.refused
        ));
    }
}

fn planned_row(node: &PlannedNode) -> [Cell; 8] {
    let is_staying = node.fate == "stays";
    [
        Cell::new(&node.name),
        Cell::new(&node.zone),
        Cell::new(node.weight),
        show::judged(&node.fate, is_staying),
        Cell::new(node.partitions),
        Cell::new(node.partitions_after),
        Cell::new(node.gains),
        Cell::new(node.losses),
    ]
}

fn plan_json(plan: &LayoutPlanResponse) -> Json {
    let node = |node: &PlannedNode| {
        json!({
            "name": node.name, "id": node.id, "zone": node.zone, "weight": node.weight, "fate": node.fate,
            "partitions": node.partitions, "partitions_after": node.partitions_after,
            "gains": node.gains, "losses": node.losses,
        })
    };
    let newcomers = plan.newcomers.iter().map(|newcomer| {
        json!({
            "name": newcomer.name, "zone": newcomer.zone, "weight": newcomer.weight,
            "grpc_address": newcomer.grpc_address, "http_address": newcomer.http_address,
        })
    });
    json!({
        "layout_epoch": plan.layout_epoch,
        "staged_version": plan.staged_version,
        "staged": plan.staged,
        "moving": plan.moving,
        "nodes": plan.nodes.iter().map(node).collect::<Vec<_>>(),
        "copies_moving": plan.copies_moving,
        "copies_total": plan.copies_total,
        "bytes_moving": plan.bytes_moving,
        "partitions_unsafe": plan.partitions_unsafe,
        "partitions_unsafe_after": plan.partitions_unsafe_after,
        "warnings": plan.warnings,
        "refused": plan.refused,
        "newcomers": newcomers.collect::<Vec<_>>(),
    })
}

/// Runs `souk admin transfers`.
pub(crate) async fn transfers(args: CommonArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let client: Client = args.endpoints.connect(cluster).await?;
    let transfers = client.admin().transfers().await?;
    if args.json {
        show::json(&transfers_json(&transfers));
        return Ok(());
    }
    if transfers.started == 0 {
        show::line("nothing moves");
    } else {
        show::line(format_args!(
            "moving since layout epoch {}",
            transfers.started
        ));
    }
    let heading = [
        "node",
        "partitions left",
        "of",
        "groups",
        "records",
        "copied",
        "time left",
        "waits for",
    ];
    show::table(heading, transfers.nodes.iter().map(transfer_row));
    Ok(())
}

/// By the pace so far; 0 when nothing is left, nothing when there is no pace yet.
fn left_ms(node: &NodeTransfers) -> Option<u64> {
    let transfers = node.transfers.as_ref()?;
    let done = transfers
        .partitions_total
        .checked_sub(transfers.partitions_left)?;
    if transfers.partitions_left == 0 {
        return Some(0);
    }
    let each = transfers.elapsed_ms.checked_div(done)?;
    Some(each.saturating_mul(transfers.partitions_left))
}

fn transfer_row(node: &NodeTransfers) -> [Cell; 8] {
    let Some(transfers) = node.transfers.as_ref().filter(|_| node.error.is_empty()) else {
        let mut row = [const { String::new() }; 8].map(Cell::new);
        row[0] = Cell::new(&node.node);
        row[7] = show::judged(&node.error, false);
        return row;
    };
    let left =
        left_ms(node).map_or_else(|| "?".to_owned(), |ms| format!("{} s", ms.div_ceil(1000)));
    [
        Cell::new(&node.node),
        Cell::new(transfers.partitions_left),
        Cell::new(transfers.partitions_total),
        Cell::new(transfers.groups_settled),
        Cell::new(transfers.records_copied),
        Cell::new(show::size(transfers.bytes_copied)),
        Cell::new(left),
        Cell::new(&transfers.waits_for),
    ]
}

fn transfers_json(transfers: &TransfersResponse) -> Json {
    let node = |node: &NodeTransfers| {
        let transfers = node.transfers.clone().unwrap_or_default();
        json!({
            "node": node.node, "error": node.error,
            "partitions_total": transfers.partitions_total,
            "partitions_left": transfers.partitions_left,
            "groups_settled": transfers.groups_settled,
            "records_copied": transfers.records_copied,
            "bytes_copied": transfers.bytes_copied,
            "elapsed_ms": transfers.elapsed_ms,
            "left_ms": left_ms(node),
            "waits_for": transfers.waits_for,
        })
    };
    json!({
        "started": transfers.started,
        "nodes": transfers.nodes.iter().map(node).collect::<Vec<_>>(),
    })
}
