//! A peer for tests, behind real links: it notes down what it is asked, and answers when the test lets it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use souk_kv_proto::{
    kv::Error,
    network::Network,
    peer::{Done, Hello, HelloReply, peer_message::Body, peer_server::PeerServer},
};
use souk_ring::NodeId;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    time::{Instant, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::{Server, server::TcpIncoming};

use super::{
    FRAME_DECODE_BYTES_MAX, Lane, LinkEvents, LinkOptions, PeerHandler, PeerService, Peers, Prompt,
};

/// Longer than anything that tests wait for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const IN_FLIGHT_BYTES_MAX: usize = 1 << 20;

/// What the stub answers to a request.
type Answer = Box<dyn Fn(&Body) -> Body + Send + Sync>;

/// The answering side.
pub(crate) struct Stub {
    node: NodeId,
    answer: Answer,
    /// One permit lets one request be answered.
    pub(crate) gate: Semaphore,
    pub(crate) asked: Mutex<Vec<(Lane, Body)>>,
    arrived: watch::Sender<usize>,
}

impl PeerHandler for Stub {
    fn greet(&self, _: &Hello) -> Result<HelloReply, Error> {
        Ok(HelloReply {
            node_id: self.node.0,
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
        let answer = (self.answer)(&body);
        self.asked.lock().push((lane, body));
        self.arrived.send_modify(|count| *count += 1);
        self.gate.acquire().await.expect("never closed").forget();
        answer
    }
}

impl Stub {
    /// Serves at the address that it returns, until `stop`.
    pub(crate) async fn serve(
        node: NodeId,
        answer: impl Fn(&Body) -> Body + Send + Sync + 'static,
        stop: CancellationToken,
    ) -> (Arc<Self>, SocketAddr) {
        let stub = Arc::new(Self {
            node,
            answer: Box::new(answer),
            gate: Semaphore::new(0),
            asked: Mutex::new(Vec::new()),
            arrived: watch::Sender::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let service = PeerServer::new(PeerService::new(Arc::clone(&stub), stop.clone()))
            .max_decoding_message_size(FRAME_DECODE_BYTES_MAX);
        tokio::spawn(
            Server::builder()
                .add_service(service)
                .serve_with_incoming_shutdown(TcpIncoming::from(listener), stop.cancelled_owned()),
        );
        (stub, address)
    }

    /// Waits until it was asked that often.
    pub(crate) async fn arrived(&self, count: usize) {
        let mut arrived = self.arrived.subscribe();
        let all = timeout(PATIENCE, arrived.wait_for(|arrived| *arrived >= count)).await;
        all.expect("they arrive in time").expect("it lives");
    }
}

/// Which lanes stand.
pub(crate) struct Watcher(watch::Sender<(bool, bool)>);

impl Watcher {
    fn set(&self, lane: Lane, up: bool) {
        self.0.send_modify(|lanes| match lane {
            Lane::Foreground => lanes.0 = up,
            Lane::Bulk => lanes.1 = up,
        });
    }

    pub(crate) async fn wait(&self, expected: (bool, bool)) {
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

/// Links to a peer, both lanes up, until `stop`.
pub(crate) async fn connect(
    node: NodeId,
    address: SocketAddr,
    stop: CancellationToken,
) -> (Peers, Arc<Watcher>) {
    let peers = Peers::new([(node, "n2".to_owned(), address.to_string())]);
    let watcher = Arc::new(Watcher(watch::Sender::new((false, false))));
    for link in peers
        .nodes()
        .filter_map(|node| peers.lanes(node))
        .flat_map(|lanes| lanes.links().map(Arc::clone))
    {
        let options = LinkOptions {
            network: Network::System,
            in_flight_bytes_max: IN_FLIGHT_BYTES_MAX,
        };
        tokio::spawn(link.run(options, Arc::clone(&watcher), stop.clone()));
    }
    watcher.wait((true, true)).await;
    (peers, watcher)
}

/// A stub and the links to it, which stand until the guard is dropped.
pub(crate) async fn linked(
    node: NodeId,
    answer: impl Fn(&Body) -> Body + Send + Sync + 'static,
) -> (Peers, Arc<Stub>, DropGuard) {
    let stop = CancellationToken::new();
    let (stub, address) = Stub::serve(node, answer, stop.clone()).await;
    let (peers, _) = connect(node, address, stop.clone()).await;
    (peers, stub, stop.drop_guard())
}
