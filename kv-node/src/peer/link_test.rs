//! Links over real sockets: lanes, bounds, deadlines, and a network that swallows everything.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bytes::Bytes;
use souk_kv_proto::peer::{Done, FetchCatalogue, ReadRecord, WriteRecord};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    link::{Outgoing, frame},
    stub::{IN_FLIGHT_BYTES_MAX, PATIENCE, Stub, Watcher, connect},
    *,
};

const PEER: NodeId = NodeId(2);

/// A cable that can be made to carry nothing, in either direction, without closing anything.
async fn cable(to: SocketAddr, swallows: Arc<AtomicBool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let Ok(far) = TcpStream::connect(to).await else {
                continue;
            };
            let (near, far) = (near.into_split(), far.into_split());
            for (mut from, mut to) in [(near.0, far.1), (far.0, near.1)] {
                let swallows = Arc::clone(&swallows);
                tokio::spawn(async move {
                    let mut bytes = vec![0; 64 * 1024];
                    while let Ok(read @ 1..) = from.read(&mut bytes).await {
                        while swallows.load(Ordering::Acquire) {
                            sleep(Duration::from_millis(20)).await;
                        }
                        if to.write_all(&bytes[..read]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        }
    });
    address
}

struct Rig {
    peers: Peers,
    stub: Arc<Stub>,
    watcher: Arc<Watcher>,
    swallows: Arc<AtomicBool>,
    _stop: DropGuard,
}

/// One peer behind a cable, both lanes up.
async fn rig() -> Rig {
    let stop = CancellationToken::new();
    let (stub, address) = Stub::serve(PEER, |_| Body::Done(Done {}), stop.clone()).await;
    let swallows = Arc::new(AtomicBool::new(false));
    let address = cable(address, Arc::clone(&swallows)).await;
    let (peers, watcher) = connect(PEER, address, stop.clone()).await;
    Rig {
        peers,
        stub,
        watcher,
        swallows,
        _stop: stop.drop_guard(),
    }
}

fn write(bytes: usize) -> Body {
    Body::WriteRecord(WriteRecord {
        store_key: Bytes::from_static(b"key"),
        record: vec![7; bytes].into(),
        ..WriteRecord::default()
    })
}

fn read() -> Body {
    Body::ReadRecord(ReadRecord::default())
}

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

#[tokio::test]
async fn unanswered_bulk_holds_up_no_request() {
    let rig = rig().await;
    let bulk = async {
        let parcel = || {
            rig.peers
                .call_in_bulk(PEER, write(IN_FLIGHT_BYTES_MAX / 2), soon())
        };
        let (one, other, refused) = tokio::join!(parcel(), parcel(), async {
            rig.stub.arrived(1).await;
            parcel().await
        });
        (one, other, refused)
    };
    let foreground = async {
        rig.stub.arrived(1).await;
        // Nothing on the bulk lane has been answered, and its bytes in flight are at their bound.
        let answer = rig
            .peers
            .call(PEER, Body::FetchCatalogue(FetchCatalogue {}), soon());
        assert!(matches!(answer.await, Ok(Body::Done(_))));
        rig.stub.gate.add_permits(3);
    };
    let ((one, other, third), ()) = tokio::join!(bulk, foreground);
    let outcomes = [one, other, third];
    let done = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let refused =
        |outcome: &&Result<Body, PeerError>| matches!(outcome, Err(PeerError::Overloaded));
    assert!(done >= 1);
    assert!(
        outcomes.iter().any(|outcome| refused(&outcome)),
        "{outcomes:?}"
    );
    let lanes = rig.stub.asked.lock();
    assert!(lanes.iter().all(|(lane, _)| *lane == Lane::Bulk));
}

#[tokio::test]
async fn bytes_in_flight_are_bounded_until_the_answer() {
    let rig = rig().await;
    let large = IN_FLIGHT_BYTES_MAX * 3 / 4;
    let first = rig.peers.call(PEER, write(large), soon());
    let second = async {
        rig.stub.arrived(1).await;
        // The first one has left the queue, and still counts.
        let refused = rig.peers.call(PEER, write(large), soon()).await;
        assert!(matches!(refused, Err(PeerError::Overloaded)), "{refused:?}");
        rig.stub.gate.add_permits(1);
    };
    let (first, ()) = tokio::join!(first, second);
    first.expect("it was let through");
    rig.stub.gate.add_permits(1);
    let again = rig.peers.call(PEER, write(large), soon()).await;
    again.expect("an answer makes room");
}

#[tokio::test]
async fn a_caller_that_gave_up_frees_its_bytes() {
    let rig = rig().await;
    let large = IN_FLIGHT_BYTES_MAX * 3 / 4;
    let at_once = Instant::now() + Duration::from_millis(1);
    let late = rig.peers.call(PEER, write(large), at_once).await;
    assert!(matches!(late, Err(PeerError::TimedOut)), "{late:?}");
    rig.stub.gate.add_permits(2);
    let again = async {
        loop {
            match rig.peers.call(PEER, write(large), soon()).await {
                // The first one may still wait in the queue.
                Err(PeerError::Overloaded) => sleep(Duration::from_millis(5)).await,
                other => return other,
            }
        }
    };
    let answer = timeout(PATIENCE, again).await.expect("room comes back");
    answer.expect("it is answered");
}

#[tokio::test]
async fn what_is_late_does_not_leave() {
    let now = Instant::now();
    let request = |id, deadline| Outgoing {
        id,
        deadline,
        body: read(),
    };
    let late = now
        .checked_sub(Duration::from_millis(1))
        .expect("after the start");
    let left = frame(vec![
        request(1, late),
        request(2, now + Duration::from_secs(1)),
    ])
    .expect("one is left");
    let ids: Vec<u64> = left.messages.iter().map(|message| message.id).collect();
    assert_eq!(ids, [2]);
    let left_ms = left.messages[0].deadline_ms;
    assert!((1..=1000).contains(&left_ms), "{left_ms}");
    assert!(frame(vec![request(3, late)]).is_none());
}

#[tokio::test]
async fn a_swallowing_network_is_noticed_and_the_links_come_back() {
    let rig = rig().await;
    let waiting = rig.peers.call(PEER, write(10), soon());
    let cut = async {
        rig.stub.arrived(1).await;
        rig.swallows.store(true, Ordering::Release);
        // No side closes its connection: only the silence tells.
        rig.watcher.wait((false, false)).await;
        let refused = rig.peers.call(PEER, read(), soon()).await;
        assert!(
            matches!(refused, Err(PeerError::NotConnected)),
            "{refused:?}"
        );
    };
    let (lost, ()) = tokio::join!(waiting, cut);
    assert!(matches!(lost, Err(PeerError::Lost)), "{lost:?}");
    assert!(!PeerError::Lost.certainly_not_done(), "it had arrived");
    rig.swallows.store(false, Ordering::Release);
    rig.watcher.wait((true, true)).await;
    rig.stub.gate.add_permits(2);
    let again = rig.peers.call(PEER, read(), soon()).await;
    again.expect("the link is back");
}
