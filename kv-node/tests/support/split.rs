//! A network that can be cut: every node reaches every other one through a forwarder of its own.

use std::{
    collections::BTreeSet,
    net::{SocketAddr, TcpListener as StdListener},
    sync::Arc,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// The nodes that cannot reach each other, as pairs (from, to).
type Cuts = BTreeSet<(usize, usize)>;

/// All forwarders of a cluster.
pub(crate) struct Network {
    cuts: Arc<watch::Sender<Cuts>>,
    /// `ports[from][to]`; the own one is the node's real address.
    addresses: Vec<Vec<SocketAddr>>,
}

impl Network {
    /// Forwarders between nodes that listen on `real`.
    pub(crate) fn between(real: &[SocketAddr]) -> Self {
        let cuts = Arc::new(watch::Sender::new(Cuts::new()));
        let addresses = (0..real.len()).map(|from| {
            let to = real.iter().enumerate().map(|(to, address)| {
                if from == to {
                    return *address;
                }
                let listener = StdListener::bind("127.0.0.1:0").expect("a free port");
                let own = listener.local_addr().expect("it is bound");
                tokio::spawn(forward(listener, *address, (from, to), cuts.subscribe()));
                own
            });
            to.collect()
        });
        Self {
            addresses: addresses.collect(),
            cuts,
        }
    }

    /// Where `from` finds `to`.
    pub(crate) fn address(&self, from: usize, to: usize) -> SocketAddr {
        self.addresses[from][to]
    }

    /// Cuts everything between two sides, in both directions.
    pub(crate) fn split(&self, one: &[usize], other: &[usize]) {
        let pairs = one
            .iter()
            .flat_map(|a| other.iter().flat_map(|b| [(*a, *b), (*b, *a)]));
        self.cuts.send_replace(pairs.collect());
    }

    /// Lets everybody reach everybody again.
    pub(crate) fn heal(&self) {
        self.cuts.send_replace(Cuts::new());
    }
}

async fn forward(
    listener: StdListener,
    to: SocketAddr,
    pair: (usize, usize),
    cuts: watch::Receiver<Cuts>,
) {
    listener.set_nonblocking(true).expect("sockets can do that");
    let listener = TcpListener::from_std(listener).expect("it is a socket");
    while let Ok((mut incoming, _)) = listener.accept().await {
        let mut cuts = cuts.clone();
        tokio::spawn(async move {
            let carried = async {
                if let Ok(mut outgoing) = TcpStream::connect(to).await {
                    let _ = tokio::io::copy_bidirectional(&mut incoming, &mut outgoing).await;
                }
            };
            // Whatever is on its way is lost.
            tokio::select! {
                _ = cuts.wait_for(|cuts| cuts.contains(&pair)) => {}
                () = carried => {}
            }
        });
    }
}
