//! What a node takes from the world around it — time of day, chance, network, disk — so that a simulation
//! can supply its own.
//!
//! Place: the only part of the node that asks the operating system for time of day or randomness;
//! elapsed time is `tokio::time`, which a simulation steps by itself. The disk is that of the memory
//! engine alone: the durable engines have a directory.
//! Not here: hybrid logical clocks (`kv_core::causality::Stamp`), ballots (`kv_core::register`).

use std::{
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};
use souk_kv_proto::network::Network;
use souk_kv_storage::MemoryDisk;

/// Tells the time of day.
pub trait WallClock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch. May jump in both directions.
    fn unix_ms(&self) -> u64;
}

/// The operating system's clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl WallClock for SystemClock {
    fn unix_ms(&self) -> u64 {
        // Before 1970 counts as 1970: stamps then lean on the leases that never run backwards.
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |elapsed| {
                u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
            })
    }
}

/// Clock, randomness, network and pretended disk of one node. Cheap to clone.
#[derive(Clone)]
pub struct Environment {
    clock: Arc<dyn WallClock>,
    random: Arc<Mutex<StdRng>>,
    network: Network,
    disk: MemoryDisk,
}

impl fmt::Debug for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Environment")
    }
}

impl Environment {
    /// The real clock, randomness and network of the operating system, and an empty memory disk.
    pub fn system() -> Self {
        Self::new(Arc::new(SystemClock), StdRng::from_os_rng())
    }

    /// A clock and a seeded generator of the caller's, on the real network, with an empty memory disk.
    pub fn new(clock: Arc<dyn WallClock>, random: StdRng) -> Self {
        Self {
            clock,
            random: Arc::new(Mutex::new(random)),
            network: Network::System,
            disk: MemoryDisk::new(),
        }
    }

    /// The same on another network. On a pretended one the node serves gRPC only, without probes, and
    /// counts nothing: both belong to a process, and there several nodes share one.
    #[must_use]
    pub fn with_network(self, network: Network) -> Self {
        Self { network, ..self }
    }

    /// The same with the disk that the memory engine works on.
    #[must_use]
    pub fn with_disk(self, disk: MemoryDisk) -> Self {
        Self { disk, ..self }
    }

    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    pub(crate) fn disk(&self) -> &MemoryDisk {
        &self.disk
    }

    /// Milliseconds since the Unix epoch.
    pub fn unix_ms(&self) -> u64 {
        self.clock.unix_ms()
    }

    /// 16 random bytes: an actor, a store or a client.
    pub fn random_id(&self) -> [u8; 16] {
        let mut id = [0; 16];
        self.random.lock().fill_bytes(&mut id);
        id
    }

    /// A random number.
    pub fn random_u64(&self) -> u64 {
        self.random.lock().random()
    }

    /// A random number in `[0, 1)`.
    pub fn random_unit(&self) -> f64 {
        self.random.lock().random()
    }
}
