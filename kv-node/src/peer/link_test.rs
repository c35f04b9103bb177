//! Links over real sockets: lanes, bounds, deadlines, and a network that swallows everything.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use souk_kv_proto::peer::{
    Done, FetchCatalogue, Hello, HelloReply, ReadRecord, WriteRecord, peer_server::PeerServer,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Server, server::TcpIncoming};

use super::{
    link::{Outgoing, frame},
    *,
};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
const PEER: NodeId = NodeId(2);
const IN_FLIGHT_BYTES_MAX: usize = 1 << 20;

/// A peer that answers writes when the test lets it.
struct Handler {
    /// One permit lets one request be answered.
    gate: Semaphore,
    asked: Mutex<Vec<(Lane, Body)>>,
    arrived: AtomicU64,
}

impl PeerHandler for Handler {
    fn greet(&self, _: &Hello) -> Result<HelloReply, Error> {
        Ok(HelloReply {
            node_id: PEER.0,
            ..Default::default()
        })
    }

    fn answer_now(&self, _: NodeId, body: Body) -> Prompt {
        match body {
            Body::FetchCatalogue(_) => Prompt::Answer(Body::Done(Done {})),
            other => Prompt::Later(other),
        }
    }

    async fn answer(&self, _: NodeId, lane: Lane, body: Body, _: Instant) -> Body {
        self.asked.lock().push((lane, body));
        self.arrived.fetch_add(1, Ordering::Release);
        self.gate.acquire().await.expect("never closed").forget();
        Body::Done(Done {})
    }
}

/// Which lanes stand.
struct Watcher(watch::Sender<(bool, bool)>);

impl Watcher {
    fn set(&self, lane: Lane, up: bool) {
        self.0.send_modify(|lanes| match lane {
            Lane::Foreground => lanes.0 = up,
            Lane::Bulk => lanes.1 = up,
        });
    }

    async fn wait(&self, expected: (bool, bool)) {
        let mut lanes = self.0.subscribe();
        let met = timeout(PATIENCE, lanes.wait_for(|lanes| *lanes == expected)).await;
        met.expect("the links change in time").expect("it lives");
    }
}

impl LinkEvents for Watcher {
    fn hello(&self) -> Hello {
        Hello::default()
    }

    fn connected(&self, _: NodeId, lane: Lane, _: &HelloReply) -> Result<(), String> {
        self.set(lane, true);
        Ok(())
    }

    fn disconnected(&self, _: NodeId, lane: Lane) {
        self.set(lane, false);
    }
}

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
    handler: Arc<Handler>,
    watcher: Arc<Watcher>,
    swallows: Arc<AtomicBool>,
    stop: CancellationToken,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// One peer behind a cable, both lanes up.
async fn rig() -> Rig {
    let handler = Arc::new(Handler {
        gate: Semaphore::new(0),
        asked: Mutex::new(Vec::new()),
        arrived: AtomicU64::new(0),
    });
    let stop = CancellationToken::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let served_at = listener.local_addr().expect("it is bound");
    let service = PeerServer::new(PeerService::new(Arc::clone(&handler), stop.clone()))
        .max_decoding_message_size(FRAME_DECODE_BYTES_MAX);
    let stopped = stop.clone().cancelled_owned();
    tokio::spawn(
        Server::builder()
            .add_service(service)
            .serve_with_incoming_shutdown(TcpIncoming::from(listener), stopped),
    );
    let swallows = Arc::new(AtomicBool::new(false));
    let address = cable(served_at, Arc::clone(&swallows)).await;
    let peers = Peers::new([(PEER, "n2".to_owned(), address.to_string())]);
    let watcher = Arc::new(Watcher(watch::Sender::new((false, false))));
    for link in peers.links() {
        let options = LinkOptions {
            network: souk_kv_proto::network::Network::System,
            in_flight_bytes_max: IN_FLIGHT_BYTES_MAX,
        };
        tokio::spawn(Arc::clone(link).run(options, Arc::clone(&watcher), stop.clone()));
    }
    watcher.wait((true, true)).await;
    Rig {
        peers,
        handler,
        watcher,
        swallows,
        stop,
    }
}

impl Rig {
    async fn arrived(&self, count: u64) {
        let all = async {
            while self.handler.arrived.load(Ordering::Acquire) < count {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, all).await.expect("they arrive");
    }
}

fn write(bytes: usize) -> Body {
    Body::WriteRecord(WriteRecord {
        store_key: Bytes::from_static(b"key"),
        record: vec![7; bytes].into(),
        generation: 0,
        origin: None,
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
            rig.arrived(1).await;
            parcel().await
        });
        (one, other, refused)
    };
    let foreground = async {
        rig.arrived(1).await;
        // Nothing on the bulk lane has been answered, and its bytes in flight are at their bound.
        let answer = rig
            .peers
            .call(PEER, Body::FetchCatalogue(FetchCatalogue {}), soon());
        assert!(matches!(answer.await, Ok(Body::Done(_))));
        rig.handler.gate.add_permits(3);
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
    let lanes = rig.handler.asked.lock();
    assert!(lanes.iter().all(|(lane, _)| *lane == Lane::Bulk));
}

#[tokio::test]
async fn bytes_in_flight_are_bounded_until_the_answer() {
    let rig = rig().await;
    let large = IN_FLIGHT_BYTES_MAX * 3 / 4;
    let first = rig.peers.call(PEER, write(large), soon());
    let second = async {
        rig.arrived(1).await;
        // The first one has left the queue, and still counts.
        let refused = rig.peers.call(PEER, write(large), soon()).await;
        assert!(matches!(refused, Err(PeerError::Overloaded)), "{refused:?}");
        rig.handler.gate.add_permits(1);
    };
    let (first, ()) = tokio::join!(first, second);
    first.expect("it was let through");
    rig.handler.gate.add_permits(1);
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
    rig.handler.gate.add_permits(2);
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
        rig.arrived(1).await;
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
    rig.handler.gate.add_permits(2);
    let again = rig.peers.call(PEER, read(), soon()).await;
    again.expect("the link is back");
}
