//! `souk admin tombstones` and `forget`: deletes on their way out, and nodes that hold them up.

use std::time::Duration;

use clap::Args;
use comfy_table::Cell;
use serde_json::{Value as Json, json};
use souk_kv_client::{Client, TombstonesResponse};
use tokio::time::sleep;

use super::CommonArgs;
use crate::cluster::ClusterArgs;
use crate::failure::Failure;
use crate::show;

/// How often a running collection is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Which nodes, and whether to begin now.
#[derive(Debug, Args)]
pub(crate) struct TombstonesArgs {
    /// Show this node only.
    #[arg(long)]
    node: Option<String>,
    /// Look for deletes to collect now, and wait until every node has looked.
    #[arg(long)]
    collect: bool,
    #[command(flatten)]
    common: CommonArgs,
}

/// Which node to give up.
#[derive(Debug, Args)]
pub(crate) struct ForgetArgs {
    /// The node whose store is given up. It has to be stopped.
    node: String,
    /// Yes, writes that only this node holds may be lost.
    #[arg(long)]
    accept_data_loss: bool,
    #[command(flatten)]
    common: CommonArgs,
}

/// Deletes on their way out, node by node.
pub(crate) async fn tombstones(args: TombstonesArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let client = args.common.endpoints.connect(cluster).await?;
    let names = match args.node {
        Some(name) => vec![name],
        None => names(&client).await?,
    };
    let mut answers = Vec::with_capacity(names.len());
    for name in names {
        let mut answer = client.admin().tombstones(Some(&name), args.collect).await;
        if args.collect
            && let Ok(before) = &answer
        {
            let walks = before.walks;
            let progress = show::Progress::begin(format!("{name} looks for deletes"));
            while matches!(&answer, Ok(now) if now.walks == walks) {
                sleep(LOOK_AGAIN).await;
                answer = client.admin().tombstones(Some(&name), false).await;
            }
            progress.end("done");
        }
        answers.push((name, answer));
    }
    if args.common.json {
        let all = answers.iter().map(|(name, answer)| match answer {
            Ok(answer) => as_json(answer),
            Err(error) => json!({ "node": name, "error": error.to_string() }),
        });
        show::json(&all.collect());
        return Ok(());
    }
    let heading = [
        "node",
        "deletes",
        "ripening",
        "differing",
        "erased",
        "folded",
        "expired",
        "walks",
    ];
    let rows = answers
        .iter()
        .map(|(name, answer)| row(name, answer.as_ref().ok()));
    show::table(heading, rows);
    let mut is_held_up = false;
    for (name, answer) in &answers {
        match answer {
            Ok(answer) => {
                if !answer.walk_failure.is_empty() {
                    let why = &answer.walk_failure;
                    show::line(format_args!(
                        "{name} did not look through to the end: {why}"
                    ));
                }
                for wait in &answer.waiting_for {
                    is_held_up = true;
                    let (for_whom, why) = (&wait.node, &wait.why);
                    show::line(format_args!("{name} waits for {for_whom}: {why}"));
                }
            }
            Err(error) => show::line(format_args!("{name} gave no answer: {error}")),
        }
    }
    if is_held_up {
        show::note("a node that will not come back is given up by `souk admin forget NODE`");
    }
    Ok(())
}

async fn names(client: &Client) -> Result<Vec<String>, Failure> {
    let status = client.admin().status(None).await?;
    let is_there = |state: &str| state != "down";
    let nodes = status.nodes.into_iter();
    Ok(nodes
        .filter(|node| is_there(&node.state))
        .map(|node| node.name)
        .collect())
}

fn row(name: &str, answer: Option<&TombstonesResponse>) -> [Cell; 8] {
    let number = |of: fn(&TombstonesResponse) -> u64| {
        Cell::new(answer.map_or_else(|| "-".to_owned(), |answer| of(answer).to_string()))
    };
    [
        Cell::new(name),
        number(|answer| answer.tombstones_count),
        number(|answer| answer.ripening_count),
        number(|answer| answer.different_count),
        number(|answer| answer.erased_count),
        number(|answer| answer.folded_count),
        number(|answer| answer.expired_count),
        number(|answer| answer.walks),
    ]
}

fn as_json(answer: &TombstonesResponse) -> Json {
    let waits = answer.waiting_for.iter();
    json!({
        "node": answer.node,
        "walks": answer.walks,
        "walk_failure": answer.walk_failure,
        "tombstones_count": answer.tombstones_count,
        "ripening_count": answer.ripening_count,
        "different_count": answer.different_count,
        "erased_count": answer.erased_count,
        "folded_count": answer.folded_count,
        "expired_count": answer.expired_count,
        "waiting_for": waits
            .map(|wait| json!({ "node": wait.node, "why": wait.why }))
            .collect::<Vec<_>>(),
    })
}

/// Gives the store of an absent node up.
pub(crate) async fn forget(args: ForgetArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let node = &args.node;
    if !args.accept_data_loss {
        return Err(Failure::Usage {
            problem: format!(
                "giving `{node}` up loses the writes that it alone holds: those it took while it was cut off, and the hints it keeps"
            ),
            mend: "start the node once more if you can, or repeat with --accept-data-loss"
                .to_owned(),
        });
    }
    let client = args.common.endpoints.connect(cluster).await?;
    let answer = client.admin().forget(node).await?;
    if args.common.json {
        show::json(&json!({
            "node": node,
            "store_id": answer.store_id,
            "forgotten": answer.forgotten,
        }));
        return Ok(());
    }
    let store = answer.store_id;
    show::line(if answer.forgotten {
        format!("store {store} of {node} is given up")
    } else {
        format!("store {store} of {node} had been given up before")
    });
    show::line(format_args!(
        "{node} may only come back empty: move its data directory away before it is started again"
    ));
    Ok(())
}
