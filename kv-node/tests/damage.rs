//! Nodes whose own disk has let them down: what was damaged is mended, what may be missing is not spoken for.

#[allow(dead_code, reason = "each file of tests uses a part of it")]
mod support;

use std::{path::Path, time::Duration};

use souk_kv_client::{
    BucketMode, Consistency, Context, Key, ReadOptions, ScanQuery, Value, WriteOptions,
};
use souk_kv_node::{Environment, Node, NodeError, NodeOptions};
use souk_kv_storage::{EngineKind, Keyspace, Recovery, Scan, Store, StoreOptions, WriteBatch};
use support::{TestCluster, bucket};

/// The store of a node that does not run.
async fn with_store<T>(data: &Path, look: impl AsyncFnOnce(&Store) -> T) -> T {
    let options = StoreOptions::directory(data, EngineKind::Fjall);
    let store = Store::open(options).expect("nobody else has it open");
    let seen = look(&store).await;
    store.close().await.expect("it closes");
    seen
}

fn rows(store: &Store, scan: &Scan) -> Vec<(Vec<u8>, Vec<u8>)> {
    let page = store.scan(scan).expect("it can be read");
    let row = |row: souk_kv_storage::ScanRow| (row.key.to_vec(), row.value.expect("good").to_vec());
    page.rows.into_iter().map(row).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_copy_is_read_around_and_mended() {
    let mut cluster = TestCluster::start(3).await;
    let client = cluster.client().await;
    let carts = bucket("carts", BucketMode::Siblings);
    let created = client.admin().create_bucket(carts).await;
    assert!(created.expect("a majority is there"));
    let all = WriteOptions {
        consistency: Consistency::All,
        ..WriteOptions::default()
    };
    // Enough of them that the damaged node is the first to be asked for some.
    let customers: Vec<String> = (0..8).map(|number| format!("customer-{number}")).collect();
    for customer in &customers {
        let key = Key::new("carts", customer.clone(), "tea");
        let value = Value::new("text/plain", b"1".to_vec());
        let put = client.put(&key, value, &Context::default(), all).await;
        assert_eq!(put.expect("all are there").copies, 3);
    }
    cluster.stop_node(0).await;
    let data = cluster.options(0).data;
    with_store(&data, async |store| {
        let mut batch = WriteBatch::new();
        for (key, _) in rows(store, &Scan::all(Keyspace::Records)) {
            batch.put(Keyspace::Records, key, "no record");
        }
        assert_eq!(batch.len(), customers.len());
        store.commit(batch).await.expect("there is room");
    })
    .await;
    cluster.start_node(0).await;
    cluster.wait_ready().await;
    for customer in &customers {
        let query = ScanQuery::new("carts", customer.clone());
        let found = client.scan(&query, ReadOptions::default()).await;
        assert_eq!(found.expect("two others are whole").rows.len(), 1);
    }
    let all = ReadOptions {
        consistency: Consistency::All,
        ..ReadOptions::default()
    };
    let key = Key::new("carts", customers[0].clone(), "tea");
    // The first of these reads finds the damage, and has it mended.
    for _ in 0..100 {
        if let Ok(read) = client.get(&key, all).await {
            assert_eq!(read.values.len(), 1);
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    cluster.stop_node(0).await;
    let mended = with_store(&data, async |store| {
        rows(store, &Scan::all(Keyspace::Records))
    })
    .await;
    let damaged = mended.iter().filter(|(_, record)| record == b"no record");
    assert_eq!(damaged.count(), customers.len() - 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_gives_up_keeps_no_actor_of_an_unclean_stop() {
    let mut cluster = TestCluster::start(2).await;
    for index in 0..2 {
        cluster.stop_node(index).await;
    }
    let data = cluster.options(0).data;
    let actors = async |store: &Store| {
        assert_eq!(store.recovery(), &Recovery::Clean);
        rows(store, &Scan::prefix(Keyspace::Meta, "actor/"))
    };
    let before = with_store(&data, actors).await;
    assert!(!before.is_empty());
    // What a killed process leaves.
    std::fs::remove_file(data.join("CLEAN")).expect("the note of the orderly stop");
    let stranger = NodeOptions {
        data: data.clone(),
        ..cluster.options(1)
    };
    let refused = Node::start(stranger, Environment::system()).await;
    assert!(
        matches!(refused, Err(NodeError::Identity(_))),
        "{refused:?}"
    );
    // The last handle is gone; the writer ends a little later.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(with_store(&data, actors).await, []);
    cluster.start_node(0).await;
    cluster.stop_node(0).await;
    let after = with_store(&data, actors).await;
    assert_eq!(after.len(), before.len());
    assert!(after.iter().all(|row| !before.contains(row)));
}
