//! The client: what services hold and call.
//!
//! Place: I/O; `cart`, `inventory`, `commerce-api` and the command line stand on it.
//! Shape: `shared` is what all clones share, `call` runs one request over its attempts, `batch` many at
//! once; `reads`, `writes`, `registers` and `scans` say what each operation asks and hears.
//! Invariants: 1. every request ends within its deadline. 2. a write that fails says whether it can have
//! been applied.
//! Not here: merging siblings (the callers' business), servers.

mod batch;
mod call;
mod check;
mod failure;
mod flight;
mod reads;
mod refresh;
mod registers;
mod scans;
mod shared;
mod writes;

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    admin::Admin, environment::ClientEnvironment, error::ClientError, options::ClientOptions,
    topology::Topology,
};

pub(crate) use shared::{Shared, View};

/// A connection to a cluster. Cheap to clone; all clones share connections, retry budget and identity.
///
/// Dropping a call's future gives the call up: a write that had not left never will, any other one may
/// still be applied.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let options = &self.shared.options;
        formatter
            .debug_struct("Client")
            .field("name", &options.name)
            .field("endpoints", &options.endpoints)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Connects to the cluster that the endpoints belong to, waiting up to
    /// `ClientOptions::startup_timeout` until some node describes it. Further nodes are connected to in
    /// the background.
    ///
    /// # Errors
    /// `ClientError::Option` when an option is out of its range, `ClientError::NoNode` when nobody
    /// answered.
    pub async fn connect(options: ClientOptions) -> Result<Client, ClientError> {
        Client::connect_in(ClientEnvironment::default(), options).await
    }

    /// [`Client::connect`] with a network and a clock of the caller's.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn connect_in(
        environment: ClientEnvironment,
        options: ClientOptions,
    ) -> Result<Client, ClientError> {
        options.validate()?;
        Ok(Client {
            shared: Shared::connect(environment, options).await?,
        })
    }

    /// The cluster as last heard of. Refreshed in the background when a node reports a newer one.
    #[must_use]
    pub fn topology(&self) -> Arc<Topology> {
        self.shared.view.load().topology.clone()
    }

    /// Fetches the topology now. Calls do so by themselves when they meet an unknown bucket.
    ///
    /// Returns false when no node answered within `timeout`.
    pub async fn refresh_topology(&self, timeout: Duration) -> bool {
        self.shared.refreshed_by(Instant::now() + timeout).await
    }

    /// What operators ask of nodes.
    #[must_use]
    pub fn admin(&self) -> Admin<'_> {
        Admin::new(&self.shared)
    }

    /// The settings of this client.
    #[must_use]
    pub fn options(&self) -> &ClientOptions {
        &self.shared.options
    }
}
