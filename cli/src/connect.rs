//! Reaches a cluster as a client.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use souk_kv_client::{BearerFiles, Client, ClientOptions};
use souk_kv_tls::{BearerKind, Folder};

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

    #[command(flatten)]
    pub(crate) bearer: BearerArgs,
}

/// Who we are, where the cluster asks for certificates.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct BearerArgs {
    /// Certificates of the authorities that the cluster's nodes are signed by. Without it, ca.crt of the folder that
    /// the cluster file names (security.certificates).
    #[arg(long, env = "SOUK_CA", value_name = "FILE")]
    ca: Option<PathBuf>,

    /// Our certificate. Without it, the one of an operator in that folder, if it holds just one.
    #[arg(long, env = "SOUK_CERT", value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,

    /// The private key of our certificate.
    #[arg(long, env = "SOUK_KEY", value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,

    /// File with the token to show beside the certificate; operators need none.
    #[arg(long, env = "SOUK_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

impl BearerArgs {
    /// The files to show and to check with; `None` for a cluster without certificates.
    ///
    /// # Errors
    /// When some are named and others are missing, or nobody says which of several operators we are.
    pub(crate) fn files(&self, cluster: &ClusterArgs) -> Result<Option<BearerFiles>, Failure> {
        if let (Some(ca), Some(cert), Some(key)) = (&self.ca, &self.cert, &self.key) {
            return Ok(Some(BearerFiles {
                authorities: ca.clone(),
                certificate: cert.clone(),
                key: key.clone(),
                revoked: None,
            }));
        }
        let folder = cluster.load()?.file.security.certificates.map(Folder::new);
        let Some(folder) = folder else {
            if self.ca.is_none() && self.cert.is_none() {
                return Ok(None);
            }
            return Err(Failure::usage(
                "--ca, --cert and --key only help together",
                "give all three of them",
            ));
        };
        let mut files = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => BearerFiles {
                authorities: folder.authorities(),
                certificate: cert.clone(),
                key: key.clone(),
                revoked: Some(folder.revoked()),
            },
            _ => folder.of(BearerKind::Operator, &only_operator(&folder)?),
        };
        if let Some(ca) = &self.ca {
            files.authorities = ca.clone();
        }
        Ok(Some(files))
    }
}

fn only_operator(folder: &Folder) -> Result<String, Failure> {
    let mut operators = folder.bearers(BearerKind::Operator);
    let place = folder.path().display();
    if operators.len() > 1 {
        return Err(Failure::usage(
            format!(
                "{place} holds certificates of several operators: {}",
                operators.join(", ")
            ),
            "say who you are with --cert and --key",
        ));
    }
    operators.pop().ok_or_else(|| {
        Failure::usage(
            format!("the cluster asks for certificates, and {place} holds none of an operator"),
            "give --cert and --key, or make one with `souk cert operator NAME`",
        )
    })
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
        options.certificates = self.bearer.files(cluster)?;
        options.token_file = self.bearer.token_file.clone();
        change(&mut options);
        Ok(Client::connect(options).await?)
    }
}
