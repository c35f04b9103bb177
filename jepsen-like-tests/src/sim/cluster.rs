//! A cluster and its clients on one simulated network, stepped by the caller.
//!
//! Place: owns turmoil's simulation. Everything that happens to machines and links goes through here.
//! Invariants: 1. time stands still between two calls of [`SimCluster::step`]. 2. what links do follows from who is
//! paused and what is cut, whatever the order in which that came about. 3. a panic on any machine ends the run.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use souk_kv_node::JoinOptions;
use souk_kv_node::config::{Address, ClusterFile, ConfigError, NodeSection};
use turmoil::{Protocol, Segment, Sim};

use super::copies::{Difference, differences};
use super::machine::{Machine, State};
use super::network::{Exchange, Weather};
use super::time::{EPOCH_UNIX_MS, SimTime, SkewedClock};
use super::trace::{Trace, mix};
use crate::fault::Link;

/// Length of a step.
pub(super) const TICK: Duration = Duration::from_millis(1);
/// Usual times that messages take.
const LATENCY_MIN: Duration = Duration::from_millis(1);
const LATENCY_MAX: Duration = Duration::from_millis(6);
/// Segments that a connection holds.
const TCP_SEGMENTS: usize = 1_024;
const GRPC_PORT: u16 = 7100;
const HTTP_PORT: u16 = 7200;
const ZONES: [&str; 3] = ["a", "b", "c"];
/// Few enough to keep a start cheap, more than nodes.
const PARTITIONS: u32 = 32;
/// Requests are remembered for longer than any window of a fault lasts, and tombstones go soon after.
const QUICK_LIMITS: &str = "[limits]\nrequest_memory_ms = 15000\ntombstones_pause_ms = 2000\n";
/// Copies of every key, if there are so many nodes.
const REPLICAS: usize = 3;
/// No run lasts longer.
const DURATION_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Why a run could not go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    /// Some machine panicked: a broken invariant of the store.
    #[error("a machine panicked: {0}")]
    Panicked(String),
    /// A client ended with an error.
    #[error("a client failed: {0}")]
    Client(String),
}

/// See the module.
pub(super) struct SimCluster {
    sim: Sim<'static>,
    config: Arc<ClusterFile>,
    seed: u64,
    /// Nodes that there ever were.
    nodes: u64,
    machines: BTreeMap<String, Arc<Machine>>,
    clients: Vec<String>,
    paused: BTreeSet<String>,
    /// Were killed since the last step.
    dying: BTreeSet<String>,
    cut: BTreeSet<Link>,
    pub(super) weather: Weather,
    pub(super) trace: Trace,
    pub(super) time: SimTime,
}

impl SimCluster {
    /// Machines `n1`, `n2`, ... with a node on each, which start with the first step.
    pub(super) fn new(nodes: usize, seed: u64) -> Result<SimCluster, ConfigError> {
        let config = Arc::new(cluster_file(nodes, seed)?);
        let sim = turmoil::Builder::new()
            .rng_seed(seed)
            .epoch(SystemTime::UNIX_EPOCH + Duration::from_millis(EPOCH_UNIX_MS))
            .tick_duration(TICK)
            .simulation_duration(DURATION_MAX)
            .min_message_latency(LATENCY_MIN)
            .max_message_latency(LATENCY_MAX)
            .tcp_capacity(TCP_SEGMENTS)
            .enable_random_order()
            .build();
        let weather = Weather::new(SmallRng::seed_from_u64(mix(seed)));
        let mut cluster = SimCluster {
            sim,
            config: Arc::clone(&config),
            seed,
            nodes: 0,
            machines: BTreeMap::new(),
            clients: Vec::new(),
            paused: BTreeSet::new(),
            dying: BTreeSet::new(),
            cut: BTreeSet::new(),
            weather,
            trace: Trace::default(),
            time: SimTime::default(),
        };
        for node in &config.nodes {
            cluster.add(&node.name, None);
        }
        Ok(cluster)
    }

    /// A machine with a node that starts with the next step.
    fn add(&mut self, name: &str, join: Option<JoinOptions>) {
        self.nodes += 1;
        let exchange = self.exchange_of(name);
        let clock = SkewedClock::new(self.time.clone());
        let seed = mix(self.seed ^ self.nodes);
        let machine = Machine::new(Arc::clone(&self.config), join, clock, exchange, seed);
        let machine = Arc::new(machine);
        self.machines.insert(name.to_owned(), Arc::clone(&machine));
        self.sim.host(name, move || {
            let machine = Arc::clone(&machine);
            async move {
                machine.live().await;
                Ok(())
            }
        });
    }

    /// A machine with a node that knocks at the doors of the others.
    pub(super) fn add_newcomer(&mut self, name: &str) {
        let doors = self.endpoints();
        let address = |port: u16| {
            let address = Address::parse(&format!("{name}:{port}"));
            address.expect("names of schedules are names of hosts")
        };
        let zone = ZONES[usize::try_from(self.nodes).unwrap_or(0) % ZONES.len()];
        let section = NodeSection {
            name: name.to_owned(),
            zone: zone.to_owned(),
            weight: 1,
            grpc: address(GRPC_PORT),
            http: address(HTTP_PORT),
            engine: None,
        };
        self.add(name, Some(JoinOptions { section, doors }));
        self.settle_around(name);
    }

    /// Switches the machine of a node off that is no member any more, for good.
    pub(super) fn remove(&mut self, name: &str) {
        if self.runs(name) {
            self.kill(name);
        }
        self.machines.remove(name);
    }

    /// Whether there is such a node.
    pub(super) fn has(&self, name: &str) -> bool {
        self.machines.contains_key(name)
    }

    /// Names of the nodes.
    pub(super) fn names(&self) -> Vec<String> {
        self.machines.keys().cloned().collect()
    }

    /// `host:port` of the nodes.
    pub(super) fn endpoints(&self) -> Vec<String> {
        let endpoint = |name: &String| format!("{name}:{GRPC_PORT}");
        self.machines.keys().map(endpoint).collect()
    }

    /// A machine by the name of its node; schedules name no others.
    pub(super) fn machine(&self, name: &str) -> Arc<Machine> {
        let machine = self.machines.get(name);
        Arc::clone(machine.expect("schedules are made from the names of this cluster"))
    }

    /// How the network looks to a machine that runs clients.
    pub(super) fn exchange_of(&self, client: &str) -> Exchange {
        Exchange {
            machine: client.into(),
            weather: self.weather.clone(),
            trace: self.trace.clone(),
            time: self.time.clone(),
        }
    }

    /// A machine that does this work and then nothing. The slot holds what it came to, once it has.
    pub(super) fn client<T: 'static>(
        &mut self,
        name: &str,
        work: impl Future<Output = T> + 'static,
    ) -> Rc<RefCell<Option<T>>> {
        let slot = Rc::new(RefCell::new(None));
        let result = Rc::clone(&slot);
        self.sim.client(name, async move {
            let done = work.await;
            *result.borrow_mut() = Some(done);
            Ok(())
        });
        self.clients.push(name.to_owned());
        slot
    }

    /// Lets a tick pass.
    pub(super) fn step(&mut self) -> Result<(), StepError> {
        let sim = &mut self.sim;
        let now_ns = u64::try_from(sim.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.time.set_ns(now_ns);
        match catch_unwind(AssertUnwindSafe(|| sim.step())) {
            Ok(Ok(_)) => {}
            Ok(Err(problem)) => return Err(StepError::Client(problem.to_string())),
            Err(panic) => return Err(StepError::Panicked(said(&*panic))),
        }
        for name in std::mem::take(&mut self.dying) {
            self.silence(&name);
            self.settle_around(&name);
        }
        Ok(())
    }

    /// How late it is.
    pub(super) fn elapsed(&self) -> Duration {
        self.sim.elapsed()
    }

    /// Whether a node runs on the machine, ready or not.
    pub(super) fn runs(&mut self, name: &str) -> bool {
        self.sim.is_host_running(name)
    }

    /// The keys whose copies are not what they should be by now.
    pub(super) fn differing_copies(&self) -> Vec<Difference> {
        let disks = self.machines.iter();
        let disks = disks.map(|(name, machine)| (name.as_str(), machine.disk()));
        differences(disks, copies_of(self.config.nodes.len()))
    }

    /// Nodes that do not take requests, with the reason.
    pub(super) fn unready(&self) -> Vec<String> {
        let told = |machine: &Arc<Machine>| match machine.state() {
            State::Ready => None,
            State::Off => Some(format!("{} is off", machine.name)),
            State::Starting(why) | State::Refused(why) => Some(format!("{}: {why}", machine.name)),
        };
        self.machines.values().filter_map(told).collect()
    }

    /// Ends a node as a power cut does. Returns how many bytes it had not synced.
    ///
    /// What it had sent arrives, and its connections fall silent. Their farewells are not delivered: a machine without
    /// power says none, and tokio drops the tasks of a runtime in an order that follows from their numbers, which count on
    /// through the life of this process, so that the order of farewells would differ from one run to the next.
    pub(super) fn kill(&mut self, name: &str) -> u64 {
        let others = self.others(name);
        for other in &others {
            self.sim.hold(name, other.as_str());
        }
        self.sim.crash(name);
        let address = self.sim.lookup(name);
        let awake = others.iter().filter(|other| !self.paused.contains(*other));
        let awake: Vec<IpAddr> = awake.map(|other| self.sim.lookup(other.as_str())).collect();
        self.sim.links(|links| {
            for sent in links.flatten() {
                let (from, to) = sent.pair();
                let is_farewell = matches!(
                    sent.protocol(),
                    Protocol::Tcp(Segment::Fin(_) | Segment::Rst)
                );
                if from.ip() == address && awake.contains(&to.ip()) && !is_farewell {
                    sent.deliver();
                }
            }
        });
        self.dying.insert(name.to_owned());
        self.machine(name).lost_power()
    }

    /// Starts a node that does not run. What its last life left behind is dropped, as in [`SimCluster::kill`].
    pub(super) fn start(&mut self, name: &str) {
        self.silence(name);
        self.sim.bounce(name);
        self.settle_around(name);
        self.dying.remove(name);
    }

    /// Drops what the node sent and sends; its links have to be settled again.
    fn silence(&mut self, name: &str) {
        for other in self.others(name) {
            self.sim.partition_oneway(name, other.as_str());
        }
    }

    /// Nothing reaches or leaves the node from now on, and nothing is lost.
    pub(super) fn pause(&mut self, name: &str) {
        self.paused.insert(name.to_owned());
        self.settle_around(name);
    }

    /// What waited is delivered.
    pub(super) fn resume(&mut self, name: &str) {
        self.paused.remove(name);
        self.settle_around(name);
    }

    /// Nothing passes on these links from now on; what is under way is lost.
    pub(super) fn cut(&mut self, links: &[Link]) {
        self.cut.extend(links.iter().cloned());
        self.settle_all(links);
    }

    /// These links work again.
    pub(super) fn mend(&mut self, links: &[Link]) {
        for link in links {
            self.cut.remove(link);
        }
        self.settle_all(links);
    }

    /// Messages on these links take so long.
    pub(super) fn delay(&mut self, links: &[Link], latency: Duration) {
        for (a, b) in links {
            self.sim.set_link_latency(a.as_str(), b.as_str(), latency);
        }
    }

    /// Messages on these links take up to so long, each its own time.
    pub(super) fn shuffle(&mut self, links: &[Link], most: Duration) {
        for (a, b) in links {
            self.sim
                .set_link_latency(a.as_str(), b.as_str(), LATENCY_MIN);
            self.sim
                .set_link_max_message_latency(a.as_str(), b.as_str(), most);
        }
    }

    /// Messages on these links take the usual time.
    pub(super) fn calm(&mut self, links: &[Link]) {
        self.shuffle(links, LATENCY_MAX);
    }

    fn settle_around(&mut self, name: &str) {
        for other in self.others(name) {
            self.settle(name, &other);
        }
    }

    /// Every other machine.
    fn others(&self, name: &str) -> Vec<String> {
        let everybody = self.machines.keys().chain(&self.clients);
        everybody.filter(|other| *other != name).cloned().collect()
    }

    fn settle_all(&mut self, links: &[Link]) {
        let mut settled = BTreeSet::new();
        for (a, b) in links {
            let pair = if a < b { (a, b) } else { (b, a) };
            if settled.insert(pair) {
                self.settle(a, b);
            }
        }
    }

    /// Makes the link between two machines what it has to be.
    fn settle(&mut self, a: &str, b: &str) {
        if self.paused.contains(a) || self.paused.contains(b) {
            self.sim.hold(a, b);
            return;
        }
        let is_cut = |from: &str, to: &str| self.cut.contains(&(from.to_owned(), to.to_owned()));
        let (there, back) = (is_cut(a, b), is_cut(b, a));
        self.sim.release(a, b);
        match (there, back) {
            (true, true) => self.sim.partition(a, b),
            (true, false) => self.sim.partition_oneway(a, b),
            (false, true) => self.sim.partition_oneway(b, a),
            (false, false) => {}
        }
    }
}

/// What a panic said.
fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("without words").to_owned()
}

/// Copies of every key in a cluster of so many nodes.
fn copies_of(nodes: usize) -> usize {
    nodes.min(REPLICAS)
}

/// Every other run has limits so small that what usually takes minutes happens within it.
fn cluster_file(nodes: usize, seed: u64) -> Result<ClusterFile, ConfigError> {
    use std::fmt::Write as _;
    let mut text = format!(
        "[cluster]\nid = \"simulated\"\npartitions_count = {PARTITIONS}\nreplicas_n = {}\n",
        copies_of(nodes)
    );
    for number in 0..nodes {
        let name = number + 1;
        let zone = ZONES[number % ZONES.len()];
        write!(
            text,
            "[[node]]\nname = \"n{name}\"\nzone = \"{zone}\"\ngrpc = \"n{name}:{GRPC_PORT}\"\nhttp = \"n{name}:{HTTP_PORT}\"\n"
        )
        .expect("a text takes everything");
    }
    if !seed.is_multiple_of(2) {
        text.push_str(QUICK_LIMITS);
    }
    text.push_str("[storage]\nengine = \"memory\"\n[security]\ninsecure = true\n");
    ClusterFile::parse("simulated cluster.toml".as_ref(), &text)
}
