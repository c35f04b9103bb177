//! Absent, slow and half-reachable nodes: stand-ins, hints and their steering, limits, explanations, detours.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[allow(dead_code, reason = "each file of tests uses a part of it")]
mod support;

use std::{collections::BTreeSet, time::Duration};

use souk_kv_client::{
    BucketMode, Client, Consistency, Context, ErrorCode, Explain, HintAction, HintSummary, Key,
    Outcome, ReadOptions, ScanQuery, SteerHintsRequest, Value, WriteOptions, Written,
};
use support::{TestCluster, bucket};

/// Longer than anything here takes, in tenths of a second.
const PATIENCE_TENTHS: usize = 600;

fn text(value: &str) -> Value {
    Value::new("text/plain", value.as_bytes().to_vec())
}

fn set(values: &[&str]) -> BTreeSet<String> {
    values.iter().map(|&value| value.to_owned()).collect()
}

async fn write(client: &Client, key: &Key, value: &str, options: WriteOptions) -> Written {
    let context = Context::default();
    client
        .put(key, text(value), &context, options)
        .await
        .unwrap()
}

async fn values(client: &Client, key: &Key, options: ReadOptions) -> BTreeSet<String> {
    let read = client.get(key, options).await.unwrap();
    let value = |value: &Value| String::from_utf8_lossy(&value.data).into_owned();
    read.values.iter().map(value).collect()
}

fn one() -> ReadOptions {
    ReadOptions {
        consistency: Consistency::One,
        ..Default::default()
    }
}

async fn carts(cluster: &TestCluster, siblings_max: u32, write_floor: u32) -> Client {
    let client = cluster.client().await;
    let mut carts = bucket("carts", BucketMode::Siblings);
    carts.siblings_max = siblings_max;
    carts.write_floor = write_floor;
    client.admin().create_bucket(carts).await.unwrap();
    // All nodes have to know the bucket before some are cut off.
    for index in 0..cluster.config.nodes.len() {
        let node = cluster.client_of(index).await;
        for _ in 0..PATIENCE_TENTHS {
            if node.get(&Key::new("carts", "k", ""), one()).await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    client
}

/// The hints that `node` keeps for `target`.
async fn hints(client: &Client, node: &str, target: &str) -> Option<HintSummary> {
    let listed = client.admin().hints(Some(node)).await.unwrap().hints;
    listed.into_iter().find(|hint| hint.target == target)
}

async fn steer(client: &Client, node: &str, action: HintAction, target: &str) {
    let request = SteerHintsRequest {
        action: action.into(),
        target: target.to_owned(),
        accept_data_loss: false,
    };
    client.admin().steer_hints(node, request).await.unwrap();
}

async fn state(client: &Client, node: &str, of: &str) -> String {
    let status = client.admin().status(Some(node)).await.unwrap();
    let found = status.nodes.into_iter().find(|node| node.name == of);
    found.unwrap().state
}

/// Tries until it is so.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..PATIENCE_TENTHS {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it never came about that {what}");
}

fn said<'a>(explain: &'a Explain, node: &str) -> &'a str {
    let replica = explain.replicas.iter().find(|replica| replica.node == node);
    &replica.unwrap().state
}

#[tokio::test(flavor = "multi_thread")]
async fn stand_ins_take_writes_and_their_hints_are_read_scanned_and_steered() {
    let mut cluster = TestCluster::start(5).await;
    let client = carts(&cluster, 0, 0).await;
    let key = Key::new("carts", "customer-1", "line-1");
    let endpoints = client.admin().endpoints(&key).await.unwrap();
    let index = |name: &String| name[1..].parse::<usize>().unwrap() - 1;
    let (first, absent) = (&endpoints.primaries[0], &endpoints.primaries[1..]);
    let stand_ins = &endpoints.fallbacks;
    let client = cluster.client_of(index(first)).await;
    for node in absent {
        cluster.stop_node(index(node)).await;
    }
    for node in absent {
        until("both are missed", async || {
            state(&client, first, node).await != "up"
        })
        .await;
    }
    for holder in stand_ins {
        steer(&client, holder, HintAction::Pause, "").await;
    }

    let explained = WriteOptions {
        explain: true,
        ..Default::default()
    };
    let written = write(&client, &key, "tea", explained).await;
    assert_eq!((written.copies, written.degraded), (2, false));
    let explain = written.explain.unwrap();
    let kept_for: BTreeSet<&str> = explain
        .replicas
        .iter()
        .filter(|replica| replica.fallback)
        .map(|replica| replica.hinted_for.as_str())
        .collect();
    assert_eq!(
        kept_for,
        absent.iter().map(String::as_str).collect(),
        "{explain:?}"
    );

    let strict = WriteOptions {
        strict: true,
        ..Default::default()
    };
    let refused = client
        .put(&key, text("milk"), &Context::default(), strict)
        .await;
    assert_eq!(refused.unwrap_err().outcome(), Outcome::NotApplied);

    // Two of R are the first primary and a stand-in.
    assert_eq!(
        values(&client, &key, ReadOptions::default()).await,
        set(&["tea"])
    );
    let query = ScanQuery::new("carts", "customer-1");
    let page = client.scan(&query, ReadOptions::default()).await.unwrap();
    assert_eq!(page.rows.len(), 1);
    // Without the first one, only the hint spaces know the row.
    cluster.stop_node(index(first)).await;
    let lonely = cluster.client_of(index(&stand_ins[0])).await;
    until("the scan finds the row in the hint spaces", async || {
        let page = lonely.scan(&query, ReadOptions::default()).await;
        page.is_ok_and(|page| page.rows.len() == 1)
    })
    .await;
    let listed = lonely.admin().hints(Some(&stand_ins[0])).await.unwrap();
    assert!(listed.bytes_used > 0 && listed.bytes_used < listed.bytes_max);
    assert!(
        listed
            .hints
            .iter()
            .any(|hint| hint.waiting_ms > 0 && hint.state == "paused")
    );

    // The absent ones come back; what is paused stays, what is resumed goes.
    for node in absent {
        cluster.start_node(index(node)).await;
    }
    cluster.wait_ready().await;
    for node in absent {
        until("both are back", async || {
            state(&lonely, &stand_ins[0], node).await == "up"
        })
        .await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let kept = lonely.admin().hints(Some(&stand_ins[0])).await.unwrap();
    assert!(kept.bytes_used > 0, "paused hints stay");
    for holder in stand_ins {
        steer(&lonely, holder, HintAction::Resume, "").await;
        until("the hints are delivered", async || {
            lonely.admin().hints(Some(holder)).await.unwrap().bytes_used == 0
        })
        .await;
    }
    for node in absent {
        let client = cluster.client_of(index(node)).await;
        assert_eq!(
            values(&client, &key, one()).await,
            set(&["tea"]),
            "at {node}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_replica_is_told_and_repaired_and_hints_can_be_dropped() {
    let mut cluster = TestCluster::start(3).await;
    let client = carts(&cluster, 0, 0).await;
    let key = Key::new("carts", "customer-1", "");
    for holder in ["n1", "n2"] {
        steer(&client, holder, HintAction::Pause, "n3").await;
    }
    cluster.stop_node(2).await;
    write(&client, &key, "tea", WriteOptions::default()).await;
    until("a hint is kept", async || {
        let kept = [
            hints(&client, "n1", "n3").await,
            hints(&client, "n2", "n3").await,
        ];
        kept.iter().flatten().any(|hint| hint.hints_count == 1)
    })
    .await;
    let drop_them = |accept_data_loss| SteerHintsRequest {
        action: HintAction::Drop.into(),
        target: "n3".to_owned(),
        accept_data_loss,
    };
    let refused = client.admin().steer_hints("n1", drop_them(false)).await;
    assert_eq!(refused.unwrap_err().code, ErrorCode::InvalidArgument);
    // A second coordinator may have tried the write, and its hint may come late.
    let mut dropped = 0;
    until("all hints are dropped", async || {
        let mut left = 0;
        for holder in ["n1", "n2"] {
            let answer = client
                .admin()
                .steer_hints(holder, drop_them(true))
                .await
                .unwrap();
            dropped += answer.dropped_count;
            assert!(!answer.more);
            left += hints(&client, holder, "n3").await.unwrap().hints_count;
        }
        dropped > 0 && left == 0
    })
    .await;

    cluster.start_node(2).await;
    cluster.wait_ready().await;
    until("n3 is back", async || {
        state(&client, "n1", "n3").await == "up"
    })
    .await;
    until("n3 is back for all", async || {
        state(&client, "n2", "n3").await == "up"
    })
    .await;
    let explained = ReadOptions {
        explain: true,
        ..Default::default()
    };
    let read = client.get(&key, explained).await.unwrap();
    let explain = read.explain.unwrap();
    assert_eq!(said(&explain, "n3"), "stale", "{explain:?}");
    assert_eq!(said(&explain, "n1"), "answered", "{explain:?}");
    assert_eq!(explain.repairs_started, 1);
    assert!(explain.answered_us <= explain.total_us);
    until("the read has repaired it", async || {
        let read = client.get(&key, explained).await.unwrap();
        said(&read.explain.unwrap(), "n3") == "answered"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_siblings_refuses_writes_and_no_repair() {
    let mut cluster = TestCluster::start(3).await;
    carts(&cluster, 3, 1).await;
    let key = Key::new("carts", "customer-1", "");
    // Two sides that do not see each other, each up to the limit.
    cluster.stop_node(1).await;
    cluster.stop_node(2).await;
    let left = cluster.client_of(0).await;
    for value in ["a", "b", "c"] {
        let written = write(&left, &key, value, WriteOptions::default()).await;
        assert!(written.degraded);
    }
    let put = async |client: &Client, context: &Context| {
        client
            .put(&key, text("more"), context, WriteOptions::default())
            .await
    };
    let refused = put(&left, &Context::default()).await.unwrap_err();
    assert_eq!(
        (refused.code, refused.outcome()),
        (ErrorCode::SiblingsFull, Outcome::NotApplied)
    );
    cluster.stop_node(0).await;
    cluster.start_node(2).await;
    cluster.wait_ready().await;
    let right = cluster.client_of(2).await;
    for value in ["d", "e", "f"] {
        write(&right, &key, value, WriteOptions::default()).await;
    }
    cluster.start_node(0).await;
    cluster.start_node(1).await;
    cluster.wait_ready().await;
    let all = set(&["a", "b", "c", "d", "e", "f"]);
    let client = cluster.client().await;
    for index in 0..3 {
        let strict = ReadOptions {
            strict: true,
            ..one()
        };
        let node = cluster.client_of(index).await;
        until("all six are everywhere", async || {
            // Hints and the repair of reads bring them together, beyond the limit.
            values(&client, &key, ReadOptions::default()).await;
            values(&node, &key, strict).await == all
        })
        .await;
    }
    let refused = put(&client, &Context::default()).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::SiblingsFull);
    let seen = client.get(&key, ReadOptions::default()).await.unwrap();
    put(&client, &seen.context)
        .await
        .expect("it replaces what it has seen");
    until("one is left", async || {
        values(&client, &key, ReadOptions::default()).await == set(&["more"])
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hints_take_a_detour_around_a_cut() {
    let cluster = TestCluster::start_on_cables(3).await;
    carts(&cluster, 0, 0).await;
    let first = cluster.client_of(0).await;
    let key = Key::new("carts", "customer-1", "");
    // n1 and n3 do not reach each other, n2 reaches both.
    for (from, to) in [(0, 2), (2, 0)] {
        cluster.cables[from][to].cut();
    }
    let second = cluster.client_of(1).await;
    until("n1 knows that n3 is only cut off", async || {
        state(&second, "n1", "n3").await == "cut-off"
    })
    .await;
    assert_eq!(state(&second, "n2", "n3").await, "up");
    let written = write(&first, &key, "tea", WriteOptions::default()).await;
    assert!(written.copies >= 2);
    let third = cluster.client_of(2).await;
    until("n3 has it, and nobody keeps a hint", async || {
        let at = |node: &'static str| hints(&second, node, "n3");
        let is_kept = at("n1").await.is_some() || at("n2").await.is_some();
        !is_kept && values(&third, &key, one()).await == set(&["tea"])
    })
    .await;
    until("it is still cut off", async || {
        state(&second, "n1", "n3").await == "cut-off"
    })
    .await;
    for (from, to) in [(0, 2), (2, 0)] {
        cluster.cables[from][to].mend();
    }
    until("the cut heals", async || {
        state(&second, "n1", "n3").await == "up"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_direction_of_asking_may_be_cut() {
    let cluster = TestCluster::start_on_cables(3).await;
    let client = carts(&cluster, 0, 0).await;
    // n1 asks n3 in vain; n3 asks n1 and is answered.
    cluster.cables[0][2].cut();
    let second = cluster.client_of(1).await;
    until("n1 misses n3", async || {
        state(&second, "n1", "n3").await == "cut-off"
    })
    .await;
    assert_eq!(state(&second, "n3", "n1").await, "up");
    for index in 0..3 {
        let node = cluster.client_of(index).await;
        for number in 0..20 {
            let key = Key::new("carts", format!("customer-{index}-{number}"), "");
            let written = write(&node, &key, "tea", WriteOptions::default()).await;
            assert!(!written.degraded);
            assert_eq!(
                values(&client, &key, ReadOptions::default()).await,
                set(&["tea"])
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_node_is_demoted_and_comes_back() {
    let cluster = TestCluster::start_on_cables(3).await;
    carts(&cluster, 0, 0).await;
    let first = cluster.client_of(0).await;
    let mut number = 0;
    // One that n1 coordinates, so that it is n1 who waits for n3.
    let key = loop {
        let key = Key::new("carts", format!("customer-{number}"), "");
        if first.admin().endpoints(&key).await.unwrap().primaries[0] == "n1" {
            break key;
        }
        number += 1;
    };
    let work = async || {
        write(&first, &key, "tea", WriteOptions::default()).await;
        let seen = first.get(&key, ReadOptions::default()).await.unwrap();
        let options = WriteOptions::default();
        first
            .put(&key, text("tea"), &seen.context, options)
            .await
            .unwrap();
    };
    cluster.cables[0][2].slow_down(Duration::from_millis(200));
    let second = cluster.client_of(1).await;
    until("n1 demotes n3", async || {
        work().await;
        state(&second, "n1", "n3").await == "slow"
    })
    .await;
    // Two quick ones are enough for R: the slow one is not waited for.
    let read = first.get(
        &key,
        ReadOptions {
            explain: true,
            ..Default::default()
        },
    );
    let explain = read.await.unwrap().explain.unwrap();
    let slow = explain.replicas.iter().find(|replica| replica.node == "n3");
    let after_us = slow.unwrap().after_us;
    assert!(explain.coordinator != "n1" || after_us == 0 || after_us > explain.answered_us);
    cluster.cables[0][2].mend();
    until("n1 forgives n3", async || {
        work().await;
        state(&second, "n1", "n3").await == "up"
    })
    .await;
}
