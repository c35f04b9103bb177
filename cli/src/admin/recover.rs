//! `souk admin register recover`: going on with the copies that are left.

use serde_json::json;

use super::RecoverArgs;
use crate::cluster::ClusterArgs;
use crate::failure::Failure;
use crate::show;

/// Says what would be given up, or gives it up.
pub(crate) async fn recover(args: RecoverArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let client = args.common.endpoints.connect(cluster).await?;
    let plan = client
        .admin()
        .register_recover(&args.node, args.accept_data_loss)
        .await?;
    if args.common.json {
        show::json(&json!({
            "declared": plan.declared,
            "layout_epoch": plan.layout_epoch,
            "survivors": plan.survivors,
            "lost": plan.lost,
            "partitions_at_risk": plan.partitions_at_risk,
            "partitions_without_copy": plan.partitions_without_copy,
        }));
        return Ok(());
    }
    show::line(format_args!(
        "copies that count: {}",
        plan.survivors.join(", ")
    ));
    show::line(format_args!("given up: {}", plan.lost.join(", ")));
    show::line(format_args!(
        "{} partitions keep no majority of their copies: writes to register buckets there that only {} had may be lost",
        plan.partitions_at_risk,
        plan.lost.join(" and ")
    ));
    if plan.partitions_without_copy > 0 {
        show::line(show::bad(&format!(
            "{} partitions keep no copy at all: their registers stay out of use",
            plan.partitions_without_copy
        )));
    }
    if plan.declared {
        show::line(format_args!(
            "{} layout epoch {}; start the other nodes, they learn from the copies that count",
            show::good("declared"),
            plan.layout_epoch
        ));
    } else {
        show::line("nothing was changed: repeat it with --accept-data-loss to go on");
    }
    Ok(())
}
