//! Names for writes: the actors of this node's vnodes and the counters that never repeat.
//!
//! The picture: each vnode has a stamp with its own random mark (the actor) and all share one book
//! of numbered tickets (the counter lease). After any stop that was not orderly, and whenever the
//! store may have lost something, a vnode gets a new mark before its next write: a dot that left
//! this node before its own sync was acknowledged may be missing here, and a vector entry of the same
//! actor would then claim to have seen it, and erase it elsewhere.
//!
//! Place: used by the coordinators of `siblings` and `lww` writes, and by whoever mends their records.
//! Shape: distrust is on disk before anything follows from it: actors are deleted right after an
//! opening that is not clean, and while one is retired nobody vouches for the store.
//! Source: `souk_kv_core::causality`; `docs/adr/0004-new-actors-after-an-unclean-stop.md`.
//! Invariants: 1. no dot is minted twice. 2. no counter leaves before its lease is on disk. 3. an actor
//! that may not know its own past is on no disk that calls itself clean.

use std::{collections::BTreeMap, num::NonZeroU32};

use parking_lot::{Mutex, RwLock};
use souk_kv_core::{
    causality::{ActorId, CounterLease, Dot, Record, Stamp},
    tombstone::ErasedFloor,
};
use souk_kv_proto::mutant;
use souk_kv_storage::{Keyspace, Recovery, Scan, StorageError, Store, WriteBatch};
use souk_ring::PartitionId;
use tracing::{error, info, warn};

use crate::{clock::Environment, keys};

/// Counters of one durable lease. A crash skips what is left of it; 64 bits are in no hurry.
const LEASE_BLOCK: NonZeroU32 = NonZeroU32::new(1 << 20).expect("it is not zero");

/// Mints dots for this node.
#[derive(Debug)]
pub(crate) struct Mint {
    store: Store,
    environment: Environment,
    lease: Mutex<CounterLease>,
    extending: tokio::sync::Mutex<()>,
    /// One for each vnode of this node; `None` while it is retired and has no successor.
    actors: RwLock<BTreeMap<PartitionId, Option<ActorId>>>,
    replacing: tokio::sync::Mutex<()>,
    /// What each vnode still knows of the records that it has erased.
    erased: Mutex<BTreeMap<PartitionId, ErasedFloor>>,
    /// Names the loose dots of writes for which this node only stands in; new at every start.
    visitor: ActorId,
}

impl Mint {
    /// Deletes all actors unless the store was closed in order and still has its lease. To be called
    /// right after opening, before anything else can fail: a start that gives up later closes the
    /// store in order, and the next one must not take it for clean with the old actors in it.
    ///
    /// # Errors
    /// [`StorageError`] when that cannot be made durable; the store is not vouched for then.
    pub(crate) async fn forget_unless_clean(store: &Store) -> Result<(), StorageError> {
        match store.recovery() {
            _ if mutant!("actors-kept") || mutant!("lease-from-zero") => return Ok(()),
            Recovery::Clean if read_lease(store)?.is_some() => return Ok(()),
            // New, or a stranger to itself.
            Recovery::Clean => {}
            Recovery::Unclean => {
                info!("the last stop was not orderly: all vnodes take new actors");
            }
            Recovery::Suspect { why } => {
                warn!(
                    why,
                    "the store may have lost something: all vnodes take new actors"
                );
            }
        }
        store.vouch(false);
        let actors = Scan::prefix(Keyspace::Meta, keys::META_ACTORS);
        loop {
            let mut batch = WriteBatch::new();
            for row in store.scan(&actors)?.rows {
                batch.delete(Keyspace::Meta, row.key);
            }
            if batch.is_empty() {
                break;
            }
            store.commit(batch).await?;
        }
        store.vouch(true);
        Ok(())
    }

    /// Reads the lease and the actors of the node's own partitions, making new ones where needed.
    /// [`Mint::forget_unless_clean`] has gone before.
    pub(crate) async fn open(
        store: Store,
        own: impl Iterator<Item = PartitionId>,
        environment: Environment,
    ) -> Result<Self, StorageError> {
        let leased = if mutant!("lease-from-zero") {
            0
        } else {
            read_lease(&store)?.unwrap_or(0)
        };
        let mut actors = BTreeMap::new();
        let mut batch = WriteBatch::new();
        for partition in own {
            let key = keys::meta_actor(partition);
            let known = unless_damaged(store.get(Keyspace::Meta, &key))?;
            let known = known.and_then(|bytes| <[u8; 16]>::try_from(bytes.as_ref()).ok());
            let actor = known.unwrap_or_else(|| {
                let made = new_actor(&environment, partition);
                batch.put(Keyspace::Meta, key, made.to_vec());
                made
            });
            actors.insert(partition, Some(ActorId::from_bytes(actor)));
        }
        if !batch.is_empty() {
            store.commit(batch).await?;
        }
        let mint = Self {
            erased: Mutex::new(read_floors(&store)?),
            lease: Mutex::new(CounterLease::after_unclean_stop(leased, LEASE_BLOCK)),
            extending: tokio::sync::Mutex::new(()),
            actors: RwLock::new(actors),
            replacing: tokio::sync::Mutex::new(()),
            visitor: ActorId::from_bytes(environment.random_id()),
            store,
            environment,
        };
        mint.extend().await?;
        Ok(mint)
    }

    /// The actor of this node's vnode of a partition; `None` when it holds no copy. A retired one is
    /// replaced first, which takes a sync.
    pub(crate) async fn actor(
        &self,
        partition: PartitionId,
    ) -> Result<Option<ActorId>, StorageError> {
        let known = self.actors.read().get(&partition).copied();
        match known {
            None => Ok(None),
            Some(Some(actor)) => Ok(Some(actor)),
            Some(None) => {
                let why = "a write of it left this node and did not reach its disk";
                self.replace_actor(partition, None, why).await.map(Some)
            }
        }
    }

    /// A fresh dot of that actor.
    pub(crate) async fn dot(&self, actor: ActorId) -> Result<Dot, StorageError> {
        let counter = self.counter().await?;
        Ok(Dot { actor, counter })
    }

    /// A number greater than all that were drawn here before, over restarts too, from the same lease as the dots.
    pub(crate) async fn counter(&self) -> Result<u64, StorageError> {
        loop {
            if let Ok(counter) = self.lease.lock().issue() {
                return Ok(counter);
            }
            self.extend().await?;
        }
    }

    /// A fresh dot for a write that this node only stands in for.
    pub(crate) async fn visitor_dot(&self) -> Result<Dot, StorageError> {
        self.dot(self.visitor).await
    }

    /// What the vnode of a partition still knows of the records that it has erased; `None` when it has erased none.
    pub(crate) fn erased_floor(&self, partition: PartitionId) -> Option<ErasedFloor> {
        self.erased.lock().get(&partition).copied()
    }

    /// Notes that the vnode erases a record, in a batch that `submit` hands to the disk. Floors reach the disk in the
    /// order in which they rise.
    pub(crate) fn note_erased<T>(
        &self,
        partition: PartitionId,
        record: &Record,
        submit: impl FnOnce(WriteBatch) -> T,
    ) -> T {
        let mut erased = self.erased.lock();
        let mut batch = WriteBatch::new();
        let actor = self.actors.read().get(&partition).copied().flatten();
        // Without an actor there is nobody whose past could be doubted.
        if let Some(actor) = actor {
            let held = erased.get(&partition).copied();
            let floor = held.unwrap_or_else(|| ErasedFloor::new(actor));
            let floor = floor.under(actor).with(record);
            batch.put(
                Keyspace::Meta,
                keys::meta_erased(partition),
                floor_to_bytes(floor),
            );
            erased.insert(partition, floor);
        }
        submit(batch)
    }

    /// Whether a dot of one of our actors, met elsewhere, can have come from here.
    pub(crate) fn was_issued(&self, counter: u64) -> bool {
        self.lease.lock().was_issued(counter)
    }

    /// Gives a vnode a new actor, durably, because what `stale` said can no longer be trusted. Whoever
    /// acts on a key holds its guard since before it learnt of `stale`; a successor that somebody else
    /// has made meanwhile will then do as well, for it has written nothing under that key.
    ///
    /// # Errors
    /// [`StorageError`] when the new one is not on disk. The old one must not be used all the same.
    pub(crate) async fn replace_actor(
        &self,
        partition: PartitionId,
        stale: Option<ActorId>,
        why: &'static str,
    ) -> Result<ActorId, StorageError> {
        let _one_at_a_time = self.replacing.lock().await;
        let known = self.actors.read().get(&partition).copied().flatten();
        if let Some(successor) = known.filter(|_| known != stale) {
            return Ok(successor);
        }
        let made = new_actor(&self.environment, partition);
        let mut batch = WriteBatch::new();
        batch.put(Keyspace::Meta, keys::meta_actor(partition), made.to_vec());
        self.store.commit(batch.using_reserve()).await?;
        let actor = ActorId::from_bytes(made);
        let mut actors = self.actors.write();
        actors.insert(partition, Some(actor));
        if actors.values().all(Option::is_some) {
            self.store.vouch(true);
        }
        drop(actors);
        warn!(partition = partition.0, why, "a vnode took a new actor");
        Ok(actor)
    }

    /// Gives every vnode a new actor, because the store as a whole can no longer be trusted.
    ///
    /// # Errors
    /// [`StorageError`] when one of them is not on disk.
    pub(crate) async fn replace_all(&self, why: &'static str) -> Result<(), StorageError> {
        let known: Vec<_> = self
            .actors
            .read()
            .iter()
            .map(|(partition, actor)| (*partition, *actor))
            .collect();
        for (partition, actor) in known {
            self.replace_actor(partition, actor, why).await?;
        }
        Ok(())
    }

    /// Gives a name to each vnode that has none yet, and takes it from those that are not this node's any more: a vnode
    /// that comes back later is another one, for what it had written here was given away.
    ///
    /// # Errors
    /// [`StorageError`] when that is not on disk; the vnodes are named as before then.
    pub(crate) async fn follow(&self, kept: &[PartitionId]) -> Result<(), StorageError> {
        let _one_at_a_time = self.replacing.lock().await;
        let known: Vec<PartitionId> = self.actors.read().keys().copied().collect();
        let mut batch = WriteBatch::new();
        let is_new = |partition: &&PartitionId| known.binary_search(partition).is_err();
        let mut made = Vec::new();
        for partition in kept.iter().filter(is_new) {
            let actor = new_actor(&self.environment, *partition);
            batch.put(Keyspace::Meta, keys::meta_actor(*partition), actor.to_vec());
            made.push((*partition, ActorId::from_bytes(actor)));
        }
        let gone = known
            .iter()
            .filter(|partition| kept.binary_search(partition).is_err());
        let gone: Vec<PartitionId> = gone.copied().collect();
        for partition in &gone {
            batch.delete(Keyspace::Meta, keys::meta_actor(*partition));
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.store.commit(batch.using_reserve()).await?;
        let mut actors = self.actors.write();
        for partition in gone {
            actors.remove(&partition);
        }
        for (partition, actor) in made {
            actors.insert(partition, Some(actor));
        }
        if actors.values().all(Option::is_some) {
            self.store.vouch(true);
        }
        Ok(())
    }

    /// Takes an actor out of use: a write of it left this node and did not reach its own disk. The
    /// next write of its vnode makes a new one; until then no stop of this node is a clean one.
    pub(crate) fn retire(&self, actor: ActorId) {
        let mut actors = self.actors.write();
        let held = actors.values_mut().find(|held| **held == Some(actor));
        if let Some(held) = held {
            *held = None;
            self.store.vouch(false);
        }
    }

    /// How many vnodes wait for a new actor.
    pub(crate) fn retired_count(&self) -> usize {
        let actors = self.actors.read();
        actors.values().filter(|actor| actor.is_none()).count()
    }

    async fn extend(&self) -> Result<(), StorageError> {
        let _one_at_a_time = self.extending.lock().await;
        let upto = {
            let lease = self.lease.lock();
            match lease.early_renewal() {
                // Somebody else was faster.
                None => return Ok(()),
                Some(need) => need.upto,
            }
        };
        let mut batch = WriteBatch::new();
        batch.put(
            Keyspace::Meta,
            keys::META_LEASE,
            upto.to_be_bytes().to_vec(),
        );
        self.store.commit(batch.using_reserve()).await?;
        self.lease.lock().extend(upto);
        Ok(())
    }
}

fn new_actor(environment: &Environment, partition: PartitionId) -> [u8; 16] {
    if mutant!("actors-by-partition") {
        return u128::from(partition.0).to_be_bytes();
    }
    environment.random_id()
}

/// The end of the counter lease; `None` when there is none, or none that can be read.
fn read_lease(store: &Store) -> Result<Option<u64>, StorageError> {
    let leased = unless_damaged(store.get(Keyspace::Meta, keys::META_LEASE))?;
    Ok(leased
        .and_then(|bytes| bytes.as_ref().try_into().ok())
        .map(u64::from_be_bytes))
}

/// Actor, counter, stamp: 16, 8 and 8 bytes.
fn floor_to_bytes(floor: ErasedFloor) -> Vec<u8> {
    let (counter, stamp) = (
        floor.counter.to_be_bytes(),
        floor.stamp.to_bits().to_be_bytes(),
    );
    [&floor.actor.as_bytes()[..], &counter, &stamp].concat()
}

fn floor_from_bytes(bytes: &[u8]) -> Option<ErasedFloor> {
    let (actor, rest) = bytes.split_first_chunk::<16>()?;
    let (counter, rest) = rest.split_first_chunk::<8>()?;
    Some(ErasedFloor {
        actor: ActorId::from_bytes(*actor),
        counter: u64::from_be_bytes(*counter),
        stamp: Stamp::from_bits(u64::from_be_bytes(rest.try_into().ok()?)),
    })
}

/// A damaged floor counts as missing: the vnode then takes a new actor where it need not.
fn read_floors(store: &Store) -> Result<BTreeMap<PartitionId, ErasedFloor>, StorageError> {
    let mut floors = BTreeMap::new();
    let mut scan = Scan::prefix(Keyspace::Meta, keys::META_ERASED);
    loop {
        let page = store.scan(&scan)?;
        for row in &page.rows {
            let partition = row.key.strip_prefix(keys::META_ERASED);
            let partition = partition.and_then(|number| number.try_into().ok());
            let floor = row
                .value
                .as_ref()
                .ok()
                .and_then(|bytes| floor_from_bytes(bytes));
            if let (Some(partition), Some(floor)) = (partition, floor) {
                floors.insert(PartitionId(u32::from_be_bytes(partition)), floor);
            }
        }
        match page.rows.last() {
            Some(last) if page.more => {
                scan = Scan::prefix(Keyspace::Meta, keys::META_ERASED).after(&last.key);
            }
            _ => return Ok(floors),
        }
    }
}

/// What is damaged counts as missing: new names need nothing of the old ones.
fn unless_damaged<T>(read: Result<Option<T>, StorageError>) -> Result<Option<T>, StorageError> {
    match read {
        Err(cause @ StorageError::Corrupt { .. }) => {
            error!(%cause, "a name of this store is damaged and made anew");
            Ok(None)
        }
        other => other,
    }
}

#[cfg(test)]
#[path = "mint_test.rs"]
mod tests;
