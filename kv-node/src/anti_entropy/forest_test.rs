//! Trees and records side by side, through restarts, refusals and damage.

use rand::{Rng, SeedableRng, rngs::StdRng};
use souk_kv_core::causality::{
    ActorId, Dot, MergeMode, Mint, NewWrite, Observed, RequestId, Stamp,
};
use souk_kv_proto::convert::causality::encode_record;
use souk_kv_storage::{MemoryDisk, StoreOptions};

use super::*;
use crate::{
    anti_entropy::walk::{VnodeReport, Walker},
    governor::{Governor, Job},
    keys::GroupKey,
};

const PARTITIONS: u32 = 4;
const RESERVE_BYTES: u64 = 100_000;

struct Bench {
    disk: MemoryDisk,
    store: Store,
    forest: Arc<Forest>,
    walker: Walker,
    /// The state under each key that was acknowledged.
    counter: u64,
}

impl Bench {
    /// With forty records.
    async fn filled() -> Self {
        let mut bench = Self::open(MemoryDisk::new()).await;
        for number in 0..40 {
            bench.write(number).await.expect("there is room");
        }
        bench
    }

    async fn open(disk: MemoryDisk) -> Self {
        let store = Store::open(StoreOptions {
            disk_reserve_bytes: RESERVE_BYTES,
            ..StoreOptions::memory(disk.clone())
        })
        .expect("it opens");
        let partitions = PartitionCount::new(PARTITIONS).expect("a power of two");
        let forest = Forest::open(store.clone(), partitions).await;
        let forest = Arc::new(forest.expect("it can be read"));
        let governor = Arc::new(Governor::new(std::time::Duration::from_millis(25)));
        Self {
            disk,
            walker: Walker::new(store.clone(), Arc::clone(&forest), governor, Arc::default()),
            store,
            forest,
            counter: 0,
        }
    }

    async fn reopen(self) -> Self {
        self.store.close().await.expect("it closes");
        Self::open(self.disk).await
    }

    /// A write under a key, as a coordinator does it; the caller awaits the answer.
    fn write(&mut self, number: u32) -> RecordCommit {
        let key = key(number);
        let before = match self.store.get(Keyspace::Records, &key) {
            Ok(None) => Held::Nothing,
            Ok(Some(stored)) => {
                let (record, _) = souk_kv_proto::convert::causality::decode_record(stored)
                    .expect("it is a record");
                Held::of(&record)
            }
            Err(_) => Held::Unknown,
        };
        self.counter += 1;
        let record = record(self.counter);
        let mut batch = WriteBatch::new();
        batch.put(
            Keyspace::Records,
            key.clone(),
            encode_record(&record, MergeMode::Siblings),
        );
        let change = LeafChange::of(&key, before, Held::of(&record));
        self.forest
            .commit(batch, change.into_iter().collect(), Durability::Synced)
    }

    async fn check_all(&self) -> Vec<VnodeReport> {
        let mut reports = Vec::new();
        for partition in 0..PARTITIONS {
            let report = self.walker.check(PartitionId(partition), Job::Scrub).await;
            reports.push(report.expect("the store is open"));
        }
        reports
    }

    async fn mended(&self) -> u64 {
        let reports = self.check_all().await;
        reports.iter().map(|report| report.leaves_mended).sum()
    }

    fn roots(&self) -> Vec<Option<BTreeMap<BucketId, Digest>>> {
        let roots = |partition| self.forest.roots(PartitionId(partition));
        (0..PARTITIONS).map(roots).collect()
    }
}

fn key(number: u32) -> Bytes {
    GroupKey {
        partition: PartitionId(number % PARTITIONS),
        bucket: BucketId(1 + number % 3),
        partition_key: Bytes::from(format!("key-{number}")),
    }
    .record(b"")
}

fn record(counter: u64) -> Record {
    let mut record = Record::default();
    let dot = Dot {
        actor: ActorId::from_bytes([1; 16]),
        counter,
    };
    let write = NewWrite {
        request: RequestId {
            client: [1; 16],
            sequence: counter,
        },
        stamp: Stamp::next(counter, None),
        expires_unix_ms: None,
        value: None,
    };
    record
        .put(
            MergeMode::Siblings,
            &Observed::default(),
            dot,
            Mint::Vector,
            write,
            counter,
        )
        .expect("the dot is fresh");
    record
}

#[tokio::test(start_paused = true)]
async fn leaves_follow_their_records_through_crashes() {
    for seed in 0..10 {
        let mut chance = StdRng::seed_from_u64(seed);
        let disk = MemoryDisk::new();
        disk.set_sync_latency(std::time::Duration::from_millis(1));
        let mut bench = Bench::open(disk).await;
        for _ in 0..5 {
            let mut waiting = BTreeMap::new();
            for _ in 0..chance.random_range(1..60) {
                let number = chance.random_range(0..40);
                // The guard of the key: one write of it at a time.
                if let Some(earlier) = waiting.remove(&number) {
                    let earlier: RecordCommit = earlier;
                    earlier.await.expect("the disk takes it");
                }
                waiting.insert(number, bench.write(number));
            }
            if chance.random_bool(0.5) {
                tokio::time::sleep(std::time::Duration::from_micros(
                    chance.random_range(0..2500),
                ))
                .await;
                bench.disk.crash(chance.random());
                drop(waiting);
                bench = Bench::open(bench.disk).await;
            } else {
                for commit in waiting.into_values() {
                    commit.await.expect("the disk takes it");
                }
                bench = bench.reopen().await;
            }
            assert_eq!(bench.mended().await, 0, "seed {seed}");
            assert!(bench.roots().iter().all(Option::is_some), "seed {seed}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_write_leaves_no_trace_in_its_leaf() {
    let mut bench = Bench::open(MemoryDisk::new()).await;
    bench.write(1).await.expect("there is room");
    let roots = bench.roots();
    bench.disk.set_capacity_bytes(Some(RESERVE_BYTES));
    let refused = bench.write(1).await;
    assert!(
        matches!(refused, Err(StorageError::NotWritten(_))),
        "{refused:?}"
    );
    assert_eq!(bench.roots(), roots);
    bench.disk.set_capacity_bytes(None);
    let bench = bench.reopen().await;
    assert_eq!(bench.roots(), roots);
    assert_eq!(bench.mended().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_leaf_is_put_right_by_a_walk() {
    let bench = Bench::filled().await;
    let roots = bench.roots();
    // One row gone, one damaged, one that should not be there.
    let rows = bench
        .store
        .scan(&Scan::all(Keyspace::Merkle))
        .expect("good");
    let mut batch = WriteBatch::new();
    batch.delete(Keyspace::Merkle, rows.rows[3].key.clone());
    let tree = TreeId {
        partition: PartitionId(2),
        bucket: BucketId(9),
    };
    let stray = tree.leaf(LeafIndex::new(7).expect("it is one"));
    batch.put(Keyspace::Merkle, stray, vec![1; 16]);
    bench.store.commit(batch).await.expect("there is room");
    bench.disk.damage_row(Keyspace::Merkle, &rows.rows[9].key);
    let bench = bench.reopen().await;
    assert_ne!(bench.roots(), roots);
    assert_eq!(bench.mended().await, 3);
    assert_eq!(bench.roots(), roots);
    let bench = bench.reopen().await;
    assert_eq!(bench.roots(), roots);
    assert_eq!(bench.mended().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_record_is_named_and_its_leaf_not_judged() {
    let mut bench = Bench::filled().await;
    let roots = bench.roots();
    bench.disk.damage_row(Keyspace::Records, &key(13));
    let damaged: Vec<Bytes> = bench
        .check_all()
        .await
        .into_iter()
        .flat_map(|report| report.damaged)
        .collect();
    assert_eq!(damaged, [key(13)]);
    assert_eq!(bench.roots(), roots);
    // Written over, its old part in the leaf is unknown: a walk has to find out.
    bench.write(13).await.expect("there is room");
    assert_eq!(bench.forest.suspects(), [PartitionId(1)]);
    assert_eq!(bench.mended().await, 1);
    assert_eq!(bench.forest.suspects(), []);
    assert_eq!(bench.mended().await, 0);
}

#[tokio::test(start_paused = true)]
async fn records_from_before_there_were_trees_are_counted() {
    let bench = Bench::filled().await;
    let roots = bench.roots();
    let rows = bench
        .store
        .scan(&Scan::all(Keyspace::Merkle))
        .expect("good");
    let mut batch = WriteBatch::new();
    for row in rows.rows {
        batch.delete(Keyspace::Merkle, row.key);
    }
    batch.delete(Keyspace::Meta, keys::META_TREES);
    bench.store.commit(batch).await.expect("there is room");
    let mut bench = bench.reopen().await;
    assert!(bench.roots().iter().all(Option::is_none));
    assert_eq!(bench.forest.suspects().len(), PARTITIONS as usize);
    bench.write(7).await.expect("there is room");
    bench.check_all().await;
    assert!(bench.roots().iter().all(Option::is_some));
    let roots_now = bench.roots();
    let bench = bench.reopen().await;
    assert_eq!(bench.roots(), roots_now);
    assert_eq!(roots_now[0], roots[0], "only partition 3 was written to");
    assert_eq!(bench.mended().await, 0);
}

#[tokio::test(start_paused = true)]
async fn writes_during_a_walk_are_not_taken_for_errors() {
    let disk = MemoryDisk::new();
    disk.set_sync_latency(std::time::Duration::from_millis(1));
    let mut bench = Bench::open(disk).await;
    for number in 0..40 {
        bench.write(number).await.expect("there is room");
    }
    let before = bench.write(4);
    let watch = bench.forest.watch(PartitionId(0)).expect("it exists");
    watch.settle().await.expect("the disk works");
    let mut counted = Counted::default();
    for row in bench
        .store
        .scan(&Scan::prefix(
            Keyspace::Records,
            keys::partition_prefix(PartitionId(0)),
        ))
        .expect("good")
        .rows
    {
        let tree = tree_of_record(&row.key).expect("it is a record key");
        let (record, _) =
            souk_kv_proto::convert::causality::decode_record(row.value.expect("good"))
                .expect("good");
        let key = KeyHash::of(&row.key);
        let counted = counted.trees.entry(tree.bucket).or_default();
        counted.add(key.leaf(), key.digest(record.causal_hash()));
    }
    // After the reading, before the judgement.
    let key = key(8);
    let mut batch = WriteBatch::new();
    batch.delete(Keyspace::Records, key.clone());
    let change = LeafChange::of(&key, Held::of(&record(9)), Held::Nothing);
    let after = bench
        .forest
        .commit(batch, change.into_iter().collect(), Durability::Synced);
    let (mended, commit) = watch.conclude(&counted);
    assert_eq!(mended, 0);
    assert!(commit.is_none());
    before.await.expect("the disk works");
    after.await.expect("the disk works");
    assert_eq!(bench.mended().await, 0);
}
