//! What all clones of one client share: the view of the cluster, identity, budget, chance.
//!
//! Invariants: 1. topology and links change together, as one view. 2. background tasks hold no lasting
//! strong reference, so that dropping the last clone ends them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;
use rand::{Rng, RngCore, SeedableRng, rngs::SmallRng};
use souk_kv_proto::{kv::RequestId, mutant};
use souk_ring::NodeId;
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time::{Instant, timeout_at},
};

use super::refresh;
use crate::{
    attempts::AttemptLimits,
    budget::RetryBudget,
    convert::millis,
    environment::ClientEnvironment,
    error::ClientError,
    options::ClientOptions,
    request_ids::{RequestIds, Sequence},
    session::{Link, LinkListener, LinkOptions},
    token::Tokens,
    topology::Topology,
};

pub(crate) struct Shared {
    pub(crate) options: ClientOptions,
    pub(crate) view: ArcSwap<View>,
    pub(crate) budget: RetryBudget,
    pub(crate) signals: Arc<Signals>,
    environment: ClientEnvironment,
    link_options: LinkOptions,
    chance: Arc<Mutex<SmallRng>>,
    identity: Bytes,
    request_ids: Mutex<RequestIds>,
    refresher: Mutex<Option<AbortHandle>>,
}

/// The cluster and the ways to its nodes at one moment.
pub(crate) struct View {
    pub(crate) topology: Arc<Topology>,
    /// Every member of the layout.
    pub(crate) links: BTreeMap<NodeId, Arc<Link>>,
    /// Endpoints that are no member's address: another name for a member, perhaps the only one by which
    /// it can be reached from here.
    pub(crate) seeds: Vec<Arc<Link>>,
}

impl View {
    /// Every link once.
    pub(crate) fn all_links(&self) -> impl Iterator<Item = &Arc<Link>> {
        self.links.values().chain(&self.seeds)
    }

    /// What a link's node is called; its address when it is known only as an endpoint.
    pub(crate) fn name_of(&self, link: &Arc<Link>) -> String {
        let id = self
            .links
            .iter()
            .find(|(_, other)| Arc::ptr_eq(other, link))
            .map(|(id, _)| *id);
        let member = id.and_then(|id| self.topology.nodes().get(&id));
        member.map_or_else(
            || link.address().to_owned(),
            |member| member.name.to_string(),
        )
    }

    /// The view of `topology`, with the links of `links` that it still needs and new ones for the rest.
    fn build(
        topology: Topology,
        links: &[Arc<Link>],
        options: &ClientOptions,
        link_options: &LinkOptions,
    ) -> View {
        let mut members = BTreeMap::new();
        for member in topology.nodes().values() {
            let existing = links
                .iter()
                .find(|link| link.address() == member.grpc_address);
            match existing
                .cloned()
                .map_or_else(|| start_link(&member.grpc_address, link_options), Ok)
            {
                Ok(link) => {
                    members.insert(member.id, link);
                }
                Err(error) => tracing::warn!(
                    node = %member.name, address = %member.grpc_address, %error,
                    "the node's address cannot be used; its keys are reached through other nodes"
                ),
            }
        }
        let is_seed = |link: &&Arc<Link>| {
            options
                .endpoints
                .iter()
                .any(|endpoint| endpoint == link.address())
                && !members
                    .values()
                    .any(|member| member.address() == link.address())
        };
        let seeds = links.iter().filter(is_seed).cloned().collect();
        View {
            topology: Arc::new(topology),
            links: members,
            seeds,
        }
    }
}

fn start_link(address: &str, options: &LinkOptions) -> Result<Arc<Link>, tonic::transport::Error> {
    Link::start(address, options).map(Arc::new)
}

/// How the parts of a client wake each other.
pub(crate) struct Signals {
    /// A stream has opened.
    pub(crate) link_opened: Notify,
    /// Somebody wants the topology fetched.
    pub(crate) refresh_wanted: Notify,
    /// Counts the fetched topologies.
    pub(crate) refreshes: watch::Sender<u64>,
    /// Epoch and catalogue version of the current topology, to compare every frame with.
    known: Mutex<(u64, u64)>,
}

impl LinkListener for Signals {
    fn opened(&self) {
        self.link_opened.notify_waiters();
    }

    fn heard(&self, layout_epoch: u64, catalogue_version: u64) {
        let (known_epoch, known_catalogue) = *self.known.lock();
        if layout_epoch > known_epoch || catalogue_version > known_catalogue {
            self.refresh_wanted.notify_one();
        }
    }
}

impl Shared {
    /// Links to the endpoints, waits until a node describes the cluster, then links to all nodes.
    pub(super) async fn connect(
        environment: ClientEnvironment,
        options: ClientOptions,
    ) -> Result<Arc<Shared>, ClientError> {
        let environment = environment.secured(&options)?;
        let mut random = match options.seed {
            Some(seed) => SmallRng::seed_from_u64(seed),
            None => SmallRng::from_os_rng(),
        };
        let mut identity = [0; 16];
        random.fill_bytes(&mut identity);
        let chance = Arc::new(Mutex::new(random));
        let signals = Arc::new(Signals {
            link_opened: Notify::new(),
            refresh_wanted: Notify::new(),
            refreshes: watch::Sender::new(0),
            known: Mutex::new((0, 0)),
        });
        let link_options = LinkOptions {
            network: environment.network.clone(),
            tokens: Tokens::open(options.token_file.as_deref())?,
            connect_timeout: options.connect_timeout,
            in_flight_max: options.in_flight_max,
            started: Instant::now(),
            jitter: {
                let chance = Arc::clone(&chance);
                Arc::new(move || chance.lock().random())
            },
            listener: Arc::clone(&signals) as Arc<dyn LinkListener>,
        };
        let view = first_view(&options, &link_options, &signals).await?;
        signals.note(&view.topology);
        let shared = Arc::new(Shared {
            view: ArcSwap::from_pointee(view),
            budget: RetryBudget::new(options.retry_budget_ratio, options.retry_budget_burst),
            signals,
            environment,
            link_options,
            chance,
            identity: Bytes::copy_from_slice(&identity),
            request_ids: Mutex::new(RequestIds::new()),
            refresher: Mutex::new(None),
            options,
        });
        let task = tokio::spawn(refresh::run(
            Arc::downgrade(&shared),
            Arc::clone(&shared.signals),
        ));
        *shared.refresher.lock() = Some(task.abort_handle());
        Ok(shared)
    }

    /// Takes a topology over if it is newer than the current one.
    pub(super) fn install(&self, topology: Topology) {
        let current = self.view.load_full();
        if topology.layout().cluster_id() != current.topology.layout().cluster_id() {
            tracing::error!(
                ours = %current.topology.layout().cluster_id(), theirs = %topology.layout().cluster_id(),
                "a node of another cluster answers at one of our addresses; its topology is refused"
            );
            return;
        }
        if !current
            .topology
            .is_older_than(topology.layout().epoch().0, topology.catalogue_version())
        {
            return;
        }
        self.signals.note(&topology);
        let links: Vec<_> = current.all_links().cloned().collect();
        self.view.store(Arc::new(View::build(
            topology,
            &links,
            &self.options,
            &self.link_options,
        )));
    }

    /// Asks for a refresh and waits for it; false when the deadline came first.
    pub(crate) async fn refreshed_by(&self, deadline: Instant) -> bool {
        let mut refreshes = self.signals.refreshes.subscribe();
        self.signals.refresh_wanted.notify_one();
        matches!(timeout_at(deadline, refreshes.changed()).await, Ok(Ok(())))
    }

    /// A random number in 0.0..=1.0.
    pub(crate) fn jitter(&self) -> f64 {
        self.chance.lock().random()
    }

    pub(crate) fn attempt_limits(&self) -> AttemptLimits {
        AttemptLimits {
            attempts_max: self.options.attempts_max,
            backoff_min: self.options.backoff_min,
            backoff_max: self.options.backoff_max,
        }
    }

    /// When a request that starts now has to end.
    pub(crate) fn deadline(&self, timeout: Option<Duration>) -> Instant {
        Instant::now() + timeout.unwrap_or(self.options.request_timeout)
    }

    /// Names one write until the ticket is dropped.
    pub(crate) fn ticket(&self) -> Ticket<'_> {
        let sequence = self.request_ids.lock().give();
        Ticket {
            shared: self,
            sequence,
            issued_unix_ms: self.environment.unix_ms(),
        }
    }
}

impl Signals {
    fn note(&self, topology: &Topology) {
        *self.known.lock() = (topology.layout().epoch().0, topology.catalogue_version());
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(task) = self.refresher.lock().take() {
            task.abort();
        }
    }
}

/// The name of a write, which counts as unanswered while this lives.
pub(crate) struct Ticket<'a> {
    shared: &'a Shared,
    sequence: Sequence,
    issued_unix_ms: u64,
}

impl Ticket<'_> {
    /// The name as attempt number `attempt` carries it.
    pub(crate) fn request_id(&self, attempt: u32) -> RequestId {
        RequestId {
            client: self.shared.identity.clone(),
            sequence: if mutant!("retry-under-another-name") {
                self.sequence.number + (u64::from(attempt) << 40)
            } else {
                self.sequence.number
            },
            lowest_unanswered: self.sequence.lowest_unanswered,
            issued_unix_ms: self.issued_unix_ms,
            attempt,
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.shared.request_ids.lock().settle(self.sequence.number);
    }
}

async fn first_view(
    options: &ClientOptions,
    link_options: &LinkOptions,
    signals: &Signals,
) -> Result<View, ClientError> {
    let deadline = Instant::now() + options.startup_timeout;
    let mut seeds: Vec<Arc<Link>> = Vec::new();
    for endpoint in &options.endpoints {
        if seeds.iter().any(|seed| seed.address() == endpoint) {
            continue;
        }
        let link = start_link(endpoint, link_options).map_err(|error| ClientError::Option {
            option: "endpoints",
            problem: format!("`{endpoint}` is no address: {error}"),
        })?;
        seeds.push(link);
    }
    match refresh::first_topology(&seeds, signals, deadline).await {
        Ok(topology) => Ok(View::build(topology, &seeds, options, link_options)),
        Err(last) => Err(ClientError::NoNode {
            endpoints: options.endpoints.clone(),
            waited_ms: millis(options.startup_timeout),
            last,
        }),
    }
}
