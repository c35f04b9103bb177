//! One suite for every engine: whatever holds the bytes, the store keeps the same promises.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use proptest::prelude::*;
use souk_kv_storage::{
    Durability, EngineKind, Keyspace, MemoryDisk, NotWritten, Recovery, Scan, StorageError, Store,
    StoreOptions, WriteBatch, WriteOutcome,
};
use tempfile::TempDir;

/// A place that outlives the stores opened in it.
enum Ground {
    Directory(TempDir, EngineKind),
    Memory(MemoryDisk),
}

impl Ground {
    fn new(kind: EngineKind) -> Self {
        match kind {
            EngineKind::Memory => Self::Memory(MemoryDisk::new()),
            EngineKind::Fjall | EngineKind::Sled => {
                Self::Directory(tempfile::tempdir().expect("folder"), kind)
            }
        }
    }

    fn options(&self) -> StoreOptions {
        match self {
            Self::Directory(folder, kind) => {
                StoreOptions::directory(folder.path().join("d"), *kind)
            }
            Self::Memory(disk) => StoreOptions::memory(disk.clone()),
        }
    }

    fn open(&self) -> Store {
        Store::open(self.options()).expect("open")
    }
}

fn run<F: Future<Output = ()>>(test: impl FnOnce(Ground) -> F, kind: EngineKind) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("runtime").block_on(test(Ground::new(kind)));
}

/// The key-value pairs of a page; damaged rows fail the test.
fn rows(store: &Store, scan: &Scan) -> Vec<(Bytes, Bytes)> {
    let page = store.scan(scan).expect("scan");
    page.rows
        .into_iter()
        .map(|row| (row.key, row.value.expect("intact")))
        .collect()
}

fn keys(store: &Store, scan: &Scan) -> Vec<String> {
    let text = |key: &[u8]| String::from_utf8(key.to_vec()).expect("text");
    rows(store, scan).iter().map(|(key, _)| text(key)).collect()
}

async fn put(store: &Store, keyspace: Keyspace, pairs: &[(&str, &str)]) {
    let mut batch = WriteBatch::new();
    for (key, value) in pairs {
        batch.put(keyspace, key.to_string(), value.to_string());
    }
    store.commit(batch).await.expect("commit");
}

async fn reads_what_was_written(ground: Ground) {
    let store = ground.open();
    assert_eq!(store.recovery(), &Recovery::Clean);
    assert_eq!(store.get(Keyspace::Records, b"a").expect("get"), None);
    put(&store, Keyspace::Records, &[("a", "1"), ("b", "")]).await;
    assert_eq!(
        store.get(Keyspace::Records, b"a").expect("get").as_deref(),
        Some(&b"1"[..])
    );
    assert_eq!(
        store.get(Keyspace::Records, b"b").expect("get").as_deref(),
        Some(&b""[..])
    );
    assert_eq!(store.get(Keyspace::Hints, b"a").expect("get"), None);
    store
        .commit(WriteBatch::new())
        .await
        .expect("an empty batch is a barrier");
    store.close().await.expect("close");
    assert!(matches!(
        store.get(Keyspace::Records, b"a"),
        Err(StorageError::Closed)
    ));
    assert!(matches!(
        store.commit(WriteBatch::new()).await,
        Err(StorageError::NotWritten(NotWritten::Closed))
    ));
}

async fn keeps_keys_in_byte_order(ground: Ground) {
    let store = ground.open();
    put(
        &store,
        Keyspace::Feed,
        &[("b", "1"), ("a", "1"), ("ab", "1"), ("c", "1"), ("B", "1")],
    )
    .await;
    // Neighbours on both sides must not leak into a scan.
    put(&store, Keyspace::Merkle, &[("zz", "1")]).await;
    put(&store, Keyspace::Meta, &[("0", "1")]).await;
    let all = Scan::all(Keyspace::Feed);
    assert_eq!(keys(&store, &all), ["B", "a", "ab", "b", "c"]);
    assert_eq!(
        keys(&store, &all.clone().reversed()),
        ["c", "b", "ab", "a", "B"]
    );
    assert_eq!(
        keys(&store, &Scan::prefix(Keyspace::Feed, "a")),
        ["a", "ab"]
    );
    assert_eq!(
        keys(&store, &Scan::prefix(Keyspace::Feed, "a").reversed()),
        ["ab", "a"]
    );
    assert_eq!(
        keys(&store, &Scan::range(Keyspace::Feed, "ab".."c")),
        ["ab", "b"]
    );
    assert_eq!(
        keys(&store, &Scan::range(Keyspace::Feed, "ab"..="c").reversed()),
        ["c", "b", "ab"]
    );
    assert_eq!(
        keys(&store, &Scan::range(Keyspace::Feed, "c".."a")),
        Vec::<String>::new()
    );
    store.close().await.expect("close");
}

async fn pages_join_without_gap_or_overlap(ground: Ground) {
    let store = ground.open();
    let names: Vec<String> = (0..25).map(|n| format!("{n:03}")).collect();
    let pairs: Vec<_> = names
        .iter()
        .map(|name| (name.as_str(), "0123456789"))
        .collect();
    put(&store, Keyspace::Records, &pairs).await;
    for reverse in [false, true] {
        for bounded in [
            Scan::all(Keyspace::Records).limit(7),
            Scan::all(Keyspace::Records).bytes_max(50),
        ] {
            let scan = if reverse { bounded.reversed() } else { bounded };
            let mut seen = Vec::new();
            let mut next = scan.clone();
            loop {
                let page = store.scan(&next).expect("scan");
                assert!(!page.rows.is_empty() && page.rows.len() <= 7);
                seen.extend(
                    page.rows
                        .iter()
                        .map(|row| String::from_utf8_lossy(&row.key).into_owned()),
                );
                if !page.more {
                    break;
                }
                next = scan.clone().after(&page.rows.last().expect("a row").key);
            }
            let mut expected = names.clone();
            if reverse {
                expected.reverse();
            }
            assert_eq!(seen, expected);
        }
    }
    let page = store
        .scan(&Scan::all(Keyspace::Records).bytes_max(1))
        .expect("scan");
    assert_eq!(
        (page.rows.len(), page.more),
        (1, true),
        "the first row always fits"
    );
    store.close().await.expect("close");
}

async fn the_last_change_of_a_key_wins(ground: Ground) {
    let store = ground.open();
    let mut batch = WriteBatch::new();
    batch.put(Keyspace::Records, "a", "1");
    batch.put(Keyspace::Records, "a", "2");
    batch.put(Keyspace::Records, "b", "1");
    batch.delete(Keyspace::Records, "b");
    batch.delete(Keyspace::Records, "c");
    batch.put(Keyspace::Records, "c", "3");
    store.commit(batch).await.expect("commit");
    assert_eq!(keys(&store, &Scan::all(Keyspace::Records)), ["a", "c"]);
    // Submitted without waiting, so that they share groups: order is the order of submission.
    let commits: Vec<_> = (0..50)
        .map(|n| {
            let mut batch = WriteBatch::new();
            batch.put(Keyspace::Records, "a", n.to_string());
            store.submit(batch)
        })
        .collect();
    for commit in commits {
        commit.await.expect("commit");
    }
    assert_eq!(
        store.get(Keyspace::Records, b"a").expect("get").as_deref(),
        Some(&b"49"[..])
    );
    store.close().await.expect("close");
}

async fn survives_reopening(ground: Ground) {
    let big = vec![7; 3 << 20];
    for round in 0..3_u8 {
        let store = ground.open();
        assert_eq!(store.recovery(), &Recovery::Clean, "round {round}");
        for earlier in 0..round {
            for keyspace in &Keyspace::ALL[1..] {
                let value = store.get(*keyspace, &[earlier]).expect("get");
                assert_eq!(value.as_deref(), Some(&[earlier, keyspace.tag()][..]));
            }
            let value = store.get(Keyspace::Records, &[b'L', earlier]).expect("get");
            assert!(
                value.as_deref() == Some(&big),
                "the large value of round {earlier}"
            );
        }
        let mut batch = WriteBatch::new();
        for keyspace in &Keyspace::ALL[1..] {
            batch.put(*keyspace, vec![round], vec![round, keyspace.tag()]);
        }
        batch.put(Keyspace::Records, vec![b'L', round], big.clone());
        store.commit(batch).await.expect("commit");
        store.close().await.expect("close");
    }
}

async fn a_store_that_just_ends_is_unclean(ground: Ground) {
    let store = ground.open();
    put(&store, Keyspace::Meta, &[("a", "1")]).await;
    store.close().await.expect("close");
    match &ground {
        // The note is gone while the store is open, so whoever dies meanwhile leaves none.
        Ground::Directory(folder, _) => {
            let store = ground.open();
            assert!(!folder.path().join("d/CLEAN").exists());
            store.close().await.expect("close");
            std::fs::remove_file(folder.path().join("d/CLEAN")).expect("the note");
        }
        Ground::Memory(disk) => {
            let _running = ground.open();
            disk.crash(1);
        }
    }
    let store = ground.open();
    assert_eq!(store.recovery(), &Recovery::Unclean);
    assert_eq!(keys(&store, &Scan::all(Keyspace::Meta)), ["a"]);
    store.close().await.expect("close");
}

async fn nobody_vouching_makes_an_orderly_close_unclean(ground: Ground) {
    fn check(store: &Store, expected: &Recovery) {
        assert_eq!(store.recovery(), expected);
    }
    let store = ground.open();
    put(&store, Keyspace::Meta, &[("a", "1")]).await;
    store.vouch(false);
    store.close().await.expect("close");
    let store = ground.open();
    check(&store, &Recovery::Unclean);
    store.vouch(false);
    store.vouch(true);
    store.close().await.expect("close");
    let store = ground.open();
    check(&store, &Recovery::Clean);
    store.close().await.expect("close");
}

async fn many_writers_are_each_answered_after_their_write(ground: Ground) {
    let store = ground.open();
    let writers: Vec<_> = (0..32_u32)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for turn in 0..10_u32 {
                    let mut batch = WriteBatch::new();
                    let key = [writer.to_be_bytes(), turn.to_be_bytes()].concat();
                    batch.put(Keyspace::Records, key.clone(), key.clone());
                    batch.put(Keyspace::Merkle, key.clone(), "leaf");
                    store.commit(batch).await.expect("commit");
                    assert_eq!(
                        store.get(Keyspace::Records, &key).expect("get").as_deref(),
                        Some(&key[..])
                    );
                    assert!(store.get(Keyspace::Merkle, &key).expect("get").is_some());
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("writer");
    }
    store.close().await.expect("close");
    let store = ground.open();
    assert_eq!(rows(&store, &Scan::all(Keyspace::Records)).len(), 320);
    assert_eq!(rows(&store, &Scan::all(Keyspace::Merkle)).len(), 320);
    store.close().await.expect("close");
}

/// An acceptor's reader believes that a row it finds beside a header belongs to it.
async fn a_batch_becomes_readable_as_a_whole(ground: Ground) {
    let store = ground.open();
    let is_over = Arc::new(AtomicBool::new(false));
    let looking = std::thread::spawn({
        let (store, is_over) = (store.clone(), Arc::clone(&is_over));
        move || {
            let number = |key: &[u8]| {
                let value = store.get(Keyspace::Records, key).expect("get");
                value.map_or(0, |value| value[0])
            };
            let mut changes_seen = 0;
            let mut newest = 0;
            while !is_over.load(Ordering::Relaxed) {
                let first = number(b"first");
                let last = number(b"last");
                assert!(last >= first, "change {first} without its end: {last}");
                changes_seen += u32::from(first > newest);
                newest = first;
            }
            changes_seen
        }
    });
    for n in 1..=50_u8 {
        let mut batch = WriteBatch::new();
        batch.put(Keyspace::Records, "first", vec![n]);
        for row in 0..1_000_u32 {
            batch.put(Keyspace::Records, format!("head {row}"), vec![n]);
        }
        batch.put(Keyspace::Records, "last", vec![n]);
        store.commit(batch).await.expect("commit");
    }
    is_over.store(true, Ordering::Relaxed);
    let changes_seen = looking.join().expect("no torn batch");
    assert!(changes_seen > 1, "{changes_seen} changes were seen at all");
    store.close().await.expect("close");
}

async fn interval_writes_are_there_after_an_orderly_close(ground: Ground) {
    let store = ground.open();
    let interval = Durability::Interval(std::time::Duration::from_millis(5));
    for n in 0..20_u8 {
        let mut batch = WriteBatch::new();
        batch.put(Keyspace::Records, vec![n], vec![n]);
        store.commit_with(batch, interval).await.expect("commit");
    }
    store.close().await.expect("close");
    let store = ground.open();
    assert_eq!(store.recovery(), &Recovery::Clean);
    assert_eq!(rows(&store, &Scan::all(Keyspace::Records)).len(), 20);
    store.close().await.expect("close");
}

async fn what_no_engine_could_store_is_refused_at_the_door(ground: Ground) {
    let store = ground.open();
    for (key, keyspace) in [
        (vec![], Keyspace::Records),
        (vec![0; 65_536], Keyspace::Records),
        (vec![1], Keyspace::Store),
    ] {
        let mut batch = WriteBatch::new();
        batch.put(keyspace, key, "v");
        let error = store.commit(batch).await.expect_err("refused");
        assert_eq!(error.outcome(), Some(WriteOutcome::NotApplied), "{error}");
        assert!(!error.is_retryable(), "{error}");
    }
    let longest = vec![9; 65_535];
    let mut batch = WriteBatch::new();
    batch.put(Keyspace::Records, longest.clone(), "v");
    store.commit(batch).await.expect("the longest key fits");
    assert!(
        store
            .get(Keyspace::Records, &longest)
            .expect("get")
            .is_some()
    );
    store.close().await.expect("close");
}

async fn a_full_queue_refuses_at_once(ground: Ground) {
    let store = Store::open(StoreOptions {
        queue_requests_max: 2,
        ..ground.options()
    })
    .expect("open");
    let commits: Vec<_> = (0..200_u8)
        .map(|n| {
            let mut batch = WriteBatch::new();
            batch.put(Keyspace::Records, vec![n], vec![0; 100_000]);
            store.submit(batch)
        })
        .collect();
    let mut acknowledged = Vec::new();
    let mut refused = 0;
    for (n, commit) in commits.into_iter().enumerate() {
        let refused_at_once = commit.refusal().is_some();
        let answer = commit.await;
        assert_eq!(
            refused_at_once,
            answer.is_err(),
            "nothing else refuses here"
        );
        match answer {
            Ok(()) => acknowledged.push(n as u8),
            Err(error) => {
                assert!(
                    matches!(
                        error,
                        StorageError::NotWritten(NotWritten::QueueFull { .. })
                    ),
                    "{error}"
                );
                assert!(error.is_retryable());
                refused += 1;
            }
        }
    }
    assert!(refused > 0 && !acknowledged.is_empty());
    let found: Vec<u8> = rows(&store, &Scan::all(Keyspace::Records))
        .iter()
        .map(|(key, _)| key[0])
        .collect();
    assert_eq!(
        found, acknowledged,
        "exactly what was acknowledged is there"
    );
    store.close().await.expect("close");
}

type Step = (Vec<(u8, u8, Option<u16>)>, bool);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let change = (1u8..7, 0u8..20, prop::option::weighted(0.7, any::<u16>()));
    prop::collection::vec(
        (
            prop::collection::vec(change, 0..12),
            prop::bool::weighted(0.1),
        ),
        0..25,
    )
}

/// Any history of batches and reopenings leaves the store equal to a map.
async fn equals_a_map(ground: Ground, steps: Vec<Step>) {
    let mut model = BTreeMap::new();
    let mut store = ground.open();
    for (changes, reopen) in steps {
        let mut batch = WriteBatch::new();
        for (tag, key, value) in changes {
            let keyspace = Keyspace::from_tag(tag).expect("a tag");
            match value {
                Some(value) => {
                    let value = vec![key; usize::from(value % 400)];
                    batch.put(keyspace, vec![key], value.clone());
                    model.insert((keyspace, key), value);
                }
                None => {
                    batch.delete(keyspace, vec![key]);
                    model.remove(&(keyspace, key));
                }
            }
        }
        store.commit(batch).await.expect("commit");
        if reopen {
            store.close().await.expect("close");
            store = ground.open();
            assert_eq!(store.recovery(), &Recovery::Clean);
        }
    }
    for keyspace in &Keyspace::ALL[1..] {
        let found: Vec<_> = rows(&store, &Scan::all(*keyspace));
        let expected: Vec<_> = model
            .iter()
            .filter(|((of, _), _)| of == keyspace)
            .map(|((_, key), value)| (Bytes::from(vec![*key]), Bytes::from(value.clone())))
            .collect();
        assert_eq!(found, expected, "{keyspace}");
    }
    store.close().await.expect("close");
}

macro_rules! suite {
    ($engine:ident, $kind:expr, $($test:ident),+ $(,)?) => {
        mod $engine {
            use super::*;

            $(#[test]
            fn $test() {
                run(super::$test, $kind);
            })+

            proptest! {
                #![proptest_config(ProptestConfig::with_cases(12))]
                #[test]
                fn equals_a_map(steps in steps()) {
                    run(|ground| super::equals_a_map(ground, steps), $kind);
                }
            }
        }
    };
    ($($engine:ident: $kind:expr),+ $(,)?) => {
        $(suite!(
            $engine, $kind,
            reads_what_was_written,
            keeps_keys_in_byte_order,
            pages_join_without_gap_or_overlap,
            the_last_change_of_a_key_wins,
            survives_reopening,
            a_store_that_just_ends_is_unclean,
            nobody_vouching_makes_an_orderly_close_unclean,
            many_writers_are_each_answered_after_their_write,
            a_batch_becomes_readable_as_a_whole,
            interval_writes_are_there_after_an_orderly_close,
            what_no_engine_could_store_is_refused_at_the_door,
            a_full_queue_refuses_at_once,
        );)+
    };
}

suite!(fjall: EngineKind::Fjall, sled: EngineKind::Sled, memory: EngineKind::Memory);
