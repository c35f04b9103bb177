//! The cluster that is used when no file is given: the committed `cluster.toml` itself.
//!
//! Place: pure; the text is part of the binary, so that one binary on a bare machine is enough.
//! Shape: asked for more nodes than the file names, names and ports go on from the last node's.

use std::path::Path;

use super::{ClusterFile, NodeSection};

/// The committed file, comments and all.
const TEXT: &str = include_str!("../../../cluster.toml");

impl ClusterFile {
    /// The text of the built-in cluster: the commented `cluster.toml`.
    #[must_use]
    pub fn builtin_text() -> &'static str {
        TEXT
    }

    /// The built-in cluster: three nodes on loopback ports.
    #[must_use]
    pub fn builtin() -> Self {
        let file = Self::parse(Path::new("the built-in cluster.toml"), TEXT);
        file.expect("the committed cluster.toml passes every check, as a test shows")
    }

    /// The built-in cluster with `nodes_count` nodes, 1 to 99: fewer than the file names, or further
    /// ones on the ports that follow (`n4` on 7104 and 7204), each in a zone of its own.
    #[must_use]
    pub fn builtin_with(nodes_count: u8) -> Self {
        let mut file = Self::builtin();
        let first = file.nodes[0].clone();
        let nodes =
            (0..nodes_count.clamp(1, 99)).map(|index| match file.nodes.get(usize::from(index)) {
                Some(node) => node.clone(),
                None => further(&first, index),
            });
        file.nodes = nodes.collect();
        file
    }
}

/// Of the nodes that follow those of the file, the one at `index`, from 0.
fn further(first: &NodeSection, index: u8) -> NodeSection {
    let next = |port: u16| port + u16::from(index);
    NodeSection {
        name: format!("n{}", index + 1),
        zone: format!("z{}", index + 1),
        grpc: first.grpc.with_port(next(first.grpc.port())),
        http: first.http.with_port(next(first.http.port())),
        ..first.clone()
    }
}
