//! Reaches a cluster as a client.

use std::time::Duration;

use clap::Args;
use souk_kv_client::{Client, ClientOptions};

use crate::cluster::ClusterArgs;
use crate::failure::Failure;

/// Longest wait for any node to answer at all.
const FIRST_ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Where the cluster is.
#[derive(Debug, Clone, Args)]
pub(crate) struct EndpointArgs {
    /// One or more nodes to begin with, as host:port; the others are learnt from them. Without it, the
    /// nodes of the cluster file.
    #[arg(
        long,
        env = "SOUK_ENDPOINTS",
        value_name = "HOST:PORT,...",
        value_delimiter = ','
    )]
    pub(crate) endpoints: Vec<String>,

    /// Time that one request may take, in milliseconds, 1 to 60000.
    #[arg(long, value_name = "MS", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub(crate) timeout_ms: u64,
}

impl EndpointArgs {
    /// The nodes named, or else those of the cluster file.
    pub(crate) fn choose(&self, cluster: &ClusterArgs) -> Result<Vec<String>, Failure> {
        if self.endpoints.is_empty() {
            return Ok(cluster.load()?.file.endpoints());
        }
        Ok(self.endpoints.clone())
    }

    /// Connects; some node must answer.
    ///
    /// # Errors
    /// When none does, or an address makes no sense.
    pub(crate) async fn connect(&self, cluster: &ClusterArgs) -> Result<Client, Failure> {
        self.connect_with(cluster, |_| ()).await
    }

    /// As [`EndpointArgs::connect`], with further options changed.
    pub(crate) async fn connect_with(
        &self,
        cluster: &ClusterArgs,
        change: impl FnOnce(&mut ClientOptions),
    ) -> Result<Client, Failure> {
        let mut options = ClientOptions::new(self.choose(cluster)?);
        options.name = "souk-cli".to_owned();
        options.startup_timeout = FIRST_ANSWER_WITHIN;
        options.request_timeout = Duration::from_millis(self.timeout_ms);
        change(&mut options);
        Ok(Client::connect(options).await?)
    }
}
