//! The acceptor over a store in memory.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::FutureExt;
use souk_kv_core::{
    causality::ContentType,
    register::{
        AcceptReply, AcceptRequest, Ballot, Base, Cell, Delta, PrepareRequest, PromiseReply, Row,
        RowKey, RowSelection, Version,
    },
};
use souk_kv_storage::{MemoryDisk, Store, StoreOptions};
use souk_ring::{LayoutEpoch, PartitionId};

use super::{GroupStore, arrivals::WAIT_MAX};
use crate::{
    guard::KeyGuards,
    keys::{BucketId, GroupKey},
    members::{Fence, Gate, Voice},
};

const EPOCH: LayoutEpoch = LayoutEpoch(1);

fn ballot(counter: u64) -> Ballot {
    Ballot {
        counter,
        proposer: if counter == 0 { 0 } else { 1 },
    }
}

fn group() -> GroupKey {
    GroupKey {
        partition: PartitionId(3),
        bucket: BucketId(1),
        partition_key: Bytes::from_static(b"lamp"),
    }
}

fn key(number: u64) -> RowKey {
    RowKey::user(&number.to_be_bytes())
}

/// The accept of ballot `counter` on top of the one before it: it writes a row of its own and one that all write.
fn accept(counter: u64) -> AcceptRequest {
    let row = |index| {
        let cell = Cell {
            content_type: ContentType::text(),
            bytes: counter.to_be_bytes().to_vec().into(),
        };
        Some(Row {
            version: Version::new(ballot(counter), index),
            cell: Some(cell),
            written_unix_ms: 0,
        })
    };
    AcceptRequest {
        epoch: EPOCH,
        ballot: ballot(counter),
        base: Base::On(ballot(counter - 1)),
        delta: Arc::new(Delta {
            rows: [(key(0), row(0)), (key(counter), row(1))].into(),
        }),
        fresh: Arc::new([key(counter)].into()),
        next_promise: None,
        chosen: Ballot::ZERO,
    }
}

fn open() -> Arc<GroupStore> {
    let store = Store::open(StoreOptions::memory(MemoryDisk::default())).expect("memory opens");
    let fence = Arc::new(Fence::new());
    fence.set_first(Gate {
        epoch: EPOCH,
        voice: Voice::Sure,
    });
    let guards = Arc::new(KeyGuards::new());
    Arc::new(GroupStore::open(store, guards, fence, EPOCH).expect("an empty store opens"))
}

fn accepted(counter: u64) -> AcceptReply {
    AcceptReply::Accepted {
        ballot: ballot(counter),
        promised: ballot(counter),
    }
}

async fn check_rows(groups: &GroupStore, counter: u64) {
    let request = PrepareRequest {
        epoch: EPOCH,
        ballot: ballot(counter + 1_000),
        rows: Arc::new(RowSelection::keys((0..=counter).map(key))),
    };
    let reply = groups.prepare(&group(), &request).await.expect("it votes");
    let PromiseReply::Promised { report, .. } = reply else {
        panic!("{reply:?}");
    };
    assert_eq!(report.accepted, ballot(counter));
    assert_eq!(report.size.rows, counter + 1);
    assert_eq!(report.rows.len() as u64, counter + 1);
    let shared = report.rows[&key(0)].cell.as_ref().expect("it lives");
    assert_eq!(shared.bytes, counter.to_be_bytes()[..]);
}

#[tokio::test(start_paused = true)]
async fn accepts_in_the_wrong_order_are_all_accepted() {
    let groups = open();
    let late: Vec<_> = [3, 2, 4]
        .into_iter()
        .map(|counter| {
            let groups = Arc::clone(&groups);
            tokio::spawn(async move { groups.accept(&group(), &accept(counter)).await })
        })
        .collect();
    tokio::time::sleep(WAIT_MAX / 2).await;
    let first = groups.accept(&group(), &accept(1)).await.expect("it votes");
    assert_eq!(first, accepted(1));
    for (task, counter) in late.into_iter().zip([3, 2, 4]) {
        let reply = task.await.expect("it ends").expect("it votes");
        assert_eq!(reply, accepted(counter));
    }
    check_rows(&groups, 4).await;
}

#[tokio::test(start_paused = true)]
async fn an_accept_whose_base_never_comes_asks_for_it() {
    let groups = open();
    let began = tokio::time::Instant::now();
    let reply = groups.accept(&group(), &accept(2)).await.expect("it votes");
    let needs = AcceptReply::NeedFull {
        ballot: ballot(2),
        accepted: Ballot::ZERO,
    };
    assert_eq!(reply, needs);
    assert_eq!(began.elapsed(), WAIT_MAX);
    // What stands on an older state that is not within reach needs no waiting.
    groups.accept(&group(), &accept(1)).await.expect("it votes");
    let stray = AcceptRequest {
        ballot: ballot(9),
        base: Base::On(Ballot {
            counter: 0,
            proposer: 7,
        }),
        ..accept(9)
    };
    let reply = groups.accept(&group(), &stray).now_or_never();
    assert!(
        matches!(reply, Some(Ok(AcceptReply::NeedFull { .. }))),
        "{reply:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_remembered_is_what_is_on_disk() {
    let groups = open();
    for counter in 1..20 {
        let reply = groups.accept(&group(), &accept(counter)).await;
        assert_eq!(reply.expect("it votes"), accepted(counter));
        if counter % 5 == 0 {
            // Forgetting costs a read and nothing else.
            groups.memory.take(&group()).expect("it was remembered");
        }
    }
    check_rows(&groups, 19).await;
    let image = groups
        .fetch(&group(), Some(ballot(16)))
        .await
        .expect("it is told");
    assert_eq!(image.base, Base::On(ballot(16)));
    let keys: Vec<RowKey> = image.delta.rows.into_keys().collect();
    assert_eq!(keys, [key(0), key(17), key(18), key(19)]);
    let whole = groups
        .fetch(&group(), Some(ballot(3)))
        .await
        .expect("it is told");
    assert_eq!((whole.base, whole.delta.rows.len()), (Base::Whole, 20));
    // A lesson writes past the votes: nothing of the time before may be remembered after it.
    groups.clear(&group()).await.expect("it is cleared");
    assert!(groups.memory.take(&group()).is_none());
    tokio::time::sleep(Duration::from_millis(1)).await;
    let reply = groups.accept(&group(), &accept(1)).await.expect("it votes");
    assert_eq!(reply, accepted(1));
}
