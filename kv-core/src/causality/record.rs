//! Everything stored under one key: what was seen, what is still wanted, and which requests are done with.
//!
//! The rule of survival: a sibling that only one side holds stays, unless the other side has seen its dot;
//! having seen it and not holding it means that a later write took its place.
//!
//! Place: pure; the unit of storage, replication, repair and handoff. Always sent whole: a part of a record
//! with its whole context would make earlier siblings vanish elsewhere.
//! Source: Bieniusa et al. (2012), §3; Almeida et al. (2014), §5; DVVSet in `ricardobcl/Dotted-Version-Vectors`.
//! Invariants: 1. siblings are sorted by dot, and the context has seen every one of them.
//! 2. merging is commutative, associative and idempotent, in both modes. (Where a retry made one request run twice
//! in a siblings bucket, two groupings may pass through different states; replicas still converge and lose nothing.)
//! 3. no two siblings share a remembered request. 4. in [`MergeMode::LastWriterWins`] there is at most one sibling.
//! Not here: limits on siblings and bytes, and their refusal (the driver's), encoding (`souk_kv_proto`).

use std::collections::BTreeSet;
use std::hash::Hasher;

use siphasher::sip::SipHasher24;
use smallvec::SmallVec;

use super::{
    CausalContext, Dot, Observed, Remembered, RequestId, RequestMemory, Sibling, Stamp, Value,
};

/// Hash keys of [`Record::causal_hash`], "souk causal hash" in ASCII. Fixed for ever: every node has to agree.
const CAUSAL_HASH_KEYS: (u64, u64) = (0x736f_756b_2063_6175, 0x7361_6c20_6861_7368);

/// How a bucket treats concurrent values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergeMode {
    /// All of them stay until a write that has seen them replaces them.
    Siblings,
    /// The greatest (stamp, dot) stays. Losing a concurrent edit is the documented price. A request that is run twice,
    /// because its second coordinator had not seen the first run, is a second write here.
    LastWriterWins,
}

/// What a new dot says about its actor's earlier ones under the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mint {
    /// "I have all my earlier writes to this key": cheap, and only true for a coordinator whose local record is whole.
    Vector,
    /// Nothing: for a fallback, an owner still syncing, a record that failed its checksum.
    Loose,
}

/// A write about to be named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewWrite {
    /// The client's name for it.
    pub request: RequestId,
    /// Its date; see [`Stamp::next`], with [`Record::stamp_floor`] as floor.
    pub stamp: Stamp,
    /// When it stops being shown, in milliseconds since 1970.
    pub expires_unix_ms: Option<u64>,
    /// The value; `None` deletes.
    pub value: Option<Value>,
}

/// What a put did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutEffect {
    /// The write is in the record.
    Written {
        /// The siblings that it replaced, sorted by dot.
        superseded: Vec<Sibling>,
    },
    /// The request had been run before; the record is unchanged.
    Replayed {
        /// The dot of its first run.
        dot: Dot,
    },
}

/// Why a put cannot be taken; the record is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// What: the fresh dot was seen before. Why: this store was rolled back, or a counter was derived from a record.
    /// Mend: take a new actor, and for a rolled-back store a new store id.
    #[error(
        "dot {dot:?} was seen before it was minted: this store lost its past and needs new actors"
    )]
    DotSeen {
        /// The dot that is not fresh.
        dot: Dot,
    },
    /// What: a last-writer-wins stamp that would lose to what the write had seen.
    /// Mend: stamp with [`Stamp::next`] and the floor of [`Record::stamp_floor`].
    #[error("stamp {stamp} is not after {newest}, the newest stamp that this write has seen")]
    StampBehind {
        /// The refused stamp.
        stamp: Stamp,
        /// The floor it had to pass.
        newest: Stamp,
    },
}

/// Why parts do not make a record: the bytes they came from are damaged, or a peer is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Two siblings with one dot.
    #[error("two siblings with the dot {dot:?}: the record is damaged, repair it from a peer")]
    DotTwice {
        /// The repeated dot.
        dot: Dot,
    },
    /// A sibling that the context does not know.
    #[error(
        "sibling {dot:?} is missing in its record's context: the record is damaged, repair it from a peer"
    )]
    NotInContext {
        /// The unknown dot.
        dot: Dot,
    },
    /// A counter of zero, which is never minted.
    #[error("a sibling with the counter 0: the record is damaged, repair it from a peer")]
    CounterZero,
}

/// The stored state of one key. The default is the record of a key never written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    context: CausalContext,
    siblings: SmallVec<[Sibling; 1]>,
    superseded: RequestMemory,
}

impl Record {
    /// Puts a record together from decoded parts.
    ///
    /// # Errors
    /// [`RecordError`] when the parts break an invariant.
    pub fn from_parts(
        mut context: CausalContext,
        siblings: impl IntoIterator<Item = Sibling>,
        superseded: RequestMemory,
    ) -> Result<Record, RecordError> {
        let mut siblings: SmallVec<[Sibling; 1]> = siblings.into_iter().collect();
        siblings.sort_unstable_by_key(|sibling| sibling.dot);
        for pair in siblings.windows(2) {
            if pair[0].dot == pair[1].dot {
                return Err(RecordError::DotTwice { dot: pair[0].dot });
            }
        }
        for sibling in &siblings {
            if sibling.dot.counter == 0 {
                return Err(RecordError::CounterZero);
            }
            if !context.contains(sibling.dot) {
                return Err(RecordError::NotInContext { dot: sibling.dot });
            }
            context.observe_stamp(sibling.stamp);
        }
        Ok(Record {
            context,
            siblings,
            superseded,
        })
    }

    /// Every write that this record has seen: what a read hands out, also for a missing key.
    #[must_use]
    pub const fn context(&self) -> &CausalContext {
        &self.context
    }

    /// All siblings sorted by dot, tombstones and expired ones included.
    #[must_use]
    pub fn siblings(&self) -> &[Sibling] {
        &self.siblings
    }

    /// The requests whose values are gone from here.
    #[must_use]
    pub const fn superseded(&self) -> &RequestMemory {
        &self.superseded
    }

    /// True when nothing was ever seen under this key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.siblings.is_empty() && self.context.is_empty()
    }

    /// The siblings that a reader sees at `now_ms`: neither deleted nor expired.
    pub fn live_siblings(&self, now_ms: u64) -> impl Iterator<Item = &Sibling> {
        self.siblings
            .iter()
            .filter(move |sibling| sibling.is_live(now_ms))
    }

    /// True when deletes are all that is left, so that collection may be considered.
    #[must_use]
    pub fn is_only_tombstones(&self) -> bool {
        !self.siblings.is_empty() && self.siblings.iter().all(Sibling::is_tombstone)
    }

    /// The dot under which a request was stored before, whether its value is still here or superseded.
    /// Answer its replay with [`Observed::with_own_write`] of that dot.
    #[must_use]
    pub fn has_request(&self, request: &RequestId) -> Option<Dot> {
        if !request.is_remembered() {
            return None;
        }
        let held = self
            .siblings
            .iter()
            .find(|sibling| sibling.request == *request);
        held.map(|sibling| sibling.dot)
            .or_else(|| self.superseded.dot_of(request))
    }

    /// The floor for the stamp of a write that has seen `observed` and meets this record.
    #[must_use]
    pub fn stamp_floor(&self, observed: &CausalContext) -> Option<Stamp> {
        let newest = self.context.newest_stamp().max(observed.newest_stamp());
        (newest > Stamp::ZERO).then_some(newest)
    }

    /// Adds a write that has seen `observed`, under the fresh name `dot`, at `now_ms` (milliseconds since 1970).
    ///
    /// Call it under the key's guard, with a counter leased durably. The siblings that `observed` covers go,
    /// and their requests are remembered with `now_ms`; so are the requests it names of writes that are not here, for
    /// another run of them may still arrive. In [`MergeMode::LastWriterWins`] all earlier ones go.
    ///
    /// # Errors
    /// [`PutError`] when the name or the date cannot be right. A replay is no error, see [`PutEffect::Replayed`].
    pub fn put(
        &mut self,
        mode: MergeMode,
        observed: &Observed,
        dot: Dot,
        mint: Mint,
        write: NewWrite,
        now_ms: u64,
    ) -> Result<PutEffect, PutError> {
        if let Some(dot) = self.has_request(&write.request) {
            return Ok(PutEffect::Replayed { dot });
        }
        if self.context.contains(dot) || observed.context().contains(dot) || dot.counter == 0 {
            return Err(PutError::DotSeen { dot });
        }
        if mode == MergeMode::LastWriterWins
            && let Some(newest) = self.stamp_floor(observed.context())
            && write.stamp <= newest
        {
            let stamp = write.stamp;
            return Err(PutError::StampBehind { stamp, newest });
        }
        let superseded = self.take_superseded(mode, observed, now_ms);
        self.context.merge(observed.context());
        match mint {
            Mint::Vector => self.context.insert_with_predecessors(dot),
            Mint::Loose => self.context.insert(dot),
        }
        self.context.observe_stamp(write.stamp);
        self.insert_sibling(Sibling {
            dot,
            stamp: write.stamp,
            request: write.request,
            expires_unix_ms: write.expires_unix_ms,
            value: write.value,
        });
        Ok(PutEffect::Written { superseded })
    }

    /// Takes in what another replica of the same key holds. True when anything stored here changed.
    pub fn merge(&mut self, other: &Record, mode: MergeMode) -> bool {
        let mut changed = self.superseded.merge(&other.superseded);
        if other.context.newest_stamp() > self.context.newest_stamp() {
            self.context.observe_stamp(other.context.newest_stamp());
            changed = true;
        }
        let same_siblings = other
            .siblings
            .iter()
            .map(identity)
            .eq(self.siblings.iter().map(identity));
        if same_siblings && self.context.has_same_dots(&other.context) {
            return changed;
        }
        let mut siblings = match mode {
            MergeMode::Siblings => self.surviving(other),
            MergeMode::LastWriterWins => self.newest(other),
        };
        if mode == MergeMode::Siblings {
            drop_replays(&mut siblings, &self.superseded);
        }
        // Identities, not values: comparing megabytes on every merge would tell nothing more.
        if !siblings
            .iter()
            .map(identity)
            .eq(self.siblings.iter().map(identity))
        {
            self.siblings = siblings;
            changed = true;
        }
        if !self.context.dominates(&other.context) {
            self.context.merge(&other.context);
            changed = true;
        }
        changed
    }

    /// True when two replicas agree: same writes seen, same siblings held. What they remember of requests, and in
    /// which order they learnt it, does not count.
    #[must_use]
    pub fn same_causal_state(&self, other: &Record) -> bool {
        let dot = |sibling: &Sibling| sibling.dot;
        self.context.has_same_dots(&other.context)
            && self
                .siblings
                .iter()
                .map(dot)
                .eq(other.siblings.iter().map(dot))
    }

    /// A hash that is equal on every machine exactly when (but for collisions) [`Record::same_causal_state`] holds;
    /// the leaf of a Merkle tree. The empty record hashes like any other.
    #[must_use]
    pub fn causal_hash(&self) -> u64 {
        let mut hasher = SipHasher24::new_with_keys(CAUSAL_HASH_KEYS.0, CAUSAL_HASH_KEYS.1);
        let mut section = |dots: &mut dyn ExactSizeIterator<Item = Dot>| {
            hasher.write(&(dots.len() as u64).to_le_bytes());
            for dot in dots {
                hasher.write(dot.actor.as_bytes());
                hasher.write(&dot.counter.to_le_bytes());
            }
        };
        section(
            &mut self
                .context
                .vector()
                .map(|(actor, counter)| Dot { actor, counter }),
        );
        section(&mut self.context.loose().iter().copied());
        section(&mut self.siblings.iter().map(|sibling| sibling.dot));
        hasher.finish()
    }

    /// Deletes everything that is held here, in the name of nobody: for values past their deadline.
    ///
    /// The tombstone is dated right after what it replaces, not by a clock, so that in
    /// [`MergeMode::LastWriterWins`] a value written meanwhile elsewhere is newer than it.
    ///
    /// # Errors
    /// As for [`Record::put`].
    pub fn bury(
        &mut self,
        mode: MergeMode,
        dot: Dot,
        mint: Mint,
        now_ms: u64,
    ) -> Result<PutEffect, PutError> {
        let observed = Observed::whole(self);
        let nobody = RequestId {
            client: [0; 16],
            sequence: 0,
        };
        let write = NewWrite {
            request: nobody,
            stamp: Stamp::next(0, self.stamp_floor(&self.context)),
            expires_unix_ms: None,
            value: None,
        };
        self.put(mode, &observed, dot, mint, write, now_ms)
    }

    /// Folds the loose dots; see [`CausalContext::fold_loose`] for when that is true.
    pub fn fold_loose(&mut self) {
        self.context.fold_loose();
    }

    /// Drops remembered requests that were superseded before `unix_ms`: now less `request_memory`.
    pub fn forget_requests_before(&mut self, unix_ms: u64) {
        self.superseded.forget_before(unix_ms);
    }

    /// About how many bytes this takes on disk and on the wire.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let siblings: usize = self.siblings.iter().map(Sibling::size_bytes).sum();
        siblings + self.context.size_bytes() + self.superseded.entries().len() * 56
    }

    fn take_superseded(
        &mut self,
        mode: MergeMode,
        observed: &Observed,
        now_ms: u64,
    ) -> Vec<Sibling> {
        let (gone, kept): (Vec<Sibling>, Vec<Sibling>) = self
            .siblings
            .drain(..)
            .partition(|sibling| mode == MergeMode::LastWriterWins || observed.covers(sibling));
        self.siblings.extend(kept);
        for entry in observed.superseded_at(now_ms) {
            self.superseded.remember(entry);
        }
        for sibling in &gone {
            self.superseded.remember(Remembered {
                request: sibling.request,
                dot: sibling.dot,
                superseded_unix_ms: now_ms,
            });
        }
        gone
    }

    fn insert_sibling(&mut self, sibling: Sibling) {
        let index = self.siblings.partition_point(|held| held.dot < sibling.dot);
        self.siblings.insert(index, sibling);
    }

    /// The siblings of either side that no write seen by the other side has replaced, sorted by dot.
    fn surviving(&self, other: &Record) -> SmallVec<[Sibling; 1]> {
        let mut result = SmallVec::new();
        let mut ours = self.siblings.iter().peekable();
        let mut theirs = other.siblings.iter().peekable();
        loop {
            let side = match (ours.peek(), theirs.peek()) {
                (None, None) => return result,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(our), Some(their)) => our.dot.cmp(&their.dot),
            };
            let (our, their) = (
                side.is_le().then(|| ours.next()).flatten(),
                side.is_ge().then(|| theirs.next()).flatten(),
            );
            match (our, their) {
                (Some(our), Some(their)) => result.push(either(our, their).clone()),
                (Some(our), None) if !other.context.contains(our.dot) => result.push(our.clone()),
                (None, Some(their)) if !self.context.contains(their.dot) => {
                    result.push(their.clone());
                }
                _ => {}
            }
        }
    }

    /// The sibling of either side with the greatest (stamp, dot). Contexts take no part: stamps pass everything that
    /// their write has seen, so the winner was never replaced, and a plain maximum is a join under any clock.
    fn newest(&self, other: &Record) -> SmallVec<[Sibling; 1]> {
        let all = self.siblings.iter().chain(&other.siblings);
        all.max_by_key(|sibling| (sibling.stamp, sibling.dot))
            .cloned()
            .into_iter()
            .collect()
    }
}

/// Two siblings under one dot are equal, unless an actor was used after it should have been replaced.
/// Even then all replicas settle on the same one.
fn either<'a>(our: &'a Sibling, their: &'a Sibling) -> &'a Sibling {
    if identity(their) > identity(our) {
        their
    } else {
        our
    }
}

fn identity(sibling: &Sibling) -> (Dot, Stamp, RequestId) {
    (sibling.dot, sibling.stamp, sibling.request)
}

/// Of the runs of one request that was sent twice, keeps the one with the smallest dot, or none if the request's
/// value has been replaced already. The dots stay in the context, so the others do not come back.
fn drop_replays(siblings: &mut SmallVec<[Sibling; 1]>, superseded: &RequestMemory) {
    if !superseded.is_empty() {
        siblings.retain(|sibling| superseded.dot_of(&sibling.request).is_none());
    }
    if siblings.len() > 1 {
        let mut met = BTreeSet::new();
        siblings.retain(|sibling| !sibling.request.is_remembered() || met.insert(sibling.request));
    }
}
