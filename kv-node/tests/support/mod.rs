//! A cluster of real nodes inside the test process: real sockets, real engines, real client library.

pub(crate) mod cables;
pub(crate) mod ports;

use std::{path::Path, time::Duration};

use souk_kv_client::{BucketConfig, BucketMode, Client, ClientOptions};
use souk_kv_node::{Environment, Node, NodeOptions, config::ClusterFile};
use tempfile::TempDir;

use cables::Cable;
use ports::free_ports;

/// Nodes `n1`, `n2`, … and their directories.
pub(crate) struct TestCluster {
    pub(crate) config: ClusterFile,
    nodes: Vec<Option<Node>>,
    data: TempDir,
    /// By asking node, then by the node asked; empty without cables.
    pub(crate) cables: Vec<Vec<Cable>>,
    /// What each node reads, on cables; empty without.
    own: Vec<ClusterFile>,
    /// The text of `config` without its section on repair.
    text: String,
}

/// Nodes leave alone what tests have damaged, unless these say otherwise.
const NO_SCRUB: &str = "scrub_pause_ms = 3600000\n";

impl TestCluster {
    /// Starts `count` nodes and waits until they take requests.
    pub(crate) async fn start(count: usize) -> Self {
        Self::start_with(count, NO_SCRUB).await
    }

    /// The same, on cables.
    pub(crate) async fn start_on_cables(count: usize) -> Self {
        Self::start_on_cables_with(count, NO_SCRUB, "").await
    }

    /// The same, with these lines in the section on repair, and further sections.
    pub(crate) async fn start_on_cables_with(count: usize, repair: &str, sections: &str) -> Self {
        Self::begin(text(count, 16) + sections, repair, true, |_| {}).await
    }

    /// The same without cables, with these lines in the section on repair.
    pub(crate) async fn start_with(count: usize, repair: &str) -> Self {
        Self::begin(text(count, 16), repair, false, |_| {}).await
    }

    /// The same, with as many partitions as a cluster of millions of keys has.
    pub(crate) async fn start_large(count: usize, repair: &str) -> Self {
        Self::begin(text(count, 256), repair, false, |_| {}).await
    }

    /// The same, with another configuration.
    pub(crate) async fn start_changed(count: usize, change: impl FnOnce(&mut ClusterFile)) -> Self {
        Self::begin(text(count, 16), NO_SCRUB, false, change).await
    }

    async fn begin(
        text: String,
        repair: &str,
        on_cables: bool,
        change: impl FnOnce(&mut ClusterFile),
    ) -> Self {
        let data = TempDir::new().expect("a temporary directory");
        let mut config = parse(&text, repair);
        change(&mut config);
        let count = config.nodes.len();
        let (mut own, mut cables) = (Vec::new(), Vec::new());
        if on_cables {
            for node in 0..count {
                let (file, laid) = cables::lay(&config, node).await;
                own.push(file);
                cables.push(laid);
            }
        }
        let mut cluster = Self {
            config,
            nodes: (0..count).map(|_| None).collect(),
            data,
            cables,
            own,
            text,
        };
        for index in 0..count {
            cluster.start_node(index).await;
        }
        cluster.wait_ready().await;
        cluster
    }

    /// Starts one node on its directory.
    pub(crate) async fn start_node(&mut self, index: usize) {
        for _ in 0..500 {
            match Node::start(self.options(index), Environment::system()).await {
                Ok(node) => {
                    self.nodes[index] = Some(node);
                    return;
                }
                // A start that failed right before may still be closing the directory.
                Err(error) if error.to_string().contains("in use by another process") => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => panic!("the node does not start: {error}"),
            }
        }
        panic!("the directory stayed locked");
    }

    /// What one node starts from.
    pub(crate) fn options(&self, index: usize) -> NodeOptions {
        let name = format!("n{}", index + 1);
        let config = self.own.get(index).unwrap_or(&self.config).clone();
        NodeOptions {
            config,
            data: self.data.path().join(&name),
            name,
            join: None,
        }
    }

    /// Severs all cables between two sides.
    pub(crate) fn split(&self, one: &[usize], other: &[usize]) {
        for &here in one {
            for &there in other {
                self.cables[here][there].sever();
                self.cables[there][here].sever();
            }
        }
    }

    /// Mends all cables.
    pub(crate) fn heal(&self) {
        self.cables.iter().flatten().for_each(Cable::mend);
    }

    /// Tries to start one node, which has to refuse with these words.
    pub(crate) async fn start_node_that_fails(&self, index: usize, words: &str) {
        let refused = Node::start(self.options(index), Environment::system()).await;
        let message = refused.err().map(|error| error.to_string());
        assert!(
            message
                .as_ref()
                .is_some_and(|message| message.contains(words)),
            "{message:?}"
        );
    }

    /// The configuration with other lines on repair, for nodes that are started from now on.
    pub(crate) fn with_repair(&self, repair: &str) -> ClusterFile {
        parse(&self.text, repair)
    }

    /// Stops one node in order.
    pub(crate) async fn stop_node(&mut self, index: usize) {
        let node = self.nodes[index].take().expect("the node runs");
        node.stop().await.expect("the node stops in order");
    }

    /// Whether a node takes requests, or why not.
    pub(crate) fn ready(&self, index: usize) -> Result<(), String> {
        self.nodes[index].as_ref().expect("the node runs").ready()
    }

    /// Waits until every running node takes requests.
    pub(crate) async fn wait_ready(&self) {
        for node in self.nodes.iter().flatten() {
            let mut reason = String::new();
            for _ in 0..500 {
                match node.ready() {
                    Ok(()) => break,
                    Err(why) => reason = why,
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert_eq!(node.ready(), Ok(()), "last reason: {reason}");
        }
    }

    /// A client that knows all nodes.
    pub(crate) async fn client(&self) -> Client {
        Client::connect(ClientOptions::new(self.config.endpoints()))
            .await
            .expect("a node answers")
    }

    /// A client that knows one node only at first.
    pub(crate) async fn client_of(&self, index: usize) -> Client {
        let endpoint = self.config.nodes[index].grpc.to_string();
        Client::connect(ClientOptions::new([endpoint]))
            .await
            .expect("the node answers")
    }
}

/// A bucket with the defaults of its mode.
pub(crate) fn bucket(name: &str, mode: BucketMode) -> BucketConfig {
    BucketConfig {
        name: name.to_owned(),
        mode: mode.into(),
        ..Default::default()
    }
}

fn parse(text: &str, repair: &str) -> ClusterFile {
    let text = format!("{text}[repair]\n{repair}");
    ClusterFile::parse(Path::new("test.toml"), &text).expect("a good file")
}

fn text(count: usize, partitions: u32) -> String {
    let mut text = format!("[cluster]\nid = \"souk-test\"\npartitions_count = {partitions}\n");
    let ports = free_ports(count * 2);
    for index in 0..count {
        text.push_str(&format!(
            "[[node]]\nname = \"n{}\"\nzone = \"z{}\"\ngrpc = \"127.0.0.1:{}\"\nhttp = \"127.0.0.1:{}\"\n",
            index + 1,
            index + 1,
            ports[index * 2],
            ports[index * 2 + 1],
        ));
    }
    text.push_str("[failure_detection]\nheartbeat_ms = 50\nacceptable_pause_ms = 1000\n");
    text
}
