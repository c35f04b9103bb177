//! Starting and stopping a node.
//!
//! The order of starting: data directory, distrust of what was not closed in order, identity, counter
//! lease, parts, ports, links. Nothing listens before the identity is on disk. The order of stopping:
//! no new requests, peers told, work under way finished within a bound, ports closed, store closed.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool, atomic::Ordering},
    time::Duration,
};

use souk_kv_core::{overload::Admission, tombstone::Generation};
use souk_kv_proto::network::Network;
use souk_kv_proto::{
    DESCRIPTORS, admin::admin_server::AdminServer, kv::kv_server::KvServer,
    peer::peer_server::PeerServer,
};
use souk_kv_storage::{Bounds, EngineKind, Keyspace, StorageError, Store, StoreOptions};
use souk_kv_tls::{BearerKind, Folder, Keyring, TlsError};
use souk_ring::{Layout, LayoutError, MemberSpec, Name, PartitionCount, ReplicasN, Weight};
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{service::Routes, transport::Server};
use tonic_health::pb::health_server::HealthServer;
use tracing::{error, info, warn};

use crate::{
    access::Access,
    answer::PeerAnswers,
    anti_entropy::{AntiEntropy, Forest, Walker, anti_entropy_loop},
    api::{AdminService, KvService, Requests},
    background::{keep_metrics_small, say_farewell, watch_certificates},
    clock::Environment,
    cluster::{Catalogue, Cluster, HealthBoard},
    company::{CompanyOptions, keep_company},
    config::{Address, ClusterFile, EngineName, NodeSection},
    core::NodeCore,
    governor::Governor,
    guard::KeyGuards,
    hint::{Handoff, HintSpace, reroute_loop},
    http,
    identity::{Identity, IdentityError, addresses_of},
    join::Knocker,
    keys,
    listen::Doors,
    members::{Fence, Members, StagedLayout, care_for_store, count_pulse, found},
    mint::Mint,
    peer::{FRAME_DECODE_BYTES_MAX, LinkOptions, PeerService, Peers},
    register::{GroupStore, RegisterCoordinator, sweep_groups},
    scrub::{Mender, Scrubber, scrub_loop},
    siblings::{Coordinator, Records},
    system::SystemGroup,
    tombstone::{Gate, InFlight, Tombstones, collect_loop},
    transfer::{Transfers, gain, leave, settle},
};

/// How long open streams may take to end after the ports were closed.
const STREAMS_END: Duration = Duration::from_secs(1);
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Keys that all clients together may have in work at a node; further requests are refused at once.
const OPERATIONS_IN_WORK_MAX: u64 = 65_536;
/// Bytes of the values among them.
const BYTES_IN_WORK_MAX: u64 = 256 * 1024 * 1024;

/// What a node starts from.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// The whole of `cluster.toml`.
    pub config: ClusterFile,
    /// Which of its nodes this is.
    pub name: String,
    /// Where its data lives; made if missing. Not used by the memory engine.
    pub data: PathBuf,
    /// Set for a node that `cluster.toml` does not name: it joins the cluster, or has joined it before.
    pub join: Option<JoinOptions>,
}

/// How a node joins a cluster that was founded without it.
#[derive(Debug, Clone)]
pub struct JoinOptions {
    /// What `cluster.toml` would say of it.
    pub section: NodeSection,
    /// `host:port` of members to ask. The first that answers tells the others.
    pub doors: Vec<String>,
}

/// Why a node does not start, or did not stop in order.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// What: `cluster.toml` has no such node. Mend: choose one of those it has.
    #[error(
        "cluster.toml has no node `{name}`, it has {known}: choose one of these with --name, or add it to the file"
    )]
    UnknownNode {
        /// Who asked.
        name: String,
        /// Who is there.
        known: String,
    },
    /// What: the first layout cannot be made from `cluster.toml`.
    #[error("no layout can be made of cluster.toml: {0}")]
    Layout(#[from] LayoutError),
    /// What: a number or name of `cluster.toml` is out of range.
    #[error("cluster.toml cannot be used: {0}")]
    Config(String),
    /// What: other machines could reach the node, and it has neither TLS nor tokens.
    #[error(
        "{key} of node `{node}` is {address}, which other machines can reach, and no certificates are named: make some with `souk cert` and name their folder (`certificates` under [security], or --certificates), use a loopback address, or give --insecure if everybody who can reach it may read and change everything"
    )]
    Reachable {
        /// Whose address.
        node: String,
        /// `grpc` or `http`.
        key: &'static str,
        /// The address.
        address: Address,
    },
    /// What: the node's certificates cannot be used.
    #[error(transparent)]
    Certificates(#[from] TlsError),
    /// What: a port cannot be opened.
    #[error(
        "node `{node}` cannot listen on {address} ({cause}): stop what uses the port, or change `{key}` of this node in cluster.toml"
    )]
    Listen {
        /// Whose port.
        node: String,
        /// `grpc` or `http`.
        key: &'static str,
        /// The address.
        address: Address,
        /// What the system said.
        cause: std::io::Error,
    },
    /// What: the data directory belongs to somebody else, or another layout.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// What: the store does not open, read or close.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    core: Arc<NodeCore>,
    tasks: TaskTracker,
    draining: CancellationToken,
    stop: CancellationToken,
    servers: Vec<JoinHandle<()>>,
    health: tonic_health::server::HealthReporter,
    shutdown_timeout: Duration,
}

/// Starts a node, serves until `shutdown` resolves, and stops it in order.
///
/// # Errors
/// [`NodeError`] when it cannot start, or its store cannot be closed in order.
pub async fn run(
    options: NodeOptions,
    shutdown: impl Future<Output = ()>,
) -> Result<(), NodeError> {
    let mut shutdown = std::pin::pin!(shutdown);
    let node = tokio::select! {
        node = Node::start(options, Environment::system()) => node?,
        // A node that waits to be let in holds nothing yet.
        () = &mut shutdown => return Ok(()),
    };
    shutdown.await;
    node.stop().await
}

impl Node {
    /// Starts a node; returns when its ports are open. It takes requests once it is ready.
    ///
    /// # Errors
    /// [`NodeError`] when it cannot start; nothing of it is left running then.
    pub async fn start(options: NodeOptions, environment: Environment) -> Result<Self, NodeError> {
        if environment.network().is_system() {
            http::start_counting();
        }
        let NodeOptions {
            config,
            name,
            data,
            join,
        } = options;
        let founder = config.node(&name).cloned();
        let section = founder
            .or_else(|| join.as_ref().map(|join| join.section.clone()))
            .ok_or_else(|| NodeError::UnknownNode {
                name: name.clone(),
                known: config
                    .nodes
                    .iter()
                    .map(|node| node.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", "),
            })?;
        check_reach(&config, &section)?;
        let environment = secured(environment, &config, &name)?;
        let doors = Doors::open(environment.network(), &section).await?;
        let engine = config.engine_of(&section);
        let store = Store::open(store_options(&config, engine, data, &environment))?;
        Mint::forget_unless_clean(&store).await?;
        let genesis = match join.filter(|_| config.node(&name).is_none()) {
            None => first_layout(&config)?,
            Some(join) => {
                let spec = member_spec(&section)?;
                let knocker = Knocker {
                    store: &store,
                    spec: &spec,
                    cluster_id: &config.cluster.id,
                    doors: join.doors,
                    environment: &environment,
                };
                knocker.wait().await?
            }
        };
        let (identity, layout) = Identity::open(&store, &genesis, &name, &environment).await?;
        info!(node = name, engine = engine.as_str(), recovery = ?store.recovery(), "store is open");
        let draining = CancellationToken::new();
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let parts = Parts {
            config: &config,
            name,
            engine,
            store,
            identity,
            layout,
            environment,
        };
        let core = parts.assemble(&genesis, &tasks, &draining).await?;
        let mut node = Self {
            core,
            tasks,
            draining,
            stop,
            servers: Vec::new(),
            health: tonic_health::server::HealthReporter::new(),
            shutdown_timeout: config.limits.shutdown_timeout,
        };
        node.serve(doors);
        node.begin_background(&config);
        info!(node = node.core.name, grpc = %section.grpc, http = %section.http, "node is up");
        Ok(node)
    }

    /// Whether it takes requests now; `Err` says why not.
    ///
    /// # Errors
    /// The reason, for people.
    pub fn ready(&self) -> Result<(), String> {
        self.core.not_ready().map_or(Ok(()), Err)
    }

    /// Stops in order: requests under way are finished within the configured time.
    ///
    /// # Errors
    /// [`NodeError::Storage`] when the store may not have been closed in order.
    pub async fn stop(self) -> Result<(), NodeError> {
        info!(node = self.core.name, "stopping");
        self.core.stopping.store(true, Ordering::Release);
        self.health
            .set_service_status("", tonic_health::ServingStatus::NotServing)
            .await;
        say_farewell(&self.core).await;
        self.draining.cancel();
        self.tasks.close();
        if timeout(self.shutdown_timeout, self.tasks.wait())
            .await
            .is_err()
        {
            warn!("some requests were still under way when the time to stop was over");
        }
        self.stop.cancel();
        for mut server in self.servers {
            if timeout(STREAMS_END, &mut server).await.is_err() {
                server.abort();
            }
        }
        let retired = self.core.mint.retired_count();
        if retired > 0 {
            warn!(
                retired,
                "writes left this node without reaching its disk: the next start takes new actors"
            );
        }
        self.core.store.close().await?;
        info!(node = self.core.name, "stopped");
        Ok(())
    }

    fn serve(&mut self, doors: Doors) {
        let core = &self.core;
        let requests = Requests::new(Arc::clone(core));
        let answers = Arc::new(PeerAnswers::new(Arc::clone(core)));
        let kv = KvServer::new(KvService::new(requests, self.stop.clone()))
            .max_decoding_message_size(FRAME_DECODE_BYTES_MAX)
            .max_encoding_message_size(FRAME_DECODE_BYTES_MAX);
        let peer = PeerServer::new(PeerService::new(answers, self.stop.clone()))
            .max_decoding_message_size(FRAME_DECODE_BYTES_MAX)
            .max_encoding_message_size(FRAME_DECODE_BYTES_MAX);
        let health = HealthServer::new(tonic_health::server::HealthService::from_health_reporter(
            self.health.clone(),
        ));
        let described = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        // Both versions: most tools still ask by the older one.
        let made_by_us = "the descriptors were made by our own build";
        let reflection = described().build_v1().expect(made_by_us);
        let reflection_alpha = described().build_v1alpha().expect(made_by_us);
        let server = Server::builder()
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT));
        let services = Routes::new(kv)
            .add_service(AdminServer::new(AdminService::new(Arc::clone(core))))
            .add_service(peer)
            .add_service(health)
            .add_service(reflection)
            .add_service(reflection_alpha);
        let serving = doors
            .grpc
            .serve(server, services, core.access.clone(), self.stop.clone());
        self.servers.push(tokio::spawn(async move {
            if let Err(cause) = serving.await {
                error!(%cause, "the gRPC server ended");
            }
        }));
        let Some(probes) = doors.probes else { return };
        let routes =
            http::routes(Arc::clone(core)).into_make_service_with_connect_info::<SocketAddr>();
        let stopped = self.stop.clone().cancelled_owned();
        self.servers.push(tokio::spawn(async move {
            if let Err(cause) = axum::serve(probes, routes)
                .with_graceful_shutdown(stopped)
                .await
            {
                error!(%cause, "the HTTP server ended");
            }
        }));
    }

    fn begin_background(&mut self, config: &ClusterFile) {
        let core = &self.core;
        let in_flight_bytes_max =
            usize::try_from(config.limits.peer_in_flight_bytes_max).unwrap_or(usize::MAX);
        let company = CompanyOptions {
            link: LinkOptions {
                network: core.cluster.environment.network().clone(),
                in_flight_bytes_max,
            },
            heartbeat: config.failure_detection.heartbeat,
            tasks: self.tasks.clone(),
            draining: self.draining.clone(),
            stop: self.stop.clone(),
        };
        let keeping = keep_company(Arc::clone(core), company);
        self.servers.push(tokio::spawn(keeping));
        let handoff = Handoff {
            cluster: Arc::clone(&core.cluster),
            hints: Arc::clone(&core.hints),
            governor: Arc::clone(&core.governor),
        };
        self.servers
            .push(tokio::spawn(keep_metrics_small(self.draining.clone())));
        if let Network::Secure(keyring) = core.cluster.environment.network() {
            let watching = watch_certificates(Arc::clone(keyring), self.draining.clone());
            self.servers.push(tokio::spawn(watching));
        }
        self.servers.push(tokio::spawn(reroute_loop(
            handoff,
            Arc::clone(&core.records),
            self.draining.clone(),
        )));
        self.servers.push(tokio::spawn(collect_loop(
            Arc::clone(core),
            self.draining.clone(),
        )));
        let (governor, draining) = (Arc::clone(&core.governor), self.draining.clone());
        self.servers
            .push(tokio::spawn(async move { governor.run(draining).await }));
        self.servers.push(tokio::spawn(anti_entropy_loop(
            Arc::clone(&core.anti_entropy),
            config.repair.round_pause,
            self.draining.clone(),
        )));
        self.servers.push(tokio::spawn(scrub_loop(
            Arc::clone(&core.scrubber),
            config.repair.scrub_pause,
            self.draining.clone(),
        )));
        let founding = found(Arc::clone(&core.members), self.draining.clone());
        self.servers.push(tokio::spawn(founding));
        let care = care_for_store(Arc::clone(core), self.draining.clone());
        self.servers.push(tokio::spawn(care));
        let counting = count_pulse(Arc::clone(&core.members), self.draining.clone());
        self.servers.push(tokio::spawn(counting));
        let sweeping = sweep_groups(Arc::clone(core), self.draining.clone());
        self.servers.push(tokio::spawn(sweeping));
        let gaining = gain(Arc::clone(core), self.draining.clone());
        self.servers.push(tokio::spawn(gaining));
        let settling = settle(Arc::clone(core), self.draining.clone());
        self.servers.push(tokio::spawn(settling));
        let leaving = leave(Arc::clone(core), self.draining.clone());
        self.servers.push(tokio::spawn(leaving));
        let health = self.health.clone();
        let mut agreed = core.members.agreed();
        self.servers.push(tokio::spawn(async move {
            if agreed.wait_for(|agreed| *agreed).await.is_ok() {
                health
                    .set_service_status("", tonic_health::ServingStatus::Serving)
                    .await;
            }
        }));
    }
}

/// What the parts of a node are made from.
struct Parts<'a> {
    config: &'a ClusterFile,
    name: String,
    engine: EngineName,
    store: Store,
    identity: Identity,
    layout: Arc<Layout>,
    environment: Environment,
}

impl Parts<'_> {
    async fn assemble(
        self,
        genesis: &Layout,
        tasks: &TaskTracker,
        draining: &CancellationToken,
    ) -> Result<Arc<NodeCore>, NodeError> {
        let Self {
            config,
            name,
            engine,
            store,
            identity,
            layout,
            environment,
        } = self;
        let own_store_forgotten = store.get(Keyspace::Meta, keys::META_FORGOTTEN)?.is_some();
        let limits = Arc::new(config.limits.clone());
        let governor = Arc::new(Governor::new(limits.foreground_p99_target));
        let guards = Arc::new(KeyGuards::new());
        let own = layout.kept_by(identity.node);
        let mint = Arc::new(Mint::open(store.clone(), own, environment.clone()).await?);
        let catalogue = Catalogue::open(store.clone(), layout.replicas_n())?;
        let others = layout
            .members()
            .values()
            .filter(|member| member.id != identity.node);
        let peers = Peers::new(others.map(|member| {
            (
                member.id,
                member.name.to_string(),
                member.grpc_address.clone(),
            )
        }));
        let durabilities = catalogue.durabilities();
        let cluster = Arc::new(Cluster::new(
            identity.node,
            environment.clone(),
            Arc::clone(&layout),
            catalogue,
            HealthBoard::new(&config.failure_detection),
            Arc::new(InFlight::new(Generation(mint.counter().await?))),
            peers,
        ));
        let forest = Arc::new(Forest::open(store.clone(), layout.partition_count()).await?);
        let records = Records::new(
            store.clone(),
            Arc::clone(&forest),
            Arc::clone(&guards),
            Arc::clone(&mint),
            durabilities,
        );
        let records = Arc::new(records);
        let hints = HintSpace::open(
            store.clone(),
            Arc::clone(&guards),
            limits.hints_bytes_max,
            environment.clone(),
            layout.members().keys().copied(),
        )?;
        let hints = Arc::new(hints);
        let fence = Arc::new(Fence::new());
        let groups = GroupStore::open(store.clone(), guards, Arc::clone(&fence), layout.epoch())?;
        let groups = Arc::new(groups);
        let members = Members::open(
            store.clone(),
            Arc::clone(&cluster),
            fence,
            identity,
            addresses_of(genesis),
        )
        .await?;
        let members = Arc::new(members);
        let siblings = Coordinator::new(
            Arc::clone(&cluster),
            Arc::clone(&records),
            Arc::clone(&hints),
            Arc::clone(&mint),
            Arc::clone(&limits),
            Arc::clone(&governor),
            tasks.clone(),
        );
        let registers = RegisterCoordinator::new(
            Arc::clone(&cluster),
            Arc::clone(&groups),
            Arc::clone(&members),
            &limits,
            tasks.clone(),
            draining.clone(),
        );
        let tombstones = Arc::new(Tombstones::default());
        let walker = Arc::new(Walker::new(
            store.clone(),
            Arc::clone(&forest),
            Arc::clone(&governor),
            Arc::clone(&tombstones),
        ));
        let mender = Arc::new(Mender::new(
            Arc::clone(&cluster),
            Arc::clone(&records),
            Arc::clone(&governor),
        ));
        let scrubber = Arc::new(Scrubber::new(
            store.clone(),
            Arc::clone(&cluster),
            Arc::clone(&walker),
            Arc::clone(&mender),
            Arc::clone(&groups),
            Arc::clone(&governor),
        ));
        let anti_entropy = Arc::new(AntiEntropy::new(
            Arc::clone(&cluster),
            Arc::clone(&records),
            forest,
            walker,
            Arc::clone(&governor),
            mender,
            config.repair.recheck,
        ));
        let system = SystemGroup::new(Arc::clone(&cluster), registers.clone());
        let staged = StagedLayout::new(
            Arc::clone(&cluster),
            Arc::clone(&members),
            registers.clone(),
        );
        Ok(Arc::new(NodeCore {
            name,
            engine: engine.as_str(),
            started: Instant::now(),
            members,
            store,
            access: Access::new(Arc::clone(&cluster)),
            cluster,
            mint,
            records,
            anti_entropy,
            scrubber,
            hints,
            groups,
            siblings,
            registers,
            system,
            staged,
            transfers: Transfers::default(),
            limits,
            governor,
            admission: Admission::new(OPERATIONS_IN_WORK_MAX, BYTES_IN_WORK_MAX),
            gate: Gate::new(),
            tombstones,
            stopping: AtomicBool::new(false),
            own_store_forgotten: AtomicBool::new(own_store_forgotten),
        }))
    }
}

fn check_reach(config: &ClusterFile, node: &NodeSection) -> Result<(), NodeError> {
    let exposed = [("grpc", &node.grpc), ("http", &node.http)]
        .into_iter()
        .find(|(_, address)| !address.is_loopback());
    match exposed {
        Some(_) if config.security.certificates.is_some() => Ok(()),
        Some((key, address)) if !config.security.insecure => Err(NodeError::Reachable {
            node: node.name.clone(),
            key,
            address: address.clone(),
        }),
        Some(_) => {
            warn!(
                "insecure = true: everybody who can reach this node may read and change everything"
            );
            Ok(())
        }
        None => Ok(()),
    }
}

/// The same environment with certificates, if the cluster has any. A pretended network needs none.
fn secured(
    environment: Environment,
    config: &ClusterFile,
    name: &str,
) -> Result<Environment, NodeError> {
    let Some(folder) = &config.security.certificates else {
        return Ok(environment);
    };
    if !environment.network().is_system() {
        return Ok(environment);
    }
    let files = Folder::new(folder).of(BearerKind::Node, name);
    let keyring = Keyring::open_for_node(files, &config.cluster.id, name)?;
    Ok(environment.with_network(Network::Secure(keyring)))
}

/// The layout that `cluster.toml` founds.
fn first_layout(config: &ClusterFile) -> Result<Layout, NodeError> {
    let members = config
        .nodes
        .iter()
        .map(member_spec)
        .collect::<Result<Vec<_>, NodeError>>()?;
    let cluster = &config.cluster;
    Ok(Layout::initial(
        fits(Name::try_from(cluster.id.clone()))?,
        fits(PartitionCount::new(cluster.partitions_count))?,
        fits(ReplicasN::new(cluster.replicas_n.into()))?,
        members,
    )?)
}

fn fits<T>(value: Result<T, impl ToString>) -> Result<T, NodeError> {
    value.map_err(|cause| NodeError::Config(cause.to_string()))
}

fn member_spec(node: &NodeSection) -> Result<MemberSpec, NodeError> {
    Ok(MemberSpec {
        name: fits(Name::try_from(node.name.clone()))?,
        zone: fits(Name::try_from(node.zone.clone()))?,
        weight: fits(Weight::new(node.weight))?,
        grpc_address: node.grpc.to_string(),
        http_address: node.http.to_string(),
    })
}

fn store_options(
    config: &ClusterFile,
    engine: EngineName,
    data: PathBuf,
    environment: &Environment,
) -> StoreOptions {
    let storage = &config.storage;
    let options = match engine {
        EngineName::Fjall => StoreOptions::directory(data, EngineKind::Fjall),
        EngineName::Sled => StoreOptions::directory(data, EngineKind::Sled),
        EngineName::Memory => StoreOptions::memory(environment.disk().clone()),
    };
    let disk_reserve_bytes = match engine {
        EngineName::Fjall | EngineName::Sled => storage.disk_reserve_bytes,
        EngineName::Memory => options.disk_reserve_bytes,
    };
    StoreOptions {
        bounds: Bounds {
            cache_bytes: storage.cache_bytes,
            memtable_bytes: storage.memtable_bytes_max,
            journal_bytes: storage.journal_bytes_max,
        },
        queue_requests_max: storage.queue_requests_max as usize,
        queue_bytes_max: storage.queue_bytes_max,
        disk_reserve_bytes,
        ..options
    }
}
