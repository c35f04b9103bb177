//! The wall clock and the random numbers of a node, so that a simulation can supply its own.
//!
//! Place: the only part of the node that asks the operating system for time of day or randomness;
//! elapsed time is `tokio::time`, which a simulation steps by itself.
//! Not here: hybrid logical clocks (`kv_core::causality::Stamp`), ballots (`kv_core::register`).

use std::{
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};

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

/// Clock and randomness of one node. Cheap to clone.
#[derive(Clone)]
pub struct Environment {
    clock: Arc<dyn WallClock>,
    random: Arc<Mutex<StdRng>>,
}

impl fmt::Debug for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Environment")
    }
}

impl Environment {
    /// The real clock and randomness of the operating system.
    pub fn system() -> Self {
        Self::new(Arc::new(SystemClock), StdRng::from_os_rng())
    }

    /// A clock and a seeded generator of the caller's.
    pub fn new(clock: Arc<dyn WallClock>, random: StdRng) -> Self {
        Self {
            clock,
            random: Arc::new(Mutex::new(random)),
        }
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
