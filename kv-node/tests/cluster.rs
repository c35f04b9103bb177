//! Whole clusters, driven through the client library.

#[allow(dead_code, reason = "each file of tests uses a part of it")]
mod support;

use std::{collections::BTreeSet, time::Duration};

use souk_kv_client::{
    BucketConfig, BucketMode, CasOutcome, Client, Consistency, Context, ErrorCode, Key, Outcome,
    Put, ReadOptions, RowOperation, ScanQuery, TransactOutcome, Transaction, Value, WriteOptions,
};
use souk_kv_node::{Environment, Node, NodeOptions};
use support::{TestCluster, bucket};

fn text(value: &str) -> Value {
    Value::new("text/plain", value.as_bytes().to_vec())
}

async fn values(client: &Client, key: &Key) -> BTreeSet<String> {
    let read = client
        .get(key, ReadOptions::default())
        .await
        .expect("a quorum answers");
    read.values
        .iter()
        .map(|value| String::from_utf8_lossy(&value.data).into_owned())
        .collect()
}

fn set(values: &[&str]) -> BTreeSet<String> {
    values.iter().map(|&value| value.to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn siblings_stay_until_a_write_has_seen_them() {
    let cluster = TestCluster::start(3).await;
    let client = cluster.client().await;
    let carts = bucket("carts", BucketMode::Siblings);
    assert!(
        client
            .admin()
            .create_bucket(carts.clone())
            .await
            .expect("a majority is there")
    );
    assert!(
        !client
            .admin()
            .create_bucket(carts)
            .await
            .expect("the same again is no error")
    );
    let key = Key::new("carts", "customer-1", "");
    for value in ["tea", "salt"] {
        let written = client
            .put(
                &key,
                text(value),
                &Context::default(),
                WriteOptions::default(),
            )
            .await
            .expect("a quorum answers");
        assert!(written.copies >= 2 && !written.degraded);
    }
    assert_eq!(values(&client, &key).await, set(&["tea", "salt"]));
    let read = client
        .get(&key, ReadOptions::default())
        .await
        .expect("a quorum answers");
    client
        .put(&key, text("both"), &read.context, WriteOptions::default())
        .await
        .expect("a quorum answers");
    assert_eq!(values(&client, &key).await, set(&["both"]));
    let read = client
        .get(&key, ReadOptions::default())
        .await
        .expect("a quorum answers");
    client
        .delete(&key, &read.context, WriteOptions::default())
        .await
        .expect("a quorum answers");
    assert_eq!(values(&client, &key).await, set(&[]));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_put_of_a_batch_has_its_own_result() {
    let cluster = TestCluster::start(3).await;
    let client = cluster.client().await;
    let config = BucketConfig {
        value_bytes_max: 100,
        ..bucket("notes", BucketMode::Siblings)
    };
    let made = client.admin().create_bucket(config).await;
    made.expect("a majority is there");
    // More than one lot holds, one key twice, and one value that is too large.
    let key = |index: usize| Key::new("notes", format!("note-{}", index % 600), "");
    let value = |index: usize| text(&index.to_string().repeat(if index == 300 { 50 } else { 1 }));
    let puts: Vec<_> = (0..601)
        .map(|index| Put {
            key: key(index),
            value: value(index),
            context: Context::default(),
        })
        .collect();
    let results = client.put_many(puts, WriteOptions::default()).await;
    assert_eq!(results.len(), 601);
    for (index, result) in results.iter().enumerate() {
        assert_eq!(result.is_ok(), index != 300, "{index}: {result:?}");
    }
    assert_eq!(values(&client, &key(0)).await, set(&["0", "600"]));
    assert_eq!(values(&client, &key(1)).await, set(&["1"]));
    assert_eq!(values(&client, &key(300)).await, set(&[]));
    assert_eq!(values(&client, &key(599)).await, set(&["599"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_partition_key_are_scanned_in_order() {
    let cluster = TestCluster::start(3).await;
    let client = cluster.client().await;
    for (name, mode) in [("rows", BucketMode::Lww), ("stock", BucketMode::Register)] {
        client
            .admin()
            .create_bucket(bucket(name, mode))
            .await
            .expect("a majority is there");
        for number in [3, 1, 2, 5, 4] {
            let sort_key = format!("h/{number}");
            if mode == BucketMode::Lww {
                client
                    .put(
                        &Key::new(name, "p", &sort_key),
                        text(&sort_key),
                        &Context::default(),
                        WriteOptions::default(),
                    )
                    .await
                    .expect("a quorum answers");
            } else {
                let put = client
                    .put_if_absent(
                        &Key::new(name, "p", &sort_key),
                        text(&sort_key),
                        WriteOptions::default(),
                    )
                    .await
                    .expect("a majority answers");
                assert!(matches!(put, CasOutcome::Applied { .. }), "{put:?}");
            }
        }
        for reverse in [false, true] {
            let mut query = ScanQuery::new(name, "p");
            query.prefix = "h/".into();
            query.limit = 2;
            query.reverse = reverse;
            let rows = client
                .scan_all(&query, 10, ReadOptions::default())
                .await
                .expect("it can be read");
            let mut keys: Vec<String> = rows
                .rows
                .iter()
                .map(|row| String::from_utf8_lossy(&row.sort_key).into_owned())
                .collect();
            if reverse {
                keys.reverse();
            }
            assert_eq!(
                keys,
                ["h/1", "h/2", "h/3", "h/4", "h/5"],
                "{name}, reverse: {reverse}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conditional_writes_from_all_nodes_are_one_history() {
    let cluster = TestCluster::start(3).await;
    let client = cluster.client().await;
    client
        .admin()
        .create_bucket(bucket("stock", BucketMode::Register))
        .await
        .expect("a majority is there");
    let key = Key::new("stock", "sku-1", "");
    client
        .put_if_absent(&key, text("0"), WriteOptions::default())
        .await
        .expect("a majority answers");
    let mut writers = Vec::new();
    for index in 0..3 {
        let client = cluster.client_of(index).await;
        let key = key.clone();
        writers.push(tokio::spawn(async move {
            let mut applied = 0;
            while applied < 20 {
                let row = client
                    .get_row(&key, ReadOptions::default())
                    .await
                    .expect("a majority answers")
                    .expect("the row is there");
                let count: u64 = String::from_utf8_lossy(&row.value.data)
                    .parse()
                    .expect("a number");
                let next = text(&(count + 1).to_string());
                let put = client
                    .put_if_version(&key, &row.version, next, WriteOptions::default())
                    .await
                    .expect("a majority answers");
                applied += u32::from(matches!(put, CasOutcome::Applied { .. }));
            }
        }));
    }
    for writer in writers {
        writer.await.expect("the writer ends");
    }
    assert_eq!(values(&client, &key).await, set(&["60"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_all_or_nothing() {
    let cluster = TestCluster::start(3).await;
    let client = cluster.client().await;
    client
        .admin()
        .create_bucket(bucket("stock", BucketMode::Register))
        .await
        .expect("a majority is there");
    let run = async |operations: Vec<RowOperation>| {
        client
            .transact(
                &Transaction::new("stock", "sku-1", operations),
                WriteOptions::default(),
            )
            .await
            .expect("a majority answers")
    };
    use souk_kv_client::Condition;
    let first = run(vec![
        RowOperation::put("a", Condition::Missing, text("1")),
        RowOperation::put("b", Condition::Missing, text("1")),
    ])
    .await;
    let TransactOutcome::Applied { versions } = first else {
        panic!("{first:?}")
    };
    let second = run(vec![
        RowOperation::put(
            "a",
            Condition::Version(versions[0].clone().expect("a was put")),
            text("2"),
        ),
        RowOperation::put("b", Condition::Missing, text("2")),
    ])
    .await;
    let TransactOutcome::NotApplied { failed } = second else {
        panic!("{second:?}")
    };
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].operation, 1);
    assert_eq!(
        values(&client, &Key::new("stock", "sku-1", "a")).await,
        set(&["1"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_stops_and_nobody_notices() {
    let mut cluster = TestCluster::start(3).await;
    let client = cluster.client().await;
    for (name, mode) in [
        ("carts", BucketMode::Siblings),
        ("stock", BucketMode::Register),
    ] {
        client
            .admin()
            .create_bucket(bucket(name, mode))
            .await
            .expect("a majority is there");
    }
    cluster.stop_node(1).await;
    for number in 0..30 {
        let cart = Key::new("carts", format!("customer-{number}"), "");
        client
            .put(
                &cart,
                text("tea"),
                &Context::default(),
                WriteOptions::default(),
            )
            .await
            .expect("two nodes are a quorum");
        let stock = Key::new("stock", format!("sku-{number}"), "");
        let put = client
            .put_if_absent(&stock, text("5"), WriteOptions::default())
            .await
            .expect("two nodes are a majority");
        assert!(matches!(put, CasOutcome::Applied { .. }), "{put:?}");
    }
    cluster.start_node(1).await;
    cluster.wait_ready().await;
    // Hints bring the returned node up: it alone knows every cart after a while.
    let mut known = 0;
    for _ in 0..100 {
        let hints: u64 = {
            let mut left = 0;
            for node in ["n1", "n3"] {
                let answer = client
                    .admin()
                    .hints(Some(node))
                    .await
                    .expect("the node answers");
                left += answer
                    .hints
                    .iter()
                    .map(|hint| hint.hints_count)
                    .sum::<u64>();
            }
            left
        };
        if hints == 0 {
            known = 1;
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(known, 1, "all hints were delivered");
    cluster.stop_node(0).await;
    for number in 0..30 {
        let cart = Key::new("carts", format!("customer-{number}"), "");
        assert_eq!(values(&client, &cart).await, set(&["tea"]));
        let stock = Key::new("stock", format!("sku-{number}"), "");
        assert_eq!(values(&client, &stock).await, set(&["5"]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_three_stop_and_carts_take_writes() {
    let mut cluster = TestCluster::start(3).await;
    let client = cluster.client().await;
    let mut carts = bucket("carts", BucketMode::Siblings);
    carts.write_floor = 1;
    client
        .admin()
        .create_bucket(carts)
        .await
        .expect("a majority is there");
    client
        .admin()
        .create_bucket(bucket("stock", BucketMode::Register))
        .await
        .expect("a majority is there");
    // All nodes have to know the buckets before they are cut off.
    tokio::time::sleep(Duration::from_millis(500)).await;
    cluster.stop_node(0).await;
    cluster.stop_node(1).await;
    let lonely = cluster.client_of(2).await;
    let key = Key::new("carts", "customer-1", "");
    let written = lonely
        .put(
            &key,
            text("tea"),
            &Context::default(),
            WriteOptions::default(),
        )
        .await
        .expect("carts are always writable");
    assert_eq!((written.copies, written.degraded), (1, true));
    let one = ReadOptions {
        consistency: Consistency::One,
        ..Default::default()
    };
    let read = lonely.get(&key, one).await.expect("one copy answers");
    assert_eq!(read.values.len(), 1);
    let refused = lonely
        .put_if_absent(
            &Key::new("stock", "sku-1", ""),
            text("1"),
            WriteOptions::default(),
        )
        .await
        .expect_err("one of three is no majority");
    assert_eq!(refused.outcome(), Outcome::NotApplied, "{refused}");
    cluster.start_node(0).await;
    cluster.start_node(1).await;
    cluster.wait_ready().await;
    let client = cluster.client().await;
    for _ in 0..100 {
        if values(&client, &key).await == set(&["tea"]) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the write that one node took was not found again");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_still_there_after_a_restart() {
    let mut cluster = TestCluster::start(3).await;
    let client = cluster.client().await;
    for (name, mode) in [
        ("carts", BucketMode::Siblings),
        ("stock", BucketMode::Register),
    ] {
        client
            .admin()
            .create_bucket(bucket(name, mode))
            .await
            .expect("a majority is there");
    }
    let cart = Key::new("carts", "customer-1", "");
    let stock = Key::new("stock", "sku-1", "");
    client
        .put(
            &cart,
            text("tea"),
            &Context::default(),
            WriteOptions::default(),
        )
        .await
        .expect("up");
    client
        .put_if_absent(&stock, text("5"), WriteOptions::default())
        .await
        .expect("up");
    for index in 0..3 {
        cluster.stop_node(index).await;
    }
    for index in 0..3 {
        cluster.start_node(index).await;
    }
    cluster.wait_ready().await;
    let client = cluster.client().await;
    assert_eq!(values(&client, &cart).await, set(&["tea"]));
    assert_eq!(values(&client, &stock).await, set(&["5"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_say_what_is_wrong() {
    let cluster = TestCluster::start(1).await;
    let client = cluster.client().await;
    let check = |error: souk_kv_client::RequestError, code: ErrorCode, part: &str| {
        assert_eq!(error.outcome(), Outcome::NotApplied);
        assert_eq!(error.code, code, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    };
    let put = async |key: &Key, value: Value| {
        client
            .put(key, value, &Context::default(), WriteOptions::default())
            .await
            .expect_err("it cannot be taken")
    };
    let nowhere = put(&Key::new("nowhere", "k", ""), text("v")).await;
    check(
        nowhere,
        ErrorCode::BucketNotFound,
        "souk admin bucket create nowhere",
    );
    let mut small = bucket("small", BucketMode::Siblings);
    small.value_bytes_max = 10;
    client
        .admin()
        .create_bucket(small.clone())
        .await
        .expect("one node is a majority of one");
    client
        .admin()
        .create_bucket(bucket("stock", BucketMode::Register))
        .await
        .expect("it can be");
    let large = put(&Key::new("small", "k", ""), text("eleven byte")).await;
    check(large, ErrorCode::ValueTooLarge, "11 bytes");
    client
        .put(
            &Key::new("small", "k", ""),
            text("ten bytes!"),
            &Context::default(),
            WriteOptions::default(),
        )
        .await
        .expect("the limit itself is allowed");
    let plain = put(&Key::new("stock", "k", ""), text("v")).await;
    check(plain, ErrorCode::WrongMode, "register");
    let conditional = client
        .put_if_absent(
            &Key::new("small", "k", ""),
            text("v"),
            WriteOptions::default(),
        )
        .await
        .expect_err("it is no register bucket");
    check(conditional, ErrorCode::WrongMode, "siblings");
    small.value_bytes_max = 20;
    let other = client
        .admin()
        .create_bucket(small)
        .await
        .expect_err("it exists otherwise");
    check(
        other,
        ErrorCode::BucketExists,
        "value_bytes_max is 10, asked for 20",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_file_or_directory_is_refused_at_start() {
    let mut cluster = TestCluster::start(1).await;
    cluster.stop_node(0).await;
    let start = async |options: NodeOptions| {
        loop {
            let error = Node::start(options.clone(), Environment::system())
                .await
                .map(drop)
                .expect_err("it must not start");
            // The attempt before this one may still be closing the directory.
            if !error.to_string().contains("in use by another process") {
                return error.to_string();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut other_layout = cluster.options(0);
    other_layout.config.cluster.partitions_count = 32;
    let message = start(other_layout).await;
    assert!(message.contains("another first layout"), "{message}");
    let mut other_cluster = cluster.options(0);
    other_cluster.config.cluster.id = "elsewhere".to_owned();
    let message = start(other_cluster).await;
    assert!(
        message.contains("belongs to cluster `souk-test`"),
        "{message}"
    );
    let mut other_node = cluster.options(0);
    let mut second = other_node.config.nodes[0].clone();
    second.name = "n9".to_owned();
    other_node.config.nodes.push(second);
    other_node.name = "n9".to_owned();
    let message = start(other_node).await;
    assert!(
        message.contains("belongs to node `n1`, not to `n9`"),
        "{message}"
    );
    cluster.start_node(0).await;
    cluster.wait_ready().await;
}
