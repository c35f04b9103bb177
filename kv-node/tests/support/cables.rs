//! Cables between the nodes of a test: each can be made to carry nothing, to be slow, or to break, in one direction.
//!
//! Every node gets a configuration of its own, in which the addresses of the others are those of its cables. A client
//! that learns the addresses from a node uses that node's cables, and so stands on its side.

use std::{path::Path, sync::Arc, time::Duration};

use souk_kv_node::config::ClusterFile;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    time::sleep,
};

/// The way on which one node asks another; answers come back on it, too.
#[derive(Clone, Debug)]
pub(crate) struct Cable {
    state: Arc<watch::Sender<State>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Whole,
    Slow(Duration),
    /// Connections stay, and what is sent waits.
    Silent,
    /// Connections end, and what is on its way is lost.
    Severed,
}

impl Default for Cable {
    fn default() -> Self {
        Self {
            state: Arc::new(watch::Sender::new(State::Whole)),
        }
    }
}

impl Cable {
    /// Carries nothing any more; no connection is closed.
    pub(crate) fn cut(&self) {
        self.state.send_replace(State::Silent);
    }

    /// Ends all connections, and takes no new ones.
    pub(crate) fn sever(&self) {
        self.state.send_replace(State::Severed);
    }

    /// Carries everything, at once.
    pub(crate) fn mend(&self) {
        self.state.send_replace(State::Whole);
    }

    /// Carries everything late.
    pub(crate) fn slow_down(&self, delay: Duration) {
        self.state.send_replace(State::Slow(delay));
    }

    async fn connect(self, near: TcpStream, far: String) {
        let mut state = self.state.subscribe();
        let carried = async {
            if let Ok(far) = TcpStream::connect(&far).await {
                let (near, far) = (near.into_split(), far.into_split());
                tokio::select! {
                    () = self.carry(near.0, far.1) => {}
                    () = self.carry(far.0, near.1) => {}
                }
            }
        };
        tokio::select! {
            biased;
            _ = state.wait_for(|state| *state == State::Severed) => {}
            () = carried => {}
        }
    }

    async fn carry(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut state = self.state.subscribe();
        let mut bytes = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from.read(&mut bytes).await {
            let delay = match state
                .wait_for(|state| *state != State::Silent)
                .await
                .as_deref()
            {
                Ok(State::Slow(delay)) => *delay,
                _ => Duration::ZERO,
            };
            sleep(delay).await;
            if to.write_all(&bytes[..read]).await.is_err() {
                return;
            }
        }
    }
}

/// Lays a cable from a node to every other one; returns the node's configuration and its cables, in node order (its
/// own place has one that leads nowhere).
pub(crate) async fn lay(config: &ClusterFile, node: usize) -> (ClusterFile, Vec<Cable>) {
    let mut text = config.render();
    let mut cables = Vec::new();
    for other in 0..config.nodes.len() {
        let cable = Cable::default();
        cables.push(cable.clone());
        if other == node {
            continue;
        }
        let far = config.nodes[other].grpc.to_string();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let near = listener.local_addr().expect("it is bound");
        text = text.replace(&format!("\"{far}\""), &format!("\"{near}\""));
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(cable.clone().connect(near, far.clone()));
            }
        });
    }
    let own = ClusterFile::parse(Path::new("cables.toml"), &text).expect("a good file");
    (own, cables)
}
