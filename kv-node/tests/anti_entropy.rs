//! Replicas that differ for reasons nobody remembers come together again, without a read.

#[allow(dead_code, reason = "each file of tests uses a part of it")]
mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use souk_kv_client::{
    BucketMode, Client, Consistency, Context, Key, ReadOptions, RepairProgress, RequestError,
    ScrubProgress, Value, WriteOptions,
};
use souk_kv_proto::convert::causality::decode_record;
use souk_kv_storage::{EngineKind, Keyspace, Scan, Store, StoreOptions, WriteBatch};
use souk_ring::{PartitionCount, token_of};
use support::{TestCluster, bucket};

const KEYS: usize = 40;

/// The store of a node that does not run.
async fn with_store<T>(data: &Path, look: impl AsyncFnOnce(&Store) -> T) -> T {
    let options = StoreOptions::directory(data, EngineKind::Fjall);
    let store = Store::open(options).expect("nobody else has it open");
    let seen = look(&store).await;
    store.close().await.expect("it closes");
    seen
}

fn keys_of(store: &Store, keyspace: Keyspace) -> Vec<Bytes> {
    let page = store.scan(&Scan::all(keyspace)).expect("it can be read");
    assert!(!page.more);
    page.rows.into_iter().map(|row| row.key).collect()
}

/// The values under each key, as they lie on disk.
fn values(store: &Store) -> BTreeMap<Bytes, BTreeSet<Bytes>> {
    let page = store
        .scan(&Scan::all(Keyspace::Records))
        .expect("it can be read");
    let values = page.rows.into_iter().map(|row| {
        let (record, _) = decode_record(row.value.expect("sound")).expect("a record");
        let values = record.siblings().iter();
        let values = values.filter_map(|sibling| Some(sibling.value.as_ref()?.bytes.clone()));
        (row.key, values.collect())
    });
    values.collect()
}

async fn repair(client: &Client, node: &str) -> RepairProgress {
    repair_bucket(client, node, "").await.expect("it runs")
}

async fn repair_bucket(
    client: &Client,
    node: &str,
    bucket: &str,
) -> Result<RepairProgress, RequestError> {
    let mut stream = client.admin().repair(node, bucket, &[]).await?;
    let mut last = RepairProgress::default();
    while let Some(progress) = stream.next().await? {
        last = progress;
    }
    assert!(last.done);
    Ok(last)
}

async fn scrub(client: &Client, node: &str) -> ScrubProgress {
    let mut stream = client.admin().scrub(node).await.expect("it runs");
    let mut last = ScrubProgress::default();
    while let Some(progress) = stream.next().await.expect("it goes on") {
        last = progress;
    }
    assert!(last.done);
    last
}

/// Three nodes with the same records on all of them.
async fn filled(repair: &str) -> (TestCluster, Client) {
    let cluster = TestCluster::start_with(3, repair).await;
    let client = cluster.client().await;
    let carts = bucket("carts", BucketMode::Siblings);
    let created = client.admin().create_bucket(carts).await;
    assert!(created.expect("a majority is there"));
    let all = WriteOptions {
        consistency: Consistency::All,
        ..WriteOptions::default()
    };
    for number in 0..KEYS {
        let key = Key::new("carts", format!("customer-{number}"), "tea");
        let value = Value::new("text/plain", b"1".to_vec());
        let put = client.put(&key, value, &Context::default(), all).await;
        assert_eq!(put.expect("all are there").copies, 3);
    }
    (cluster, client)
}

/// Takes records, and the leaves that stood for them, from a node that does not run.
async fn lose(cluster: &TestCluster, index: usize, keyspaces: &[Keyspace], count: usize) {
    with_store(&cluster.options(index).data, async |store| {
        let mut batch = WriteBatch::new();
        for keyspace in keyspaces {
            for key in keys_of(store, *keyspace).into_iter().take(count) {
                batch.delete(*keyspace, key);
            }
        }
        store.commit(batch).await.expect("there is room");
    })
    .await;
}

const SLOW: &str = "round_pause_ms = 86400000\nrecheck_ms = 20\nscrub_pause_ms = 3600000\n";
const QUICK: &str = "round_pause_ms = 50\nrecheck_ms = 20\nscrub_pause_ms = 3600000\n";

#[tokio::test(flavor = "multi_thread")]
async fn lost_records_come_back_by_comparison_alone() {
    let (mut cluster, client) = filled(SLOW).await;
    for node in ["n1", "n2", "n3"] {
        let quiet = repair(&client, node).await;
        assert_eq!(quiet.vnodes_done, quiet.vnodes_total);
        assert_eq!(
            (quiet.trees_differing, quiet.vnodes_unready),
            (0, 0),
            "{node}"
        );
    }
    cluster.stop_node(2).await;
    lose(
        &cluster,
        2,
        &[Keyspace::Records, Keyspace::Merkle],
        usize::MAX,
    )
    .await;
    cluster.config = cluster.with_repair(QUICK);
    cluster.start_node(2).await;
    let data = cluster.options(2).data;
    let mut found = 0;
    for _ in 0..40 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        cluster.stop_node(2).await;
        found = with_store(&data, async |store| keys_of(store, Keyspace::Records).len()).await;
        cluster.start_node(2).await;
        if found == KEYS {
            break;
        }
    }
    assert_eq!(found, KEYS);
    cluster.wait_ready().await;
    let mut quiet = repair(&client, "n3").await;
    // Its links may not stand yet.
    for _ in 0..100 {
        if quiet.failed.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        quiet = repair(&client, "n3").await;
    }
    assert_eq!(quiet.failed, Vec::<String>::new());
    assert_eq!(quiet.trees_differing, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_differs_moves() {
    let (mut cluster, client) = filled(SLOW).await;
    cluster.stop_node(0).await;
    let lost = with_store(&cluster.options(0).data, async |store| {
        let lost = keys_of(store, Keyspace::Records).swap_remove(7);
        let mut batch = WriteBatch::new();
        batch.delete(Keyspace::Records, lost.clone());
        store.commit(batch).await.expect("there is room");
        lost
    })
    .await;
    cluster.start_node(0).await;
    cluster.wait_ready().await;
    // The leaf still stands for the lost record, so the trees agree: this is for the scrub to see.
    let deceived = repair(&client, "n1").await;
    assert_eq!((deceived.trees_differing, deceived.keys_fetched), (0, 0));
    let seen = scrub(&client, "n1").await;
    assert_eq!((seen.leaves_mended, seen.damaged), (1, 0));
    let mended = repair(&client, "n1").await;
    assert_eq!((mended.keys_fetched, mended.keys_pushed), (1, 0));
    assert_eq!((mended.trees_differing, mended.leaves_differing), (1, 1));
    assert_eq!(repair(&client, "n1").await.trees_differing, 0);
    cluster.stop_node(0).await;
    let found = with_store(&cluster.options(0).data, async |store| {
        store.get(Keyspace::Records, &lost).expect("it is sound")
    })
    .await;
    assert!(found.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrub_replaces_what_is_damaged_and_counts_leaves_anew() {
    let (mut cluster, client) = filled(SLOW).await;
    cluster.stop_node(0).await;
    let damaged = with_store(&cluster.options(0).data, async |store| {
        let mut batch = WriteBatch::new();
        for key in keys_of(store, Keyspace::Records).into_iter().take(9) {
            batch.put(Keyspace::Records, key, "no record");
        }
        let leaf = keys_of(store, Keyspace::Merkle).swap_remove(20);
        batch.delete(Keyspace::Merkle, leaf);
        let damaged = batch.len() - 1;
        store.commit(batch).await.expect("there is room");
        damaged
    })
    .await;
    cluster.start_node(0).await;
    cluster.wait_ready().await;
    let seen = scrub(&client, "n1").await;
    assert_eq!((seen.damaged, seen.mended, seen.gaps), (9, 9, 0));
    assert_eq!(seen.unmended, Vec::<String>::new());
    assert!(seen.leaves_mended >= 1, "{seen:?}");
    assert_eq!(damaged, 9);
    let again = scrub(&client, "n1").await;
    assert_eq!((again.damaged, again.leaves_mended), (0, 0));
    assert_eq!(repair(&client, "n1").await.trees_differing, 0);
    cluster.stop_node(0).await;
    let whole = with_store(&cluster.options(0).data, async |store| values(store)).await;
    assert_eq!(whole.len(), KEYS);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_stays_while_too_few_others_can_vouch_for_the_record() {
    let (mut cluster, client) = filled(SLOW).await;
    cluster.stop_node(0).await;
    with_store(&cluster.options(0).data, async |store| {
        let mut batch = WriteBatch::new();
        let key = keys_of(store, Keyspace::Records).swap_remove(0);
        batch.put(Keyspace::Records, key, "no record");
        store.commit(batch).await.expect("there is room");
    })
    .await;
    cluster.start_node(0).await;
    cluster.wait_ready().await;
    cluster.stop_node(2).await;
    let seen = scrub(&client, "n1").await;
    assert_eq!((seen.damaged, seen.mended), (1, 0));
    assert!(
        seen.unmended[0].contains("1 of 2 other replicas"),
        "{seen:?}"
    );
    cluster.start_node(2).await;
    cluster.wait_ready().await;
    let mut mended = 0;
    for _ in 0..50 {
        let seen = scrub(&client, "n1").await;
        mended += seen.mended;
        if mended > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(mended, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_with_fewer_copies_do_not_differ_for_ever() {
    let (_cluster, client) = filled(SLOW).await;
    let mut pairs = bucket("pairs", BucketMode::Lww);
    pairs.replicas_n = 2;
    client.admin().create_bucket(pairs).await.expect("it can");
    let all = WriteOptions {
        consistency: Consistency::All,
        ..WriteOptions::default()
    };
    for number in 0..KEYS {
        let key = Key::new("pairs", format!("key-{number}"), "");
        let value = Value::new("text/plain", b"1".to_vec());
        let put = client.put(&key, value, &Context::default(), all).await;
        assert_eq!(put.expect("all are there").copies, 2);
    }
    for node in ["n1", "n2", "n3"] {
        assert_eq!(repair(&client, node).await.trees_differing, 0, "{node}");
    }
}

/// Prints what it costs to find and mend 100 differing keys among a million. Run it by
/// `cargo test --release -p souk-kv-node --test anti_entropy -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes three million records; prints figures"]
async fn a_hundred_among_a_million() {
    const LOST: usize = 100;
    let count: usize = std::env::var("SOUK_REPAIR_KEYS")
        .map_or(1_000_000, |count| count.parse().expect("a number"));
    let mut cluster = TestCluster::start_large(3, SLOW).await;
    let client = cluster.client().await;
    let carts = bucket("carts", BucketMode::Siblings);
    client.admin().create_bucket(carts).await.expect("it can");
    let key = Key::new("carts", "customer-0000000", "");
    let value = Value::new("text/plain", vec![b'.'; 100]);
    let all = WriteOptions {
        consistency: Consistency::All,
        ..WriteOptions::default()
    };
    let put = client.put(&key, value, &Context::default(), all).await;
    put.expect("all are there");
    // To ask whether trees are counted without mending anything.
    let other = bucket("other", BucketMode::Siblings);
    client.admin().create_bucket(other).await.expect("it can");
    for index in 0..3 {
        cluster.stop_node(index).await;
        with_store(&cluster.options(index).data, async |store| {
            let (first, record) = store
                .scan(&Scan::all(Keyspace::Records))
                .map(|mut page| page.rows.remove(0))
                .map(|row| (row.key, row.value.expect("sound")))
                .expect("it can be read");
            let partitions = PartitionCount::new(256).expect("a power of two");
            let mut batch = WriteBatch::new();
            // As if from a version without trees: they are counted at the next start.
            batch.delete(Keyspace::Meta, "trees");
            for number in 0..count {
                if index == 0 && number % (count / LOST) == 1 {
                    continue;
                }
                let customer = format!("customer-{number:07}");
                let token = token_of("carts", customer.as_bytes());
                let partition = u16::try_from(partitions.partition_of(token).0).expect("256");
                let mut key = first.to_vec();
                key[..2].copy_from_slice(&partition.to_be_bytes());
                let at = key.len() - customer.len();
                key[at..].copy_from_slice(customer.as_bytes());
                batch.put(Keyspace::Records, key, record.clone());
                if batch.len() == 10_000 {
                    let full = std::mem::take(&mut batch);
                    store.commit(full).await.expect("there is room");
                }
            }
            store.commit(batch).await.expect("there is room");
        })
        .await;
    }
    let began = Instant::now();
    for index in 0..3 {
        cluster.start_node(index).await;
    }
    cluster.wait_ready().await;
    loop {
        let one = repair_bucket(&client, "n1", "other").await;
        let other = repair_bucket(&client, "n2", "other").await;
        // A node that counts a million records on a busy machine may be slow to answer.
        if let (Ok(one), Ok(other)) = (one, other)
            && one.vnodes_unready + other.vnodes_unready == 0
        {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    println!("started and counted: {:?}", began.elapsed());
    for what in ["mending", "comparing equal trees"] {
        let began = Instant::now();
        let seen = repair(&client, "n1").await;
        println!("{what}: {:?}, {seen:#?}", began.elapsed());
    }
}

/// Five nodes split two to three, with so little room for hints that most are refused.
#[tokio::test(flavor = "multi_thread")]
async fn both_sides_of_a_split_come_together_without_a_read() {
    let mut cluster =
        TestCluster::start_on_cables_with(5, QUICK, "[limits]\nhints_bytes_max = 1048576\n").await;
    let client = cluster.client().await;
    let mut carts = bucket("carts", BucketMode::Siblings);
    carts.write_floor = 1;
    client.admin().create_bucket(carts).await.expect("it can");
    // Every node has heard of the bucket.
    for index in 0..5 {
        let client = cluster.client_of(index).await;
        client.admin().list_buckets().await.expect("it answers");
    }
    cluster.split(&[0, 1], &[2, 3, 4]);
    let mut acknowledged: BTreeMap<String, BTreeSet<Bytes>> = BTreeMap::new();
    for (side, node) in [("left", 0), ("right", 4)] {
        let client = cluster.client_of(node).await;
        for number in 0..60 {
            let customer = format!("customer-{number}");
            let key = Key::new("carts", customer.clone(), "");
            // Large, so that the room for hints is soon used up.
            let mut data = vec![b'.'; 64 * 1024];
            data[..side.len()].copy_from_slice(side.as_bytes());
            let value = Value::new("text/plain", data.clone());
            let options = WriteOptions::default();
            let put = client.put(&key, value, &Context::default(), options).await;
            if put.is_ok() {
                let values = acknowledged.entry(customer).or_default();
                values.insert(data.into());
            }
        }
    }
    let twice = acknowledged.values().filter(|values| values.len() == 2);
    assert!(twice.count() > 5, "some keys were written on both sides");
    cluster.heal();
    let mut calm = false;
    for _ in 0..100 {
        calm = true;
        for index in 0..5 {
            let node = format!("n{}", index + 1);
            let client = cluster.client_of(index).await;
            let seen = repair(&client, &node).await;
            let hints = client.admin().hints(Some(&node)).await.expect("it answers");
            calm &= seen.trees_differing == 0 && seen.failed.is_empty();
            calm &= hints.hints.iter().all(|hints| hints.hints_count == 0);
        }
        if calm {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(calm, "they never came together");
    let mut copies: BTreeMap<Bytes, Vec<BTreeSet<Bytes>>> = BTreeMap::new();
    for index in 0..5 {
        cluster.stop_node(index).await;
        let data = cluster.options(index).data;
        for (key, values) in with_store(&data, async |store| values(store)).await {
            copies.entry(key).or_default().push(values);
        }
    }
    for (customer, expected) in &acknowledged {
        let suffix = customer.as_bytes();
        let (_, held) = copies
            .iter()
            .find(|(key, _)| key.ends_with(suffix) && key[key.len() - suffix.len() - 1] < 32)
            .expect("somebody holds it");
        assert_eq!(held.len(), 3, "{customer} has all its copies");
        for values in held {
            assert!(values.is_superset(expected), "{customer} lost a write");
            assert_eq!(values, &held[0], "{customer} differs");
        }
    }
    for index in 0..5 {
        cluster.start_node(index).await;
    }
    cluster.wait_ready().await;
    let client = cluster.client().await;
    let key = Key::new("carts", acknowledged.keys().next().expect("one"), "");
    let read = client.get(&key, ReadOptions::default()).await;
    assert!(!read.expect("all are there").values.is_empty());
}
