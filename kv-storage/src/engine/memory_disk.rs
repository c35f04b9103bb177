//! A pretended disk with a bad character: it keeps what was synced and, at a power cut, only what
//! it likes of the rest.
//!
//! Place: outlives the [`super::MemoryEngine`]s that are opened on it, as a disk outlives the
//! processes of its machine. Cheap to clone; clones are the same disk.
//! Shape: a checkpoint (the tables at some moment) and a log of batches behind it. A log record is
//! magic, length, CRC-32, body. Everything up to `synced` is safe; the rest is in the "page cache".
//! Invariants: 1. equal seeds and equal writes give equal crashes. 2. a crash never touches a
//! synced byte. 3. an engine opened before a crash or a reopening writes nothing any more.
//! Not here: visibility and reads (`super::memory`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::batch::Change;
use crate::{Keyspace, frame};

/// What a real disk writes as a whole.
const SECTOR_BYTES: usize = 512;
/// The log is folded into a checkpoint when it is longer than this and all of it is synced.
const LOG_BYTES_MAX: usize = 4 << 20;
const MAGIC: [u8; 4] = *b"souk";
/// Magic, body length, CRC-32 of the body.
const RECORD_HEAD_BYTES: usize = 12;

/// Keys and sealed values of each keyspace, in tag order.
pub(super) type Tables = [BTreeMap<Bytes, Bytes>; Keyspace::ALL.len()];

/// A disk in memory, with faults on demand.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    pub(super) state: Arc<Mutex<DiskState>>,
}

impl fmt::Debug for MemoryDisk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("MemoryDisk")
    }
}

#[derive(Default)]
pub(super) struct DiskState {
    checkpoint: Tables,
    log: Vec<u8>,
    synced: usize,
    /// Counts openings and crashes; an engine of an older generation is a ghost.
    generation: u64,
    formatted: bool,
    clean_marker: Option<Vec<u8>>,
    sync_latency: Duration,
    fail_next_sync: bool,
    capacity_bytes: Option<u64>,
    /// Rows that read wrong until they are written again.
    damaged: BTreeSet<(Keyspace, Bytes)>,
    found_full_count: u64,
}

impl MemoryDisk {
    /// An empty disk without latency, faults or bounds.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cuts the power: the process is gone, and of the unsynced sectors `seed` decides which
    /// survive: none, a prefix, or any of them, the lost ones reading as zeros. The next opening
    /// finds what a recovery would find. Engines opened before are dead from here on.
    pub fn crash(&self, seed: u64) {
        self.state.lock().crash(&mut SmallRng::seed_from_u64(seed));
    }

    /// Makes each sync take `latency` of the runtime's time. For simulation; zero by default.
    pub fn set_sync_latency(&self, latency: Duration) {
        self.state.lock().sync_latency = latency;
    }

    /// Makes the next sync fail with an I/O error.
    pub fn fail_next_sync(&self) {
        self.state.lock().fail_next_sync = true;
    }

    /// Bounds what the disk holds, in bytes; `None` is no bound, as at first.
    pub fn set_capacity_bytes(&self, capacity_bytes: Option<u64>) {
        self.state.lock().capacity_bytes = capacity_bytes;
    }

    /// Flips one bit of the synced log or of a stored value, chosen by `seed`. `false` if there
    /// is nothing to flip.
    pub fn flip_bit(&self, seed: u64) -> bool {
        self.state
            .lock()
            .flip_bit(&mut SmallRng::seed_from_u64(seed))
    }

    /// Makes one stored row read with a flipped bit from now on, until it is written again. A row
    /// that does not exist stays missing.
    pub fn damage_row(&self, keyspace: Keyspace, key: &[u8]) {
        let key = Bytes::copy_from_slice(key);
        self.state.lock().damaged.insert((keyspace, key));
    }

    /// Bytes on it, synced or not.
    pub fn used_bytes(&self) -> u64 {
        self.state.lock().used_bytes()
    }

    /// Bytes that a power cut now might take.
    pub fn unsynced_bytes(&self) -> u64 {
        let state = self.state.lock();
        (state.log.len() - state.synced) as u64
    }

    /// Every row of a keyspace that is safe by now, in key order, as somebody reads it who takes the disk out and
    /// looks at it: key and value, and no value where it fails its checksum. Costs a pass over all that was written.
    pub fn rows(&self, keyspace: Keyspace) -> Vec<(Bytes, Option<Bytes>)> {
        self.state.lock().rows(keyspace)
    }

    /// Whether a sync is still to fail, after [`MemoryDisk::fail_next_sync`].
    pub fn is_sync_failure_pending(&self) -> bool {
        self.state.lock().fail_next_sync
    }

    /// How often a writer has found the disk full.
    pub fn found_full_count(&self) -> u64 {
        self.state.lock().found_full_count
    }

    /// Bytes that are free, if the disk is bounded.
    pub(crate) fn available_bytes(&self) -> Option<u64> {
        let mut state = self.state.lock();
        let capacity = state.capacity_bytes?;
        let available = capacity.saturating_sub(state.used_bytes());
        state.found_full_count += u64::from(available == 0);
        Some(available)
    }

    pub(crate) fn sync_latency(&self) -> Duration {
        self.state.lock().sync_latency
    }

    /// Whether a store was made here before; makes one.
    pub(crate) fn format(&self) -> bool {
        std::mem::replace(&mut self.state.lock().formatted, true)
    }

    pub(crate) fn take_clean_marker(&self) -> Option<Vec<u8>> {
        self.state.lock().clean_marker.take()
    }

    pub(crate) fn set_clean_marker(&self, marker: Vec<u8>) {
        self.state.lock().clean_marker = Some(marker);
    }
}

/// What an opening found.
pub(super) struct Recovered {
    pub(super) generation: u64,
    pub(super) tables: Tables,
    /// Good records lie behind a bad one.
    pub(super) hole_at: Option<usize>,
}

impl DiskState {
    /// Reads the tables back and cuts the log behind its last good record.
    pub(super) fn recover(&mut self) -> Recovered {
        self.generation += 1;
        let (tables, at) = self.replay(self.log.len());
        let hole_at = (at..self.log.len())
            .any(|start| record(&self.log, start).is_some())
            .then_some(at);
        self.log.truncate(at);
        self.synced = at;
        Recovered {
            generation: self.generation,
            tables,
            hole_at,
        }
    }

    /// The tables after the good records among the first bytes of the log, and where these end.
    fn replay(&self, log_bytes: usize) -> (Tables, usize) {
        let mut tables = self.checkpoint.clone();
        let mut at = 0;
        while let Some((body, end)) = record(&self.log[..log_bytes], at) {
            apply(&mut tables, body);
            at = end;
        }
        (tables, at)
    }

    fn rows(&self, keyspace: Keyspace) -> Vec<(Bytes, Option<Bytes>)> {
        let (mut tables, _) = self.replay(self.synced);
        let rows = std::mem::take(&mut tables[keyspace.index()]).into_iter();
        rows.map(|(key, sealed)| {
            let is_damaged = self.damaged.contains(&(keyspace, key.clone()));
            let value = frame::open(keyspace, &key, &sealed).ok();
            let value = value.filter(|_| !is_damaged);
            (key, value)
        })
        .collect()
    }

    pub(super) fn is_current(&self, generation: u64) -> bool {
        self.generation == generation
    }

    /// Writes a record to the page cache.
    pub(super) fn append(&mut self, changes: &[Change]) {
        let body = encode(changes);
        self.log.put_slice(&MAGIC);
        self.log.put_u32_le(body.len() as u32);
        self.log.put_u32_le(crc32fast::hash(&body));
        self.log.put_slice(&body);
    }

    /// Makes the page cache safe, unless told to fail.
    pub(super) fn sync(&mut self) -> Result<(), &'static str> {
        if std::mem::take(&mut self.fail_next_sync) {
            return Err("fdatasync: Input/output error (injected)");
        }
        self.synced = self.log.len();
        Ok(())
    }

    /// The rows that read wrong.
    pub(super) fn damaged(&self) -> BTreeSet<(Keyspace, Bytes)> {
        self.damaged.clone()
    }

    /// Writing a row mends it.
    pub(super) fn mend(&mut self, changes: &[Change]) {
        if self.damaged.is_empty() {
            return;
        }
        for change in changes {
            self.damaged.remove(&(change.keyspace, change.key.clone()));
        }
    }

    /// Replaces a long log by a checkpoint. `tables` is the state that the log leads to.
    pub(super) fn fold(&mut self, tables: &Tables) {
        if self.log.len() > LOG_BYTES_MAX && self.synced == self.log.len() {
            self.checkpoint = tables.clone();
            self.log.clear();
            self.synced = 0;
        }
    }

    pub(super) fn log_bytes(&self) -> u64 {
        self.log.len() as u64
    }

    pub(super) fn used_bytes(&self) -> u64 {
        let tables = self.checkpoint.iter().flatten();
        tables
            .map(|(key, value)| (key.len() + value.len()) as u64)
            .sum::<u64>()
            + self.log_bytes()
    }

    fn crash(&mut self, random: &mut SmallRng) {
        self.generation += 1;
        self.fail_next_sync = false;
        // The sector that holds the end of the synced part keeps that part in either version.
        let tail = self.synced..self.log.len();
        match random.random_range(0..3) {
            0 => self.log.truncate(tail.start),
            1 => self
                .log
                .truncate(random.random_range(tail.start..=tail.end)),
            _ => {
                let mut at = tail.start;
                while at < tail.end {
                    let sector_end = (at / SECTOR_BYTES + 1) * SECTOR_BYTES;
                    let end = sector_end.min(tail.end);
                    if random.random_bool(0.5) {
                        self.log[at..end].fill(0);
                    }
                    at = end;
                }
            }
        }
    }

    fn flip_bit(&mut self, random: &mut SmallRng) -> bool {
        let bit = 1 << random.random_range(0..8);
        let values: usize = self.checkpoint.iter().map(BTreeMap::len).sum();
        if self.synced > 0 && (values == 0 || random.random_bool(0.5)) {
            let at = random.random_range(0..self.synced);
            self.log[at] ^= bit;
            return true;
        }
        if values == 0 {
            return false;
        }
        let chosen = random.random_range(0..values);
        let value = self
            .checkpoint
            .iter_mut()
            .flat_map(BTreeMap::values_mut)
            .nth(chosen);
        let Some(value) = value else { return false };
        let mut bytes = value.to_vec();
        let at = random.random_range(0..bytes.len());
        bytes[at] ^= bit;
        *value = bytes.into();
        true
    }
}

/// The body of the record at `at` and the end of it, if a good record is there.
fn record(log: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let mut head = log.get(at..at + RECORD_HEAD_BYTES)?;
    if head[..4] != MAGIC {
        return None;
    }
    head.advance(4);
    let len = head.get_u32_le() as usize;
    let sum = head.get_u32_le();
    let start = at + RECORD_HEAD_BYTES;
    let body = log.get(start..start.checked_add(len)?)?;
    (crc32fast::hash(body) == sum).then_some((body, start + len))
}

/// Per change: tag, whether a value follows, key length, value length, key, value.
fn encode(changes: &[Change]) -> Vec<u8> {
    let mut body = Vec::new();
    for change in changes {
        body.put_u8(change.keyspace.tag());
        body.put_u8(u8::from(change.value.is_some()));
        let value = change.value.as_deref().unwrap_or_default();
        body.put_u32_le(change.key.len() as u32);
        body.put_u32_le(value.len() as u32);
        body.put_slice(&change.key);
        body.put_slice(value);
    }
    body
}

/// Applies a body that passed its checksum.
fn apply(tables: &mut Tables, mut body: &[u8]) {
    while body.remaining() >= 10 {
        let Some(keyspace) = Keyspace::from_tag(body.get_u8()) else {
            return;
        };
        let has_value = body.get_u8() == 1;
        let (key_len, value_len) = (body.get_u32_le() as usize, body.get_u32_le() as usize);
        if body.remaining() < key_len + value_len {
            return;
        }
        let key = body.copy_to_bytes(key_len);
        let value = body.copy_to_bytes(value_len);
        put(tables, keyspace, key, has_value.then_some(value));
    }
}

pub(super) fn put(tables: &mut Tables, keyspace: Keyspace, key: Bytes, value: Option<Bytes>) {
    let table = &mut tables[keyspace.index()];
    match value {
        Some(value) => table.insert(key, value),
        None => table.remove(&key),
    };
}
