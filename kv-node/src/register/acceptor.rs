//! This node as an acceptor: loads a group's header, asks the pure acceptor, makes its decision durable.
//!
//! Invariants: 1. header and rows change in one batch, before the reply. 2. decisions on one group are
//! taken one after the other, under its guard. 3. rows in a reply are those of the header in it. 4. a vote passes
//! the fence before it looks at the header and stays inside until it is on disk. 5. a group of which
//! anything was found damaged gives no vote until it was learnt anew (`teaching`). 6. whoever changes header or rows
//! on disk takes the group out of `memory` first.

use std::{ops::Bound, sync::Arc};

use bytes::Bytes;
use souk_kv_core::register::{
    AcceptDecision, AcceptReply, AcceptRequest, AcceptorHeader, Ballot, Base, Delta, GroupImage,
    PrepareDecision, PrepareRequest, PromiseReply, ReadReply, ReadRequest, Row, RowKey,
    RowSelection, Rows, RowsChange,
};
use souk_kv_proto::{
    convert::register::{decode_header, decode_row, encode_header, encode_row},
    mutant,
};
use souk_kv_storage::{Keyspace, Scan, StorageError, Store, WriteBatch};
use souk_ring::LayoutEpoch;
use tokio::time::{Instant, timeout_at};

use super::{
    arrivals::{self, Arrivals, Place},
    broken::BrokenGroups,
    memory::{GroupMemory, Recollection},
};
use crate::{
    error::RequestError,
    guard::KeyGuards,
    keys::{GroupKey, prefix_end},
    members::Fence,
};

/// A range ends with the row that reaches this, in bytes as [`Row::weight`] counts them; whoever asked for
/// it sees from the rows themselves that it was cut. Twice as much is read, as stored rows are a little larger.
pub(super) const RANGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Rows read from disk at once when a whole group is read.
const WHOLE_PAGE: usize = 10_000;
/// A read that raced this many accepts takes the guard.
const OPTIMISTIC_READS: usize = 3;

/// The register state on this node's disk.
#[derive(Debug)]
pub(crate) struct GroupStore {
    pub(super) store: Store,
    pub(super) guards: Arc<KeyGuards>,
    pub(super) fence: Arc<Fence>,
    pub(super) broken: BrokenGroups,
    pub(super) memory: GroupMemory,
    arrivals: Arrivals,
}

/// What became of an accept.
enum Vote<'a> {
    Given(AcceptReply),
    /// It stands on a ballot that has not come yet.
    Early(Place<'a>),
}

/// Whether the accept stands on a newer state than the one here, which may be on its way.
fn is_early(reply: &AcceptReply, request: &AcceptRequest) -> bool {
    match (reply, request.base) {
        (AcceptReply::NeedFull { accepted, .. }, Base::On(base)) => base > *accepted,
        _ => false,
    }
}

impl GroupStore {
    /// Finds out which groups were found damaged before. `epoch` is the adopted one.
    pub(crate) fn open(
        store: Store,
        guards: Arc<KeyGuards>,
        fence: Arc<Fence>,
        epoch: LayoutEpoch,
    ) -> Result<Self, StorageError> {
        Ok(Self {
            broken: BrokenGroups::open(store.clone(), epoch)?,
            store,
            guards,
            fence,
            memory: GroupMemory::default(),
            arrivals: Arrivals::default(),
        })
    }

    /// Votes on a prepare.
    pub(crate) async fn prepare(
        &self,
        key: &GroupKey,
        request: &PrepareRequest,
    ) -> Result<PromiseReply, RequestError> {
        let vote = self.vote_on_prepare(key, request).await;
        self.note_damage(key, vote)
    }

    async fn vote_on_prepare(
        &self,
        key: &GroupKey,
        request: &PrepareRequest,
    ) -> Result<PromiseReply, RequestError> {
        let _guard = self.guards.lock(&key.header()).await;
        let passage = self.fence.enter(request.epoch).await?;
        let mut known = self.recall(key, passage.epoch)?;
        let reply = match known.header.prepare(request) {
            PrepareDecision::Promise { header } => {
                let rows = self.select(key, &request.rows)?;
                let mut batch = WriteBatch::new();
                batch.put(Keyspace::Registers, key.header(), encode_header(&header));
                if !mutant!("promise-forgotten") {
                    self.store.commit(batch).await?;
                    known.header = header;
                }
                PromiseReply::Promised {
                    ballot: request.ballot,
                    report: header.report(rows),
                }
            }
            PrepareDecision::Refused { promised } => PromiseReply::Refused {
                ballot: request.ballot,
                promised,
            },
            PrepareDecision::WrongEpoch { current } => PromiseReply::WrongEpoch { current },
        };
        self.memory.put(key, known);
        Ok(reply)
    }

    /// Votes on an accept.
    pub(crate) async fn accept(
        &self,
        key: &GroupKey,
        request: &AcceptRequest,
    ) -> Result<AcceptReply, RequestError> {
        let vote = self.vote_in_turn(key, request).await;
        self.note_damage(key, vote)
    }

    /// Lets an accept that came before the one it stands on wait a moment for it.
    async fn vote_in_turn(
        &self,
        key: &GroupKey,
        request: &AcceptRequest,
    ) -> Result<AcceptReply, RequestError> {
        let give_up = Instant::now() + arrivals::WAIT_MAX;
        let mut may_wait = true;
        loop {
            match self.vote_on_accept(key, request, may_wait).await? {
                Vote::Given(reply) => return Ok(reply),
                Vote::Early(mut place) => {
                    may_wait = timeout_at(give_up, place.changed()).await.is_ok();
                }
            }
        }
    }

    async fn vote_on_accept(
        &self,
        key: &GroupKey,
        request: &AcceptRequest,
        may_wait: bool,
    ) -> Result<Vote<'_>, RequestError> {
        let _guard = self.guards.lock(&key.header()).await;
        let passage = self.fence.enter(request.epoch).await?;
        let mut known = self.recall(key, passage.epoch)?;
        let missing = known.rows.missing(request.looked_up());
        let found = self.rows_of(key, missing.iter())?;
        known.rows.learn(&missing, found);
        let decision = known.header.accept(request, &known.rows, &mut known.undo);
        match decision {
            AcceptDecision::Reply(reply) => {
                let is_early = may_wait && is_early(&reply, request);
                self.memory.put(key, known);
                // A place is taken under the guard: what comes after cannot be missed.
                let place = is_early.then(|| self.arrivals.join(key)).flatten();
                Ok(place.map_or(Vote::Given(reply), Vote::Early))
            }
            AcceptDecision::Apply {
                header,
                change,
                reply,
            } => {
                let batch = self.batch(key, &header, &change)?;
                if mutant!("vote-before-sync") {
                    drop(self.store.submit(batch));
                    return Ok(Vote::Given(reply));
                }
                self.store.commit(batch).await?;
                known.changed(header, &change);
                self.memory.put(key, known);
                self.arrivals.announce(key);
                Ok(Vote::Given(reply))
            }
        }
    }

    /// What is known of a group, for a vote under its guard. It is not in memory until it is put back there.
    fn recall(&self, key: &GroupKey, epoch: LayoutEpoch) -> Result<Recollection, RequestError> {
        let remembered = self.memory.take(key).filter(|_| !self.broken.contains(key));
        let mut known = match remembered {
            Some(known) => Recollection {
                header: known.header.fenced(epoch),
                ..known
            },
            None => Recollection::of(self.header(key, epoch)?),
        };
        if mutant!("lower-ballots-accepted") {
            known.header.promised = AcceptorHeader::empty(epoch).promised;
        }
        Ok(known)
    }

    /// The header for a read, which takes no guard.
    fn glimpse(&self, key: &GroupKey, epoch: LayoutEpoch) -> Result<AcceptorHeader, RequestError> {
        match self.memory.header(key) {
            Some(header) if !self.broken.contains(key) => Ok(header.fenced(epoch)),
            _ => self.header(key, epoch),
        }
    }

    /// Tells what is accepted, promising nothing.
    pub(crate) async fn read(
        &self,
        key: &GroupKey,
        request: &ReadRequest,
    ) -> Result<ReadReply, RequestError> {
        let reply = self.look(key, request).await;
        self.note_damage(key, reply)
    }

    async fn look(&self, key: &GroupKey, request: &ReadRequest) -> Result<ReadReply, RequestError> {
        for _ in 0..OPTIMISTIC_READS {
            let epoch = self.fence.glance(request.epoch)?;
            let before = self.glimpse(key, epoch)?;
            if let Err(current) = before.admits(request.epoch) {
                return Ok(ReadReply::WrongEpoch { current });
            }
            let rows = self.select(key, &request.rows)?;
            // Rows change only together with the accepted ballot, and that never comes back. While they change,
            // nothing of the group is in memory.
            if self.glimpse(key, epoch)?.accepted == before.accepted {
                return Ok(ReadReply::Report(before.report(rows)));
            }
        }
        let _guard = self.guards.lock(&key.header()).await;
        let passage = self.fence.enter(request.epoch).await?;
        let header = self.header(key, passage.epoch)?;
        if let Err(current) = header.admits(request.epoch) {
            return Ok(ReadReply::WrongEpoch { current });
        }
        Ok(ReadReply::Report(
            header.report(self.select(key, &request.rows)?),
        ))
    }

    /// The group's state for an acceptor that lags: what changed since `since`, if that is still known.
    pub(crate) async fn fetch(
        &self,
        key: &GroupKey,
        since: Option<Ballot>,
    ) -> Result<GroupImage, RequestError> {
        let _guard = self.guards.lock(&key.header()).await;
        let epoch = self.fence.glance(LayoutEpoch::FIRST)?;
        let header = self.header(key, epoch)?;
        // Taken out meanwhile: a long way back must not hold up the votes on other groups.
        let known = self.memory.take(key);
        let changed = since.and_then(|since| {
            let undo = &known.as_ref()?.undo;
            undo.changed_since(header.accepted, since)
        });
        if let Some(known) = known {
            self.memory.put(key, known);
        }
        let (base, delta) = match (since, changed) {
            (Some(since), Some(changed)) => {
                let found = self.rows_of(key, changed.iter())?;
                let rows = changed.into_iter().map(|key| {
                    let row = found.get(&key).cloned();
                    (key, row)
                });
                (
                    Base::On(since),
                    Delta {
                        rows: rows.collect(),
                    },
                )
            }
            _ => (Base::Whole, Delta::whole(self.whole(key)?)),
        };
        Ok(GroupImage {
            accepted: header.accepted,
            base,
            delta,
        })
    }

    /// The header as it counts under that epoch.
    pub(super) fn header(
        &self,
        key: &GroupKey,
        epoch: LayoutEpoch,
    ) -> Result<AcceptorHeader, RequestError> {
        if self.broken.contains(key) {
            return Err(RequestError::NotReady(
                "this node's copy of the register group was damaged: it takes no part in it until it has learnt it anew from the others".to_owned(),
            ));
        }
        let header = match self.store.get(Keyspace::Registers, &key.header())? {
            None => AcceptorHeader::empty(epoch),
            Some(bytes) => decode_header(bytes).map_err(|cause| RequestError::Corrupt {
                what: "an acceptor header",
                cause: cause.to_string(),
            })?,
        };
        Ok(header.fenced(epoch))
    }

    /// The header for whoever wants to look at it, whether it may vote or not.
    pub(crate) fn shown(&self, key: &GroupKey) -> Result<AcceptorHeader, RequestError> {
        self.header(key, self.fence.look().epoch)
    }

    /// Takes a group out of use when something of it turned out to be damaged.
    pub(super) fn note_damage<T>(
        &self,
        key: &GroupKey,
        result: Result<T, RequestError>,
    ) -> Result<T, RequestError> {
        if let Err(
            RequestError::Corrupt { .. }
            | RequestError::Storage(StorageError::Corrupt { .. } | StorageError::Gap { .. }),
        ) = &result
        {
            self.take_out(key);
        }
        result
    }

    /// Takes a damaged group out of use until it was learnt anew.
    pub(crate) fn take_out(&self, key: &GroupKey) {
        self.broken.note(key, self.fence.look().epoch);
    }

    fn batch(
        &self,
        key: &GroupKey,
        header: &AcceptorHeader,
        change: &RowsChange,
    ) -> Result<WriteBatch, RequestError> {
        let mut batch = WriteBatch::new();
        batch.put(Keyspace::Registers, key.header(), encode_header(header));
        let delta = match change {
            RowsChange::Update(delta) => delta,
            RowsChange::Replace(delta) => {
                for old in self.whole(key)?.keys() {
                    if !delta.rows.contains_key(old) {
                        batch.delete(Keyspace::Registers, key.row(old.as_bytes()));
                    }
                }
                delta
            }
        };
        for (row_key, row) in &delta.rows {
            let store_key = key.row(row_key.as_bytes());
            match row {
                Some(row) => batch.put(Keyspace::Registers, store_key, encode_row(row)),
                None => batch.delete(Keyspace::Registers, store_key),
            }
        }
        Ok(batch)
    }

    fn rows_of<'a>(
        &self,
        key: &GroupKey,
        row_keys: impl Iterator<Item = &'a RowKey>,
    ) -> Result<Rows, RequestError> {
        let mut rows = Rows::new();
        for row_key in row_keys {
            if let Some(bytes) = self
                .store
                .get(Keyspace::Registers, &key.row(row_key.as_bytes()))?
            {
                rows.insert(row_key.clone(), row(bytes)?);
            }
        }
        Ok(rows)
    }

    fn select(&self, key: &GroupKey, selection: &RowSelection) -> Result<Rows, RequestError> {
        let mut rows = self.rows_of(key, selection.keys.iter())?;
        if let Some(range) = &selection.range {
            let start = Bound::Included(key.row(range.from.as_bytes()));
            let end = match &range.to {
                Some(to) => Bound::Excluded(key.row(to.as_bytes())),
                None => prefix_end(&key.row_prefix()).map_or(Bound::Unbounded, Bound::Excluded),
            };
            let mut scan = Scan::range(Keyspace::Registers, (start, end))
                .limit(range.rows_max as usize)
                .bytes_max(RANGE_BYTES_MAX * 2);
            if range.reverse {
                scan = scan.reversed();
            }
            let prefix_bytes = key.row_prefix().len();
            let mut bytes = 0;
            for found in self.store.scan(&scan)?.rows {
                let (key, row) = (
                    row_key(found.key.slice(prefix_bytes..))?,
                    row(found.value?)?,
                );
                bytes += row.weight(&key);
                rows.insert(key, row);
                if bytes >= RANGE_BYTES_MAX as u64 {
                    break;
                }
            }
        }
        Ok(rows)
    }

    pub(super) fn whole(&self, key: &GroupKey) -> Result<Rows, RequestError> {
        let prefix = key.row_prefix();
        let mut rows = Rows::new();
        let mut scan = Scan::prefix(Keyspace::Registers, &prefix).limit(WHOLE_PAGE);
        loop {
            let page = self.store.scan(&scan)?;
            let last = page.rows.last().map(|row| row.key.clone());
            for found in page.rows {
                rows.insert(
                    row_key(found.key.slice(prefix.len()..))?,
                    row(found.value?)?,
                );
            }
            match last {
                Some(last) if page.more => {
                    scan = Scan::prefix(Keyspace::Registers, &prefix)
                        .limit(WHOLE_PAGE)
                        .after(last);
                }
                _ => return Ok(rows),
            }
        }
    }
}

/// What is wrong with a stored row of `Keyspace::Registers`, if anything is.
pub(crate) fn judge(store_key: &[u8], value: &[u8]) -> Result<(), String> {
    let key = GroupKey::from_record_prefix(store_key).ok_or("its key names no group")?;
    let value = Bytes::copy_from_slice(value);
    let prefix = key.row_prefix();
    let found = match store_key.strip_prefix(&prefix[..]) {
        Some(name) => row_key(Bytes::copy_from_slice(name)).and_then(|_| row(value).map(drop)),
        None if store_key == key.header() => {
            return decode_header(value)
                .map(drop)
                .map_err(|cause| cause.to_string());
        }
        None => return Err("its key names neither a header nor a row".to_owned()),
    };
    found.map_err(|cause| cause.to_string())
}

pub(super) fn row(bytes: Bytes) -> Result<Row, RequestError> {
    decode_row(bytes).map_err(|cause| RequestError::Corrupt {
        what: "a stored register row",
        cause: cause.to_string(),
    })
}

pub(super) fn row_key(bytes: Bytes) -> Result<RowKey, RequestError> {
    RowKey::from_bytes(bytes).map_err(|cause| RequestError::Corrupt {
        what: "the key of a stored register row",
        cause: cause.to_string(),
    })
}
