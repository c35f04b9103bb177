//! `souk admin hints`: the writes that nodes keep for absent ones, and the delivery of these.
//!
//! Hints lie on the node that took them, so every call goes to each node in turn, or to the one that is named.

use clap::{Args, Subcommand};
use serde_json::{Value as Json, json};
use souk_kv_client::{
    Client, HintAction, HintSummary, HintsResponse, RequestError, SteerHintsRequest,
};

use super::upkeep;
use crate::cluster::ClusterArgs;
use crate::connect::EndpointArgs;
use crate::failure::Failure;
use crate::show;

/// Arguments of `souk admin hints`.
#[derive(Debug, Args)]
pub(crate) struct HintsArgs {
    #[command(subcommand)]
    command: Option<HintsCommand>,
    /// Only the hints on this node; on all that answer when left out.
    #[arg(long, global = true)]
    node: Option<String>,
    /// Print one JSON document.
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    endpoints: EndpointArgs,
}

#[derive(Debug, Subcommand)]
enum HintsCommand {
    /// Deliver no more, until resumed; also over restarts.
    #[command(after_help = "Example:\n  souk admin hints pause --target n3")]
    Pause(TargetArgs),
    /// Deliver again.
    #[command(after_help = "Example:\n  souk admin hints resume --target n3")]
    Resume(TargetArgs),
    /// Try one round now, whether or not the target seems up and delivery is paused.
    #[command(after_help = "Example:\n  souk admin hints deliver-now --target n3")]
    DeliverNow(TargetArgs),
    /// Give up the hints for one target, for ever.
    ///
    /// A hint may be one of the copies that an acknowledged write was promised. Drop hints only when their target
    /// will be filled by other means, or its data does not matter.
    #[command(after_help = "Example:\n  souk admin hints drop --target n3 --accept-data-loss")]
    Drop(DropArgs),
}

/// Whose hints.
#[derive(Debug, Args)]
struct TargetArgs {
    /// Only those for this node; for all when left out.
    #[arg(long)]
    target: Option<String>,
}

/// Which hints are given up.
#[derive(Debug, Args)]
struct DropArgs {
    /// The node that they are for.
    #[arg(long)]
    target: String,
    /// Yes, acknowledged writes may be lost.
    #[arg(long, required = true)]
    accept_data_loss: bool,
}

/// Runs `souk admin hints`.
pub(crate) async fn run(args: HintsArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let client = args.endpoints.connect(cluster).await?;
    let nodes = upkeep::nodes(&client, args.node.as_deref()).await?;
    let request = match &args.command {
        None => return list(&client, &nodes, &args).await,
        Some(HintsCommand::Pause(target)) => steering(HintAction::Pause, target),
        Some(HintsCommand::Resume(target)) => steering(HintAction::Resume, target),
        Some(HintsCommand::DeliverNow(target)) => steering(HintAction::DeliverNow, target),
        Some(HintsCommand::Drop(drop)) => {
            let request = SteerHintsRequest {
                action: HintAction::Drop.into(),
                target: drop.target.clone(),
                accept_data_loss: drop.accept_data_loss,
            };
            return give_up(&client, &nodes, request, &args).await;
        }
    };
    let mut answers = Vec::new();
    for node in holders(nodes, &request.target) {
        let steered = client.admin().steer_hints(&node, request.clone()).await;
        note_silent(
            &args,
            &node,
            steered.map(|answer| answer.hints),
            &mut answers,
        )?;
    }
    show_all(&answers, args.json);
    Ok(())
}

fn steering(action: HintAction, target: &TargetArgs) -> SteerHintsRequest {
    SteerHintsRequest {
        action: action.into(),
        target: target.target.clone().unwrap_or_default(),
        accept_data_loss: false,
    }
}

/// Nobody keeps hints for itself.
fn holders(nodes: Vec<String>, target: &str) -> impl Iterator<Item = String> {
    let target = target.to_owned();
    nodes.into_iter().filter(move |node| *node != target)
}

type Answers = Vec<(String, Vec<HintSummary>)>;

/// A node that is down is the usual reason to look at hints: it is named and passed over, unless it was asked for.
fn note_silent(
    args: &HintsArgs,
    node: &str,
    answer: Result<Vec<HintSummary>, RequestError>,
    answers: &mut Answers,
) -> Result<(), Failure> {
    match answer {
        Ok(hints) => answers.push((node.to_owned(), hints)),
        Err(error) if args.node.is_none() && error.retryable => {
            show::note(format_args!("{node} does not answer: {error}"));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

async fn list(client: &Client, nodes: &[String], args: &HintsArgs) -> Result<(), Failure> {
    let mut answers = Vec::new();
    for node in nodes {
        let listed = client.admin().hints(Some(node)).await;
        note_silent(
            args,
            node,
            listed.map(|HintsResponse { hints, .. }| hints),
            &mut answers,
        )?;
    }
    show_all(&answers, args.json);
    Ok(())
}

async fn give_up(
    client: &Client,
    nodes: &[String],
    request: SteerHintsRequest,
    args: &HintsArgs,
) -> Result<(), Failure> {
    let mut dropped: Vec<(String, u64, u64)> = Vec::new();
    for node in holders(nodes.to_vec(), &request.target) {
        let (mut count, mut bytes) = (0, 0);
        loop {
            let answer = match client.admin().steer_hints(&node, request.clone()).await {
                Ok(answer) => answer,
                Err(error) if args.node.is_none() && error.retryable => {
                    show::note(format_args!(
                        "{node} does not answer, and keeps its hints: {error}"
                    ));
                    break;
                }
                Err(error) => return Err(error.into()),
            };
            count += answer.dropped_count;
            bytes += answer.dropped_bytes;
            if !answer.more {
                break;
            }
            show::note(format_args!("{node}: {count} hints dropped, more to go"));
        }
        dropped.push((node, count, bytes));
    }
    if args.json {
        let line = |(node, count, bytes): &(String, u64, u64)| json!({ "node": node, "dropped_count": count, "dropped_bytes": bytes });
        show::json(&dropped.iter().map(line).collect());
        return Ok(());
    }
    let row = |(node, count, bytes): &(String, u64, u64)| {
        [node.clone(), count.to_string(), show::size(*bytes)]
    };
    show::table(["node", "dropped", "size"], dropped.iter().map(row));
    Ok(())
}

fn show_all(answers: &Answers, as_json: bool) {
    let all = || {
        answers
            .iter()
            .flat_map(|(node, hints)| hints.iter().map(move |hint| (node, hint)))
    };
    if as_json {
        show::json(&all().map(|(node, hint)| hint_json(node, hint)).collect());
        return;
    }
    if all().next().is_none() {
        show::line("no hints");
        return;
    }
    let row = |(node, hint): (&String, &HintSummary)| {
        [
            node.clone(),
            hint.target.clone(),
            hint.hints_count.to_string(),
            show::size(hint.hints_bytes),
            waiting(hint.waiting_ms),
            hint.state.clone(),
        ]
    };
    show::table(
        ["on", "for", "hints", "size", "waiting for", "state"],
        all().map(row),
    );
}

fn waiting(ms: u64) -> String {
    if ms == 0 {
        "-".to_owned()
    } else {
        format!("{} s", ms.div_ceil(1000))
    }
}

fn hint_json(node: &str, hint: &HintSummary) -> Json {
    json!({
        "node": node,
        "target": hint.target,
        "hints_count": hint.hints_count,
        "hints_bytes": hint.hints_bytes,
        "waiting_ms": hint.waiting_ms,
        "state": hint.state,
    })
}
