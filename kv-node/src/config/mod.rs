//! Reads `cluster.toml`: who belongs to the cluster, where everybody listens, and every named bound.
//!
//! The file is read as a whole and refused as a whole: all problems are listed together, each with
//! its line, its key and how to mend it. Nobody starts half a cluster on half a file.
//!
//! ```text
//! text --reader--> values with places --check--> rules between keys --sections--> ClusterFile
//!                        ^ keys: meaning, unit, range and default of each, once
//! ```
//!
//! Place: pure but for `load`, which reads one file. Used by `kv-node` and by the command line;
//! depends on nothing else in this crate.
//! Invariants: 1. a `ClusterFile` in hand is usable. 2. the committed `cluster.toml` says in its
//! comments what `keys` says, and its values are the defaults.
//! Not here: what the cluster has stored at its first start, which rules from then on (`layout`).

mod address;
mod builtin;
mod check;
mod error;
pub mod keys;
mod reader;
mod render;
mod sections;
#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

pub use address::Address;
pub use error::{ConfigError, Fault, InvalidFile, Problem};
pub use sections::{
    ClusterSection, EngineName, FailureDetection, Limits, NodeSection, Repair, Security,
    ShopSection, StorageSection,
};

use reader::{Found, Problems, Root};
use sections::ReadNode;

/// A cluster file that passed every check.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterFile {
    /// What all nodes must agree on.
    pub cluster: ClusterSection,
    /// At least one, in the order of the file; names and addresses are unique.
    pub nodes: Vec<NodeSection>,
    /// The shop in front of the store.
    pub shop: ShopSection,
    /// Bounds of queues, waits and sizes.
    pub limits: Limits,
    /// When a silent peer is taken for down.
    pub failure_detection: FailureDetection,
    /// How eagerly replicas are compared and data is read again.
    pub repair: Repair,
    /// The engine and its bounds.
    pub storage: StorageSection,
    /// Who may reach the cluster.
    pub security: Security,
}

impl ClusterFile {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// When it cannot be read, and when it says something that cannot be used; then with all its problems.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::load_with(path, &Overrides::default())
    }

    /// The same, where the command line has the last word.
    ///
    /// # Errors
    /// As [`ClusterFile::load`].
    pub fn load_with(path: &Path, overrides: &Overrides) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        let mut file = Self::parse_with(path, &text, overrides)?;
        if let (Some(folder), None) = (&mut file.security.certificates, &overrides.certificates) {
            *folder = path.parent().unwrap_or(Path::new("")).join(&*folder);
        }
        Ok(file)
    }

    /// Checks a text; `path` is only shown in errors.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`], with all problems.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        Self::parse_with(path, text, &Overrides::default())
    }

    fn parse_with(path: &Path, text: &str, overrides: &Overrides) -> Result<Self, ConfigError> {
        let problems = Problems::new(text);
        let file = Self::read(&problems, overrides);
        let list = problems.into_sorted();
        match file {
            Some(file) if list.is_empty() => Ok(file),
            _ => {
                let invalid = InvalidFile {
                    path: path.to_owned(),
                    text: text.into(),
                    problems: list,
                };
                Err(ConfigError::Invalid(Box::new(invalid)))
            }
        }
    }

    /// The node of that name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&NodeSection> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// The engine that `node` uses: its own choice, or the cluster's.
    #[must_use]
    pub fn engine_of(&self, node: &NodeSection) -> EngineName {
        node.engine.unwrap_or(self.storage.engine)
    }

    /// `host:port` of every node's gRPC server, in the order of the file.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        self.nodes
            .iter()
            .map(|node| node.grpc.to_string())
            .collect()
    }

    /// `None` only when a problem was noted.
    fn read(problems: &Problems<'_>, overrides: &Overrides) -> Option<Self> {
        let root = Root::parse(problems);
        let (limits, storage) = (root.section("limits"), root.section("storage"));
        let failure_detection = root.section("failure_detection");
        let repair = Repair::read(&root.section("repair"));
        let mut security = Security::read(&root.section("security"));
        overrides.apply(&mut security);
        let nodes: Vec<ReadNode> = root.repeated("node").iter().map(ReadNode::read).collect();
        check::names(&nodes, problems);
        let shop = root.section("shop");
        let listen = shop.address(&keys::SHOP_LISTEN);
        let payment_provider = shop.address(&keys::SHOP_PAYMENT_PROVIDER);
        let servers = servers(&nodes, listen.as_ref(), payment_provider.as_ref());
        check::addresses(&servers, &security, problems);
        check::relations(&limits, &failure_detection, problems);

        Some(Self {
            cluster: ClusterSection::read(&root.section("cluster")),
            nodes: nodes
                .into_iter()
                .map(ReadNode::finish)
                .collect::<Option<_>>()?,
            shop: ShopSection {
                listen: listen?.value,
                payment_provider: payment_provider?.value,
                checkout_hold: Duration::from_millis(
                    shop.whole(&keys::SHOP_CHECKOUT_HOLD_MS).value,
                ),
                cart_hold: Duration::from_millis(shop.whole(&keys::SHOP_CART_HOLD_MS).value),
            },
            limits: Limits::read(&limits),
            failure_detection: FailureDetection::read(&failure_detection),
            repair,
            storage: StorageSection::read(&storage),
            security,
        })
    }
}

/// What the command line says about security, in place of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Allow reachable addresses without TLS and tokens.
    pub insecure: bool,
    /// Where the certificates lie.
    pub certificates: Option<PathBuf>,
}

impl Overrides {
    /// Puts what is said here in place.
    pub fn apply(&self, security: &mut Security) {
        security.insecure |= self.insecure;
        if let Some(folder) = &self.certificates {
            security.certificates = Some(folder.clone());
        }
    }
}

fn servers(
    nodes: &[ReadNode],
    listen: Option<&Found<Address>>,
    payment_provider: Option<&Found<Address>>,
) -> check::Servers {
    let of_nodes = nodes.iter().flat_map(|node| {
        [
            ("node.grpc", node.grpc.as_ref()),
            ("node.http", node.http.as_ref()),
        ]
    });
    let of_shop = [
        ("shop.listen", listen),
        (check::PAYMENT_PROVIDER, payment_provider),
    ];
    of_nodes
        .chain(of_shop)
        .filter_map(|(key, found)| Some((key.to_owned(), found?.clone())))
        .collect()
}
