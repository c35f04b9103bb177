//! Puts and deletes: sends whole records, answers at W, finishes in the background.
//!
//! Shape: a *lot* is one write, or several of a batch that have the same replicas. It is named, stored, sent and
//! answered as one; each write in it has an outcome of its own only where preparing refuses it alone.

use std::{sync::Arc, time::Duration};

use futures::{
    StreamExt,
    future::{BoxFuture, join_all},
    stream::FuturesUnordered,
};
use metrics::counter;
use smallvec::{SmallVec, smallvec};
use souk_kv_core::{
    causality::{ActorId, Observed},
    outcome::Outcome,
    quorum::{PutAction, PutActions, PutAnswer, PutCoordinator, PutRequest},
};
use souk_kv_proto::{
    kv::{Explain, RequestOptions},
    mutant,
    peer::{StoreHint, WriteRecord, WriteRecords, peer_message::Body},
};
use souk_kv_storage::StorageError;
use souk_ring::{LayoutEpoch, NodeId};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until, timeout_at},
};
use tracing::{debug, warn};

use super::{
    explain::{Explanation, Told},
    prepare::{NamedRecord, OwnCopies, PlacedWrite, millis},
    request::{Coordinator, DiskRefusal, REPLICA_TIMEOUT, write_quorum},
};
use crate::{cluster::Cluster, error::RequestError, peer::PeerError, tombstone::Work};

/// After its disk refused a write that was sent already, a node coordinates no more of them for this
/// long: each such refusal costs its vnode an actor, and an actor costs every record an entry.
const DISK_REST: Duration = Duration::from_secs(1);

/// A message to a replica takes no further record once it holds this many bytes.
const MESSAGE_RECORD_BYTES: usize = 4 * 1024 * 1024;

/// What became of a write.
#[derive(Debug)]
pub(crate) struct PutOutcome {
    /// Covers this write and what it had seen.
    pub(crate) context: Observed,
    pub(crate) copies: u8,
    pub(crate) degraded: bool,
    /// Set when the request asked for it; of the whole lot.
    pub(crate) explain: Option<Explain>,
}

/// What a target said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stored {
    Yes,
    /// It did not and will not.
    Refused,
    /// It may have.
    Silent,
}

impl Stored {
    const fn told(self) -> Told {
        match self {
            Self::Yes => Told::Stored,
            Self::Refused => Told::Refused,
            Self::Silent => Told::Silent,
        }
    }
}

type Records = SmallVec<[NamedRecord; 1]>;
type Sent = BoxFuture<'static, (NodeId, Stored)>;

/// What a lot in progress sends.
struct Load {
    records: Records,
    work: Work,
    /// Under which the receivers were chosen.
    epoch: LayoutEpoch,
    /// Taken by the send to this node itself.
    own: Option<OwnCopies>,
    explanation: Option<Explanation>,
}

impl Coordinator {
    /// Writes a key to W replicas.
    pub(crate) async fn put(
        &self,
        write: PlacedWrite,
        options: &RequestOptions,
        deadline: Instant,
    ) -> Result<PutOutcome, RequestError> {
        let mut outcomes = self.put_lot(smallvec![write], options, deadline).await?;
        outcomes
            .pop()
            .unwrap_or_else(|| Err(RequestError::Internal("a put without outcome".to_owned())))
    }

    /// Writes keys that have the same bucket and replicas, and of which none is there twice. One outcome for each.
    pub(crate) async fn put_all(
        &self,
        writes: SmallVec<[PlacedWrite; 1]>,
        options: &RequestOptions,
        deadline: Instant,
    ) -> Vec<Result<PutOutcome, RequestError>> {
        let count = writes.len();
        match self.put_lot(writes, options, deadline).await {
            Ok(outcomes) => outcomes.into_vec(),
            Err(error) => (0..count).map(|_| Err(error.clone())).collect(),
        }
    }

    async fn put_lot(
        &self,
        writes: SmallVec<[PlacedWrite; 1]>,
        options: &RequestOptions,
        deadline: Instant,
    ) -> Result<SmallVec<[Result<PutOutcome, RequestError>; 1]>, RequestError> {
        let Some(first) = writes.first() else {
            return Ok(smallvec![]);
        };
        let place = &first.place;
        let request = PutRequest {
            primaries: place.receivers(),
            fallbacks: place.standins(),
            departing: place.departing(),
            local: self.cluster.node,
            write_quorum: match write_quorum(place, options)? {
                needed if mutant!("put-one-short") => needed.saturating_sub(1).max(1),
                needed => needed,
            },
            write_floor: place.bucket.quorums.write_floor(),
            strict: options.strict && !mutant!("strict-counts-stand-ins"),
        };
        let (put, actions) = PutCoordinator::start(request, |node| self.cluster.is_up(node));
        if let Some(PutAnswer::NotApplied { reachable, needed }) = put.answer_given() {
            return Err(RequestError::Unavailable {
                reachable: reachable.into(),
                needed: needed.into(),
            });
        }
        let epoch = place.epoch();
        let needed = request.write_quorum.into();
        let started = Instant::now();
        let explained = options.explain.then(|| place.clone());
        let work = self.cluster.in_flight.enter();
        let prepared = timeout_at(deadline, self.prepare(writes))
            .await
            .unwrap_or_else(|_| {
                Err(RequestError::Timeout {
                    answered: 0,
                    needed,
                    waited_ms: millis(started.elapsed()),
                    mend: "nothing was written: the disk of the node is slow or the key is busy, try again",
                    outcome: Outcome::NotApplied,
                })
            })?;
        let contexts = prepared.contexts;
        if prepared.records.is_empty() {
            let refused = contexts.into_iter().filter_map(Result::err);
            return Ok(refused.map(Err).collect());
        }
        let explanation = explained.is_some().then(|| {
            let mut explanation = Explanation::new(started);
            explanation.prepared();
            explanation
        });
        let load = Load {
            records: prepared.records,
            work,
            epoch,
            own: prepared.own,
            explanation,
        };
        let (sender, receiver) = oneshot::channel();
        // A task of its own: the writes go on when their caller has gone away.
        let run = self.clone().run_put(put, actions, load, deadline, sender);
        self.tasks.spawn(run);
        let (answer, explanation) = receiver
            .await
            .map_err(|_| RequestError::Internal("a put ended without an answer".to_owned()))?;
        let waited = started.elapsed();
        let explain = explanation
            .zip(explained)
            .map(|(explanation, place)| explanation.to_wire(&self.cluster, &place));
        let outcomes = contexts.into_iter().map(|context| {
            let explain = explain.clone();
            context.and_then(|context| outcome(answer, context, explain, waited))
        });
        Ok(outcomes.collect())
    }

    async fn run_put(
        self,
        mut put: PutCoordinator,
        actions: PutActions,
        mut load: Load,
        deadline: Instant,
        sender: oneshot::Sender<(PutAnswer, Option<Explanation>)>,
    ) {
        let mut sender = Some(sender);
        let mut sent: FuturesUnordered<Sent> = FuturesUnordered::new();
        let mut pending = actions;
        let mut past_deadline = false;
        loop {
            for action in pending.drain(..) {
                match action {
                    PutAction::SendTo { node, hinted_for } => {
                        if let Some(explanation) = &mut load.explanation {
                            explanation.asks(node, hinted_for.is_some(), hinted_for);
                        }
                        sent.push(self.send(&mut load, node, hinted_for));
                    }
                    PutAction::HintLocally { absent } => self.hint_later(absent, &load),
                    PutAction::Answer(answer) => {
                        if let Some(sender) = sender.take() {
                            let mut explanation = load.explanation.take();
                            if let Some(explanation) = &mut explanation {
                                explanation.answers();
                            }
                            // A caller that has gone away needs no answer.
                            let _ = sender.send((answer, explanation));
                        }
                    }
                }
            }
            if put.is_finished() && sent.is_empty() {
                return;
            }
            pending = tokio::select! {
                biased;
                Some((node, stored)) = sent.next() => {
                    if let Some(explanation) = &mut load.explanation {
                        explanation.hears(node, stored.told());
                    }
                    match stored {
                        Stored::Yes => put.on_stored(node),
                        Stored::Refused => put.on_refused(node),
                        Stored::Silent => put.on_silent(node),
                    }
                }
                () = sleep_until(deadline), if !past_deadline => {
                    past_deadline = true;
                    put.on_deadline()
                }
                else => return,
            };
        }
    }

    fn send(&self, load: &mut Load, node: NodeId, hinted_for: Option<NodeId>) -> Sent {
        if node != self.cluster.node {
            let bodies = match hinted_for {
                None => as_writes(&load.records, &load.work, load.epoch),
                Some(target) => as_hints(&load.records, &load.work, target),
            };
            return send_away(Arc::clone(&self.cluster), node, bodies);
        }
        if let Some(target) = hinted_for {
            let hints = Arc::clone(&self.hints);
            let records = load.records.clone();
            return Box::pin(async move {
                let kept = records
                    .into_iter()
                    .map(|named| hints.keep(target, named.store_key, named.record));
                let kept = join_all(kept).await;
                (node, together(kept.into_iter().map(stored_here)))
            });
        }
        let Some(own) = load.own.take() else {
            return Box::pin(std::future::ready((node, Stored::Refused)));
        };
        let coordinator = self.clone();
        Box::pin(async move {
            let result = match own.commit {
                Some(_) if mutant!("put-before-sync") => Ok(()),
                Some(commit) => commit.await,
                None => Ok(()),
            };
            if let Err(cause) = &result {
                coordinator.note_late_refusal(&own.actors, cause);
            }
            drop(own.guards);
            (node, stored_here(result.map_err(RequestError::from)))
        })
    }

    /// The dots are out, and not here: these actors may never speak for their past again.
    fn note_late_refusal(&self, actors: &[ActorId], cause: &StorageError) {
        warn!(%cause, "a write was sent to its replicas but not stored here");
        for actor in actors {
            self.mint.retire(*actor);
        }
        if let StorageError::NotWritten(why) = cause {
            *self.refusal.lock() = Some(DiskRefusal {
                why: why.clone(),
                until: Instant::now() + DISK_REST,
            });
        }
    }

    /// Keeps hints here for a primary that nobody stands in for. The records are safe on other nodes already.
    fn hint_later(&self, absent: NodeId, load: &Load) {
        for named in &load.records {
            let hints = Arc::clone(&self.hints);
            let work = load.work.clone();
            let NamedRecord { store_key, record } = named.clone();
            self.tasks.spawn(async move {
                if let Err(cause) = hints.keep(absent, store_key, record).await {
                    counter!("souk_hints_refused_total").increment(1);
                    debug!(%cause, "a hint could not be kept; anti-entropy has to mend its target");
                }
                drop(work);
            });
        }
    }
}

fn as_hints(records: &Records, work: &Work, target: NodeId) -> SmallVec<[Body; 1]> {
    let hints = records.iter().cloned().map(|named| {
        Body::StoreHint(StoreHint {
            target: target.0,
            store_key: named.store_key,
            record: named.record,
            generation: work.generation(),
        })
    });
    hints.collect()
}

/// As few messages as their size allows.
fn as_writes(records: &Records, work: &Work, epoch: LayoutEpoch) -> SmallVec<[Body; 1]> {
    let write = |named: &NamedRecord| WriteRecord {
        store_key: named.store_key.clone(),
        record: named.record.clone(),
        generation: work.generation(),
        origin: None,
        layout_epoch: epoch.0,
    };
    if let [only] = records.as_slice() {
        return smallvec![Body::WriteRecord(write(only))];
    }
    let mut bodies = smallvec![];
    let mut left = records.as_slice();
    while !left.is_empty() {
        let mut bytes = 0;
        let fit = left.iter().take_while(|named| {
            let is_first = bytes == 0;
            bytes += named.store_key.len() + named.record.len();
            is_first || bytes <= MESSAGE_RECORD_BYTES
        });
        let (now, later) = left.split_at(fit.count());
        bodies.push(Body::WriteRecords(WriteRecords {
            records: now.iter().map(write).collect(),
        }));
        left = later;
    }
    bodies
}

fn send_away(cluster: Arc<Cluster>, node: NodeId, mut bodies: SmallVec<[Body; 1]>) -> Sent {
    if bodies.len() > 1 {
        return Box::pin(async move {
            let calls = bodies
                .into_iter()
                .map(|body| send_one(&cluster, node, body));
            (node, together(join_all(calls).await))
        });
    }
    Box::pin(async move {
        let stored = match bodies.pop() {
            Some(body) => send_one(&cluster, node, body).await,
            None => Stored::Refused,
        };
        (node, stored)
    })
}

async fn send_one(cluster: &Cluster, node: NodeId, body: Body) -> Stored {
    let deadline = Instant::now() + REPLICA_TIMEOUT;
    match cluster.call(node, body, deadline).await {
        Ok(Body::Done(_)) => Stored::Yes,
        Ok(_) => Stored::Silent,
        Err(cause) => {
            debug!(node = node.0, %cause, "a replica did not confirm a write");
            refused_or_silent(&cause)
        }
    }
}

/// What a target says of a lot by what it says of its parts.
fn together(parts: impl IntoIterator<Item = Stored>) -> Stored {
    let mut parts = parts.into_iter();
    let first = parts.next().unwrap_or(Stored::Refused);
    parts.fold(
        first,
        |all, part| {
            if all == part { all } else { Stored::Silent }
        },
    )
}

fn refused_or_silent(cause: &PeerError) -> Stored {
    if cause.certainly_not_done() {
        Stored::Refused
    } else {
        Stored::Silent
    }
}

fn stored_here(result: Result<(), RequestError>) -> Stored {
    match result {
        Ok(()) => Stored::Yes,
        Err(cause) if cause.outcome() == Outcome::NotApplied => Stored::Refused,
        Err(_) => Stored::Silent,
    }
}

fn outcome(
    answer: PutAnswer,
    context: Observed,
    explain: Option<Explain>,
    waited: Duration,
) -> Result<PutOutcome, RequestError> {
    match answer {
        PutAnswer::Applied {
            copies, degraded, ..
        } => {
            if degraded {
                counter!("souk_degraded_writes_total").increment(1);
            }
            Ok(PutOutcome {
                context,
                copies,
                degraded,
                explain,
            })
        }
        PutAnswer::NotApplied { reachable, needed } => Err(RequestError::Unavailable {
            reachable: reachable.into(),
            needed: needed.into(),
        }),
        PutAnswer::Unknown { copies, needed } => Err(RequestError::Timeout {
            answered: copies.into(),
            needed: needed.into(),
            waited_ms: millis(waited),
            mend: "the write may still land; read the key, or repeat it under the same request id",
            outcome: if mutant!("timeout-is-no") {
                Outcome::NotApplied
            } else {
                Outcome::Unknown
            },
        }),
    }
}

#[cfg(test)]
#[path = "put_test.rs"]
mod tests;
