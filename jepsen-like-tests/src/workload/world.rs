//! What clients live in: the machine, or a simulation of several.
//!
//! Place: given to clients with their target, so that a workload is written once for both.
//! Invariant: in a simulation everything that a client draws or reads comes from here.

use std::fmt;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use souk_kv_client::{Client, ClientEnvironment, ClientError, ClientOptions};

/// See the module. The default is the real world.
#[derive(Clone, Debug)]
pub struct World {
    /// Stretches the pauses between the requests of a client; 1 is as written.
    pub pace: f64,
    /// What a simulation gives to clients; none in the real world.
    pub simulated: Option<Simulated>,
}

impl Default for World {
    fn default() -> World {
        World {
            pace: 1.0,
            simulated: None,
        }
    }
}

/// Network, clock and chance of simulated clients.
#[derive(Clone)]
pub struct Simulated {
    /// What the client library needs.
    pub environment: ClientEnvironment,
    /// The time of day, in milliseconds since the Unix epoch.
    pub unix_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Of the run.
    pub seed: u64,
}

impl fmt::Debug for Simulated {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Simulated")
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

impl World {
    /// A client of the store.
    ///
    /// # Errors
    /// When no node takes the connection.
    pub async fn connect(&self, endpoints: &[String], name: &str) -> Result<Client, ClientError> {
        let options = ClientOptions {
            endpoints: endpoints.to_vec(),
            name: name.to_owned(),
            seed: self.seed_of(name),
            ..ClientOptions::default()
        };
        match &self.simulated {
            Some(simulated) => Client::connect_in(simulated.environment.clone(), options).await,
            None => Client::connect(options).await,
        }
    }

    /// A seed for something of this name, in a simulation; no two names of a run share one.
    #[must_use]
    pub fn seed_of(&self, name: &str) -> Option<u64> {
        let simulated = self.simulated.as_ref()?;
        // Without keys of its own, so equal in every process.
        let mut hasher = std::hash::DefaultHasher::new();
        (simulated.seed, name).hash(&mut hasher);
        Some(hasher.finish())
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub fn unix_ms(&self) -> u64 {
        match &self.simulated {
            Some(simulated) => (simulated.unix_ms)(),
            None => {
                let since = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default();
                u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
            }
        }
    }
}
