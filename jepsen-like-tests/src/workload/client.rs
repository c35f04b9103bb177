//! Who a client is, and where it finds the cluster.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};
use souk_kv_client::{BucketConfig, BucketMode, Client};
use tokio::time::Instant;

use super::{WorkloadError, World};
use crate::history::Lane;

/// Where clients find the cluster. Written to a file for the workers, who live in the real world.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Target {
    /// `host:port` of the nodes.
    pub endpoints: Vec<String>,
    /// Names of the nodes.
    pub nodes: Vec<String>,
    /// `host:port` of the shop, if there is one.
    pub shop: Option<String>,
    /// The payment provider's book, if there is a shop.
    pub payments_file: Option<PathBuf>,
    /// What clients live in.
    #[serde(skip)]
    pub world: World,
}

impl Target {
    /// A client of the store.
    ///
    /// # Errors
    /// When no node takes the connection.
    pub async fn connect(&self, name: &str) -> Result<Client, WorkloadError> {
        Ok(self.world.connect(&self.endpoints, name).await?)
    }

    /// Makes the workload's bucket, unless it is there, with a client that goes on to prepare what is in it.
    ///
    /// # Errors
    /// When no node takes the connection, or the bucket cannot be made.
    pub async fn with_bucket(&self, bucket: BucketConfig) -> Result<Client, WorkloadError> {
        let client = self.connect("set-up").await?;
        let created = client.admin().create_bucket(bucket).await;
        created.map_err(|source| WorkloadError::Request {
            what: "create the bucket",
            source,
        })?;
        Ok(client)
    }
}

/// A bucket with everything but its mode as usual.
pub(super) fn bucket(name: &str, mode: BucketMode) -> BucketConfig {
    BucketConfig {
        name: name.to_owned(),
        mode: mode.into(),
        ..BucketConfig::default()
    }
}

/// One client among all of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientId {
    /// Which process.
    pub worker: u32,
    /// Which client of it.
    pub lane: u32,
}

impl fmt::Display for ClientId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "w{}l{}", self.worker, self.lane)
    }
}

/// All that a client is given.
#[derive(Debug)]
pub struct ClientContext {
    /// Where.
    pub target: Target,
    /// Who.
    pub id: ClientId,
    /// Writes down what it does.
    pub lane: Lane,
    /// Writes down what it does at the same time, for clients that send something twice at once.
    pub twin: Lane,
    /// Chooses.
    pub random: StdRng,
    /// How long the workload runs in all.
    pub time: Duration,
    /// When it is over.
    pub until: Instant,
}

impl ClientContext {
    /// The source of choices of one client of a run.
    #[must_use]
    pub fn random_of(seed: u64, id: ClientId) -> StdRng {
        let client = (u64::from(id.worker) << 32) | u64::from(id.lane);
        StdRng::seed_from_u64(seed ^ client.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// Waits up to twice `about`, then says whether there is time for more.
    pub async fn pause(&mut self, about: Duration) -> bool {
        let most = u64::try_from(about.mul_f64(self.target.world.pace).as_micros())
            .unwrap_or(u64::MAX)
            .saturating_mul(2);
        let micros = self.random.random_range(0..=most);
        tokio::time::sleep(Duration::from_micros(micros)).await;
        Instant::now() < self.until
    }
}
