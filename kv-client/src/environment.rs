//! What a client takes from the world around it, so that a simulation can supply its own.
//!
//! Place: the only part of the client that asks the operating system for the time of day; elapsed time is
//! `tokio::time`, and chance is seeded by [`crate::ClientOptions::seed`].

use std::{
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use souk_kv_proto::network::Network;
use souk_kv_tls::{Keyring, TlsError};

use crate::options::ClientOptions;

/// Network and clock of a client. The default is the machine's own.
#[derive(Clone)]
pub struct ClientEnvironment {
    pub(crate) network: Network,
    unix_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl ClientEnvironment {
    /// A network and a clock of the caller's; the clock gives milliseconds since the Unix epoch.
    pub fn new(network: Network, unix_ms: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self {
            network,
            unix_ms: Arc::new(unix_ms),
        }
    }

    /// The same with the certificates of `options`, if it has any. A pretended network needs none.
    pub(crate) fn secured(self, options: &ClientOptions) -> Result<Self, TlsError> {
        match &options.certificates {
            Some(files) if self.network.is_system() => Ok(Self {
                network: Network::Secure(Keyring::open(files.clone())?),
                ..self
            }),
            _ => Ok(self),
        }
    }

    /// Milliseconds since the Unix epoch.
    pub(crate) fn unix_ms(&self) -> u64 {
        (self.unix_ms)()
    }
}

impl Default for ClientEnvironment {
    fn default() -> Self {
        Self::new(Network::System, || {
            // Before 1970 counts as 1970, as on the nodes.
            let since = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            crate::convert::millis(since)
        })
    }
}

impl fmt::Debug for ClientEnvironment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ClientEnvironment")
            .field("network", &self.network)
            .finish_non_exhaustive()
    }
}
