//! Names for writes: the actors of this node's vnodes and the counters that never repeat.
//!
//! The picture: each vnode has a stamp with its own random mark (the actor) and all share one book
//! of numbered tickets (the counter lease). After any stop that was not orderly, and whenever the
//! store may have lost something, every vnode gets a new mark before its first write: a dot that left
//! this node before its own sync was acknowledged may be missing here, and a vector entry of the same
//! actor would then claim to have seen it, and erase it elsewhere.
//!
//! Place: used by the coordinators of `siblings` and `lww` writes.
//! Source: DESIGN of dots in `souk_kv_core::causality`; `docs/adr/0004-new-actors-after-an-unclean-stop.md`.
//! Invariants: 1. no dot is minted twice. 2. no counter leaves before its lease is on disk.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use souk_kv_core::causality::{ActorId, CounterLease, Dot};
use souk_kv_storage::{Keyspace, Recovery, StorageError, Store, WriteBatch};
use souk_ring::PartitionId;
use tracing::{info, warn};

use crate::{clock::Environment, keys};

/// Counters of one durable lease. A crash skips what is left of it; 64 bits are in no hurry.
const LEASE_BLOCK: NonZeroU32 = NonZeroU32::new(1 << 20).expect("it is not zero");

/// Mints dots for this node.
#[derive(Debug)]
pub(crate) struct Mint {
    lease: Mutex<CounterLease>,
    extending: tokio::sync::Mutex<()>,
    actors: ArcSwap<BTreeMap<PartitionId, ActorId>>,
    /// Names the loose dots of writes for which this node only stands in; new at every start.
    visitor: ActorId,
    retired: AtomicBool,
}

impl Mint {
    /// Reads the lease and the actors of the node's own partitions, making new ones where needed.
    pub(crate) async fn open(
        store: &Store,
        own: impl Iterator<Item = PartitionId>,
        environment: &Environment,
    ) -> Result<Self, StorageError> {
        let leased = store.get(Keyspace::Meta, keys::META_LEASE)?;
        let leased = leased
            .and_then(|bytes| bytes.as_ref().try_into().ok())
            .map_or(0, u64::from_be_bytes);
        let keep = match store.recovery() {
            Recovery::Clean => true,
            Recovery::Unclean => {
                info!("the last stop was not orderly: all vnodes take new actors");
                false
            }
            Recovery::Suspect { why } => {
                warn!(
                    why,
                    "the store may have lost something: all vnodes take new actors"
                );
                false
            }
        };
        let mut actors = BTreeMap::new();
        let mut batch = WriteBatch::new();
        for partition in own {
            let key = keys::meta_actor(partition);
            let known = if keep {
                store.get(Keyspace::Meta, &key)?
            } else {
                None
            };
            let known = known.and_then(|bytes| <[u8; 16]>::try_from(bytes.as_ref()).ok());
            let actor = known.unwrap_or_else(|| {
                let made = environment.random_id();
                batch.put(Keyspace::Meta, key, made.to_vec());
                made
            });
            actors.insert(partition, ActorId::from_bytes(actor));
        }
        if !batch.is_empty() {
            store.commit(batch).await?;
        }
        let mint = Self {
            lease: Mutex::new(CounterLease::after_unclean_stop(leased, LEASE_BLOCK)),
            extending: tokio::sync::Mutex::new(()),
            actors: ArcSwap::from_pointee(actors),
            visitor: ActorId::from_bytes(environment.random_id()),
            retired: AtomicBool::new(false),
        };
        mint.extend(store).await?;
        Ok(mint)
    }

    /// The actor of this node's vnode of a partition; `None` when it holds no copy.
    pub(crate) fn actor(&self, partition: PartitionId) -> Option<ActorId> {
        self.actors.load().get(&partition).copied()
    }

    /// A fresh dot of that actor.
    pub(crate) async fn dot(&self, store: &Store, actor: ActorId) -> Result<Dot, StorageError> {
        loop {
            if let Ok(counter) = self.lease.lock().issue() {
                return Ok(Dot { actor, counter });
            }
            self.extend(store).await?;
        }
    }

    /// A fresh dot for a write that this node only stands in for.
    pub(crate) async fn visitor_dot(&self, store: &Store) -> Result<Dot, StorageError> {
        self.dot(store, self.visitor).await
    }

    /// Whether a dot of one of our actors, met elsewhere, can have come from here.
    pub(crate) fn was_issued(&self, counter: u64) -> bool {
        self.lease.lock().was_issued(counter)
    }

    /// Gives a vnode a new actor: what its old one said can no longer be trusted.
    pub(crate) async fn replace_actor(
        &self,
        store: &Store,
        partition: PartitionId,
        environment: &Environment,
    ) -> Result<(), StorageError> {
        let made = environment.random_id();
        let mut batch = WriteBatch::new();
        batch.put(Keyspace::Meta, keys::meta_actor(partition), made.to_vec());
        store.commit(batch).await?;
        self.actors.rcu(|actors| {
            let mut actors = BTreeMap::clone(actors);
            actors.insert(partition, ActorId::from_bytes(made));
            Arc::new(actors)
        });
        warn!(
            partition = partition.0,
            "a vnode took a new actor: its store had been rolled back"
        );
        Ok(())
    }

    /// Takes a vnode's actor away until the next start, which gives it a new one: a write of it left
    /// this node and did not reach its own disk. Until then its writes get loose dots.
    pub(crate) fn retire(&self, partition: PartitionId) {
        self.retired.store(true, Ordering::Release);
        self.actors.rcu(|actors| {
            let mut actors = BTreeMap::clone(actors);
            actors.remove(&partition);
            Arc::new(actors)
        });
    }

    /// Whether an orderly stop may vouch for the actors on disk.
    pub(crate) fn may_stop_clean(&self) -> bool {
        !self.retired.load(Ordering::Acquire)
    }

    async fn extend(&self, store: &Store) -> Result<(), StorageError> {
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
        store.commit(batch).await?;
        self.lease.lock().extend(upto);
        Ok(())
    }
}
