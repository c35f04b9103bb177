//! Records in the hands of a round: what is under way when deletes are collected.

use std::sync::Arc;

use futures::FutureExt;
use souk_kv_core::{
    causality::{
        ActorId, Dot, MergeMode, Mint as MintKind, NewWrite, Observed, Record, RequestId, Stamp,
    },
    tombstone::Generation,
};
use souk_kv_proto::{
    convert::causality::encode_record,
    peer::{Done, ReadRecordsReply},
};
use souk_kv_storage::{MemoryDisk, Store, StoreOptions};

use super::*;
use crate::{
    anti_entropy::Walker,
    clock::Environment,
    cluster::bench::{cluster, layout, records},
    governor::Governor,
    keys::GroupKey,
    peer::{
        Lane, Peers,
        stub::{Stub, linked},
    },
    scrub::Mender,
};
const NODE: NodeId = NodeId(1);
const PEER: NodeId = NodeId(2);

fn key() -> Bytes {
    let group = GroupKey {
        partition: PartitionId(3),
        bucket: BucketId(1),
        partition_key: Bytes::from_static(b"customer-1"),
    };
    group.record(b"")
}

fn record() -> (Bytes, u64) {
    let write = NewWrite {
        request: RequestId {
            client: [1; 16],
            sequence: 1,
        },
        stamp: Stamp::next(1, None),
        expires_unix_ms: None,
        value: None,
    };
    let dot = Dot {
        actor: ActorId::from_bytes([7; 16]),
        counter: 1,
    };
    let (mode, seen) = (MergeMode::Siblings, Observed::default());
    let mut record = Record::default();
    record
        .put(mode, &seen, dot, MintKind::Vector, write, 0)
        .expect("the dot is fresh");
    (encode_record(&record, mode), record.causal_hash())
}

async fn parts(peers: Peers) -> AntiEntropy {
    let store = Store::open(StoreOptions::memory(MemoryDisk::new())).expect("it opens");
    let environment = Environment::system();
    let layout = Arc::new(layout());
    let (records, forest) = records(NODE, &layout, store.clone(), environment.clone()).await;
    let cluster = Arc::new(cluster(NODE, &layout, store.clone(), environment, peers));
    let governor = Arc::new(Governor::new(Duration::from_millis(25)));
    let walker = Walker::new(
        store,
        Arc::clone(&forest),
        Arc::clone(&governor),
        Arc::default(),
    );
    let mender = Mender::new(
        Arc::clone(&cluster),
        Arc::clone(&records),
        Arc::clone(&governor),
    );
    AntiEntropy::new(
        cluster,
        records,
        forest,
        Arc::new(walker),
        governor,
        Arc::new(mender),
        Duration::ZERO,
    )
}

/// Moves one record while a round of collection begins, and returns what the peer was asked.
async fn move_one(parts: &AntiEntropy, stub: &Stub, kind: MoveKind, theirs: Option<u64>) -> Body {
    let in_flight = &parts.cluster.in_flight;
    let moves = [KeyMove {
        key: key(),
        kind,
        theirs,
    }];
    let mut round = Round {
        parts,
        peer: PEER,
        only: None,
        only_vnode: None,
        tally: Tally::default(),
    };
    let moving = round.move_lot(&moves);
    let collecting = async {
        stub.arrived(1).await;
        let next = in_flight.begin_next(Generation(0));
        let ended = in_flight.ended_before(next).now_or_never();
        assert!(ended.is_none(), "the record is in its hands");
        stub.gate.add_permits(1);
        in_flight.ended_before(next).await;
    };
    let (moved, ()) = tokio::join!(moving, collecting);
    moved.expect("the peer answers");
    let (lane, body) = stub.asked.lock().remove(0);
    assert_eq!(lane, Lane::Bulk);
    body
}

#[tokio::test]
async fn what_a_round_pushes_is_waited_for_and_can_be_refused() {
    let (peers, stub, _stop) = linked(PEER, |_| Body::Done(Done {})).await;
    let parts = parts(peers).await;
    let held = parts.records.merge(key(), record().0).await;
    held.expect("there is room");
    let began = parts.cluster.in_flight.begin_next(Generation(5));
    let body = move_one(&parts, &stub, MoveKind::Push, None).await;
    let Body::WriteRecords(write) = body else {
        panic!("it pushes: {body:?}");
    };
    // By this the peer refuses it when it comes late.
    assert_eq!(write.records[0].generation, began.0);
    assert_eq!(write.records[0].origin, None);
}

#[tokio::test]
async fn what_a_round_fetches_is_stored_before_its_work_ends() {
    let reply = |_: &Body| {
        Body::ReadRecordsReply(ReadRecordsReply {
            records: vec![record().0],
        })
    };
    let (peers, stub, _stop) = linked(PEER, reply).await;
    let parts = parts(peers).await;
    let (record, hash) = record();
    let body = move_one(&parts, &stub, MoveKind::Fetch, Some(hash)).await;
    assert!(matches!(body, Body::ReadRecords(_)), "{body:?}");
    assert_eq!(parts.records.read(&key()).expect("it is sound"), record);
}
