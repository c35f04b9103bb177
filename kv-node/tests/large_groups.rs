//! Large register groups, and acceptors that missed all of them.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail the test that calls them"
)]
#[allow(dead_code, reason = "each file of tests uses a part of it")]
mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use souk_kv_client::{
    BucketMode, Client, Condition, Key, Outcome, RequestError, RowOperation, TransactOutcome,
    Transaction, Value, WriteOptions,
};
use souk_kv_core::register::limits::GROUP_BYTES_MAX;
use support::{TestCluster, bucket};

const ROW_BYTES: usize = 1024 * 1024 - 4096;
const PATIENCE: Duration = Duration::from_secs(60);

async fn put_rows(client: &Client, rows: std::ops::Range<u64>) -> Result<(), RequestError> {
    let operations = rows
        .map(|row| {
            let value = Value::bytes(vec![row as u8; ROW_BYTES]);
            RowOperation::put(format!("row-{row}"), Condition::Any, value)
        })
        .collect();
    let transaction = Transaction::new("stock", "ledger", operations);
    let options = WriteOptions {
        timeout: Some(Duration::from_secs(20)),
        ..WriteOptions::default()
    };
    let outcome = client.transact(&transaction, options).await?;
    assert!(matches!(outcome, TransactOutcome::Applied { .. }));
    Ok(())
}

/// The ballots that the acceptors have accepted, by node.
async fn accepted(client: &Client) -> Vec<(String, String)> {
    let key = Key::new("stock", "ledger", "");
    let shown = client.admin().register_show(&key).await.unwrap();
    let told = shown.acceptors.into_iter();
    told.map(|one| (one.node, one.accepted)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acceptor_that_missed_a_group_of_the_largest_size_is_brought_up() {
    let mut cluster = TestCluster::start(3).await;
    let client = cluster.client().await;
    let created = client
        .admin()
        .create_bucket(bucket("stock", BucketMode::Register))
        .await;
    assert!(created.unwrap());
    put_rows(&client, 0..1).await.unwrap();
    cluster.stop_node(2).await;

    let rows_that_fit = GROUP_BYTES_MAX / (ROW_BYTES as u64 + 100);
    for row in 1..rows_that_fit {
        put_rows(&client, row..row + 1).await.unwrap();
    }
    // One more, or two where the estimate is low by one, and it is full.
    let mut refused = put_rows(&client, rows_that_fit..rows_that_fit + 1).await;
    if refused.is_ok() {
        refused = put_rows(&client, rows_that_fit + 1..rows_that_fit + 2).await;
    }
    let refused = refused.expect_err("the group is full");
    assert_eq!(refused.outcome(), Outcome::NotApplied, "{refused}");
    assert!(
        refused.message.contains("delete rows or spread them"),
        "{refused}"
    );
    put_rows(&client, 0..1).await.expect("a change still works");

    cluster.start_node(2).await;
    cluster.wait_ready().await;
    let begun = tokio::time::Instant::now();
    loop {
        // Whatever is written next, it brings up who lags.
        put_rows(&client, 0..1).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        let accepted = accepted(&client).await;
        if accepted.len() == 3 && accepted.iter().all(|(_, ballot)| *ballot == accepted[0].1) {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "it still lags: {accepted:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_node_learns_a_large_group_that_never_rests() {
    let mut cluster = TestCluster::start(3).await;
    let client = cluster.client().await;
    let created = client
        .admin()
        .create_bucket(bucket("stock", BucketMode::Register))
        .await;
    assert!(created.unwrap());
    // Several pages of a lesson.
    for row in 0..16 {
        put_rows(&client, row..row + 1).await.unwrap();
    }
    cluster.stop_node(2).await;
    std::fs::remove_dir_all(cluster.options(2).data).unwrap();

    let is_over = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (client, is_over) = (client.clone(), Arc::clone(&is_over));
        async move {
            let mut written = 0_u32;
            while !is_over.load(Ordering::Relaxed) {
                let value = Value::bytes(written.to_string());
                let key = Key::new("stock", "ledger", "counter");
                let operation = RowOperation::put(&key.sort_key, Condition::Any, value);
                let transaction = Transaction::new("stock", "ledger", vec![operation]);
                // While epochs change, some find no majority in time.
                let done = client.transact(&transaction, WriteOptions::default()).await;
                written += u32::from(done.is_ok());
            }
            written
        }
    });
    cluster.start_node(2).await;
    let begun = tokio::time::Instant::now();
    loop {
        let status = client.admin().status(Some("n3")).await;
        if status.is_ok_and(|status| status.ready) && standing(&client, "n3").await == "full" {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "it never learnt the group");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    is_over.store(true, Ordering::Relaxed);
    assert!(writer.await.unwrap() > 20, "the group rested");
    // It votes: with another node away, it makes the majority.
    cluster.stop_node(0).await;
    put_rows(&cluster.client_of(2).await, 0..1).await.unwrap();
}

async fn standing(client: &Client, node: &str) -> String {
    let key = Key::new("stock", "ledger", "");
    let shown = client.admin().register_show(&key).await.unwrap();
    let found = shown.acceptors.into_iter().find(|one| one.node == node);
    found.map(|one| one.standing).unwrap_or_default()
}
