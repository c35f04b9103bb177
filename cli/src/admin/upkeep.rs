//! `souk admin repair` and `souk admin scrub`: what nodes do by themselves, now and with progress.
//!
//! A node that does not answer is named and passed over, and the command fails in the end.

use std::time::Instant;

use serde_json::{Value as Json, json};
use souk_kv_client::{Client, RepairProgress, RequestError, ScrubProgress};

use super::{RepairArgs, ScrubArgs};
use crate::cluster::ClusterArgs;
use crate::failure::Failure;
use crate::show;

/// Compares all pairs of nodes.
pub(crate) async fn repair(args: RepairArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let client = args.common.endpoints.connect(cluster).await?;
    let nodes = nodes(&client, args.node.as_deref()).await?;
    let bucket = args.bucket.unwrap_or_default();
    let began = Instant::now();
    let mut total = RepairProgress::default();
    let mut done = Vec::new();
    for node in nodes {
        let bar = show::Progress::begin(format!("comparing {node}"));
        match repair_one(&client, &node, &bucket, &done, &bar).await {
            Ok(progress) => {
                bar.end(format_args!(
                    "{} records fetched, {} sent, {} in all",
                    progress.keys_fetched,
                    progress.keys_pushed,
                    show::size(progress.bytes_sent + progress.bytes_received)
                ));
                add(&mut total, progress);
                done.push(node);
            }
            Err(error) => {
                bar.end(&error);
                total.failed.push(format!("{node}: {error}"));
            }
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    if args.common.json {
        show::json(&repair_json(&total, seconds));
    } else {
        show_repair(&total, seconds);
    }
    end(total.failed)
}

async fn repair_one(
    client: &Client,
    node: &str,
    bucket: &str,
    done: &[String],
    bar: &show::Progress,
) -> Result<RepairProgress, RequestError> {
    let mut stream = client.admin().repair(node, bucket, done).await?;
    let mut last = RepairProgress::default();
    while let Some(progress) = stream.next().await? {
        bar.set(progress.vnodes_done, progress.vnodes_total);
        last = progress;
    }
    Ok(last)
}

/// Reads the data of nodes.
pub(crate) async fn scrub(args: ScrubArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let client = args.common.endpoints.connect(cluster).await?;
    let mut found = Vec::new();
    let mut failed = Vec::new();
    for node in nodes(&client, args.node.as_deref()).await? {
        let bar = show::Progress::begin(format!("reading {node}"));
        match scrub_one(&client, &node, &bar).await {
            Ok(report) => {
                bar.end(format_args!("{} rows", report.rows));
                found.push((node, report));
            }
            Err(error) => {
                bar.end(&error);
                failed.push(format!("{node}: {error}"));
            }
        }
    }
    if args.common.json {
        let nodes = found.iter().map(|(node, report)| scrub_json(node, report));
        show::json(&json!({ "nodes": nodes.collect::<Vec<_>>(), "failed": failed }));
    } else {
        show_scrub(&found);
    }
    for (node, report) in &found {
        let left = report.damaged - report.mended - report.learning + report.gaps;
        if left > 0 {
            failed.push(format!("{node}: {left} places are damaged still"));
        }
    }
    end(failed)
}

async fn scrub_one(
    client: &Client,
    node: &str,
    bar: &show::Progress,
) -> Result<ScrubProgress, RequestError> {
    let mut stream = client.admin().scrub(node).await?;
    let mut last = ScrubProgress::default();
    while let Some(progress) = stream.next().await? {
        bar.set(progress.vnodes_done, progress.vnodes_total);
        last = progress;
    }
    Ok(last)
}

/// The node asked for, or all of them.
pub(super) async fn nodes(
    client: &Client,
    asked: Option<&str>,
) -> Result<Vec<String>, RequestError> {
    if let Some(node) = asked {
        return Ok(vec![node.to_owned()]);
    }
    let status = client.admin().status(None).await?;
    Ok(status.nodes.into_iter().map(|node| node.name).collect())
}

fn end(failed: Vec<String>) -> Result<(), Failure> {
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Failure::Incomplete { failed })
    }
}

fn add(total: &mut RepairProgress, one: RepairProgress) {
    total.vnodes_done += one.vnodes_done;
    total.vnodes_total += one.vnodes_total;
    total.vnodes_unready += one.vnodes_unready;
    total.trees_differing += one.trees_differing;
    total.leaves_differing += one.leaves_differing;
    total.keys_fetched += one.keys_fetched;
    total.keys_pushed += one.keys_pushed;
    total.keys_damaged += one.keys_damaged;
    total.leaves_suspect += one.leaves_suspect;
    total.requests += one.requests;
    total.bytes_sent += one.bytes_sent;
    total.bytes_received += one.bytes_received;
    total.failed.extend(one.failed);
}

fn show_repair(total: &RepairProgress, seconds: f64) {
    let rows = [
        ("partitions compared", total.vnodes_done),
        ("of them not ready", total.vnodes_unready),
        ("trees that differed", total.trees_differing),
        ("leaves that differed", total.leaves_differing),
        ("records fetched", total.keys_fetched),
        ("records sent", total.keys_pushed),
        ("damaged records met", total.keys_damaged),
        ("requests", total.requests),
    ];
    let numbers = rows.map(|(what, count)| [what.to_owned(), count.to_string()]);
    let sizes = [
        ["sent".to_owned(), show::size(total.bytes_sent)],
        ["received".to_owned(), show::size(total.bytes_received)],
        ["time".to_owned(), format!("{seconds:.1} s")],
    ];
    show::table(["what", "how much"], numbers.into_iter().chain(sizes));
}

fn repair_json(total: &RepairProgress, seconds: f64) -> Json {
    json!({
        "vnodes_done": total.vnodes_done,
        "vnodes_unready": total.vnodes_unready,
        "trees_differing": total.trees_differing,
        "leaves_differing": total.leaves_differing,
        "keys_fetched": total.keys_fetched,
        "keys_pushed": total.keys_pushed,
        "keys_damaged": total.keys_damaged,
        "leaves_suspect": total.leaves_suspect,
        "requests": total.requests,
        "bytes_sent": total.bytes_sent,
        "bytes_received": total.bytes_received,
        "seconds": seconds,
        "failed": total.failed,
    })
}

fn show_scrub(found: &[(String, ScrubProgress)]) {
    let rows = found.iter().map(|(node, report)| {
        [
            node.clone(),
            report.rows.to_string(),
            show::size(report.bytes),
            report.damaged.to_string(),
            report.mended.to_string(),
            report.learning.to_string(),
            report.gaps.to_string(),
            report.leaves_mended.to_string(),
        ]
    });
    let heading = [
        "node",
        "rows",
        "bytes",
        "damaged",
        "mended",
        "learning",
        "unreadable stretches",
        "leaves put right",
    ];
    show::table(heading, rows);
    for (node, report) in found {
        for line in &report.unmended {
            show::note(format_args!("{node}: {line}"));
        }
    }
}

fn scrub_json(node: &str, report: &ScrubProgress) -> Json {
    json!({
        "node": node,
        "rows": report.rows,
        "bytes": report.bytes,
        "damaged": report.damaged,
        "mended": report.mended,
        "learning": report.learning,
        "gaps": report.gaps,
        "leaves_mended": report.leaves_mended,
        "unmended": report.unmended,
    })
}
