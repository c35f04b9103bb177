//! One put or delete: mints the dot, sends the whole record, answers at W, finishes in the background.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use metrics::counter;
use souk_kv_core::{
    causality::{
        CausalContext, Dot, MergeMode, Mint as MintKind, NewWrite, PutEffect, PutError, Record,
        RequestId, Stamp, Value,
    },
    outcome::Outcome,
    quorum::{PutAction, PutActions, PutAnswer, PutCoordinator, PutRequest},
};
use souk_kv_proto::{
    convert::causality::encode_record,
    kv::RequestOptions,
    peer::{StoreHint, WriteRecord, peer_message::Body},
};
use souk_ring::NodeId;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};
use tracing::{debug, warn};

use super::{
    records::Local,
    request::{Coordinator, REPLICA_TIMEOUT, RecordPlace, write_quorum},
};
use crate::{cluster::Mode, error::RequestError, guard::KeyGuard, peer::PeerError};

/// A record of siblings larger than this takes no further write that does not replace some of them.
const RECORD_BYTES_MAX: usize = 32 * 1024 * 1024;

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

/// The record to send, and what holds its key until it is on the local disk.
struct Prepared {
    context: CausalContext,
    encoded: Bytes,
    /// `None` when this node only stands in: it has no copy of its own to write.
    guard: Option<KeyGuard>,
    /// Nothing changed here: the request had been run before.
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
        let prepared = self.prepare(place, write).await?;
        let context = prepared.context.clone();
        let (sender, receiver) = oneshot::channel();
        // A task of its own: the write goes on when its caller has gone away.
        let run = self
            .clone()
            .run_put(put, actions, place.clone(), prepared, deadline, sender);
        self.tasks.spawn(run);
        let started = Instant::now();
        let answer = receiver
            .await
            .map_err(|_| RequestError::Internal("a put ended without an answer".to_owned()))?;
        outcome(answer, context, started.elapsed())
    }

    /// Names the write and builds the record that holds it.
    async fn prepare(
        &self,
        place: &RecordPlace,
        write: WriteRequest,
    ) -> Result<Prepared, RequestError> {
        let now_ms = self.cluster.environment.unix_ms();
        if !place.primaries().contains(&self.cluster.node) {
            let dot = self.mint.visitor_dot(&self.store).await?;
            let local = Local {
                record: Record::default(),
                is_whole: false,
            };
            return self.write_into(place, local, write, dot, MintKind::Loose, now_ms, None);
        }
        let guard = self.records.lock(&place.store_key).await;
        let local = self.records.read_for_change(&place.store_key)?;
        let (dot, kind) = self.name(place, &local, &write.observed).await?;
        self.write_into(place, local, write, dot, kind, now_ms, Some(guard))
    }

    /// A fresh dot, and whether the local record justifies a vector entry for it.
    async fn name(
        &self,
        place: &RecordPlace,
        local: &Local,
        observed: &CausalContext,
    ) -> Result<(Dot, MintKind), RequestError> {
        let partition = place.group.partition;
        let Some(actor) = self.mint.actor(partition) else {
            return Ok((self.mint.visitor_dot(&self.store).await?, MintKind::Loose));
        };
        let own = |context: &CausalContext| {
            context
                .vector()
                .find(|(other, _)| *other == actor)
                .map_or(0, |(_, counter)| counter)
        };
        let seen = own(observed);
        let lost_some = seen > own(local.record.context())
            || observed
                .loose()
                .iter()
                .any(|dot| dot.actor == actor && !local.record.context().contains(*dot));
        if lost_some {
            // Somebody has seen a write of this actor that is not here: what else is missing cannot be known.
            warn!(
                partition = partition.0,
                rolled_back = !self.mint.was_issued(seen),
                "a client has seen writes of this node that it no longer holds"
            );
            self.mint
                .replace_actor(&self.store, partition, &self.cluster.environment)
                .await?;
            return Ok((self.mint.visitor_dot(&self.store).await?, MintKind::Loose));
        }
        let kind = if local.is_whole {
            MintKind::Vector
        } else {
            MintKind::Loose
        };
        Ok((self.mint.dot(&self.store, actor).await?, kind))
    }

    #[allow(clippy::too_many_arguments)]
    fn write_into(
        &self,
        place: &RecordPlace,
        local: Local,
        write: WriteRequest,
        dot: Dot,
        kind: MintKind,
        now_ms: u64,
        guard: Option<KeyGuard>,
    ) -> Result<Prepared, RequestError> {
        let mode = place.bucket.merge_mode();
        let mut record = local.record;
        let memory_ms = u64::try_from(self.limits.request_memory.as_millis()).unwrap_or(u64::MAX);
        record.forget_requests_before(now_ms.saturating_sub(memory_ms));
        let stamp = self.stamp(&record, &write.observed, now_ms)?;
        let new = NewWrite {
            request: write.request,
            stamp,
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
        Ok(Prepared {
            context: record.answer_context(&write.observed, dot),
            encoded: encode_record(&record, mode),
            guard,
            is_replay,
        })
    }

    fn stamp(
        &self,
        record: &Record,
        observed: &CausalContext,
        now_ms: u64,
    ) -> Result<Stamp, RequestError> {
        let stamp = Stamp::next(now_ms, record.stamp_floor(observed));
        stamp.check_skew(now_ms, self.limits.clock_skew_max).map_err(|ahead| {
            RequestError::Invalid(format!(
                "the context comes from a clock {} ms ahead of this node's, {} are allowed: set the clocks right, or read again",
                ahead.ahead_ms, ahead.allowed_ms
            ))
        })
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
        let guard = prepared.guard.take();
        if let Some(target) = hinted_for {
            let hints = Arc::clone(&self.hints);
            return Box::pin(async move {
                let kept = hints.keep(target, store_key, record).await;
                (node, stored_here(kept))
            });
        }
        if prepared.is_replay {
            drop(guard);
            return Box::pin(std::future::ready((node, Stored::Yes)));
        }
        // Submitted at once, so that the local sync runs beside the sending.
        let commit = self.records.write(store_key, record);
        let coordinator = self.clone();
        let partition = place.group.partition;
        Box::pin(async move {
            let result = commit.await;
            if let Err(cause) = &result {
                // The dot is out, and not here: this actor may never speak for its past again.
                warn!(%cause, "a write was sent to its replicas but not stored here");
                coordinator.mint.retire(partition);
            }
            drop(guard);
            (node, stored_here(result.map_err(RequestError::from)))
        })
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
    if record.siblings().len() > 1 && record.size_bytes() > RECORD_BYTES_MAX {
        return Err(RequestError::SiblingsFull {
            siblings: siblings - 1,
            bucket: bucket.name.clone(),
            siblings_max: bucket.siblings_max,
        });
    }
    debug_assert!(bucket.merge_mode() == MergeMode::Siblings || siblings == 1);
    Ok(())
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
            waited_ms: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
            mend: "the write may still land; read the key, or repeat it under the same request id",
            outcome: Outcome::Unknown,
        }),
    }
}
