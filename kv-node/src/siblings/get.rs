//! One get: drives the pure coordinator, repairs stale replicas in the background.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use metrics::counter;
use souk_kv_core::{
    causality::Record,
    outcome::Outcome,
    quorum::{GetAction, GetActions, GetAnswer, GetCoordinator, GetRequest},
};
use souk_kv_proto::{
    convert::causality::{decode_record, encode_record},
    kv::{ErrorCode, RequestOptions},
    mutant,
    peer::{ReadRecord, WriteRecord, peer_message::Body},
};
use souk_ring::NodeId;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};
use tracing::{debug, warn};

use super::{
    explain::{Explanation, Told},
    request::{Coordinator, REPLICA_TIMEOUT, RecordPlace, read_quorum},
};
use crate::{error::RequestError, governor::Job, peer::PeerError, tombstone::Work};

/// How long the answer to a read that is to be explained waits for replicas that are late.
const EXPLAIN_WAIT: Duration = Duration::from_millis(500);

/// What a get found.
#[derive(Debug)]
pub(crate) struct GetOutcome {
    /// Everything R replicas knew, merged.
    pub(crate) record: Record,
    /// Set when the request asked for it.
    pub(crate) explanation: Option<Explanation>,
}

/// A replica's record, empty when it has none.
type Reply = Result<Record, NoReply>;

/// Why a replica counts for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NoReply {
    /// Its record is damaged, and is to be mended.
    Damaged,
    /// No usable answer.
    Failed,
}

struct Replies {
    asked: FuturesUnordered<BoxFuture<'static, (NodeId, bool, Reply)>>,
    whole: usize,
    /// Primaries whose record is damaged.
    damaged: Vec<NodeId>,
    explanation: Option<Explanation>,
    /// An answer that is given a moment later, so that it can be explained.
    held: Option<Held>,
    started: Instant,
    work: Work,
}

struct Held {
    answer: GetAnswer,
    until: Instant,
}

impl Coordinator {
    /// Reads a key from R replicas.
    pub(crate) async fn get(
        &self,
        place: &RecordPlace,
        options: &RequestOptions,
        deadline: Instant,
    ) -> Result<GetOutcome, RequestError> {
        let started = Instant::now();
        let work = self.cluster.in_flight.enter();
        let request = GetRequest {
            primaries: place.primaries(),
            fallbacks: place.fallbacks(),
            local: self.cluster.node,
            read_quorum: match read_quorum(place, options)? {
                _ if mutant!("get-asks-one") => 1,
                needed => needed,
            },
            // Who is asked for an explanation looks at everybody.
            ask_all: options.explain,
            strict: options.strict,
            mode: place.bucket.merge_mode(),
        };
        let (get, actions) = GetCoordinator::start(request, |node| self.cluster.health_of(node));
        let replies = Replies {
            asked: FuturesUnordered::new(),
            whole: 0,
            damaged: Vec::new(),
            explanation: options.explain.then(|| Explanation::new(started)),
            held: None,
            started,
            work,
        };
        let (sender, mut receiver) = oneshot::channel();
        let run = self
            .clone()
            .run_get(get, actions, replies, place.clone(), deadline, sender);
        let mut run = Box::pin(run);
        let answer = tokio::select! {
            biased;
            answer = &mut receiver => {
                // Stragglers are still waited for: what they hold may need repair.
                self.tasks.spawn(run);
                answer.ok()
            }
            () = &mut run => receiver.try_recv().ok(),
        };
        answer.unwrap_or_else(|| {
            Err(RequestError::Internal(
                "a get ended without an answer".to_owned(),
            ))
        })
    }

    async fn run_get(
        self,
        mut get: GetCoordinator,
        actions: GetActions,
        mut replies: Replies,
        place: RecordPlace,
        deadline: Instant,
        sender: oneshot::Sender<Result<GetOutcome, RequestError>>,
    ) {
        let mut sender = Some(sender);
        let mut pending = actions;
        let mut hedge_at = replies.started + self.hedging.delay();
        loop {
            let mut answer = None;
            for action in pending.drain(..) {
                match action {
                    GetAction::Ask { node, with_hints } => {
                        if let Some(explanation) = &mut replies.explanation {
                            explanation.asks(node, with_hints, None);
                        }
                        replies
                            .asked
                            .push(self.ask(&place, node, with_hints, deadline));
                    }
                    GetAction::Answer(given) => answer = Some(given),
                    GetAction::RepairStale { nodes } => {
                        if let Some(explanation) = &mut replies.explanation {
                            explanation.repairs(&nodes);
                        }
                        self.repair(&place, get.merged(), &nodes, &replies.work);
                    }
                }
            }
            if let (Some(answer), Some(explanation)) = (answer, &mut replies.explanation) {
                explanation.answers();
                let until = deadline.min(Instant::now() + EXPLAIN_WAIT);
                replies.held = Some(Held { answer, until });
            }
            let is_over = |held: &mut Held| get.is_finished() || Instant::now() >= held.until;
            let released = replies.held.take_if(is_over).map(|held| held.answer);
            let answer = answer
                .filter(|_| replies.explanation.is_none())
                .or(released);
            if let Some(answer) = answer
                && let Some(sender) = sender.take()
            {
                let waited = replies.started.elapsed();
                let explanation = replies.explanation.take();
                // A caller that has gone away needs no answer.
                let _ = sender.send(outcome(answer, get.merged(), explanation, waited));
            }
            if get.is_finished() {
                self.mend_damaged(&place, get.merged(), &replies);
                return;
            }
            let held_until = replies.held.as_ref().map(|held| held.until);
            pending = tokio::select! {
                biased;
                Some((node, is_fallback, reply)) = replies.asked.next() => {
                    replies.note(node, is_fallback, &reply);
                    match reply {
                        Ok(record) => get.on_reply(node, Some(record)),
                        Err(_) => get.on_failed(node),
                    }
                }
                () = sleep_until(hedge_at), if sender.is_some() && hedge_at < deadline => {
                    hedge_at = deadline;
                    if get.may_hedge() && self.hedging.spend() {
                        if let Some(explanation) = &mut replies.explanation {
                            explanation.hedges();
                        }
                        get.hedge()
                    } else {
                        GetActions::new()
                    }
                }
                () = sleep_until(held_until.unwrap_or(deadline)), if held_until.is_some() => {
                    GetActions::new()
                }
                () = sleep_until(deadline) => get.on_deadline(),
            };
        }
    }

    fn ask(
        &self,
        place: &RecordPlace,
        node: NodeId,
        with_hints: bool,
        deadline: Instant,
    ) -> BoxFuture<'static, (NodeId, bool, Reply)> {
        if self.cluster.is_learner(node) {
            // What it has not been taught yet would count as "there is none".
            return Box::pin(std::future::ready((node, with_hints, Err(NoReply::Failed))));
        }
        if node == self.cluster.node {
            let reply = self.read_here(&place.store_key, with_hints);
            return Box::pin(std::future::ready((node, with_hints, reply)));
        }
        let request = ReadRecord {
            store_key: place.store_key.clone(),
            with_hints,
        };
        let coordinator = self.clone();
        let asked = Instant::now();
        let deadline = deadline.min(asked + REPLICA_TIMEOUT);
        Box::pin(async move {
            let reply = match coordinator
                .cluster
                .call(node, Body::ReadRecord(request), deadline)
                .await
            {
                Ok(Body::RecordReply(reply)) => {
                    coordinator.hedging.answered(asked.elapsed());
                    decode(reply.record)
                }
                Ok(_) => Err(NoReply::Failed),
                Err(PeerError::Remote(error)) if error.code() == ErrorCode::Corrupt => {
                    warn!(
                        node = node.0,
                        cause = error.message,
                        "a replica's record is damaged"
                    );
                    Err(NoReply::Damaged)
                }
                Err(cause) => {
                    debug!(node = node.0, %cause, "a replica gave no answer to a read");
                    Err(NoReply::Failed)
                }
            };
            (node, with_hints, reply)
        })
    }

    fn read_here(&self, store_key: &[u8], with_hints: bool) -> Reply {
        let read = if with_hints {
            self.hints.read_any(store_key)
        } else {
            self.records.read(store_key)
        };
        match read {
            Ok(bytes) => decode(bytes),
            Err(cause) => {
                warn!(%cause, "a local record cannot be read; its replicas are asked instead");
                if cause.code() == ErrorCode::Corrupt {
                    Err(NoReply::Damaged)
                } else {
                    Err(NoReply::Failed)
                }
            }
        }
    }

    /// Replaces damaged copies by what the others hold, if as many answered as see every acknowledged
    /// write. With fewer the damage stays: a replica that fails to answer is better than one that has
    /// forgotten a write and counts.
    fn mend_damaged(&self, place: &RecordPlace, merged: &Record, replies: &Replies) {
        let enough = usize::from(place.bucket.quorums.read_quorum());
        if !replies.damaged.is_empty() && replies.whole >= enough && !merged.is_empty() {
            self.repair(place, merged, &replies.damaged, &replies.work);
        }
    }

    /// Sends what was merged to replicas that lacked some of it.
    fn repair(&self, place: &RecordPlace, merged: &Record, nodes: &[NodeId], work: &Work) {
        let store_key = &place.store_key;
        let record = encode_record(merged, place.bucket.merge_mode());
        for &node in nodes {
            let Ok(permit) = Arc::clone(&self.repairs).try_acquire_owned() else {
                counter!("souk_read_repairs_skipped_total").increment(1);
                return;
            };
            counter!("souk_read_repairs_total").increment(1);
            let coordinator = self.clone();
            let write = WriteRecord {
                store_key: store_key.clone(),
                record: record.clone(),
                generation: work.generation(),
                origin: None,
                layout_epoch: 0,
            };
            let work = work.clone();
            self.tasks.spawn(async move {
                coordinator.governor.pace(Job::ReadRepair, 1).await;
                let result = if node == coordinator.cluster.node {
                    coordinator
                        .records
                        .merge(write.store_key, write.record)
                        .await
                        .map_err(|cause| cause.to_string())
                } else {
                    let deadline = Instant::now() + REPLICA_TIMEOUT;
                    coordinator
                        .cluster
                        .call_in_bulk(node, Body::WriteRecord(write), deadline)
                        .await
                        .map(|_| ())
                        .map_err(|cause| cause.to_string())
                };
                if let Err(cause) = result {
                    debug!(node = node.0, cause, "a read repair did not arrive");
                }
                drop((permit, work));
            });
        }
    }
}

impl Replies {
    fn note(&mut self, node: NodeId, fallback: bool, reply: &Reply) {
        let told = match reply {
            Ok(_) => Told::Answered,
            Err(NoReply::Damaged) => Told::Damaged,
            Err(NoReply::Failed) => Told::Failed,
        };
        self.whole += usize::from(reply.is_ok());
        // What a stand-in holds is a hint, which is mended by being kept anew.
        if *reply == Err(NoReply::Damaged) && !fallback {
            self.damaged.push(node);
        }
        if let Some(explanation) = &mut self.explanation {
            explanation.hears(node, told);
        }
    }
}

fn decode(record: Bytes) -> Reply {
    if record.is_empty() {
        return Ok(Record::default());
    }
    match decode_record(record) {
        Ok((record, _)) if mutant!("get-forgets-deletes") && record.siblings().is_empty() => {
            Ok(Record::default())
        }
        Ok((record, _)) => Ok(record),
        Err(cause) => {
            warn!(%cause, "a replica's record cannot be decoded");
            Err(NoReply::Damaged)
        }
    }
}

fn outcome(
    answer: GetAnswer,
    merged: &Record,
    explanation: Option<Explanation>,
    waited: Duration,
) -> Result<GetOutcome, RequestError> {
    match answer {
        GetAnswer::Enough { .. } => Ok(GetOutcome {
            record: merged.clone(),
            explanation,
        }),
        GetAnswer::TooFew {
            replies, needed, ..
        } => Err(RequestError::Timeout {
            answered: replies.into(),
            needed: needed.into(),
            waited_ms: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
            mend: "try again, or read with consistency `one` if a possibly old answer will do",
            outcome: Outcome::NotApplied,
        }),
    }
}
