//! One simulated machine with a node on it: disk and clock, which outlive the node, and the node's lives.
//!
//! Shape: turmoil calls [`Machine::live`] at every start of the machine, and drops what that returned when the machine is
//! killed. A node that does not start leaves its reason and does nothing.
//! Invariant: each life draws other random numbers, all by the seed of the run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use parking_lot::Mutex;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use souk_kv_node::config::ClusterFile;
use souk_kv_node::{Environment, JoinOptions, Node, NodeOptions, WallClock};
use souk_kv_proto::network::Network;
use souk_kv_storage::MemoryDisk;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::network::Exchange;
use super::time::SkewedClock;
use super::trace::mix;

/// How long a sync takes.
const SYNC_LATENCY: Duration = Duration::from_millis(1);
/// How often a node is asked whether it is ready.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What is known of a node from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing runs.
    Off,
    /// It runs, and does not take requests, for this reason.
    Starting(String),
    /// It takes requests.
    Ready,
    /// It refused to start, for this reason.
    Refused(String),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) name: Arc<str>,
    pub(super) clock: Arc<SkewedClock>,
    config: Arc<ClusterFile>,
    /// Of a node that `config` does not name.
    join: Option<JoinOptions>,
    exchange: Exchange,
    disk: Mutex<MemoryDisk>,
    seed: u64,
    lives: AtomicU64,
    state: Mutex<State>,
    stop: Notify,
}

impl Machine {
    pub(super) fn new(
        config: Arc<ClusterFile>,
        join: Option<JoinOptions>,
        clock: SkewedClock,
        exchange: Exchange,
        seed: u64,
    ) -> Machine {
        Machine {
            name: Arc::clone(&exchange.machine),
            clock: Arc::new(clock),
            config,
            join,
            exchange,
            disk: Mutex::new(empty_disk()),
            seed,
            lives: AtomicU64::new(0),
            state: Mutex::new(State::Off),
            stop: Notify::new(),
        }
    }

    /// One life of the node, until it is told to stop.
    pub(super) async fn live(self: Arc<Machine>) {
        // A wish to stop that came too late for the last life is not for this one.
        let _ = self.stop.notified().now_or_never();
        let life = self.lives.fetch_add(1, Ordering::Relaxed);
        let random = StdRng::seed_from_u64(mix(self.seed ^ life));
        let environment = Environment::new(Arc::clone(&self.clock) as Arc<dyn WallClock>, random)
            .with_network(Network::Pretended(Arc::new(self.exchange.clone())))
            .with_disk(self.disk());
        let options = NodeOptions {
            config: (*self.config).clone(),
            name: self.name.to_string(),
            data: self.name.as_ref().into(),
            join: self.join.clone(),
        };
        self.set(State::Starting("it opens its store".to_owned()));
        let node = match Node::start(options, environment).await {
            Ok(node) => node,
            Err(problem) => {
                tracing::warn!(node = %self.name, %problem, "the node does not start");
                self.set(State::Refused(problem.to_string()));
                return std::future::pending().await;
            }
        };
        loop {
            self.set(node.ready().map_or_else(State::Starting, |()| State::Ready));
            tokio::select! {
                () = self.stop.notified() => break,
                () = sleep(LOOK_EVERY) => {}
            }
        }
        if let Err(problem) = node.stop().await {
            tracing::info!(node = %self.name, %problem, "the node did not stop in order");
        }
        self.set(State::Off);
    }

    /// Asks the node to stop in order.
    pub(super) fn ask_to_stop(&self) {
        self.stop.notify_one();
    }

    pub(super) fn state(&self) -> State {
        self.state.lock().clone()
    }

    fn set(&self, state: State) {
        *self.state.lock() = state;
    }

    /// The node is gone; its disk keeps what it likes of what was not synced. Returns how many bytes these were.
    pub(super) fn lost_power(&self) -> u64 {
        self.set(State::Off);
        let disk = self.disk();
        let unsynced = disk.unsynced_bytes();
        disk.crash(mix(self.seed
            ^ self.lives.load(Ordering::Relaxed)
            ^ (1 << 63)));
        unsynced
    }

    /// The disk by now.
    pub(super) fn disk(&self) -> MemoryDisk {
        self.disk.lock().clone()
    }

    /// Puts an empty disk in. Returns how many bytes were on the old one.
    pub(super) fn new_disk(&self) -> u64 {
        let old = std::mem::replace(&mut *self.disk.lock(), empty_disk());
        old.used_bytes()
    }

    /// How often a node was started here.
    pub(super) fn lives(&self) -> u64 {
        self.lives.load(Ordering::Relaxed)
    }
}

fn empty_disk() -> MemoryDisk {
    let disk = MemoryDisk::new();
    disk.set_sync_latency(SYNC_LATENCY);
    disk
}
