//! Cables between the nodes of a test: each can be made to carry nothing, or to be slow, in one direction.
//!
//! Every node gets a configuration of its own, in which the addresses of the others are those of its cables.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use souk_kv_node::config::ClusterFile;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::sleep,
};

/// A delay that never ends.
const CUT: u64 = u64::MAX;

/// The way on which one node asks another; answers come back on it, too.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cable {
    delay_ms: Arc<AtomicU64>,
}

impl Cable {
    /// Carries nothing any more; no connection is closed.
    pub(crate) fn cut(&self) {
        self.delay_ms.store(CUT, Ordering::Release);
    }

    /// Carries everything, at once.
    pub(crate) fn mend(&self) {
        self.delay_ms.store(0, Ordering::Release);
    }

    /// Carries everything late.
    pub(crate) fn slow_down(&self, delay: Duration) {
        let delay_ms = u64::try_from(delay.as_millis()).expect("a short delay");
        self.delay_ms.store(delay_ms, Ordering::Release);
    }

    async fn wait(&self) {
        loop {
            match self.delay_ms.load(Ordering::Acquire) {
                CUT => sleep(Duration::from_millis(20)).await,
                delay_ms => return sleep(Duration::from_millis(delay_ms)).await,
            }
        }
    }

    async fn carry(self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut bytes = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from.read(&mut bytes).await {
            self.wait().await;
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
                let Ok(far) = TcpStream::connect(&far).await else {
                    continue;
                };
                let (near, far) = (near.into_split(), far.into_split());
                tokio::spawn(cable.clone().carry(near.0, far.1));
                tokio::spawn(cable.clone().carry(far.0, near.1));
            }
        });
    }
    let own = ClusterFile::parse(Path::new("cables.toml"), &text).expect("a good file");
    (own, cables)
}
