//! Fetches the topology: once at the start, later whenever a node speaks of a newer one.
//!
//! Shape: a few nodes are asked at the same time; the first newer topology wins, so that one slow or
//! outdated node does no harm.
//! Invariant: fetches are spaced, however many requests ask for one.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures::stream::{FuturesUnordered, StreamExt};
use souk_kv_proto::kv::{
    TopologyRequest, session_request::Body as Question, session_response::Body as Answer,
};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::shared::{Shared, Signals};
use crate::{session::Link, topology::Topology};

/// Nodes asked at the same time.
const ASKED_MAX: usize = 3;
/// How long a node may take to describe the cluster.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Shortest time between two fetches, and the wait after a fetch that nobody answered.
const SPACING: Duration = Duration::from_millis(25);
const SPACING_AFTER_FAILURE: Duration = Duration::from_millis(250);

/// The background task; ends with its client.
pub(super) async fn run(shared: Weak<Shared>, signals: Arc<Signals>) {
    for round in 0usize.. {
        signals.refresh_wanted.notified().await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let view = shared.view.load_full();
        let mut links: Vec<_> = view.all_links().cloned().collect();
        // Another node each time: the one that spoke of news is soon among them.
        let first = round % links.len().max(1);
        links.rotate_left(first);
        let is_news = |topology: &Topology| {
            view.topology
                .is_older_than(topology.layout().epoch().0, topology.catalogue_version())
        };
        match ask(&links, is_news).await {
            Ok(topology) => {
                shared.install(topology);
                signals.refreshes.send_modify(|count| *count += 1);
                drop(shared);
                sleep(SPACING).await;
            }
            Err(problem) => {
                tracing::debug!(%problem, "no node described the cluster");
                signals.refresh_wanted.notify_one();
                drop(shared);
                sleep(SPACING_AFTER_FAILURE).await;
            }
        }
    }
}

/// The first topology that any of `links` gives before the deadline, or the last problem.
pub(super) async fn first_topology(
    links: &[Arc<Link>],
    signals: &Signals,
    deadline: Instant,
) -> Result<Topology, String> {
    let mut last = "no connection yet".to_owned();
    while Instant::now() < deadline {
        let opened = signals.link_opened.notified();
        match timeout_at(deadline, ask(links, |_| true)).await {
            Ok(Ok(topology)) => return Ok(topology),
            Ok(Err(problem)) => last = problem,
            Err(_) => break,
        }
        // A node that is not ready yet needs asking again although its stream stays open.
        let _ = timeout_at(deadline.min(Instant::now() + SPACING_AFTER_FAILURE), opened).await;
    }
    Err(last)
}

/// Asks the first few open links; the first answer that is news wins, otherwise the last one.
async fn ask(links: &[Arc<Link>], is_news: impl Fn(&Topology) -> bool) -> Result<Topology, String> {
    let open = links.iter().filter(|link| link.is_open()).take(ASKED_MAX);
    let mut asked: FuturesUnordered<_> = open.map(|link| ask_one(link)).collect();
    let mut last = Err(problems(links));
    while let Some(answer) = asked.next().await {
        match answer {
            Ok(topology) if is_news(&topology) => return Ok(topology),
            Ok(topology) => last = Ok(topology),
            Err(problem) if last.is_err() => last = Err(problem),
            Err(_) => {}
        }
    }
    last
}

async fn ask_one(link: &Link) -> Result<Topology, String> {
    let address = link.address();
    let question = Question::Topology(TopologyRequest {});
    let waiting = link
        .send(question, 0)
        .map_err(|_| format!("{address}: no connection"))?;
    match timeout(ANSWER_TIMEOUT, waiting).await {
        Err(_) => Err(format!("{address}: no answer within {ANSWER_TIMEOUT:?}")),
        Ok(Err(_)) => Err(format!("{address}: the connection broke")),
        Ok(Ok(Answer::Topology(topology))) => {
            Topology::from_wire(topology).map_err(|error| format!("{address}: {}", chain(&error)))
        }
        Ok(Ok(Answer::Error(error))) => Err(format!("{address}: {}", error.message)),
        Ok(Ok(_)) => Err(format!("{address}: answered something else")),
    }
}

fn problems(links: &[Arc<Link>]) -> String {
    let problems = links.iter().map(|link| (link.address(), link.problem()));
    let told: Vec<_> = problems
        .filter(|(_, problem)| !problem.is_empty())
        .map(|(address, problem)| format!("{address}: {problem}"))
        .collect();
    if told.is_empty() {
        "no connection yet".to_owned()
    } else {
        told.join("; ")
    }
}

/// An error with its sources in one line.
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}
