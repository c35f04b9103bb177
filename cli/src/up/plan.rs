//! Which processes make up a cluster: their names, arguments, addresses and logs.
//!
//! Place: pure but for writing the cluster file that the children read.
//! Shape: everything lies below one directory: `cluster.toml`, `logs/`, and each server's data.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use souk_kv_node::config::{Address, ClusterFile, NodeSection};

use super::UpError;
use super::certificates::Bearers;

/// Ties a child's life to ours, see `crate::stop`.
const STOP_WITH_PARENT: &str = "--stop-on-stdin-close";

/// Everything that is to be started.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Absolute path of the data directory.
    pub(crate) home: PathBuf,
    /// In the order of the cluster file.
    pub(crate) nodes: Vec<Server>,
    /// The shop's part, unless only nodes are wanted.
    pub(crate) shop: Option<ShopPlan>,
}

/// The shop and the outside party that it needs.
#[derive(Debug)]
pub(crate) struct ShopPlan {
    /// The simulated payment provider.
    pub(crate) provider: Server,
    /// The shop.
    pub(crate) shop: Server,
}

/// One process.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    /// For tables and messages; also the name of its log.
    pub(crate) name: String,
    /// Arguments of this same binary.
    pub(crate) arguments: Vec<OsString>,
    /// Where it listens.
    pub(crate) listens: Vec<Listen>,
    /// Where its output goes.
    pub(crate) log: PathBuf,
    /// Where it answers `/readyz`.
    pub(crate) readiness: Address,
}

/// One address of a server.
#[derive(Debug, Clone)]
pub(crate) struct Listen {
    /// The key of the cluster file that chooses it.
    pub(crate) key: String,
    /// The address itself.
    pub(crate) address: Address,
    /// `grpc` or `http`.
    pub(crate) scheme: &'static str,
}

impl Server {
    /// The command that starts it again by hand.
    pub(crate) fn command(&self) -> String {
        let words = self
            .arguments
            .iter()
            .filter(|word| *word != STOP_WITH_PARENT);
        let words: Vec<String> = words
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        format!("souk {}", words.join(" "))
    }
}

impl Listen {
    /// As it is shown.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }
}

impl Plan {
    /// Plans the processes of a cluster whose data lies below `home`.
    pub(crate) fn new(
        file: &ClusterFile,
        home: &Path,
        no_shop: bool,
        bearers: Option<&Bearers>,
    ) -> Self {
        let planner = Planner { home, bearers };
        let nodes = file.nodes.iter().map(|node| planner.node(node)).collect();
        let shop = (!no_shop).then(|| ShopPlan {
            provider: planner.provider(file),
            shop: planner.shop(file),
        });
        Self {
            home: home.to_owned(),
            nodes,
            shop,
        }
    }

    /// All servers, nodes first.
    pub(crate) fn servers(&self) -> impl Iterator<Item = &Server> {
        let shop = self
            .shop
            .iter()
            .flat_map(|shop| [&shop.provider, &shop.shop]);
        self.nodes.iter().chain(shop)
    }

    /// Writes the cluster file that all children read, and makes the folder for logs.
    ///
    /// # Errors
    /// When the data directory cannot be written.
    pub(crate) fn write_cluster_file(&self, file: &ClusterFile) -> Result<(), UpError> {
        let unusable = |path: &Path| {
            let path = path.to_owned();
            move |source| UpError::DataDirectory { path, source }
        };
        let logs = self.home.join("logs");
        std::fs::create_dir_all(&logs).map_err(unusable(&logs))?;
        let path = cluster_file(&self.home);
        std::fs::write(&path, file.render()).map_err(unusable(&path))
    }
}

fn cluster_file(home: &Path) -> PathBuf {
    home.join("cluster.toml")
}

struct Planner<'a> {
    home: &'a Path,
    bearers: Option<&'a Bearers>,
}

impl Planner<'_> {
    fn node(&self, node: &NodeSection) -> Server {
        let mut arguments = self.arguments("node");
        arguments.extend(["--name".into(), node.name.clone().into()]);
        arguments.extend(self.data());
        let grpc = listen(format!("grpc of {}", node.name), &node.grpc, "grpc");
        let http = listen(format!("http of {}", node.name), &node.http, "http");
        self.server(&node.name, arguments, vec![grpc, http], &node.http)
    }

    fn provider(&self, file: &ClusterFile) -> Server {
        let mut arguments = self.arguments("payment-provider");
        arguments.extend(self.data());
        let address = &file.shop.payment_provider;
        let http = listen("payment_provider of [shop]".to_owned(), address, "http");
        self.server("payment-provider", arguments, vec![http], address)
    }

    /// It keeps everything in the store, and so has no directory of its own.
    fn shop(&self, file: &ClusterFile) -> Server {
        let address = &file.shop.listen;
        let http = listen("listen of [shop]".to_owned(), address, "http");
        let mut arguments = self.arguments("shop");
        if let Some(Bearers {
            shop, shop_token, ..
        }) = self.bearers
        {
            arguments.extend(["--cert".into(), shop.certificate.clone().into()]);
            arguments.extend(["--key".into(), shop.key.clone().into()]);
            arguments.extend(["--token-file".into(), shop_token.clone().into()]);
        }
        self.server("shop", arguments, vec![http], address)
    }

    fn server(
        &self,
        name: &str,
        arguments: Vec<OsString>,
        listens: Vec<Listen>,
        readiness: &Address,
    ) -> Server {
        let log = self.home.join("logs").join(format!("{name}.log"));
        Server {
            name: name.to_owned(),
            arguments,
            listens,
            log,
            readiness: readiness.clone(),
        }
    }

    fn arguments(&self, command: &str) -> Vec<OsString> {
        let config = cluster_file(self.home).into_os_string();
        vec![
            command.into(),
            "--config".into(),
            config,
            STOP_WITH_PARENT.into(),
        ]
    }

    fn data(&self) -> [OsString; 2] {
        ["--data".into(), self.home.as_os_str().to_owned()]
    }
}

fn listen(key: String, address: &Address, scheme: &'static str) -> Listen {
    Listen {
        key,
        address: address.clone(),
        scheme,
    }
}
