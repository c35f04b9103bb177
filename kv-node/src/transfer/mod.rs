//! Copies on their way to the nodes that the next layout gives them to.
//!
//! | file | idea |
//! |---|---|
//! | `gaining` | this node pulls what it is to own, partition after partition |
//! | `errand` | one step of one partition: groups listed, settled, records copied, compared |
//! | `parting` | a node that leaves brings to the others what it alone may have |
//! | `settling` | when everybody holds everything, the layout of the next owners is proposed |
//! | `leaving` | what this node does not own any more is handed over, then erased |
//!
//! Place: I/O; drives `souk_kv_core::transfer`. Copies travel on the bulk lane and ask the governor.
//! Invariants: 1. what was gained is on disk before it is written down as gained, under the store's own name: another
//! store begins anew. 2. nothing is erased here before every present owner has it on disk.
//! Not here: the decision to move (`crate::members::staged`), who votes meanwhile (`souk_kv_core::register`).

mod errand;
mod gaining;
mod leaving;
mod parting;
mod settling;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use souk_kv_proto::peer;
use tokio::time::Instant;

pub(crate) use gaining::gain;
pub(crate) use leaving::leave;
pub(crate) use settling::settle;

/// How far this node has come with what it is to own. Shared by the task that does it and those who ask.
#[derive(Debug, Default)]
pub(crate) struct Transfers {
    now: Mutex<Option<Move>>,
    groups_settled: AtomicU64,
    records_copied: AtomicU64,
    bytes_copied: AtomicU64,
    /// The epoch that began the move of which this node has parted.
    parted: AtomicU64,
    /// Partitions that this node keeps data of and does not own, after the last look.
    leftovers: AtomicU64,
}

#[derive(Debug)]
struct Move {
    started: u64,
    began: Instant,
    partitions_total: u64,
    partitions_left: u64,
    waits_for: String,
}

impl Transfers {
    /// What is told to who asks. `started` is what the layout says now: before the task has looked at a new move, nothing
    /// of it is done.
    pub(crate) fn report(&self, started: u64) -> peer::Transfers {
        let now = self.now.lock();
        let Some(now) = now.as_ref().filter(|now| now.started == started) else {
            return peer::Transfers {
                started: 0,
                partitions_left: self.leftovers.load(Ordering::Relaxed),
                ..Default::default()
            };
        };
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        peer::Transfers {
            started: now.started,
            partitions_total: now.partitions_total,
            partitions_left: now.partitions_left,
            groups_settled: self.groups_settled.load(Ordering::Relaxed),
            records_copied: self.records_copied.load(Ordering::Relaxed),
            bytes_copied: self.bytes_copied.load(Ordering::Relaxed),
            elapsed_ms: millis(now.began.elapsed()),
            waits_for: now.waits_for.clone(),
        }
    }

    fn begin(&self, started: u64, total: u64, left: u64) {
        let mut now = self.now.lock();
        let is_same = now.as_ref().is_some_and(|now| now.started == started);
        if !is_same {
            for count in [
                &self.groups_settled,
                &self.records_copied,
                &self.bytes_copied,
            ] {
                count.store(0, Ordering::Relaxed);
            }
            *now = Some(Move {
                started,
                began: Instant::now(),
                partitions_total: total,
                partitions_left: left,
                waits_for: String::new(),
            });
        } else if let Some(now) = now.as_mut() {
            (now.partitions_total, now.partitions_left) = (total, left);
        }
    }

    /// Whether a node that leaves has nothing more that it alone may have.
    fn has_parted(&self, started: u64) -> bool {
        self.parted.load(Ordering::Acquire) == started
    }

    fn note_parted(&self, started: u64) {
        self.parted.store(started, Ordering::Release);
    }

    fn end(&self) {
        *self.now.lock() = None;
    }

    fn one_done(&self) {
        if let Some(now) = self.now.lock().as_mut() {
            now.partitions_left = now.partitions_left.saturating_sub(1);
            now.waits_for.clear();
        }
    }

    fn waits_for(&self, what: String) {
        if let Some(now) = self.now.lock().as_mut() {
            now.waits_for = what;
        }
    }

    fn settled_group(&self) {
        self.groups_settled.fetch_add(1, Ordering::Relaxed);
    }

    fn copied(&self, records: u64, bytes: u64) {
        self.records_copied.fetch_add(records, Ordering::Relaxed);
        self.bytes_copied.fetch_add(bytes, Ordering::Relaxed);
    }

    fn leftovers(&self, partitions: u64) {
        self.leftovers.store(partitions, Ordering::Relaxed);
    }
}
