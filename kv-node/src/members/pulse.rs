//! How a node whose data directory was replaced by an older copy of itself is found out.
//!
//! A node counts its starts and, while it runs, every few seconds one more, on disk before it tells anybody. The others
//! remember the highest count that they heard from each store. A process that starts at no higher one stands on
//! an older copy: it has lost what it promised since, although it has its own name. It takes a new one, and learns.
//!
//! Place: I/O; part of `crate::members`, told in greetings and heartbeats.
//! Invariants: 1. a count is on disk before it is told, so a process that starts on the newest state starts above all that
//! was told. 2. what was heard survives restarts.
//! Limits: votes between the last count told and a copy made right after it are not missed; that is seconds.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use souk_kv_storage::{Keyspace, Scan, StorageError, Store, WriteBatch};
use souk_ring::{NodeId, StoreId};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::Members;
use crate::keys;

/// How often a running node counts.
const COUNT_EVERY: Duration = Duration::from_secs(5);
const STORE_BYTES: usize = 16;

/// What a process says of itself in a greeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pulse {
    /// Drawn when it started.
    pub(crate) process: u64,
    /// The count that it started with.
    pub(crate) start: u64,
}

/// This node's count, and those it has heard.
#[derive(Debug)]
pub(super) struct Pulses {
    store: Store,
    pulse: Pulse,
    own: AtomicU64,
    heard: Mutex<BTreeMap<NodeId, Heard>>,
}

/// What was last heard from a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Heard {
    store: StoreId,
    process: u64,
    highest: u64,
}

impl Heard {
    fn to_bytes(self) -> Vec<u8> {
        [
            &self.store.0[..],
            &self.process.to_be_bytes(),
            &self.highest.to_be_bytes(),
        ]
        .concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (store, numbers) = bytes.split_at_checked(STORE_BYTES)?;
        let (process, highest) = numbers.split_at_checked(8)?;
        Some(Self {
            store: StoreId(store.try_into().ok()?),
            process: number(process)?,
            highest: number(highest)?,
        })
    }
}

/// Counts while the node runs.
pub(crate) async fn count_pulse(members: Arc<Members>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(COUNT_EVERY) => {}
        }
        if let Err(cause) = members.pulses.count().await {
            warn!(%cause, "the pulse of this store could not be written down");
        }
    }
}

impl Pulses {
    /// Counts this start.
    pub(super) async fn open(store: Store, process: u64) -> Result<Self, StorageError> {
        let before = match store.get(Keyspace::Meta, keys::META_PULSE) {
            Ok(stored) => stored.and_then(|bytes| number(&bytes)).unwrap_or(0),
            // The others will find it too low, which is right for a damaged store.
            Err(StorageError::Corrupt { .. }) => 0,
            Err(cause) => return Err(cause),
        };
        let mut heard = BTreeMap::new();
        for row in store
            .scan(&Scan::prefix(Keyspace::Meta, keys::META_PULSES))?
            .rows
        {
            let node = row
                .key
                .get(keys::META_PULSES.len()..)
                .and_then(|bytes| Some(NodeId(u32::from_be_bytes(bytes.try_into().ok()?))));
            let known = row.value.ok().and_then(|bytes| Heard::from_bytes(&bytes));
            heard.extend(node.zip(known));
        }
        let pulses = Self {
            store,
            pulse: Pulse {
                process,
                start: before + 1,
            },
            own: AtomicU64::new(before),
            heard: Mutex::new(heard),
        };
        pulses.count().await?;
        Ok(pulses)
    }

    /// What greetings tell.
    pub(super) fn pulse(&self) -> Pulse {
        self.pulse
    }

    /// What heartbeats tell.
    pub(super) fn own(&self) -> u64 {
        self.own.load(Ordering::Acquire)
    }

    async fn count(&self) -> Result<(), StorageError> {
        let next = self.own() + 1;
        let mut batch = WriteBatch::new();
        batch.put(
            Keyspace::Meta,
            keys::META_PULSE,
            next.to_be_bytes().to_vec(),
        );
        self.store.commit(batch.using_reserve()).await?;
        self.own.store(next, Ordering::Release);
        Ok(())
    }

    /// Hears a greeting; false when its process started on an older copy of that store.
    pub(super) fn hear_greeting(&self, node: NodeId, store: StoreId, pulse: Pulse) -> bool {
        let mut heard = self.heard.lock();
        match heard.get(&node).filter(|known| known.store == store) {
            Some(known) if known.process == pulse.process => return true,
            Some(known) if pulse.start <= known.highest => return false,
            _ => {}
        }
        let news = Heard {
            store,
            process: pulse.process,
            highest: pulse.start,
        };
        heard.insert(node, news);
        drop(heard);
        self.remember(node, news);
        true
    }

    /// Hears a heartbeat.
    pub(super) fn hear_heartbeat(&self, node: NodeId, count: u64) {
        let mut heard = self.heard.lock();
        let Some(known) = heard.get_mut(&node).filter(|known| known.highest < count) else {
            return;
        };
        known.highest = count;
        let news = *known;
        drop(heard);
        self.remember(node, news);
    }

    fn remember(&self, node: NodeId, news: Heard) {
        let mut batch = WriteBatch::new();
        batch.put(Keyspace::Meta, keys::meta_pulse_of(node), news.to_bytes());
        let commit = self.store.submit(batch.using_reserve());
        tokio::spawn(async move {
            if let Err(cause) = commit.await {
                error!(%cause, "the pulse of a peer could not be written down");
            }
        });
    }
}

fn number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use souk_kv_storage::{MemoryDisk, StoreOptions};

    use super::*;

    const NODE: NodeId = NodeId(3);
    const STORE: StoreId = StoreId([7; 16]);

    fn store(disk: &MemoryDisk) -> Store {
        Store::open(StoreOptions::memory(disk.clone())).expect("it opens")
    }

    #[tokio::test]
    async fn an_older_copy_is_found_out_also_after_a_restart() {
        let disk = MemoryDisk::default();
        let first = Pulses::open(store(&disk), 1).await.expect("it counts");
        let pulse = |process, start| Pulse { process, start };
        assert!(first.hear_greeting(NODE, STORE, pulse(10, 4)));
        first.hear_heartbeat(NODE, 9);
        first.hear_heartbeat(NODE, 8);
        assert!(
            first.hear_greeting(NODE, STORE, pulse(10, 4)),
            "the other lane"
        );
        assert!(!first.hear_greeting(NODE, STORE, pulse(11, 9)), "a copy");
        first.store.close().await.expect("it closes");
        let again = Pulses::open(store(&disk), 2).await.expect("it counts");
        assert!(again.pulse().start > first.own());
        assert!(!again.hear_greeting(NODE, STORE, pulse(12, 5)), "a copy");
        assert!(
            again.hear_greeting(NODE, STORE, pulse(13, 10)),
            "an orderly start"
        );
        assert!(
            again.hear_greeting(NODE, StoreId([8; 16]), pulse(14, 1)),
            "a new store"
        );
    }
}
