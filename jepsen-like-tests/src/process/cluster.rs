//! A whole cluster of real processes in a folder of its own.
//!
//! ```text
//! HOME/cluster.toml   read by all
//! HOME/n1/ ...        data of the nodes
//! HOME/payments.jsonl the payment provider's book
//! HOME/logs/*.log     output of every process
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::ports::free_ports;
use super::{HarnessError, Plot, Server, Site, ready, souk_binary};

/// How long a server may take to become ready, also after a crash and on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Zones of the nodes, in turn.
const ZONES: [&str; 3] = ["a", "b", "c"];
const PROVIDER: &str = "payment-provider";
const SHOP: &str = "shop";

/// What to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterPlan {
    /// Number of nodes, 1 or more, named `n1` and so on. A site may have plots for more, who can join later.
    pub nodes: usize,
    /// Whether there is a shop with a payment provider in front.
    pub has_shop: bool,
    /// Storage engine of all nodes: `fjall` or `sled`.
    pub engine: String,
    /// What the shop sells: JSON Lines, as `souk import catalog` reads them.
    pub catalogue: String,
}

impl Default for ClusterPlan {
    fn default() -> ClusterPlan {
        ClusterPlan {
            nodes: 3,
            has_shop: false,
            engine: "fjall".to_owned(),
            catalogue: String::new(),
        }
    }
}

/// Running processes. Dropped, it kills them; if the test is failing it shows the ends of their logs.
#[derive(Debug)]
pub struct TestCluster {
    home: PathBuf,
    /// Deletes the folder, unless the caller gave one.
    _temporary: Option<tempfile::TempDir>,
    binary: PathBuf,
    http: reqwest::Client,
    /// `host:port`, by the names of all nodes that there ever are.
    endpoints: BTreeMap<String, String>,
    nodes: Vec<Server>,
    /// Nodes that have not joined yet, by name.
    newcomers: BTreeMap<String, Newcomer>,
    /// Nodes that have left.
    retired: Vec<Server>,
    /// By the names of the nodes.
    data_folders: BTreeMap<String, PathBuf>,
    around: Vec<Server>,
    shop_address: Option<String>,
}

/// A node that may join.
#[derive(Debug)]
struct Newcomer {
    plot: Plot,
    /// `host:port`.
    grpc: String,
    http: String,
    zone: &'static str,
}

impl TestCluster {
    /// Starts a cluster in a temporary folder, or in `home`, and waits until all of it is ready.
    ///
    /// # Errors
    /// When the binary is missing, or a server does not become ready.
    pub async fn start(
        plan: &ClusterPlan,
        home: Option<&Path>,
    ) -> Result<TestCluster, HarnessError> {
        TestCluster::start_on(plan, home, &Site::loopback(plan.nodes)).await
    }

    /// The same on a site of its own, which has a plot for every node.
    ///
    /// # Errors
    /// When the binary is missing, or a server does not become ready.
    pub async fn start_on(
        plan: &ClusterPlan,
        home: Option<&Path>,
        site: &Site,
    ) -> Result<TestCluster, HarnessError> {
        let mut cluster = TestCluster::prepare(plan, home, site)?;
        for node in &mut cluster.nodes {
            node.start()?;
        }
        for node in &mut cluster.nodes {
            node.wait_ready(&cluster.http, READY_WITHIN).await?;
        }
        if !plan.catalogue.is_empty() {
            let file = cluster.home.join("catalogue.jsonl");
            std::fs::write(&file, &plan.catalogue).map_err(HarnessError::file(&file))?;
            let endpoints = cluster.endpoints().join(",");
            let file = file.display().to_string();
            cluster.souk(&["import", "catalog", &file, "--endpoints", &endpoints])?;
        }
        for server in &mut cluster.around {
            server.start()?;
            server.wait_ready(&cluster.http, READY_WITHIN).await?;
        }
        Ok(cluster)
    }

    fn prepare(
        plan: &ClusterPlan,
        home: Option<&Path>,
        site: &Site,
    ) -> Result<TestCluster, HarnessError> {
        let (home, temporary) = match home {
            Some(home) => (home.to_owned(), None),
            None => {
                let folder = tempfile::tempdir();
                let folder = folder.map_err(HarnessError::file(std::env::temp_dir()))?;
                (folder.path().to_owned(), Some(folder))
            }
        };
        let logs = home.join("logs");
        std::fs::create_dir_all(&logs).map_err(HarnessError::file(&logs))?;
        let ports = free_ports(site.plots.len() * 2 + 2)?;
        let (node_ports, shop_ports) = ports.split_at(site.plots.len() * 2);
        let addresses = |ports: &[u16]| -> Vec<String> {
            let pairs = site.plots.iter().zip(ports.iter().step_by(2));
            pairs
                .map(|(plot, port)| SocketAddr::new(plot.address, *port).to_string())
                .collect()
        };
        let endpoints = addresses(node_ports);
        let healths = addresses(&node_ports[1..]);
        let front = |port: u16| SocketAddr::new(site.front, port).to_string();
        let (shop, provider) = (front(shop_ports[0]), front(shop_ports[1]));

        let config = home.join("cluster.toml");
        let founders = plan.nodes.min(site.plots.len());
        let (grpc, http) = (&endpoints[..founders], &healths[..founders]);
        let text = cluster_file(grpc, http, &shop, &provider, &plan.engine, site);
        std::fs::write(&config, text).map_err(HarnessError::file(&config))?;

        let binary = souk_binary()?;
        let server = |name: &str, command: &[&str], readiness: &str| {
            server(&home, &binary, name, command, readiness)
        };
        let data = home.display().to_string();
        let mut nodes = Vec::new();
        let mut newcomers = BTreeMap::new();
        let mut data_folders = BTreeMap::new();
        for (number, plot) in site.plots.iter().enumerate() {
            let name = node_name(number);
            let data = plot.data.as_deref().unwrap_or(&home);
            data_folders.insert(name.clone(), data.join(&name));
            let (grpc, http) = (&endpoints[number], &healths[number]);
            if number >= founders {
                let newcomer = Newcomer {
                    plot: plot.clone(),
                    grpc: grpc.clone(),
                    http: http.clone(),
                    zone: ZONES[number % ZONES.len()],
                };
                newcomers.insert(name, newcomer);
                continue;
            }
            let data = data.display().to_string();
            let node = server(&name, &["node", "--name", &name, "--data", &data], http);
            nodes.push(node.started_by(plot.prefix.clone()));
        }
        let around = if plan.has_shop {
            vec![
                server(PROVIDER, &["payment-provider", "--data", &data], &provider),
                server(SHOP, &["shop"], &shop),
            ]
        } else {
            Vec::new()
        };
        let names = (0..).map(node_name);
        Ok(TestCluster {
            home,
            _temporary: temporary,
            http: reqwest::Client::new(),
            endpoints: names.zip(endpoints).collect(),
            nodes,
            newcomers,
            retired: Vec::new(),
            data_folders,
            around,
            shop_address: plan.has_shop.then_some(shop),
            binary,
        })
    }

    /// Where everything lies.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// `host:port` of every node that has not left.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        let names = self.nodes.iter().map(Server::name);
        names.map(|name| self.endpoints[name].clone()).collect()
    }

    /// `host:port` of the shop, if there is one.
    #[must_use]
    pub fn shop_address(&self) -> Option<&str> {
        self.shop_address.as_deref()
    }

    /// The names of the nodes that have not left.
    #[must_use]
    pub fn node_names(&self) -> Vec<String> {
        self.nodes
            .iter()
            .map(|node| node.name().to_owned())
            .collect()
    }

    /// The names of all servers: the nodes, and what is around them.
    #[must_use]
    pub fn server_names(&self) -> Vec<String> {
        let all = self.nodes.iter().chain(&self.around);
        all.map(|server| server.name().to_owned()).collect()
    }

    /// Where a node keeps its data.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn data_folder(&self, name: &str) -> Result<&Path, HarnessError> {
        let folder = self.data_folders.get(name).map(PathBuf::as_path);
        folder.ok_or_else(|| HarnessError::NoSuchServer {
            name: name.to_owned(),
        })
    }

    /// The payment provider's book.
    #[must_use]
    pub fn payments_file(&self) -> PathBuf {
        self.home.join("payments.jsonl")
    }

    /// A server by its name: `n1` and so on, `shop`, `payment-provider`.
    ///
    /// # Errors
    /// When there is none.
    pub fn server(&mut self, name: &str) -> Result<&mut Server, HarnessError> {
        let mut all = self.nodes.iter_mut().chain(&mut self.around);
        all.find(|server| server.name() == name)
            .ok_or_else(|| HarnessError::NoSuchServer {
                name: name.to_owned(),
            })
    }

    /// `host:port` of the health and metrics of a server, if there is such a server.
    #[must_use]
    pub fn http_address(&self, name: &str) -> Option<&str> {
        let mut all = self.nodes.iter().chain(&self.around);
        let server = all.find(|server| server.name() == name)?;
        Some(server.http_address())
    }

    /// Starts a server that was killed or stopped. Returns what proves it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_server(&mut self, name: &str) -> Result<String, HarnessError> {
        let server = self.server(name)?;
        server.start()?;
        Ok(format!("process {}", server.pid().unwrap_or_default()))
    }

    /// Starts a node that waits at the door of the cluster until it is let in.
    ///
    /// # Errors
    /// When no plot is left for one of that name, or it cannot be started.
    pub fn start_newcomer(&mut self, name: &str) -> Result<(), HarnessError> {
        let doors = self.endpoints().join(",");
        let newcomer = self.newcomers.remove(name);
        let newcomer = newcomer.ok_or_else(|| HarnessError::NoSuchServer {
            name: name.to_owned(),
        })?;
        let data = newcomer.plot.data.as_deref().unwrap_or(&self.home);
        let data = data.display().to_string();
        let command = [
            "node",
            "--name",
            name,
            "--data",
            &data,
            "--zone",
            newcomer.zone,
            "--grpc",
            &newcomer.grpc,
            "--http",
            &newcomer.http,
            "--join",
            &doors,
        ];
        let node = server(&self.home, &self.binary, name, &command, &newcomer.http);
        let mut node = node.started_by(newcomer.plot.prefix.clone());
        node.start()?;
        self.nodes.push(node);
        Ok(())
    }

    /// Puts a node aside that has left, for good; it is killed if it runs.
    ///
    /// # Errors
    /// When there is no such node, or it cannot be killed.
    pub fn retire(&mut self, name: &str) -> Result<(), HarnessError> {
        let server = self.server(name)?;
        if server.pid().is_some() {
            server.kill_9()?;
        }
        let (gone, stay) = std::mem::take(&mut self.nodes)
            .into_iter()
            .partition(|node| node.name() == name);
        self.nodes = stay;
        self.retired.extend::<Vec<Server>>(gone);
        Ok(())
    }

    /// Why a server does not take requests, as it says itself; none when it takes them, or does not answer.
    pub async fn why_not_ready(&self, name: &str, http: &reqwest::Client) -> Option<String> {
        ready::ask(http, self.http_address(name)?).await.err()
    }

    /// Waits until every server that runs is ready.
    ///
    /// # Errors
    /// When one does not become ready.
    pub async fn wait_ready(&mut self) -> Result<(), HarnessError> {
        for server in self.nodes.iter_mut().chain(&mut self.around) {
            if server.pid().is_some() {
                server.wait_ready(&self.http, READY_WITHIN).await?;
            }
        }
        Ok(())
    }

    /// Runs a command of the `souk` binary to its end, and returns what it printed.
    ///
    /// # Errors
    /// When it fails.
    pub fn souk(&self, arguments: &[&str]) -> Result<String, HarnessError> {
        let output = self
            .souk_command()
            .args(arguments)
            .output()
            .map_err(|source| HarnessError::CannotStart {
                name: "souk".to_owned(),
                source,
            })?;
        let mut printed = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(printed);
        }
        printed.push_str(&String::from_utf8_lossy(&output.stderr));
        Err(HarnessError::Command {
            arguments: arguments.join(" "),
            status: output.status,
            output: printed,
        })
    }

    /// The `souk` binary, to be given arguments and run where the cluster file lies.
    #[must_use]
    pub fn souk_command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.current_dir(&self.home);
        command
    }

    /// The ends of all logs.
    #[must_use]
    pub fn tails(&self) -> String {
        let mut text = String::new();
        let nodes = self.nodes.iter().chain(&self.retired);
        for server in nodes.chain(&self.around) {
            // Writing to a string cannot fail.
            write!(text, "--- {}\n{}", server.name(), server.tail()).ok();
        }
        text
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.tails());
        }
    }
}

/// A server whose command reads the cluster's file and ends with this process.
fn server(home: &Path, binary: &Path, name: &str, command: &[&str], readiness: &str) -> Server {
    let mut arguments: Vec<String> = command.iter().map(ToString::to_string).collect();
    let config = home.join("cluster.toml").display().to_string();
    arguments.extend(["--config".to_owned(), config]);
    arguments.push("--stop-on-stdin-close".to_owned());
    let log = home.join("logs").join(format!("{name}.log"));
    Server::new(name, binary, arguments, log, readiness.to_owned())
}

fn node_name(number: usize) -> String {
    format!("n{}", number + 1)
}

fn cluster_file(
    endpoints: &[String],
    healths: &[String],
    shop: &str,
    provider: &str,
    engine: &str,
    site: &Site,
) -> String {
    let mut text = format!(
        "[cluster]\nid = \"souk-jepsen\"\n\n[shop]\nlisten = \"{shop}\"\npayment_provider = \"{provider}\"\n\n\
         [storage]\nengine = \"{engine}\"\n"
    );
    // Writing to a string cannot fail.
    if let Some(bytes) = site.disk_reserve_bytes {
        writeln!(text, "disk_reserve_bytes = {bytes}").ok();
    }
    if site.is_exposed() {
        text.push_str("\n[security]\ninsecure = true\n");
    }
    for (number, (grpc, http)) in endpoints.iter().zip(healths).enumerate() {
        let (name, zone) = (node_name(number), ZONES[number % ZONES.len()]);
        // Writing to a string cannot fail.
        write!(
            text,
            "\n[[node]]\nname = \"{name}\"\nzone = \"{zone}\"\ngrpc = \"{grpc}\"\nhttp = \"{http}\"\n"
        )
        .ok();
    }
    text
}
