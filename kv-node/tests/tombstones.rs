//! Deletes of real nodes: they stay deleted, they are collected when everybody takes part, and who holds them up
//! is named.

#[allow(dead_code, reason = "each file of tests uses a part of it")]
mod support;

use std::{ops::Range, time::Duration};

use souk_kv_client::{
    BucketMode, Client, Consistency, Context, Key, ReadOptions, ScanQuery, TombstonesResponse,
    Value, WriteOptions,
};
use souk_kv_proto::kv::{self, PutRequest, RequestId, kv_client::KvClient};
use souk_kv_storage::{EngineKind, Keyspace, Scan, Store, StoreOptions};
use support::{TestCluster, bucket};

/// Short enough to watch, long enough to be no accident.
const REQUEST_MEMORY: Duration = Duration::from_secs(1);
const CLOCK_SKEW_MAX: Duration = Duration::from_millis(50);
const PAUSE: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(60);

async fn start(count: usize) -> TestCluster {
    TestCluster::start_changed(count, |config| {
        config.limits.request_memory = REQUEST_MEMORY;
        config.limits.clock_skew_max = CLOCK_SKEW_MAX;
        config.limits.tombstones_pause = PAUSE;
    })
    .await
}

fn text(value: &str) -> Value {
    Value::new("text/plain", value.as_bytes().to_vec())
}

fn key(number: usize) -> Key {
    Key::new("carts", format!("customer-{number}"), "")
}

async fn carts(cluster: &TestCluster) -> Client {
    let client = cluster.client().await;
    let carts = bucket("carts", BucketMode::Siblings);
    client
        .admin()
        .create_bucket(carts)
        .await
        .expect("a majority is there");
    client
}

async fn put(client: &Client, key: &Key, value: &str) -> Context {
    let written = client
        .put(
            key,
            text(value),
            &Context::default(),
            WriteOptions::default(),
        )
        .await;
    written.expect("a quorum answers").context
}

async fn delete(client: &Client, key: &Key) -> Context {
    let read = client
        .get(key, ReadOptions::default())
        .await
        .expect("a quorum answers");
    let deleted = client
        .delete(key, &read.context, WriteOptions::default())
        .await;
    deleted.expect("a quorum answers").context
}

async fn values(client: &Client, key: &Key, consistency: Consistency) -> Vec<String> {
    let options = ReadOptions {
        consistency,
        ..Default::default()
    };
    let begun = tokio::time::Instant::now();
    // A node that has just come back may not be reached by all others yet.
    let read = loop {
        match client.get(key, options).await {
            Ok(read) => break read,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let values = read.values.iter();
    values
        .map(|value| String::from_utf8_lossy(&value.data).into_owned())
        .collect()
}

/// What the nodes of these names say together.
async fn collection(client: &Client, names: &[&str]) -> TombstonesResponse {
    let mut all = TombstonesResponse::default();
    for name in names {
        let Ok(one) = client.admin().tombstones(Some(name), false).await else {
            continue;
        };
        all.walks += one.walks;
        all.tombstones_count += one.tombstones_count;
        all.erased_count += one.erased_count;
        all.expired_count += one.expired_count;
        all.walk_failure.push_str(&one.walk_failure);
        all.waiting_for.extend(one.waiting_for);
    }
    all
}

async fn wait_for(
    client: &Client,
    names: &[&str],
    what: &str,
    is_so: impl Fn(&TombstonesResponse) -> bool,
) -> TombstonesResponse {
    let begun = tokio::time::Instant::now();
    loop {
        let state = collection(client, names).await;
        if is_so(&state) {
            return state;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "{what} did not happen: {state:?}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deletes_are_collected_when_all_members_take_part() {
    const COUNT: usize = 20;
    let cluster = start(3).await;
    let client = carts(&cluster).await;
    let mut contexts = Vec::new();
    for number in 0..COUNT {
        put(&client, &key(number), "tea").await;
        contexts.push(delete(&client, &key(number)).await);
    }
    let names = ["n1", "n2", "n3"];
    let state = wait_for(&client, &names, "collection", |state| {
        state.erased_count == COUNT as u64 && state.tombstones_count == 0
    })
    .await;
    assert!(state.waiting_for.is_empty(), "{state:?}");
    for (number, context) in contexts.iter().enumerate() {
        let key = key(number);
        assert_eq!(values(&client, &key, Consistency::All).await, [""; 0]);
        // Created again, by a client that still knows the tombstone and by one that never did.
        let observed = if number % 2 == 0 {
            context.clone()
        } else {
            Context::default()
        };
        client
            .put(&key, text("again"), &observed, WriteOptions::default())
            .await
            .expect("a quorum answers");
        assert_eq!(values(&client, &key, Consistency::All).await, ["again"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_member_holds_collection_up_until_it_is_forgotten() {
    let mut cluster = start(3).await;
    let client = carts(&cluster).await;
    let refused = client.admin().forget("n3").await;
    let refused = refused.expect_err("it is up").to_string();
    assert!(refused.contains("stop it first"), "{refused}");
    for number in 0..10 {
        put(&client, &key(number), "tea").await;
    }
    cluster.stop_node(2).await;
    for number in 0..10 {
        delete(&client, &key(number)).await;
    }
    let here = ["n1", "n2"];
    let state = wait_for(&client, &here, "waiting", |state| {
        !state.waiting_for.is_empty()
    })
    .await;
    assert_eq!(state.waiting_for[0].node, "n3");
    assert_eq!(state.erased_count, 0);

    let answer = client
        .admin()
        .forget("n3")
        .await
        .expect("a majority is there");
    assert!(answer.forgotten);
    let again = client
        .admin()
        .forget("n3")
        .await
        .expect("a majority is there");
    assert!(!again.forgotten, "twice is no error");
    wait_for(&client, &here, "collection without n3", |state| {
        state.erased_count == 10 && state.tombstones_count == 0 && state.waiting_for.is_empty()
    })
    .await;

    // It comes back with what was deleted, and is told so.
    cluster.start_node(2).await;
    for _ in 0..200 {
        if matches!(cluster.ready(2), Err(why) if why.contains("given its store up")) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let why = cluster.ready(2).expect_err("its store was given up");
    assert!(why.contains("move its data directory away"), "{why}");
    // Whoever asks it to look for deletes is told as well, and does not wait for ever.
    let asked = client.admin().tombstones(Some("n3"), true).await;
    let before = asked.expect("it answers its operators").walks;
    let after = wait_for(&client, &["n3"], "a look that ends", |state| {
        state.walks > before
    })
    .await;
    assert!(
        after.walk_failure.contains("given its store up"),
        "{after:?}"
    );
    for number in 0..10 {
        assert_eq!(
            values(&client, &key(number), Consistency::Quorum).await,
            [""; 0]
        );
    }
}

/// What became of the keys of a split, by number.
const DELETED_LEFT: Range<usize> = 0..8;
const DELETED_RIGHT: Range<usize> = 8..16;
const DELETED_ON_BOTH: Range<usize> = 16..24;
const DELETED_AND_REPLACED: Range<usize> = 24..30;
const NEW_LEFT: Range<usize> = 30..34;
const NEW_RIGHT: Range<usize> = 34..38;
const NEW_ON_BOTH: Range<usize> = 38..42;
const BEFORE: Range<usize> = 0..30;
const DELETED: usize = 24;

/// Five nodes split two to three, with writes and deletes on both sides; nobody reads before they have come together.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_on_either_side_of_a_split_stays_deleted() {
    let limits = format!(
        "[limits]\nrequest_memory_ms = {}\nclock_skew_max_ms = {}\ntombstones_pause_ms = {}\n",
        REQUEST_MEMORY.as_millis(),
        CLOCK_SKEW_MAX.as_millis(),
        PAUSE.as_millis()
    );
    let mut cluster = TestCluster::start_on_cables_with(5, "round_pause_ms = 100\n", &limits).await;
    let client = carts(&cluster).await;
    let mut contexts = Vec::new();
    for number in BEFORE {
        let all = WriteOptions {
            consistency: Consistency::All,
            ..Default::default()
        };
        let put = client
            .put(&key(number), text("tea"), &Context::default(), all)
            .await;
        contexts.push(put.expect("all are there").context);
    }
    for index in 0..5 {
        let client = cluster.client_of(index).await;
        client.admin().list_buckets().await.expect("it answers");
    }
    cluster.split(&[0, 1], &[2, 3, 4]);
    let (left, right) = (cluster.client_of(0).await, cluster.client_of(4).await);
    let delete = async |client: &Client, number: usize| {
        let options = WriteOptions::default();
        let deleted = client
            .delete(&key(number), &contexts[number], options)
            .await;
        deleted.expect("stand-ins take it");
    };
    for number in DELETED_LEFT
        .chain(DELETED_ON_BOTH)
        .chain(DELETED_AND_REPLACED)
    {
        delete(&left, number).await;
    }
    for number in DELETED_RIGHT.chain(DELETED_ON_BOTH) {
        delete(&right, number).await;
    }
    for number in DELETED_AND_REPLACED {
        let options = WriteOptions::default();
        let put = right
            .put(&key(number), text("salt"), &contexts[number], options)
            .await;
        put.expect("stand-ins take it");
    }
    for number in NEW_LEFT.chain(NEW_ON_BOTH) {
        put(&left, &key(number), "left").await;
    }
    for number in NEW_RIGHT.chain(NEW_ON_BOTH) {
        put(&right, &key(number), "right").await;
    }
    // As long as they are split, each side waits for the other.
    let here = collection(&left, &["n1"]).await;
    let there = collection(&right, &["n5"]).await;
    let erased = here.erased_count + there.erased_count;
    assert_eq!(erased, 0, "{here:?} {there:?}");
    wait_for(&left, &["n1"], "waiting for the other side", |state| {
        let named = |name| state.waiting_for.iter().any(|wait| wait.node == name);
        named("n3") && named("n4") && named("n5")
    })
    .await;

    cluster.heal();
    let names = ["n1", "n2", "n3", "n4", "n5"];
    wait_for(&client, &names, "collection", |state| {
        state.erased_count >= DELETED as u64
            && state.tombstones_count == 0
            && state.waiting_for.is_empty()
    })
    .await;
    let check = async |numbers: Range<usize>, expected: &[&str]| {
        for number in numbers {
            let mut served = values(&client, &key(number), Consistency::All).await;
            served.sort_unstable();
            assert_eq!(served, expected, "customer-{number}");
        }
    };
    check(0..DELETED, &[]).await;
    check(DELETED_AND_REPLACED, &["salt"]).await;
    check(NEW_LEFT, &["left"]).await;
    check(NEW_RIGHT, &["right"]).await;
    check(NEW_ON_BOTH, &["left", "right"]).await;

    // Nothing of them is left on any disk, and nothing else is missing.
    let mut records = 0;
    for index in 0..5 {
        cluster.stop_node(index).await;
        let data = cluster.options(index).data;
        let store = Store::open(StoreOptions::directory(&data, EngineKind::Fjall));
        let store = store.expect("nobody else has it open");
        let page = store.scan(&Scan::all(Keyspace::Records));
        records += page.expect("it can be read").rows.len();
        store.close().await.expect("it closes");
    }
    assert_eq!(records, 3 * (NEW_ON_BOTH.end - DELETED));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_while_a_node_was_away_stays_deleted() {
    let mut cluster = start(3).await;
    let client = carts(&cluster).await;
    for number in 0..10 {
        put(&client, &key(number), "tea").await;
    }
    cluster.stop_node(2).await;
    for number in 0..10 {
        delete(&client, &key(number)).await;
    }
    cluster.start_node(2).await;
    cluster.wait_ready().await;
    let names = ["n1", "n2", "n3"];
    wait_for(&client, &names, "collection", |state| {
        state.erased_count == 10 && state.tombstones_count == 0
    })
    .await;
    for number in 0..10 {
        assert_eq!(
            values(&client, &key(number), Consistency::All).await,
            [""; 0]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_values_are_not_served_do_not_return_and_are_collected() {
    let mut cluster = start(3).await;
    let client = carts(&cluster).await;
    cluster.stop_node(2).await;
    let options = WriteOptions {
        ttl: Some(Duration::from_millis(1_500)),
        ..Default::default()
    };
    for number in 0..6 {
        client
            .put(
                &key(number),
                text("soon gone"),
                &Context::default(),
                options,
            )
            .await
            .expect("a quorum answers");
    }
    assert_eq!(
        values(&client, &key(0), Consistency::Quorum).await,
        ["soon gone"]
    );
    tokio::time::sleep(Duration::from_millis(1_600)).await;
    // The hints and the repairs that it gets now carry values that are past their deadline.
    cluster.start_node(2).await;
    cluster.wait_ready().await;
    for number in 0..6 {
        assert_eq!(
            values(&client, &key(number), Consistency::All).await,
            [""; 0]
        );
        let query = ScanQuery::new("carts", format!("customer-{number}"));
        let rows = client.scan_all(&query, 10, ReadOptions::default()).await;
        assert_eq!(rows.expect("enough answer").rows.len(), 0);
    }
    let names = ["n1", "n2", "n3"];
    let state = wait_for(&client, &names, "collection", |state| {
        state.erased_count == 6 && state.tombstones_count == 0
    })
    .await;
    assert_eq!(state.expired_count, 6);
    for number in 0..6 {
        assert_eq!(
            values(&client, &key(number), Consistency::All).await,
            [""; 0]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_replayed_through_other_coordinators_is_one_sibling() {
    let cluster = TestCluster::start(3).await;
    let client = carts(&cluster).await;
    let request = PutRequest {
        key: Some(kv::Key {
            bucket: "carts".to_owned(),
            partition_key: "customer-1".into(),
            sort_key: "".into(),
        }),
        value: Some(kv::Value {
            content_type: "text/plain".to_owned(),
            data: "tea".into(),
        }),
        request_id: Some(RequestId {
            client: vec![7; 16].into(),
            sequence: 1,
            ..Default::default()
        }),
        ..Default::default()
    };
    // All at once, so that no coordinator has heard of the others' run, and once more when all have.
    for _ in 0..2 {
        let sends = (0..3).map(|index| {
            let address = cluster.config.nodes[index].grpc.to_string();
            let request = request.clone();
            async move {
                let mut node = KvClient::connect(format!("http://{address}"))
                    .await
                    .expect("the node listens");
                node.put(request).await.expect("a quorum answers");
            }
        });
        futures::future::join_all(sends).await;
        let served = values(&client, &key(1), Consistency::All).await;
        assert_eq!(served, ["tea"], "one request, one sibling");
    }
    // Replaced, it does not come back by being repeated.
    let read = client
        .get(&key(1), ReadOptions::default())
        .await
        .expect("a quorum answers");
    client
        .put(
            &key(1),
            text("salt"),
            &read.context,
            WriteOptions::default(),
        )
        .await
        .expect("a quorum answers");
    for index in 0..3 {
        let address = cluster.config.nodes[index].grpc.to_string();
        let mut node = KvClient::connect(format!("http://{address}"))
            .await
            .expect("the node listens");
        node.put(request.clone()).await.expect("a quorum answers");
    }
    assert_eq!(values(&client, &key(1), Consistency::All).await, ["salt"]);
}
