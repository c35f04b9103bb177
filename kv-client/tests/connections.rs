//! What a client makes of nodes that answer, keep silent, break off and come back.

#![allow(clippy::unwrap_used)] // Helpers of tests fail like tests.

mod fake;

use std::{sync::atomic::Ordering, time::Duration};

use fake::{FakeCluster, Reply, applied, named_answer, refusal, request_id};
use futures::future::join_all;
use souk_kv_client::{
    CasOutcome, Client, ClientError, ClientOptions, Context, ErrorCode, Key, Outcome, Put,
    ReadOptions, ScanQuery, Value, Version, WriteOptions,
};
use souk_kv_proto::kv::{
    self, ErrorCode as Code, Outcome as WireOutcome, session_request::Body as Question,
    session_response::Body as Answer,
};

fn text(value: &Value) -> &str {
    std::str::from_utf8(&value.data).unwrap()
}

async fn put(client: &Client, key: &Key) -> Result<(), souk_kv_client::RequestError> {
    let value = Value::bytes("x");
    client
        .put(key, value, &Context::default(), WriteOptions::default())
        .await
        .map(|_| ())
}

async fn cas(
    client: &Client,
    key: &Key,
    options: WriteOptions,
) -> Result<CasOutcome, souk_kv_client::RequestError> {
    client.put_if_absent(key, Value::bytes("x"), options).await
}

#[tokio::test]
async fn each_key_goes_to_its_first_primary() {
    let cluster = FakeCluster::start(3).await;
    let client = cluster.client(cluster.options()).await;
    for number in 0..50 {
        let key = Key::new("b", format!("some-{number}"), "");
        let read = client.get(&key, ReadOptions::default()).await.unwrap();
        assert_eq!(text(&read.values[0]), cluster.order(&client, &key)[0].name);
    }
}

#[tokio::test]
async fn waiting_requests_share_frames() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(cluster.options()).await;
    let keys: Vec<_> = (0..500)
        .map(|number| Key::new("b", format!("{number}"), ""))
        .collect();
    let reads = join_all(
        keys.iter()
            .map(|key| client.get(key, ReadOptions::default())),
    )
    .await;
    assert!(reads.iter().all(Result::is_ok));
    let node = &cluster.nodes[0];
    assert_eq!(node.heard().len(), 500);
    // All 500 wait before the connection is polled for the first time.
    assert!(
        node.frames.load(Ordering::Relaxed) < 50,
        "{} frames",
        node.frames.load(Ordering::Relaxed)
    );
}

#[tokio::test]
async fn a_broken_stream_leaves_a_conditional_write_unknown_and_sends_it_once() {
    let cluster = FakeCluster::start(3).await;
    let client = cluster.client(cluster.options()).await;
    let key = cluster.key_at(&client, &cluster.nodes[0]);
    cluster.nodes[0].follow(|_| Reply::Break);
    let error = cas(&client, &key, WriteOptions::default())
        .await
        .unwrap_err();
    assert_eq!(
        (error.code, error.outcome()),
        (ErrorCode::ConnectionLost, Outcome::Unknown)
    );
    assert_eq!(error.node.as_deref(), Some(cluster.nodes[0].name.as_str()));
    let heard: usize = cluster.nodes.iter().map(|node| node.heard().len()).sum();
    assert_eq!(heard, 1);
}

#[tokio::test]
async fn plain_writes_and_allowed_conditional_ones_go_on_under_the_same_name() {
    let cluster = FakeCluster::start(3).await;
    let client = cluster.client(cluster.options()).await;
    for conditional in [false, true] {
        let key = cluster.key_at(&client, &cluster.nodes[usize::from(conditional)]);
        let order = cluster.order(&client, &key);
        order[0].follow(|_| Reply::Break);
        if conditional {
            let options = WriteOptions {
                retry_unknown: true,
                ..WriteOptions::default()
            };
            let applied = CasOutcome::Applied {
                version: Some(Version("v1".into())),
            };
            assert_eq!(cas(&client, &key, options).await, Ok(applied));
        } else {
            put(&client, &key).await.unwrap();
        }
        let first = request_id(order[0].heard().last().unwrap());
        let all: Vec<_> = order[1..].iter().flat_map(|node| node.heard()).collect();
        let second = request_id(all.last().unwrap());
        assert_eq!((first.attempt, second.attempt), (1, 2));
        assert_eq!(
            kv::RequestId {
                attempt: 1,
                ..second
            },
            first
        );
        for node in &cluster.nodes {
            let name = node.name.clone();
            node.follow(move |question| Reply::Say(named_answer(&name, question)));
        }
    }
}

#[tokio::test]
async fn doubt_survives_a_later_refusal() {
    let cluster = FakeCluster::start(3).await;
    let client = cluster.client(cluster.options()).await;
    let key = cluster.key_at(&client, &cluster.nodes[0]);
    let order = cluster.order(&client, &key);
    order[0].follow(|_| Reply::Break);
    for node in &order[1..] {
        node.follow(|_| Reply::Say(refusal(Code::Unavailable, WireOutcome::NotApplied)));
    }
    let error = put(&client, &key).await.unwrap_err();
    assert_eq!(
        (error.code, error.outcome()),
        (ErrorCode::Unavailable, Outcome::Unknown)
    );
    assert!(error.is_retryable());
}

#[tokio::test]
async fn a_silent_node_is_passed_over() {
    let cluster = FakeCluster::start(3).await;
    let patience = Duration::from_millis(50);
    let timeout = Duration::from_secs(20);
    let options = ClientOptions {
        attempt_patience: patience,
        request_timeout: timeout,
        ..cluster.options()
    };
    let client = cluster.client(options).await;
    let key = cluster.key_at(&client, &cluster.nodes[0]);
    let order = cluster.order(&client, &key);
    order[0].follow(|_| Reply::KeepSilent);
    let read = client.get(&key, ReadOptions::default()).await.unwrap();
    assert_eq!(text(&read.values[0]), order[1].name);
    put(&client, &key).await.unwrap();
    let second_heard = order[1].heard();
    assert!(
        second_heard
            .iter()
            .any(|question| matches!(question, Question::Put(_)))
    );
}

#[tokio::test]
async fn of_two_flights_the_first_success_counts() {
    let cluster = FakeCluster::start(3).await;
    let hedge_after = Some(Duration::from_millis(20));
    let client = cluster
        .client(ClientOptions {
            hedge_after,
            ..cluster.options()
        })
        .await;
    let key = cluster.key_at(&client, &cluster.nodes[0]);
    let order = cluster.order(&client, &key);
    order[0].follow(|_| Reply::KeepSilent);
    order[1].follow(|_| Reply::Say(refusal(Code::Corrupt, WireOutcome::NotApplied)));
    let timeout = Some(Duration::from_secs(1));
    // The first never answers, the second fails: the third would be next, but time is up by then.
    let error = client
        .get(
            &key,
            ReadOptions {
                timeout,
                ..ReadOptions::default()
            },
        )
        .await
        .unwrap_err();
    assert_eq!(
        (error.code, error.outcome()),
        (ErrorCode::Timeout, Outcome::NotApplied)
    );
    assert_eq!((order[0].heard().len(), order[1].heard().len()), (1, 1));
}

#[tokio::test]
async fn a_new_bucket_is_found_by_asking_again() {
    let cluster = FakeCluster::start(3).await;
    let client = cluster.client(cluster.options()).await;
    assert!(!client.topology().buckets().contains_key("new"));
    for node in &cluster.nodes {
        let (name, facts) = (node.name.clone(), cluster.facts.clone());
        node.follow(move |question| {
            if facts.catalogue_version.load(Ordering::Relaxed) == 1 {
                facts.buckets.lock().push("new".to_owned());
                facts.catalogue_version.store(2, Ordering::Relaxed);
                return Reply::Say(refusal(Code::BucketNotFound, WireOutcome::NotApplied));
            }
            Reply::Say(named_answer(&name, question))
        });
    }
    put(&client, &Key::new("new", "k", "")).await.unwrap();
    assert!(client.topology().buckets().contains_key("new"));
}

#[tokio::test]
async fn news_of_the_catalogue_travel_with_answers() {
    let cluster = FakeCluster::start(3).await;
    let client = cluster.client(cluster.options()).await;
    cluster.facts.buckets.lock().push("new".to_owned());
    cluster.facts.catalogue_version.store(7, Ordering::Relaxed);
    let key = cluster.key_at(&client, &cluster.nodes[0]);
    for _ in 0..1000 {
        client.get(&key, ReadOptions::default()).await.unwrap();
        if client.topology().catalogue_version() == 7 {
            assert!(client.topology().buckets().contains_key("new"));
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the client never heard of the new catalogue");
}

#[tokio::test]
async fn a_batch_is_grouped_by_node_and_its_failures_are_retried_one_by_one() {
    let cluster = FakeCluster::start(3).await;
    let client = cluster.client(cluster.options()).await;
    let keys: Vec<_> = (0..60)
        .map(|number| Key::new("b", format!("batch-{number}"), ""))
        .collect();
    let first = cluster.order(&client, &keys[0])[0];
    let name = first.name.clone();
    // One item of the first node's batch fails there.
    first.follow(move |question| {
        let mut answer = named_answer(&name, question);
        if let Answer::BatchPut(batch) = &mut answer {
            let error = kv::Error::new(Code::Overloaded, WireOutcome::NotApplied, "busy");
            batch.items[0].result = Some(kv::batch_put_item::Result::Error(error));
        }
        Reply::Say(answer)
    });
    let puts = keys.iter().map(|key| Put {
        key: key.clone(),
        value: Value::bytes("x"),
        context: Context::default(),
    });
    let written = client
        .put_many(puts.collect(), WriteOptions::default())
        .await;
    assert_eq!(written.len(), keys.len());
    assert!(written.iter().all(Result::is_ok), "{written:?}");
    let heard: Vec<_> = cluster.nodes.iter().flat_map(|node| node.heard()).collect();
    assert_eq!(heard.len(), 4, "one batch per node and one repetition");

    for node in &cluster.nodes {
        let name = node.name.clone();
        node.follow(move |question| Reply::Say(named_answer(&name, question)));
    }
    let mut asked = keys.clone();
    asked[5] = Key::new("b", "", "");
    let reads = client.get_many(&asked, ReadOptions::default()).await;
    for (index, read) in reads.iter().enumerate() {
        if index == 5 {
            assert_eq!(read.as_ref().unwrap_err().code, ErrorCode::InvalidArgument);
        } else {
            let expected = &cluster.order(&client, &keys[index])[0].name;
            assert_eq!(text(&read.as_ref().unwrap().values[0]), expected);
        }
    }
}

#[tokio::test]
async fn a_conflict_of_which_only_the_version_is_remembered_is_read_again() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(cluster.options()).await;
    cluster.nodes[0].follow(|question| {
        Reply::Say(match question {
            Question::Transact(_) => Answer::Transact(kv::TransactResponse {
                result: Some(kv::transact_response::Result::NotApplied(
                    kv::TransactNotApplied {
                        failed: vec![kv::FailedCondition {
                            operation: 0,
                            version: "old".into(),
                            value: None,
                        }],
                    },
                )),
            }),
            _ => Answer::Get(kv::GetResponse {
                values: vec![kv::Value {
                    data: "now".into(),
                    ..kv::Value::default()
                }],
                version: "v2".into(),
                ..kv::GetResponse::default()
            }),
        })
    });
    let outcome = cas(&client, &Key::new("b", "k", "row"), WriteOptions::default())
        .await
        .unwrap();
    let CasOutcome::Conflict {
        current: Some(current),
    } = outcome
    else {
        panic!("the row is there: {outcome:?}");
    };
    assert_eq!(
        (text(&current.value), current.version),
        ("now", Version("v2".into()))
    );
}

#[tokio::test]
async fn a_scan_goes_on_to_its_bound() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(cluster.options()).await;
    cluster.nodes[0].follow(|question| {
        let Question::Scan(scan) = question else {
            return Reply::KeepSilent;
        };
        let from = scan.continuation.first().copied().unwrap_or_default();
        let rows = from..from.saturating_add(u8::try_from(scan.limit.min(7)).unwrap());
        let continuation = if rows.end < 20 {
            vec![rows.end]
        } else {
            Vec::new()
        };
        let rows = rows.filter(|row| *row < 20).map(|row| kv::ScanRow {
            sort_key: vec![row].into(),
            ..kv::ScanRow::default()
        });
        let answer = kv::ScanResponse {
            rows: rows.collect(),
            continuation: continuation.into(),
        };
        Reply::Say(Answer::Scan(answer))
    });
    for (rows_max, expected, more) in [
        (100, 20, false),
        (20, 20, false),
        (10, 10, true),
        (0, 0, false),
    ] {
        let page = client
            .scan_all(&ScanQuery::new("b", "k"), rows_max, ReadOptions::default())
            .await
            .unwrap();
        let sort_keys: Vec<_> = page.rows.iter().map(|row| row.sort_key[0]).collect();
        assert_eq!(sort_keys, (0..expected).collect::<Vec<_>>());
        assert_eq!(page.continuation.is_some(), more, "{rows_max} rows at most");
    }
}

#[tokio::test]
async fn a_stream_is_opened_again_after_a_break() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(cluster.options()).await;
    let key = Key::new("b", "k", "");
    let mut breaks = 3;
    cluster.nodes[0].follow(move |question| {
        if breaks > 0 {
            breaks -= 1;
            return Reply::Break;
        }
        Reply::Say(named_answer("back", question))
    });
    let read = client.get(&key, ReadOptions::default()).await.unwrap();
    assert_eq!(text(&read.values[0]), "back");
    assert_eq!(cluster.nodes[0].heard().len(), 4);
}

#[tokio::test]
async fn retries_end_when_the_budget_does() {
    let cluster = FakeCluster::start(1).await;
    let options = ClientOptions {
        retry_budget_ratio: 0.0,
        retry_budget_burst: 5,
        ..cluster.options()
    };
    let client = cluster.client(options).await;
    cluster.nodes[0].follow(|_| Reply::Say(refusal(Code::Overloaded, WireOutcome::NotApplied)));
    for _ in 0..10 {
        let error = put(&client, &Key::new("b", "k", "")).await.unwrap_err();
        assert_eq!(
            (error.code, error.outcome()),
            (ErrorCode::Overloaded, Outcome::NotApplied)
        );
    }
    assert_eq!(cluster.nodes[0].heard().len(), 10 + 5);
}

#[tokio::test]
async fn nobody_there_is_said_at_the_start() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let startup_timeout = Duration::from_millis(200);
    let options = ClientOptions {
        startup_timeout,
        ..ClientOptions::new([unused.to_string()])
    };
    let error = Client::connect(options).await.unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, ClientError::NoNode { .. }), "{message}");
    assert!(message.contains(&unused.to_string()), "{message}");
}

#[tokio::test]
async fn answered_names_are_let_go() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(cluster.options()).await;
    for _ in 0..3 {
        put(&client, &Key::new("b", "k", "")).await.unwrap();
    }
    let ids: Vec<_> = cluster.nodes[0].heard().iter().map(request_id).collect();
    for (index, id) in (1..).zip(ids) {
        assert_eq!(
            (id.sequence, id.lowest_unanswered, id.attempt),
            (index, index, 1)
        );
        assert_eq!(id.client.len(), 16);
    }
}

#[tokio::test]
async fn an_applied_cas_tells_the_new_version() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(cluster.options()).await;
    cluster.nodes[0].follow(|_| Reply::Say(Answer::Transact(applied(b"v9"))));
    let outcome = cas(&client, &Key::new("b", "k", ""), WriteOptions::default())
        .await
        .unwrap();
    assert_eq!(
        outcome,
        CasOutcome::Applied {
            version: Some(Version("v9".into()))
        }
    );
}
