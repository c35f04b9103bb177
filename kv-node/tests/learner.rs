//! Nodes that lost their store, or part of it, and are taken in again as learners.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail the test that calls them"
)]
#[allow(dead_code, reason = "each file of tests uses a part of it")]
mod support;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use souk_kv_client::{
    BucketMode, CasOutcome, Client, Consistency, Context, Key, Outcome, ReadOptions, ScrubProgress,
    Value, WriteOptions,
};
use souk_kv_node::config::ClusterFile;
use souk_kv_storage::{EngineKind, Keyspace, Scan, Store, StoreOptions, WriteBatch};
use support::{TestCluster, bucket};

const GROUPS: usize = 40;

fn text(value: &str) -> Value {
    Value::new("text/plain", value.as_bytes().to_vec())
}

fn sku(number: usize) -> Key {
    Key::new("stock", format!("sku-{number}"), "")
}

async fn founded() -> (TestCluster, Client) {
    founded_with(|_| {}).await
}

async fn founded_with(change: impl FnOnce(&mut ClusterFile)) -> (TestCluster, Client) {
    let cluster = TestCluster::start_changed(3, change).await;
    let client = cluster.client().await;
    for (name, mode) in [
        ("stock", BucketMode::Register),
        ("carts", BucketMode::Siblings),
    ] {
        let created = client.admin().create_bucket(bucket(name, mode)).await;
        assert!(created.expect("a majority is there"));
    }
    (cluster, client)
}

/// Puts a row, whatever was there.
async fn put_row(client: &Client, key: &Key, value: &str) {
    let row = client.get_row(key, ReadOptions::default()).await.unwrap();
    let (options, value) = (WriteOptions::default(), text(value));
    let put = match row {
        Some(row) => {
            client
                .put_if_version(key, &row.version, value, options)
                .await
        }
        None => client.put_if_absent(key, value, options).await,
    };
    let put = put.expect("a majority answers");
    assert!(matches!(put, CasOutcome::Applied { .. }), "{put:?}");
}

async fn row(client: &Client, key: &Key) -> String {
    let row = client.get_row(key, ReadOptions::default()).await;
    let row = row.expect("a majority answers").expect("it was written");
    String::from_utf8_lossy(&row.value.data).into_owned()
}

async fn put_cart(client: &Client, number: usize) {
    let key = Key::new("carts", format!("customer-{number}"), "");
    let options = WriteOptions {
        consistency: Consistency::All,
        ..WriteOptions::default()
    };
    let put = client
        .put(&key, text("tea"), &Context::default(), options)
        .await;
    assert_eq!(put.expect("all are there").copies, 3);
}

/// Waits until a node has come to that epoch and counts again.
async fn wait_for_epoch(client: &Client, node: &str, epoch: u64) {
    let mut seen = 0;
    for _ in 0..1500 {
        if let Ok(status) = client.admin().status(Some(node)).await {
            seen = status.layout_epoch;
            if seen >= epoch && status.ready {
                assert_eq!(seen, epoch, "no more layouts than needed");
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{node} came to epoch {seen}, not to {epoch}");
}

/// Waits until `node` can ask `other`, be it slow on a busy machine.
async fn wait_until_up(client: &Client, node: &str, other: &str) {
    let mut state = String::new();
    for _ in 0..1000 {
        let status = client.admin().status(Some(node)).await.unwrap();
        let seen = status.nodes.iter().find(|seen| seen.name == other).unwrap();
        state.clone_from(&seen.state);
        if state == "up" || state == "slow" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{node} sees {other} as {state}");
}

async fn with_store<T>(data: &Path, look: impl AsyncFnOnce(&Store) -> T) -> T {
    let options = StoreOptions::directory(data, EngineKind::Fjall);
    let store = Store::open(options).expect("nobody else has it open");
    let seen = look(&store).await;
    store.close().await.expect("it closes");
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_node_is_taught_and_counts_again() {
    let (mut cluster, client) = founded().await;
    for number in 0..GROUPS {
        put_row(&client, &sku(number), "1").await;
    }
    put_cart(&client, 1).await;
    cluster.stop_node(2).await;
    for number in 0..GROUPS / 2 {
        put_row(&client, &sku(number), "2").await;
    }
    std::fs::remove_dir_all(cluster.options(2).data).expect("the directory was there");
    cluster.start_node(2).await;
    // Writes go on while it learns.
    for number in 0..GROUPS / 4 {
        put_row(&client, &sku(number), "3").await;
    }
    wait_for_epoch(&client, "n3", 3).await;
    cluster.stop_node(0).await;
    let client = cluster.client_of(2).await;
    for number in 0..GROUPS {
        let expected = match number {
            0..10 => "3",
            10..20 => "2",
            _ => "1",
        };
        assert_eq!(row(&client, &sku(number)).await, expected, "sku {number}");
        put_row(&client, &sku(number), "4").await;
    }
    let cart = Key::new("carts", "customer-1", "");
    let local = ReadOptions {
        consistency: Consistency::One,
        ..ReadOptions::default()
    };
    let read = client.get(&cart, local).await.expect("one is there");
    assert_eq!(read.values.len(), 1);
    // The others learn of the new epochs from each other, also after a restart.
    cluster.start_node(0).await;
    wait_for_epoch(&client, "n1", 3).await;
    wait_until_up(&client, "n3", "n1").await;
    cluster.stop_node(1).await;
    assert_eq!(row(&client, &sku(7)).await, "4");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_of_the_others_a_lost_store_gets_no_vote() {
    let (mut cluster, client) = founded().await;
    put_row(&client, &sku(1), "5").await;
    cluster.stop_node(2).await;
    cluster.stop_node(1).await;
    std::fs::remove_dir_all(cluster.options(2).data).expect("the directory was there");
    cluster.start_node(2).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let reason = cluster.ready(2).expect_err("one member cannot take it in");
    assert!(
        reason.contains("not the one that layout e1 names"),
        "{reason}"
    );
    let refused = client
        .put_if_absent(&sku(2), text("5"), WriteOptions::default())
        .await
        .expect_err("one vote of three is no majority");
    assert_eq!(refused.outcome(), Outcome::NotApplied, "{refused}");
    // With the other one back it is taken in.
    cluster.start_node(1).await;
    wait_for_epoch(&client, "n3", 3).await;
    assert_eq!(row(&client, &sku(1)).await, "5");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_learner_that_is_killed_goes_on_after_its_restart() {
    let (mut cluster, client) = founded().await;
    for number in 0..GROUPS {
        put_row(&client, &sku(number), "1").await;
    }
    cluster.stop_node(2).await;
    std::fs::remove_dir_all(cluster.options(2).data).expect("the directory was there");
    for pause_ms in [100, 300, 500] {
        cluster.start_node(2).await;
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        cluster.stop_node(2).await;
    }
    cluster.start_node(2).await;
    wait_for_epoch(&client, "n3", 3).await;
    cluster.stop_node(1).await;
    for number in 0..GROUPS {
        assert_eq!(row(&client, &sku(number)).await, "1");
    }
}

/// Flips a byte in the middle of what a journal holds.
fn damage_journal(data: &Path) -> PathBuf {
    let mut folders = vec![data.to_owned()];
    let mut journals = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "jnl") {
                journals.push(path);
            }
        }
    }
    let journal = journals.pop().expect("there is a journal");
    let mut bytes = std::fs::read(&journal).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[end / 2] ^= 0x10;
    std::fs::write(&journal, bytes).unwrap();
    journal
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_may_have_lost_votes_learns_them() {
    let (mut cluster, client) = founded().await;
    for number in 0..GROUPS {
        put_row(&client, &sku(number), "1").await;
    }
    cluster.stop_node(1).await;
    damage_journal(&cluster.options(1).data);
    cluster.start_node(1).await;
    wait_for_epoch(&client, "n2", 3).await;
    cluster.stop_node(0).await;
    let client = cluster.client_of(1).await;
    for number in 0..GROUPS {
        assert_eq!(row(&client, &sku(number)).await, "1");
        put_row(&client, &sku(number), "2").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_group_is_learnt_anew() {
    let (mut cluster, client) = founded().await;
    for number in 0..3 {
        put_row(&client, &sku(number), "1").await;
    }
    cluster.stop_node(0).await;
    with_store(&cluster.options(0).data, async |store| {
        let page = store.scan(&Scan::all(Keyspace::Registers)).unwrap();
        let mut batch = WriteBatch::new();
        for found in page.rows {
            // The header of one group, a row of another.
            if found.key.ends_with(b"sku-1\x00") || found.key.ends_with(b"sku-2\x01\x00") {
                batch.put(Keyspace::Registers, found.key, "no such thing");
            }
        }
        assert_eq!(batch.len(), 2);
        store.commit(batch).await.unwrap();
    })
    .await;
    cluster.start_node(0).await;
    cluster.wait_ready().await;
    let client = cluster.client().await;
    // Who is not asked meets no damage.
    wait_until_up(&client, "n2", "n1").await;
    wait_until_up(&client, "n3", "n1").await;
    for number in 0..3 {
        put_row(&client, &sku(number), "2").await;
        assert_eq!(row(&client, &sku(number)).await, "2");
    }
    // One fence or two, as the damage was met together or one after the other.
    for _ in 0..1500 {
        let mut whole = 0;
        for number in 1..3 {
            let shown = client.admin().register_show(&sku(number)).await.unwrap();
            whole += shown
                .acceptors
                .iter()
                .filter(|acceptor| acceptor.error.is_empty())
                .count();
        }
        let status = client.admin().status(Some("n1")).await.unwrap();
        if whole == 6 && status.layout_epoch >= 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let status = client.admin().status(Some("n2")).await.unwrap();
    assert!(
        (2..=3).contains(&status.layout_epoch),
        "{}",
        status.layout_epoch
    );
    cluster.stop_node(1).await;
    for number in 0..3 {
        assert_eq!(row(&client, &sku(number)).await, "2");
        put_row(&client, &sku(number), "3").await;
    }
}

async fn scrub(client: &Client, node: &str) -> ScrubProgress {
    let mut stream = client.admin().scrub(node).await.unwrap();
    loop {
        let progress = stream.next().await.unwrap().unwrap();
        if progress.done {
            return progress;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrub_has_damaged_groups_learnt_anew() {
    let (mut cluster, client) = founded().await;
    for number in 0..3 {
        put_row(&client, &sku(number), "1").await;
    }
    cluster.stop_node(0).await;
    with_store(&cluster.options(0).data, async |store| {
        let page = store.scan(&Scan::all(Keyspace::Registers)).unwrap();
        let is_row = |key: &[u8]| key.ends_with(b"sku-1\x01\x00");
        let damaged = page.rows.into_iter().find(|row| is_row(&row.key)).unwrap();
        let mut batch = WriteBatch::new();
        batch.put(Keyspace::Registers, damaged.key, "no such thing");
        store.commit(batch).await.unwrap();
    })
    .await;
    cluster.start_node(0).await;
    cluster.wait_ready().await;
    let client = cluster.client_of(0).await;
    wait_until_up(&client, "n1", "n2").await;
    let seen = scrub(&client, "n1").await;
    assert_eq!((seen.damaged, seen.learning, seen.mended), (1, 1, 0));
    assert_eq!(seen.unmended, Vec::<String>::new());
    for tries in 0.. {
        let seen = scrub(&client, "n1").await;
        if seen.damaged == 0 {
            break;
        }
        assert!(tries < 1000, "{seen:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Its vote counts again, and with it what the others had chosen.
    cluster.stop_node(1).await;
    let client = cluster.client_of(0).await;
    for number in 0..3 {
        assert_eq!(row(&client, &sku(number)).await, "1");
        put_row(&client, &sku(number), "2").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_goes_on_with_the_copy_that_is_left() {
    let (mut cluster, client) = founded().await;
    for number in 0..3 {
        put_row(&client, &sku(number), "1").await;
    }
    let needless = client.admin().register_recover("n1", true).await;
    let needless = needless.expect_err("all are there").to_string();
    assert!(
        needless.contains("nothing has to be given up"),
        "{needless}"
    );
    for index in [1, 2] {
        cluster.stop_node(index).await;
        std::fs::remove_dir_all(cluster.options(index).data).unwrap();
        cluster.start_node(index).await;
    }
    let client = cluster.client_of(0).await;
    let options = WriteOptions::default();
    let refused = client.put_if_absent(&sku(9), text("1"), options).await;
    refused.expect_err("one of three is no majority");
    // The new stores have to have greeted, or they would be lost again.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let plan = client.admin().register_recover("n1", false).await.unwrap();
    assert_eq!(
        (plan.survivors, plan.declared),
        (vec!["n1".to_owned()], false)
    );
    assert_eq!(plan.lost, ["n2", "n3"]);
    assert_eq!(
        (plan.partitions_at_risk, plan.partitions_without_copy),
        (16, 0)
    );
    let plan = client.admin().register_recover("n1", true).await.unwrap();
    assert!(plan.declared);
    for node in ["n2", "n3"] {
        let mut is_taught = false;
        for _ in 0..1500 {
            let shown = client.admin().register_show(&sku(1)).await;
            let is_full = |shown: &souk_kv_client::RegisterShowResponse| {
                let mut acceptors = shown.acceptors.iter();
                acceptors.any(|acceptor| acceptor.node == node && acceptor.standing == "full")
            };
            is_taught = shown.is_ok_and(|shown| is_full(&shown));
            if is_taught {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(is_taught, "{node} is still a learner");
    }
    wait_until_up(&client, "n1", "n2").await;
    for number in 0..3 {
        assert_eq!(row(&client, &sku(number)).await, "1");
        put_row(&client, &sku(number), "2").await;
    }
    wait_until_up(&client, "n2", "n3").await;
    cluster.stop_node(0).await;
    let client = cluster.client_of(1).await;
    assert_eq!(row(&client, &sku(2)).await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_long_ago_is_erased() {
    let (cluster, client) = founded_with(|config| {
        config.limits.request_memory = Duration::from_secs(5);
    })
    .await;
    for number in 0..2 {
        put_row(&client, &sku(number), "1").await;
    }
    let version = client.get_row(&sku(1), ReadOptions::default()).await;
    let version = version.unwrap().unwrap().version;
    let deleted = client
        .delete_if_version(&sku(1), &version, WriteOptions::default())
        .await;
    assert!(matches!(deleted, Ok(CasOutcome::Applied { .. })));
    let rows = async |number: usize| -> Vec<u64> {
        let shown = client.admin().register_show(&sku(number)).await.unwrap();
        shown
            .acceptors
            .iter()
            .map(|acceptor| acceptor.rows)
            .collect()
    };
    let before = rows(1).await;
    for _ in 0..1500 {
        if rows(1).await.iter().all(|rows| *rows == 1) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // What stays is the note of how far memory was erased; and the row that lives.
    assert_eq!(rows(1).await, [1, 1, 1], "before: {before:?}");
    assert_eq!(row(&client, &sku(0)).await, "1");
    drop(cluster);
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_of_a_store_is_found_out() {
    let (mut cluster, client) = founded().await;
    put_row(&client, &sku(1), "1").await;
    cluster.stop_node(2).await;
    let data = cluster.options(2).data;
    let copy = tempfile::tempdir().unwrap();
    copy_folder(&data, copy.path());
    cluster.start_node(2).await;
    wait_until_up(&client, "n1", "n3").await;
    wait_until_up(&client, "n2", "n3").await;
    put_row(&client, &sku(1), "2").await;
    cluster.stop_node(2).await;
    std::fs::remove_dir_all(&data).unwrap();
    copy_folder(copy.path(), &data);
    cluster.start_node(2).await;
    wait_for_epoch(&client, "n3", 3).await;
    cluster.stop_node(1).await;
    assert_eq!(row(&client, &sku(1)).await, "2");
}
