//! Long work that operators ask for: streams of progress that end with the result.
//!
//! Invariants: 1. when the caller goes away, the work stops. 2. the last message says `done`, or the stream ends
//! with an error.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::Stream;
use souk_kv_proto::admin::{RepairProgress, ScrubProgress};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::{
    anti_entropy::Tally, core::NodeCore, error::RequestError, keys::BucketId, scrub::ScrubReport,
};

/// Messages that may wait for a slow caller; further progress is skipped, the result never.
const WAITING_MAX: usize = 16;
/// Rest of a scrub that somebody waits for, after each partition.
const SCRUB_REST: Duration = Duration::from_millis(1);

/// Progress as it is made.
pub(super) type ProgressStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

type Sender<T> = mpsc::Sender<Result<T, Status>>;

/// Compares this node with each other replica once.
pub(super) fn repair(
    core: Arc<NodeCore>,
    only: Option<BucketId>,
    skip_nodes: Vec<String>,
) -> ProgressStream<RepairProgress> {
    stream(|sender| async move { run_repair(&core, only, &skip_nodes, &sender).await })
}

/// Reads all data of this node once.
pub(super) fn scrub(core: Arc<NodeCore>) -> ProgressStream<ScrubProgress> {
    stream(|sender| async move {
        let mut told = |report: &ScrubReport| {
            // A caller that is slow misses this one and gets a later one.
            let _ = sender.try_send(Ok(scrub_progress(report, false)));
        };
        let report = core.scrubber.pass(SCRUB_REST, &mut told).await?;
        Ok(scrub_progress(&report, true))
    })
}

fn stream<T, F>(work: impl FnOnce(Sender<T>) -> F) -> ProgressStream<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T, RequestError>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    let work = work(sender.clone());
    tokio::spawn(async move {
        let result = tokio::select! {
            () = sender.closed() => return,
            result = work => result,
        };
        let last = result.map_err(|cause| cause.to_wire().into_status());
        // A caller that has gone away needs no result.
        let _ = sender.send(last).await;
    });
    Box::pin(ReceiverStream::new(receiver))
}

async fn run_repair(
    core: &NodeCore,
    only: Option<BucketId>,
    skip_nodes: &[String],
    sender: &Sender<RepairProgress>,
) -> Result<RepairProgress, RequestError> {
    let parts = &core.anti_entropy;
    // Trees that are known to be doubtful are put right first: they would hide or invent differences.
    parts.check_suspects().await;
    let layout = core.cluster.layout();
    let name = |peer| {
        layout
            .member(peer)
            .map_or_else(String::new, |member| member.name.to_string())
    };
    let peers: Vec<_> = parts
        .peers()
        .into_iter()
        .map(|peer| (peer, name(peer)))
        .filter(|(_, name)| !skip_nodes.contains(name))
        .collect();
    let vnodes_total = peers
        .iter()
        .map(|(peer, _)| parts.vnodes_shared(*peer))
        .sum();
    let mut total = Tally::default();
    let mut failed = Vec::new();
    for (peer, name) in peers {
        let before = total;
        let mut told = |tally: &Tally| {
            let mut so_far = before;
            so_far.add(tally);
            // A caller that is slow misses this one and gets a later one.
            let _ = sender.try_send(Ok(repair_progress(&so_far, vnodes_total)));
        };
        let (tally, result) = parts.round(peer, only, &mut told).await;
        total.add(&tally);
        if let Err(cause) = result {
            failed.push(format!("{name}: {cause}"));
        }
    }
    parts.check_suspects().await;
    Ok(RepairProgress {
        done: true,
        failed,
        ..repair_progress(&total, vnodes_total)
    })
}

fn repair_progress(tally: &Tally, vnodes_total: u64) -> RepairProgress {
    RepairProgress {
        done: false,
        vnodes_done: tally.vnodes,
        vnodes_total,
        vnodes_unready: tally.vnodes_unready,
        trees_differing: tally.trees,
        leaves_differing: tally.leaves,
        keys_fetched: tally.keys_fetched,
        keys_pushed: tally.keys_pushed,
        keys_damaged: tally.keys_damaged,
        leaves_suspect: tally.leaves_suspect,
        requests: tally.requests,
        bytes_sent: tally.bytes_sent,
        bytes_received: tally.bytes_received,
        failed: Vec::new(),
    }
}

fn scrub_progress(report: &ScrubReport, done: bool) -> ScrubProgress {
    ScrubProgress {
        done,
        vnodes_done: report.vnodes,
        vnodes_total: report.vnodes_total,
        rows: report.rows,
        bytes: report.bytes,
        damaged: report.damaged,
        mended: report.mended,
        learning: report.learning,
        leaves_mended: report.leaves_mended,
        gaps: report.gaps,
        unmended: if done {
            report.unmended.clone()
        } else {
            Vec::new()
        },
    }
}
