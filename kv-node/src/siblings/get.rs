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
    kv::{ErrorCode, ExplainReplica, RequestOptions},
    peer::{ReadRecord, WriteRecord, peer_message::Body},
};
use souk_ring::NodeId;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};
use tracing::{debug, warn};

use super::request::{Coordinator, REPLICA_TIMEOUT, RecordPlace, read_quorum};
use crate::{cluster::Cluster, error::RequestError, governor::Job, peer::PeerError};

/// What a get found.
#[derive(Debug)]
pub(crate) struct GetOutcome {
    /// Everything R replicas knew, merged.
    pub(crate) record: Record,
    /// Who was asked and what came of it, until the answer.
    pub(crate) replicas: Vec<ExplainReplica>,
    pub(crate) repairs_started: u32,
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
    explain: Option<Vec<ExplainReplica>>,
    started: Instant,
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
        let request = GetRequest {
            primaries: place.primaries(),
            fallbacks: place.fallbacks(),
            local: self.cluster.node,
            read_quorum: read_quorum(place, options)?,
            ask_all: false,
            strict: options.strict,
            mode: place.bucket.merge_mode(),
        };
        let (get, actions) = GetCoordinator::start(request, |node| self.cluster.health_of(node));
        let replies = Replies {
            asked: FuturesUnordered::new(),
            whole: 0,
            damaged: Vec::new(),
            explain: options.explain.then(Vec::new),
            started,
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
            let mut repairs = 0;
            for action in pending.drain(..) {
                match action {
                    GetAction::Ask { node, with_hints } => {
                        replies
                            .asked
                            .push(self.ask(&place, node, with_hints, deadline));
                    }
                    GetAction::Answer(given) => answer = Some(given),
                    GetAction::RepairStale { nodes } => {
                        repairs = nodes.len();
                        self.repair(&place, get.merged(), &nodes);
                    }
                }
            }
            if let Some(answer) = answer
                && let Some(sender) = sender.take()
            {
                let waited = replies.started.elapsed();
                let explain = replies.explain.take().unwrap_or_default();
                // A caller that has gone away needs no answer.
                let _ = sender.send(outcome(answer, get.merged(), explain, repairs, waited));
            }
            if get.is_finished() {
                self.mend_damaged(&place, get.merged(), &replies);
                return;
            }
            pending = tokio::select! {
                biased;
                Some((node, is_fallback, reply)) = replies.asked.next() => {
                    replies.note(&self.cluster, node, is_fallback, &reply);
                    match reply {
                        Ok(record) => get.on_reply(node, Some(record)),
                        Err(_) => get.on_failed(node),
                    }
                }
                () = sleep_until(hedge_at), if sender.is_some() && hedge_at < deadline => {
                    hedge_at = deadline;
                    if get.may_hedge() && self.hedging.spend() {
                        get.hedge()
                    } else {
                        GetActions::new()
                    }
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
            self.repair(place, merged, &replies.damaged);
        }
    }

    /// Sends what was merged to replicas that lacked some of it.
    fn repair(&self, place: &RecordPlace, merged: &Record, nodes: &[NodeId]) {
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
            };
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
                drop(permit);
            });
        }
    }
}

impl Replies {
    fn note(&mut self, cluster: &Cluster, node: NodeId, fallback: bool, reply: &Reply) {
        let state = match reply {
            Ok(_) => "answered",
            Err(NoReply::Damaged) => "damaged",
            Err(NoReply::Failed) => "failed",
        };
        self.whole += usize::from(reply.is_ok());
        // What a stand-in holds is a hint, which is mended by being kept anew.
        if *reply == Err(NoReply::Damaged) && !fallback {
            self.damaged.push(node);
        }
        let after = self.started.elapsed();
        if let Some(explain) = &mut self.explain {
            explain.push(ExplainReplica {
                node: name_of(cluster, node),
                state: state.to_owned(),
                fallback,
                after_us: u64::try_from(after.as_micros()).unwrap_or(u64::MAX),
            });
        }
    }
}

fn name_of(cluster: &Cluster, node: NodeId) -> String {
    cluster
        .layout()
        .member(node)
        .map_or_else(|| node.0.to_string(), |member| member.name.to_string())
}

fn decode(record: Bytes) -> Reply {
    if record.is_empty() {
        return Ok(Record::default());
    }
    match decode_record(record) {
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
    replicas: Vec<ExplainReplica>,
    repairs: usize,
    waited: Duration,
) -> Result<GetOutcome, RequestError> {
    match answer {
        GetAnswer::Enough { .. } => Ok(GetOutcome {
            record: merged.clone(),
            replicas,
            repairs_started: u32::try_from(repairs).unwrap_or(u32::MAX),
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
