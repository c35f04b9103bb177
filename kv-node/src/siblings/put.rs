//! One put or delete: mints the dot, sends the whole record, answers at W, finishes in the background.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use metrics::counter;
use souk_kv_core::{
    causality::{
        ActorId, CausalContext, Dot, MergeMode, Mint as MintKind, NewWrite, PutEffect, PutError,
        Record, RequestId, Stamp, Value,
    },
    outcome::Outcome,
    quorum::{PutAction, PutActions, PutAnswer, PutCoordinator, PutRequest},
};
use souk_kv_proto::{
    convert::causality::encode_record,
    kv::RequestOptions,
    peer::{StoreHint, WriteRecord, peer_message::Body},
};
use souk_kv_storage::{Commit, StorageError};
use souk_ring::NodeId;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until, timeout_at},
};
use tracing::{debug, warn};

use super::{
    records::{Local, OVER_DAMAGE, Space},
    request::{Coordinator, DiskRefusal, REPLICA_TIMEOUT, RecordPlace, write_quorum},
};
use crate::{cluster::Mode, error::RequestError, guard::KeyGuard, peer::PeerError};

/// No write makes a record larger than this, its context included; merging may.
const RECORD_BYTES_MAX: usize = 32 * 1024 * 1024;

/// After its disk refused a write that was sent already, a node coordinates no more of them for this
/// long: each such refusal costs its vnode an actor, and an actor costs every record an entry.
const DISK_REST: Duration = Duration::from_secs(1);

/// A write as a client wants it.
#[derive(Debug)]
pub(crate) struct WriteRequest {
    pub(crate) observed: CausalContext,
    pub(crate) request: RequestId,
    /// Absolute deadline of the value, in Unix milliseconds.
    pub(crate) expires_unix_ms: Option<u64>,
    /// `None` deletes.
    pub(crate) value: Option<Value>,
}

/// What became of a write.
#[derive(Debug)]
pub(crate) struct PutOutcome {
    /// Covers this write and what it had seen.
    pub(crate) context: CausalContext,
    pub(crate) copies: u8,
    pub(crate) degraded: bool,
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

/// The record to send.
struct Prepared {
    context: CausalContext,
    encoded: Bytes,
    /// `None` when this node only stands in: it has no copy of its own to write.
    own: Option<OwnCopy>,
}

/// This node's own copy, on its way to the disk.
struct OwnCopy {
    /// Holds the key until the disk has it.
    guard: KeyGuard,
    actor: ActorId,
    /// `None` when nothing changed here: the request had been run before.
    commit: Option<Commit>,
}

/// A record with the write in it.
struct Written {
    record: Record,
    /// Covers the write and what it had seen.
    context: CausalContext,
    is_replay: bool,
}

impl Coordinator {
    /// Writes a key to W replicas.
    pub(crate) async fn put(
        &self,
        place: &RecordPlace,
        write: WriteRequest,
        options: &RequestOptions,
        deadline: Instant,
    ) -> Result<PutOutcome, RequestError> {
        let request = PutRequest {
            primaries: place.primaries(),
            fallbacks: place.fallbacks(),
            local: self.cluster.node,
            write_quorum: write_quorum(place, options)?,
            write_floor: place.bucket.quorums.write_floor(),
            strict: options.strict,
        };
        let (put, actions) = PutCoordinator::start(request, |node| self.cluster.is_up(node));
        if let Some(PutAnswer::NotApplied { reachable, needed }) = put.answer_given() {
            return Err(RequestError::Unavailable {
                reachable: reachable.into(),
                needed: needed.into(),
            });
        }
        let started = Instant::now();
        let prepared = timeout_at(deadline, self.prepare(place, write))
            .await
            .unwrap_or_else(|_| {
                Err(RequestError::Timeout {
                    answered: 0,
                    needed: request.write_quorum.into(),
                    waited_ms: millis(started.elapsed()),
                    mend: "nothing was written: the disk of the node is slow or the key is busy, try again",
                    outcome: Outcome::NotApplied,
                })
            })?;
        let context = prepared.context.clone();
        let (sender, receiver) = oneshot::channel();
        // A task of its own: the write goes on when its caller has gone away.
        let run = self
            .clone()
            .run_put(put, actions, place.clone(), prepared, deadline, sender);
        self.tasks.spawn(run);
        let answer = receiver
            .await
            .map_err(|_| RequestError::Internal("a put ended without an answer".to_owned()))?;
        outcome(answer, context, started.elapsed())
    }

    /// Names the write, builds the record that holds it, and hands that to the own disk. When this fails,
    /// nothing has been written or sent, and nothing will be.
    async fn prepare(
        &self,
        place: &RecordPlace,
        write: WriteRequest,
    ) -> Result<Prepared, RequestError> {
        let now_ms = self.cluster.environment.unix_ms();
        let mode = place.bucket.merge_mode();
        if !place.primaries().contains(&self.cluster.node) {
            let dot = self.mint.visitor_dot().await?;
            let written = self.write_into(
                place,
                Record::default(),
                write,
                dot,
                MintKind::Loose,
                now_ms,
            )?;
            return Ok(Prepared {
                context: written.context,
                encoded: encode_record(&written.record, mode),
                own: None,
            });
        }
        let space = match write.value {
            Some(_) => Space::Ordinary,
            None => Space::Reserve,
        };
        let guard = self.records.lock(&place.store_key).await;
        let local = self.records.read_for_change(&place.store_key)?;
        let (dot, kind) = self.name(place, &local, &write.observed).await?;
        let written = self.write_into(place, local.record, write, dot, kind, now_ms)?;
        let encoded = encode_record(&written.record, mode);
        let commit = if written.is_replay {
            None
        } else {
            Some(self.submit(place, encoded.clone(), space)?)
        };
        let own = OwnCopy {
            guard,
            actor: dot.actor,
            commit,
        };
        Ok(Prepared {
            context: written.context,
            encoded,
            own: Some(own),
        })
    }

    /// A fresh dot, and what it says about earlier ones.
    async fn name(
        &self,
        place: &RecordPlace,
        local: &Local,
        observed: &CausalContext,
    ) -> Result<(Dot, MintKind), RequestError> {
        let partition = place.group.partition;
        let Some(mut actor) = self.mint.actor(partition).await? else {
            return Ok((self.mint.visitor_dot().await?, MintKind::Loose));
        };
        if let Some(why) = self.distrust(actor, local, observed) {
            let stale = Some(actor);
            actor = self.mint.replace_actor(partition, stale, why).await?;
        }
        // Everything that this actor wrote under this key is here; if it is a new one, that is nothing.
        Ok((self.mint.dot(actor).await?, MintKind::Vector))
    }

    /// Why an actor cannot be said to know its own past under a key.
    fn distrust(
        &self,
        actor: ActorId,
        local: &Local,
        observed: &CausalContext,
    ) -> Option<&'static str> {
        if local.is_damaged {
            return Some(OVER_DAMAGE);
        }
        let own = |context: &CausalContext| {
            context
                .vector()
                .find(|(other, _)| *other == actor)
                .map_or(0, |(_, counter)| counter)
        };
        let known = local.record.context();
        let seen = own(observed);
        let lost_some = seen > own(known)
            || observed
                .loose()
                .iter()
                .any(|dot| dot.actor == actor && !known.contains(*dot));
        // What else is missing cannot be known.
        lost_some.then(|| {
            if self.mint.was_issued(seen) {
                "a client has seen a write of it that is not here"
            } else {
                "a client has seen a write of it that it has not minted: the store was rolled back"
            }
        })
    }

    fn write_into(
        &self,
        place: &RecordPlace,
        mut record: Record,
        write: WriteRequest,
        dot: Dot,
        kind: MintKind,
        now_ms: u64,
    ) -> Result<Written, RequestError> {
        let mode = place.bucket.merge_mode();
        record.forget_requests_before(now_ms.saturating_sub(millis(self.limits.request_memory)));
        let new = NewWrite {
            request: write.request,
            stamp: self.stamp(&record, &write.observed, mode, now_ms)?,
            expires_unix_ms: write.expires_unix_ms,
            value: write.value,
        };
        let effect = record
            .put(mode, &write.observed, dot, kind, new, now_ms)
            .map_err(|cause| match cause {
                PutError::DotSeen { .. } | PutError::StampBehind { .. } => {
                    RequestError::Internal(cause.to_string())
                }
            })?;
        let (dot, is_replay) = match effect {
            PutEffect::Written { .. } => (dot, false),
            PutEffect::Replayed { dot } => (dot, true),
        };
        if !is_replay {
            check_limits(place, &record)?;
        }
        Ok(Written {
            context: record.answer_context(&write.observed, dot),
            record,
            is_replay,
        })
    }

    /// The date of the write. Only where dates decide may a wrong clock keep a write out.
    fn stamp(
        &self,
        record: &Record,
        observed: &CausalContext,
        mode: MergeMode,
        now_ms: u64,
    ) -> Result<Stamp, RequestError> {
        let stamp = Stamp::next(now_ms, record.stamp_floor(observed));
        if mode == MergeMode::Siblings {
            return Ok(stamp);
        }
        stamp.check_skew(now_ms, self.limits.clock_skew_max).map_err(|ahead| {
            RequestError::Invalid(format!(
                "the context comes from a clock {} ms ahead of this node's, {} are allowed: set the clocks right, or read again",
                ahead.ahead_ms, ahead.allowed_ms
            ))
        })
    }

    /// Hands the record to the own disk before anybody else gets it, so that a full queue or a broken disk
    /// refuses the whole put; the sync then runs beside the sending.
    fn submit(
        &self,
        place: &RecordPlace,
        encoded: Bytes,
        space: Space,
    ) -> Result<Commit, RequestError> {
        if space == Space::Ordinary {
            let refusal = self.refusal.lock();
            let fresh = refusal
                .as_ref()
                .filter(|refusal| Instant::now() < refusal.until);
            if let Some(refusal) = fresh {
                return Err(StorageError::NotWritten(refusal.why.clone()).into());
            }
        }
        let commit = self.records.write(place.store_key.clone(), encoded, space);
        match commit.refusal() {
            Some(why) => Err(StorageError::NotWritten(why.clone()).into()),
            None => Ok(commit),
        }
    }

    async fn run_put(
        self,
        mut put: PutCoordinator,
        actions: PutActions,
        place: RecordPlace,
        mut prepared: Prepared,
        deadline: Instant,
        sender: oneshot::Sender<PutAnswer>,
    ) {
        let mut sender = Some(sender);
        let mut sent: FuturesUnordered<BoxFuture<'static, (NodeId, Stored)>> =
            FuturesUnordered::new();
        let mut pending = actions;
        let mut past_deadline = false;
        loop {
            for action in pending.drain(..) {
                match action {
                    PutAction::SendTo { node, hinted_for } => {
                        sent.push(self.send(&place, &mut prepared, node, hinted_for));
                    }
                    PutAction::HintLocally { absent } => {
                        self.hint_later(absent, &place.store_key, &prepared.encoded);
                    }
                    PutAction::Answer(answer) => {
                        if let Some(sender) = sender.take() {
                            // A caller that has gone away needs no answer.
                            let _ = sender.send(answer);
                        }
                    }
                }
            }
            if put.is_finished() && sent.is_empty() {
                return;
            }
            pending = tokio::select! {
                biased;
                Some((node, stored)) = sent.next() => match stored {
                    Stored::Yes => put.on_stored(node),
                    Stored::Refused => put.on_refused(node),
                    Stored::Silent => put.on_silent(node),
                },
                () = sleep_until(deadline), if !past_deadline => {
                    past_deadline = true;
                    put.on_deadline()
                }
                else => return,
            };
        }
    }

    fn send(
        &self,
        place: &RecordPlace,
        prepared: &mut Prepared,
        node: NodeId,
        hinted_for: Option<NodeId>,
    ) -> BoxFuture<'static, (NodeId, Stored)> {
        let store_key = place.store_key.clone();
        let record = prepared.encoded.clone();
        if node != self.cluster.node {
            return self.send_away(node, hinted_for, store_key, record);
        }
        if let Some(target) = hinted_for {
            let hints = Arc::clone(&self.hints);
            return Box::pin(async move {
                let kept = hints.keep(target, store_key, record).await;
                (node, stored_here(kept))
            });
        }
        let Some(own) = prepared.own.take() else {
            return Box::pin(std::future::ready((node, Stored::Refused)));
        };
        let coordinator = self.clone();
        Box::pin(async move {
            let result = match own.commit {
                Some(commit) => commit.await,
                None => Ok(()),
            };
            if let Err(cause) = &result {
                coordinator.note_late_refusal(own.actor, cause);
            }
            drop(own.guard);
            (node, stored_here(result.map_err(RequestError::from)))
        })
    }

    /// The dot is out, and not here: this actor may never speak for its past again.
    fn note_late_refusal(&self, actor: ActorId, cause: &StorageError) {
        warn!(%cause, "a write was sent to its replicas but not stored here");
        self.mint.retire(actor);
        if let StorageError::NotWritten(why) = cause {
            *self.refusal.lock() = Some(DiskRefusal {
                why: why.clone(),
                until: Instant::now() + DISK_REST,
            });
        }
    }

    fn send_away(
        &self,
        node: NodeId,
        hinted_for: Option<NodeId>,
        store_key: Bytes,
        record: Bytes,
    ) -> BoxFuture<'static, (NodeId, Stored)> {
        let cluster = Arc::clone(&self.cluster);
        let body = match hinted_for {
            None => Body::WriteRecord(WriteRecord { store_key, record }),
            Some(target) => Body::StoreHint(StoreHint {
                target: target.0,
                store_key,
                record,
            }),
        };
        Box::pin(async move {
            let deadline = Instant::now() + REPLICA_TIMEOUT;
            let stored = match cluster.call(node, body, deadline).await {
                Ok(Body::Done(_)) => Stored::Yes,
                Ok(_) => Stored::Silent,
                Err(cause) => {
                    debug!(node = node.0, %cause, "a replica did not confirm a write");
                    refused_or_silent(&cause)
                }
            };
            (node, stored)
        })
    }

    /// Keeps a hint here for a primary that nobody stands in for. The record is safe on other nodes already.
    fn hint_later(&self, absent: NodeId, store_key: &Bytes, record: &Bytes) {
        let hints = Arc::clone(&self.hints);
        let (store_key, record) = (store_key.clone(), record.clone());
        self.tasks.spawn(async move {
            if let Err(cause) = hints.keep(absent, store_key, record).await {
                counter!("souk_hints_refused_total").increment(1);
                debug!(%cause, "a hint could not be kept; anti-entropy has to mend its target");
            }
        });
    }
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

/// Limits meet the client's write only; merging and repair are never held up by them.
fn check_limits(place: &RecordPlace, record: &Record) -> Result<(), RequestError> {
    let bucket = &place.bucket;
    let siblings = record.siblings().len();
    if bucket.mode == Mode::Siblings && siblings > bucket.siblings_max as usize {
        return Err(RequestError::SiblingsFull {
            siblings: siblings - 1,
            bucket: bucket.name.clone(),
            siblings_max: bucket.siblings_max,
        });
    }
    let bytes = record.size_bytes();
    if bytes > RECORD_BYTES_MAX {
        return Err(RequestError::Invalid(format!(
            "with its {siblings} concurrent values and its context the record would have {bytes} bytes, at most {RECORD_BYTES_MAX} are allowed: read the key, and write back with exactly the context received"
        )));
    }
    debug_assert!(bucket.merge_mode() == MergeMode::Siblings || siblings == 1);
    Ok(())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn outcome(
    answer: PutAnswer,
    context: CausalContext,
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
            outcome: Outcome::Unknown,
        }),
    }
}

#[cfg(test)]
#[path = "put_test.rs"]
mod tests;
