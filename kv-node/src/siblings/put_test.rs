//! Puts, damage and refusals on one node, and what its replicas make of what it sends.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use rand::{SeedableRng, rngs::StdRng};
use souk_kv_core::causality::{ContentType, Observed, Record, RequestId, Value};
use souk_kv_proto::{
    convert::causality::decode_record,
    kv::{BucketConfig, BucketMode},
};
use souk_kv_storage::{Keyspace, MemoryDisk, NotWritten, Store, StoreOptions, WriteBatch};
use souk_ring::Layout;
use tokio_util::task::TaskTracker;

use super::*;
use crate::{
    anti_entropy::{Forest, Held},
    clock::{Environment, WallClock},
    cluster::{
        Bucket, Durabilities,
        bench::{cluster, layout},
    },
    config::ClusterFile,
    governor::Governor,
    guard::KeyGuards,
    hint::HintSpace,
    keys::BucketId,
    mint::Mint,
    peer::Peers,
    siblings::{RecordPlace, Records, WriteRequest, prepare::RECORD_BYTES_MAX},
};

const RESERVE_BYTES: u64 = 100_000;
const NOW_MS: u64 = 1_800_000_000_000;
/// How long each put may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A clock that is set by hand.
#[derive(Default)]
struct Hands(AtomicU64);

impl WallClock for Hands {
    fn unix_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One of three nodes; the other two are away, and its buckets have a floor of one.
struct Bench {
    disk: MemoryDisk,
    store: Store,
    clock: Arc<Hands>,
    mint: Arc<Mint>,
    records: Arc<Records>,
    durabilities: Durabilities,
    coordinator: Coordinator,
    layout: Arc<Layout>,
}

impl Bench {
    async fn new(index: usize) -> Self {
        let disk = MemoryDisk::new();
        let store = Store::open(StoreOptions {
            queue_requests_max: 4,
            disk_reserve_bytes: RESERVE_BYTES,
            ..StoreOptions::memory(disk.clone())
        })
        .expect("an empty store opens");
        let clock = Arc::new(Hands(AtomicU64::new(NOW_MS)));
        let random = StdRng::seed_from_u64(index as u64);
        let environment = Environment::new(Arc::clone(&clock) as Arc<dyn WallClock>, random);
        let layout = Arc::new(layout());
        let node = *layout.members().keys().nth(index).expect("three members");
        let config = ClusterFile::builtin();
        let guards = Arc::new(KeyGuards::new());
        Mint::forget_unless_clean(&store).await.expect("it is new");
        let own = layout.partitions_of(node);
        let mint = Mint::open(store.clone(), own, environment.clone()).await;
        let mint = Arc::new(mint.expect("the disk takes it"));
        let durabilities = Durabilities::default();
        let forest = Forest::open(store.clone(), layout.partition_count()).await;
        let forest = Arc::new(forest.expect("there is nothing to read"));
        let records = Records::new(
            store.clone(),
            Arc::clone(&forest),
            Arc::clone(&guards),
            Arc::clone(&mint),
            durabilities.clone(),
        );
        let records = Arc::new(records);
        let hints = HintSpace::open(
            store.clone(),
            guards,
            1 << 20,
            environment.clone(),
            layout.members().keys().copied(),
        )
        .expect("nothing to count");
        let cluster = cluster(node, &layout, store.clone(), environment, Peers::new([]));
        let coordinator = Coordinator::new(
            Arc::new(cluster),
            Arc::clone(&records),
            Arc::new(hints),
            Arc::clone(&mint),
            Arc::new(config.limits.clone()),
            Arc::new(Governor::new(config.limits.foreground_p99_target)),
            TaskTracker::new(),
        );
        Self {
            disk,
            store,
            clock,
            mint,
            records,
            durabilities,
            coordinator,
            layout,
        }
    }

    fn place(&self, mode: BucketMode) -> RecordPlace {
        let config = BucketConfig {
            id: 1,
            name: "carts".to_owned(),
            mode: mode.into(),
            write_floor: 1,
            ..BucketConfig::default()
        };
        let bucket = Bucket::new(&config, self.layout.replicas_n()).expect("a good bucket");
        let key = Bytes::from_static(b"customer-1");
        RecordPlace::new(Arc::clone(&self.layout), Arc::new(bucket), key, b"")
    }

    async fn write(
        &self,
        mode: BucketMode,
        observed: Observed,
        value: Option<Vec<u8>>,
    ) -> Result<PutOutcome, RequestError> {
        static SEQUENCE: AtomicU64 = AtomicU64::new(1);
        let write = WriteRequest {
            observed,
            request: RequestId {
                client: [9; 16],
                sequence: SEQUENCE.fetch_add(1, Ordering::Relaxed),
            },
            expires_unix_ms: None,
            value: value.map(|bytes| Value::new(ContentType::octets(), bytes.into())),
        };
        let place = self.place(mode);
        let deadline = Instant::now() + PATIENCE;
        self.coordinator
            .put(
                PlacedWrite { place, write },
                &RequestOptions::default(),
                deadline,
            )
            .await
    }

    /// A write that has seen nothing.
    async fn put(&self, value: &str) -> Result<PutOutcome, RequestError> {
        let value = Some(value.as_bytes().to_vec());
        self.write(BucketMode::Siblings, Observed::default(), value)
            .await
    }

    /// The stored record, as it would be sent.
    fn stored(&self) -> Bytes {
        let key = self.place(BucketMode::Siblings).store_key;
        self.records.read(&key).expect("it can be read")
    }

    fn record(&self) -> Record {
        decode_record(self.stored()).expect("it is good").0
    }

    fn values(&self) -> Vec<String> {
        let record = self.record();
        let mut values: Vec<String> = record
            .live_siblings(NOW_MS)
            .filter_map(|sibling| sibling.value.as_ref())
            .map(|value| String::from_utf8_lossy(&value.bytes).into_owned())
            .collect();
        values.sort();
        values
    }

    async fn merge(&self, from: &Bench) {
        let key = self.place(BucketMode::Siblings).store_key;
        let merged = self.records.merge(key, from.stored()).await;
        merged.expect("the disk takes it");
    }

    async fn damage(&self) {
        let mut batch = WriteBatch::new();
        let key = self.place(BucketMode::Siblings).store_key;
        batch.put(Keyspace::Records, key, &b"no record"[..]);
        self.store.commit(batch).await.expect("the disk takes it");
    }

    async fn actor(&self) -> ActorId {
        let partition = self.place(BucketMode::Siblings).group.partition;
        let actor = self.mint.actor(partition).await.expect("it can be had");
        actor.expect("the node is a primary")
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_copy_never_speaks_for_what_it_lost() {
    let (a, b) = (Bench::new(0).await, Bench::new(1).await);
    a.put("tea").await.expect("the floor is one");
    b.merge(&a).await;
    a.damage().await;
    for value in ["salt", "rice"] {
        a.put(value).await.expect("the floor is one");
        b.merge(&a).await;
    }
    assert_eq!(b.values(), ["rice", "salt", "tea"]);
    a.merge(&b).await;
    assert_eq!(a.values(), ["rice", "salt", "tea"]);
}

#[tokio::test(start_paused = true)]
async fn a_copy_mended_by_a_staler_one_does_not_either() {
    let (a, b, c) = (
        Bench::new(0).await,
        Bench::new(1).await,
        Bench::new(2).await,
    );
    a.put("tea").await.expect("the floor is one");
    b.merge(&a).await;
    c.put("salt").await.expect("the floor is one");
    a.damage().await;
    a.merge(&c).await;
    assert_eq!(a.values(), ["salt"]);
    a.put("rice").await.expect("the floor is one");
    b.merge(&a).await;
    assert_eq!(b.values(), ["rice", "salt", "tea"]);
}

#[tokio::test(start_paused = true)]
async fn merging_stores_what_arrived_only_when_that_says_it_all() {
    let (a, b) = (Bench::new(0).await, Bench::new(1).await);
    a.put("tea").await.expect("the floor is one");
    b.merge(&a).await;
    b.merge(&a).await;
    assert_eq!(a.stored(), b.stored());
    a.put("salt").await.expect("the floor is one");
    b.put("rice").await.expect("the floor is one");
    b.merge(&a).await;
    assert_eq!(b.values(), ["rice", "salt", "tea"]);
    a.merge(&b).await;
    assert_eq!(a.stored(), b.stored());
}

#[tokio::test(start_paused = true)]
async fn a_key_may_stand_in_a_message_twice() {
    let (a, b, c) = (
        Bench::new(0).await,
        Bench::new(1).await,
        Bench::new(2).await,
    );
    a.put("tea").await.expect("the floor is one");
    b.put("salt").await.expect("the floor is one");
    let writes = [&a, &b].map(|from| WriteRecord {
        store_key: from.place(BucketMode::Siblings).store_key,
        record: from.stored(),
        ..Default::default()
    });
    let merged = c.records.merge_all(writes.into()).await;
    merged.expect("the disk takes it");
    assert_eq!(c.values(), ["salt", "tea"]);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_a_put_before_anybody_gets_it() {
    let a = Bench::new(0).await;
    let actor = a.actor().await;
    a.disk.set_sync_latency(Duration::from_secs(1));
    let mut under_way = Vec::new();
    for number in 0..5_u8 {
        let mut batch = WriteBatch::new();
        batch.put(Keyspace::Meta, vec![number], "v");
        under_way.push(a.store.submit(batch));
        // The first one is taken out of the queue.
        tokio::task::yield_now().await;
    }
    let refused = a.put("tea").await.expect_err("the queue is full");
    assert!(
        matches!(
            refused,
            RequestError::Storage(StorageError::NotWritten(NotWritten::QueueFull { .. }))
        ),
        "{refused}"
    );
    for commit in under_way {
        commit.await.expect("the disk takes it");
    }
    assert_eq!(a.actor().await, actor, "nothing left the node");
    a.put("tea").await.expect("the queue is empty");
    assert_eq!(a.values(), ["tea"]);
}

#[tokio::test(start_paused = true)]
async fn a_late_refusal_costs_one_actor_and_no_loose_dots() {
    let a = Bench::new(0).await;
    let actor = a.actor().await;
    let deleted = a.put("old").await.expect("there is room").context;
    a.disk.set_capacity_bytes(Some(RESERVE_BYTES));
    let late = a.put("tea").await.expect_err("nobody has room");
    assert_eq!(late.outcome(), Outcome::NotApplied);
    let second = a.actor().await;
    assert_ne!(second, actor, "the dot may have left");
    let early = a.put("tea").await.expect_err("the disk is still full");
    assert!(
        matches!(
            early,
            RequestError::Storage(StorageError::NotWritten(NotWritten::DiskFull { .. }))
        ),
        "{early}"
    );
    assert_eq!(a.actor().await, second);
    a.write(BucketMode::Siblings, deleted, None)
        .await
        .expect("deletes use the reserve");
    a.disk.set_capacity_bytes(None);
    tokio::time::sleep(DISK_REST).await;
    a.put("tea").await.expect("there is room");
    let record = a.record();
    assert!(record.context().loose().is_empty(), "{record:?}");
    assert!(record.context().vector().any(|(known, _)| known == second));
}

#[tokio::test(start_paused = true)]
async fn a_wrong_clock_keeps_no_cart_shut() {
    async fn check(mode: BucketMode, expected: bool) {
        let a = Bench::new(0).await;
        a.clock.0.store(NOW_MS + 86_400_000, Ordering::Relaxed);
        let value = Some(b"tea".to_vec());
        let ahead = a.write(mode, Observed::default(), value.clone()).await;
        let context = ahead.expect("the floor is one").context;
        a.clock.0.store(NOW_MS, Ordering::Relaxed);
        let later = a.write(mode, context, value).await;
        assert_eq!(later.is_ok(), expected, "{mode:?}: {later:?}");
    }
    check(BucketMode::Siblings, true).await;
    check(BucketMode::Lww, false).await;
}

#[tokio::test(start_paused = true)]
async fn waiting_for_the_key_ends_with_the_deadline() {
    let a = Bench::new(0).await;
    let key = a.place(BucketMode::Siblings).store_key;
    let guard = a.records.lock(&key).await;
    let started = Instant::now();
    let late = a.put("tea").await.expect_err("somebody holds the key");
    // The clock stands still but for what is waited for.
    assert!(started.elapsed() < PATIENCE + Duration::from_secs(1));
    assert!(matches!(late, RequestError::Timeout { .. }), "{late}");
    assert_eq!(late.outcome(), Outcome::NotApplied);
    drop(guard);
    tokio::time::sleep(PATIENCE).await;
    assert!(a.stored().is_empty(), "it was not applied later either");
}

#[tokio::test(start_paused = true)]
async fn one_sibling_is_measured_too() {
    let a = Bench::new(0).await;
    let value = Some(vec![0; RECORD_BYTES_MAX]);
    let large = a.write(BucketMode::Siblings, Observed::default(), value);
    let refused = large.await.expect_err("no record is that large");
    assert!(matches!(refused, RequestError::Invalid(_)), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_lot_takes_what_it_can_and_says_what_it_cannot() {
    let a = Bench::new(0).await;
    let write = |key: &'static [u8], bytes: usize| {
        let first = a.place(BucketMode::Siblings);
        let layout = Arc::clone(&a.layout);
        let place = RecordPlace::new(layout, first.bucket, Bytes::from_static(key), b"");
        let write = WriteRequest {
            observed: Observed::default(),
            request: RequestId {
                client: [9; 16],
                sequence: 0,
            },
            expires_unix_ms: None,
            value: Some(Value::new(ContentType::octets(), vec![1; bytes].into())),
        };
        PlacedWrite { place, write }
    };
    let lot: SmallVec<[PlacedWrite; 1]> = smallvec![
        write(b"tea", 3),
        write(b"everything", RECORD_BYTES_MAX),
        write(b"salt", 4),
    ];
    let keys: Vec<Bytes> = lot
        .iter()
        .map(|write| write.place.store_key.clone())
        .collect();
    let deadline = Instant::now() + PATIENCE;
    let outcomes = a
        .coordinator
        .put_all(lot, &RequestOptions::default(), deadline)
        .await;
    let taken: Vec<bool> = outcomes.iter().map(Result::is_ok).collect();
    assert_eq!(taken, [true, false, true]);
    for (key, taken) in keys.iter().zip(taken) {
        let record = a.records.read(key).expect("it can be read");
        assert_eq!(!record.is_empty(), taken);
    }
}

/// A synced bucket keeps what it acknowledged over a power cut. One with an interval may not, and the actor
/// that named it never speaks again.
#[tokio::test(start_paused = true)]
async fn an_interval_may_cost_the_last_writes_and_costs_the_actor() {
    let mut lost = 0;
    let coordinator = Bench::new(0).await;
    coordinator.put("tea").await.expect("the floor is one");
    for (seed, is_synced) in (0..8).flat_map(|seed| [(seed, true), (seed, false)]) {
        let bench = Bench::new(1).await;
        if !is_synced {
            let interval = Duration::from_secs(10);
            bench.durabilities.replace([(BucketId(1), interval)].into());
        }
        let before = bench.actor().await;
        bench.merge(&coordinator).await;
        bench.disk.crash(seed);
        let store = Store::open(StoreOptions::memory(bench.disk.clone())).expect("it opens");
        let place = bench.place(BucketMode::Siblings);
        let stored = store.get(Keyspace::Records, &place.store_key);
        let is_lost = stored.expect("it can be read").is_none();
        assert!(!(is_synced && is_lost), "an acknowledged write is gone");
        lost += u32::from(is_lost);
        Mint::forget_unless_clean(&store).await.expect("it can");
        let random = StdRng::seed_from_u64(1_000 + seed);
        let environment = Environment::new(Arc::clone(&bench.clock) as Arc<dyn WallClock>, random);
        let node = bench.layout.members().keys().nth(1);
        let own = bench.layout.partitions_of(*node.expect("three members"));
        let mint = Mint::open(store, own, environment).await.expect("it opens");
        let after = mint.actor(place.group.partition).await.expect("it has one");
        assert_ne!(after, Some(before));
    }
    assert!(lost > 0, "no power cut took anything");
}

impl Bench {
    /// Erases the record as a round of collection does, or loses it.
    async fn erase(&self, by_proof: bool) {
        let place = self.place(BucketMode::Siblings);
        let (key, partition) = (place.store_key, place.group.partition);
        let held = Held::of(&self.record());
        let commit = if by_proof {
            let erase = |floor| self.records.erase(key, held, floor);
            self.mint.note_erased(partition, &self.record(), erase)
        } else {
            self.records.erase(key, held, WriteBatch::new())
        };
        commit.await.expect("the disk takes it");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_erased_by_proof_costs_no_actor_and_what_was_lost_does() {
    async fn check(by_proof: bool) {
        let bench = Bench::new(0).await;
        // The other replicas are silent; the context is what a client would have got by reading.
        bench.put("tea").await.ok();
        let read = Observed::whole(&bench.record());
        let mode = BucketMode::Siblings;
        bench.write(mode, read, None).await.ok();
        let old = Observed::whole(&bench.record());
        let before = bench.actor().await;
        bench.erase(by_proof).await;
        let again = Some(b"again".to_vec());
        bench.write(mode, old.clone(), again).await.ok();
        assert_eq!(bench.actor().await == before, by_proof);
        assert_eq!(bench.values(), ["again"]);
        assert!(
            bench.record().context().dominates(old.context()),
            "it is later than what was erased"
        );
    }
    check(true).await;
    check(false).await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_clock_dates_a_new_value_after_an_erased_tombstone() {
    let bench = Bench::new(0).await;
    let mode = BucketMode::Lww;
    bench.write(mode, Observed::default(), None).await.ok();
    let tombstone = bench.record();
    bench.erase(true).await;
    bench.clock.0.store(NOW_MS - 10, Ordering::Relaxed);
    let value = Some(b"new".to_vec());
    bench.write(mode, Observed::default(), value).await.ok();
    // Another primary still had the tombstone.
    let mut merged = bench.record();
    merged.merge(
        &tombstone,
        souk_kv_core::causality::MergeMode::LastWriterWins,
    );
    assert!(
        !merged.is_only_tombstones(),
        "the new value is not lost to it"
    );
}
