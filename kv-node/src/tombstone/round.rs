//! Drives one round: performs what the pure machine asks for, and tells it what came of it.
//!
//! Place: called by `super::walk`, one round at a time.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use souk_kv_core::tombstone::{Item, Purpose, Refusal, Round, RoundAction, RoundReport};
use souk_kv_proto::peer::{Collect, CollectItem, CollectReply, CollectStage, peer_message::Body};
use souk_ring::NodeId;
use tokio::time::Instant;

use super::member;
use crate::core::NodeCore;

/// How long a member may take to mark or to settle.
const RECORDS_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a member may take to end what began before: requests end by their own deadlines.
const QUIESCE_TIMEOUT: Duration = Duration::from_secs(15);

/// What came of a round.
pub(super) struct RoundOutcome {
    pub(super) items: Vec<Item>,
    pub(super) report: RoundReport,
    /// Whom it waited for in vain, and why.
    pub(super) waiting_for: BTreeMap<NodeId, String>,
}

/// A node's answer to a stage, with the places that its items have in the round.
struct Answered {
    node: NodeId,
    stage: CollectStage,
    places: Vec<usize>,
    reply: Result<CollectReply, String>,
}

/// Runs a round over these items to its end.
pub(super) async fn run(core: &Arc<NodeCore>, number: u64, items: Vec<Item>) -> RoundOutcome {
    let (mut round, mut actions) = Round::start(member::members(core), items);
    let mut asked: FuturesUnordered<BoxFuture<'static, Answered>> = FuturesUnordered::new();
    let mut waiting_for = BTreeMap::new();
    loop {
        for action in actions.drain(..) {
            let (node, stage, items) = match action {
                RoundAction::Finish(report) => {
                    for (node, count) in &report.hinted {
                        let why = format!(
                            "it keeps hints, or copies of an earlier layout, for {count} of the keys"
                        );
                        waiting_for.entry(*node).or_insert(why);
                    }
                    return RoundOutcome {
                        items: round.items().to_vec(),
                        report,
                        waiting_for,
                    };
                }
                RoundAction::Mark { node, items } => (node, CollectStage::Mark, items),
                RoundAction::Quiesce { node } => (node, CollectStage::Quiesce, Vec::new()),
                RoundAction::Check { node, items } => (node, CollectStage::Check, items),
                RoundAction::Settle { node, items } => (node, CollectStage::Settle, items),
            };
            asked.push(ask(core, &round, number, node, stage, items));
        }
        actions = match asked.next().await {
            Some(answered) => judge(&mut round, answered, &mut waiting_for),
            // Every stage that is not over has somebody to wait for.
            None => Vec::new(),
        };
    }
}

fn judge(
    round: &mut Round,
    answered: Answered,
    waiting_for: &mut BTreeMap<NodeId, String>,
) -> Vec<RoundAction> {
    let Answered {
        node,
        stage,
        places,
        reply,
    } = answered;
    let reply = match reply {
        Ok(reply) => reply,
        Err(why) => {
            waiting_for.insert(node, why);
            return round.on_failed(node);
        }
    };
    if !reply.unfenced.is_empty() {
        for unfenced in reply.unfenced {
            let why = || "it did not confirm that earlier messages are kept out".to_owned();
            waiting_for.entry(NodeId(unfenced)).or_insert_with(why);
        }
        return round.on_failed(node);
    }
    let in_round = |named: &[u32]| -> Vec<usize> {
        let place = |named: &u32| places.get(*named as usize).copied();
        named.iter().filter_map(place).collect()
    };
    match stage {
        CollectStage::Mark => {
            let different = in_round(&reply.different).into_iter();
            let unripe = in_round(&reply.unripe).into_iter();
            let refused: Vec<_> = different
                .map(|place| (place, Refusal::Different))
                .chain(unripe.map(|place| (place, Refusal::Unripe)))
                .collect();
            round.on_marked(node, &refused)
        }
        CollectStage::Quiesce => round.on_quiesced(node),
        CollectStage::Check => round.on_checked(node, &in_round(&reply.hinted)),
        CollectStage::Settle => round.on_settled(node, &in_round(&reply.changed)),
        CollectStage::Unspecified => round.on_failed(node),
    }
}

fn ask(
    core: &Arc<NodeCore>,
    round: &Round,
    number: u64,
    node: NodeId,
    stage: CollectStage,
    places: Vec<usize>,
) -> BoxFuture<'static, Answered> {
    let items = places.iter().map(|place| {
        let item = &round.items()[*place];
        CollectItem {
            store_key: item.key.clone(),
            digest: item.digest,
            fold: item.purpose == Purpose::Fold,
        }
    });
    let request = Collect {
        layout_epoch: core.cluster.layout().epoch().0,
        round: number,
        stage: stage.into(),
        items: items.collect(),
        catalogue_version: core.cluster.catalogue.version(),
    };
    let timeout = match stage {
        CollectStage::Quiesce | CollectStage::Check => QUIESCE_TIMEOUT,
        CollectStage::Mark | CollectStage::Settle | CollectStage::Unspecified => RECORDS_TIMEOUT,
    };
    let deadline = Instant::now() + timeout;
    let core = Arc::clone(core);
    Box::pin(async move {
        let reply = if node == core.cluster.node {
            member::answer(&core, node, request, deadline)
                .await
                .map_err(|cause| cause.to_string())
        } else {
            let body = Body::Collect(request);
            match core.cluster.call_in_bulk(node, body, deadline).await {
                Ok(Body::CollectReply(reply)) => Ok(reply),
                Ok(_) => Err("it answered something else".to_owned()),
                Err(cause) => Err(cause.to_string()),
            }
        };
        Answered {
            node,
            stage,
            places,
            reply,
        }
    })
}
