//! Names writes and builds the records that hold them, and hands those to the own disk.
//!
//! Invariants: 1. when preparing fails, nothing has been written or sent, and nothing will be. 2. a record is
//! read, changed and submitted under its guard, which is kept until the disk has it. 3. a full queue or a broken
//! disk refuses a write before anybody else gets it; the sync then runs beside the sending.

use std::time::Duration;

use bytes::Bytes;
use metrics::counter;
use smallvec::{SmallVec, smallvec};
use souk_kv_core::causality::{
    ActorId, CausalContext, Dot, MergeMode, Mint as MintKind, NewWrite, Observed, PutEffect,
    PutError, Record, RequestId, Stamp, Value,
};
use souk_kv_proto::{convert::causality::encode_record, mutant};
use souk_kv_storage::StorageError;
use souk_ring::PartitionId;
use tokio::time::Instant;
use tracing::warn;

use super::{
    records::{Local, OVER_DAMAGE, RecordChange, Space},
    request::{Coordinator, RecordPlace},
};
use crate::{
    anti_entropy::{Held, RecordCommit},
    cluster::Mode,
    error::RequestError,
    guard::KeyGuard,
};

/// No write makes a record larger than this, its context included; merging may.
pub(super) const RECORD_BYTES_MAX: usize = 32 * 1024 * 1024;

/// A write as a client wants it.
#[derive(Debug)]
pub(crate) struct WriteRequest {
    pub(crate) observed: Observed,
    pub(crate) request: RequestId,
    /// Absolute deadline of the value, in Unix milliseconds.
    pub(crate) expires_unix_ms: Option<u64>,
    /// `None` deletes.
    pub(crate) value: Option<Value>,
}

/// A write, and where its key lives.
#[derive(Debug)]
pub(crate) struct PlacedWrite {
    pub(crate) place: RecordPlace,
    pub(crate) write: WriteRequest,
}

/// Records to send.
pub(super) struct Prepared {
    /// One for each write: the context to answer it with, or why it cannot be taken.
    pub(super) contexts: SmallVec<[Result<Observed, RequestError>; 1]>,
    /// The records of the writes that can be taken.
    pub(super) records: SmallVec<[NamedRecord; 1]>,
    /// `None` when this node only stands in: it has no copies of its own to write.
    pub(super) own: Option<OwnCopies>,
}

/// An encoded record and its store key.
#[derive(Debug, Clone)]
pub(super) struct NamedRecord {
    pub(super) store_key: Bytes,
    pub(super) record: Bytes,
}

/// This node's own copies, on their way to the disk.
pub(super) struct OwnCopies {
    /// Hold the keys until the disk has them.
    pub(super) guards: SmallVec<[KeyGuard; 1]>,
    pub(super) actors: SmallVec<[ActorId; 1]>,
    /// `None` when nothing changed here: the requests had been run before.
    pub(super) commit: Option<RecordCommit>,
}

/// A record with the write in it.
struct Written {
    record: Record,
    /// Covers the write and what it had seen.
    context: Observed,
    is_replay: bool,
    /// What stood under its key before.
    before: Held,
}

impl Coordinator {
    /// Prepares writes that have the same replicas; no key is among them twice.
    pub(super) async fn prepare(
        &self,
        writes: SmallVec<[PlacedWrite; 1]>,
    ) -> Result<Prepared, RequestError> {
        let now_ms = self.cluster.environment.unix_ms();
        let is_primary = writes
            .first()
            .is_some_and(|write| write.place.receivers().contains(&self.cluster.node));
        if !is_primary {
            return self.prepare_as_visitor(writes, now_ms).await;
        }
        let deletes_only = writes.iter().all(|write| write.write.value.is_none());
        let space = if deletes_only {
            Space::Reserve
        } else {
            Space::Ordinary
        };
        let keys = writes.iter().map(|write| &write.place.store_key);
        let guards = self.records.lock_all(keys).await;
        let mut prepared = Prepared {
            contexts: SmallVec::with_capacity(writes.len()),
            records: SmallVec::with_capacity(writes.len()),
            own: None,
        };
        let mut actors: SmallVec<[ActorId; 1]> = SmallVec::new();
        let mut changed = SmallVec::with_capacity(writes.len());
        for PlacedWrite { place, write } in writes {
            let one = self.prepare_one(&place, write, now_ms).await;
            let context = one.map(|(written, actor)| {
                let record = NamedRecord {
                    store_key: place.store_key.clone(),
                    record: encode_record(&written.record, place.bucket.merge_mode()),
                };
                if !written.is_replay {
                    changed.push(RecordChange {
                        store_key: record.store_key.clone(),
                        record: record.record.clone(),
                        before: written.before,
                        after: Held::of(&written.record),
                    });
                }
                prepared.records.push(record);
                if !actors.contains(&actor) {
                    actors.push(actor);
                }
                written.context
            });
            prepared.contexts.push(context);
        }
        if !prepared.records.is_empty() {
            let commit = match changed.is_empty() {
                true => None,
                false => Some(self.submit(changed, space)?),
            };
            prepared.own = Some(OwnCopies {
                guards,
                actors,
                commit,
            });
        }
        Ok(prepared)
    }

    async fn prepare_one(
        &self,
        place: &RecordPlace,
        write: WriteRequest,
        now_ms: u64,
    ) -> Result<(Written, ActorId), RequestError> {
        let local = self.records.read_for_change(&place.store_key)?;
        let (dot, kind) = self.name(place, &local, &write.observed).await?;
        let before = local.held();
        let record = match place.bucket.merge_mode() {
            MergeMode::LastWriterWins if mutant!("dated-by-the-clock") => Record::default(),
            _ => local.record,
        };
        let written = self.write_into(place, record, write, dot, kind, now_ms)?;
        Ok((Written { before, ..written }, dot.actor))
    }

    /// Without copies of its own the node speaks for these writes only, not for earlier ones.
    async fn prepare_as_visitor(
        &self,
        writes: SmallVec<[PlacedWrite; 1]>,
        now_ms: u64,
    ) -> Result<Prepared, RequestError> {
        let mut prepared = Prepared {
            contexts: smallvec![],
            records: smallvec![],
            own: None,
        };
        for PlacedWrite { place, write } in writes {
            let dot = self.mint.visitor_dot().await?;
            let kind = MintKind::Loose;
            let written = self.write_into(&place, Record::default(), write, dot, kind, now_ms);
            let context = written.map(|written| {
                prepared.records.push(NamedRecord {
                    record: encode_record(&written.record, place.bucket.merge_mode()),
                    store_key: place.store_key,
                });
                written.context
            });
            prepared.contexts.push(context);
        }
        Ok(prepared)
    }

    /// A fresh dot, and what it says about earlier ones.
    async fn name(
        &self,
        place: &RecordPlace,
        local: &Local,
        observed: &Observed,
    ) -> Result<(Dot, MintKind), RequestError> {
        let partition = place.group.partition;
        let Some(mut actor) = self.mint.actor(partition).await? else {
            return Ok((self.mint.visitor_dot().await?, MintKind::Loose));
        };
        if let Some(why) = self.distrust(partition, actor, local, observed.context()) {
            let stale = Some(actor);
            actor = self.mint.replace_actor(partition, stale, why).await?;
        }
        // Everything that this actor wrote under this key is here; if it is a new one, that is nothing.
        Ok((self.mint.dot(actor).await?, MintKind::Vector))
    }

    /// Why an actor cannot be said to know its own past under a key.
    fn distrust(
        &self,
        partition: PartitionId,
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
        // What was erased by proof is missing with good reason.
        let is_erased = |counter| {
            let floor = self.mint.erased_floor(partition);
            floor.is_some_and(|floor| floor.explains(actor, counter))
        };
        let lost_some = (seen > own(known) && !is_erased(seen))
            || observed
                .loose()
                .iter()
                .any(|dot| dot.actor == actor && !known.contains(*dot) && !is_erased(dot.counter));
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
        let request = write.request;
        let new = NewWrite {
            request,
            stamp: self.stamp(place, &record, write.observed.context(), now_ms)?,
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
            context: write.observed.with_own_write(&record, request, dot),
            record,
            is_replay,
            before: Held::Nothing,
        })
    }

    /// The date of the write. Only where dates decide may a wrong clock keep a write out.
    fn stamp(
        &self,
        place: &RecordPlace,
        record: &Record,
        observed: &CausalContext,
        now_ms: u64,
    ) -> Result<Stamp, RequestError> {
        let stamp = Stamp::next(now_ms, record.stamp_floor(observed));
        if place.bucket.merge_mode() == MergeMode::Siblings {
            return Ok(stamp);
        }
        // A tombstone that was erased here may still be elsewhere: the new value has to be later than it.
        let erased = self.mint.erased_floor(place.group.partition);
        let stamp = stamp.max(Stamp::next(now_ms, erased.map(|floor| floor.stamp)));
        stamp.check_skew(now_ms, self.limits.clock_skew_max).map_err(|ahead| {
            RequestError::Invalid(format!(
                "the context comes from a clock {} ms ahead of this node's, {} are allowed: set the clocks right, or read again",
                ahead.ahead_ms, ahead.allowed_ms
            ))
        })
    }

    fn submit(
        &self,
        changed: SmallVec<[RecordChange; 1]>,
        space: Space,
    ) -> Result<RecordCommit, RequestError> {
        if space == Space::Ordinary {
            let refusal = self.refusal.lock();
            let fresh = refusal
                .as_ref()
                .filter(|refusal| Instant::now() < refusal.until);
            if let Some(refusal) = fresh {
                return Err(StorageError::NotWritten(refusal.why.clone()).into());
            }
        }
        let commit = self.records.write_all(changed, space);
        match commit.refusal() {
            Some(why) => Err(StorageError::NotWritten(why.clone()).into()),
            None => Ok(commit),
        }
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
    if bucket.mode == Mode::Siblings && siblings == bucket.siblings_max as usize / 2 + 1 {
        // Once on the way up, so that a key that is never merged does not fill the log.
        counter!("souk_siblings_warned_total").increment(1);
        warn!(
            bucket = bucket.name,
            siblings,
            siblings_max = bucket.siblings_max,
            "a key has more than half of the concurrent values it may have: its writers do not pass the context of a read"
        );
    }
    let bytes = record.size_bytes();
    if bytes > RECORD_BYTES_MAX / 2 {
        counter!("souk_records_large_total").increment(1);
    }
    if bytes > RECORD_BYTES_MAX {
        return Err(RequestError::Invalid(format!(
            "with its {siblings} concurrent values and its context the record would have {bytes} bytes, at most {RECORD_BYTES_MAX} are allowed: read the key, and write back with exactly the context received"
        )));
    }
    debug_assert!(bucket.merge_mode() == MergeMode::Siblings || siblings == 1);
    Ok(())
}

/// In whole milliseconds.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
