//! Certificates for a cluster on this machine, as `souk cert` makes them for one of several machines.
//!
//! Place: files below the data directory; run again, only what is missing or nearly over is made.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use souk_kv_client::{BearerFiles, Client, ClientError, ClientOptions, RequestError};
use souk_kv_node::config::ClusterFile;
use souk_kv_tls::authority::{AUTHORITY_LASTS, Authority, CERTIFICATE_LASTS, describe};
use souk_kv_tls::{BearerKind, Folder, TlsError};

use crate::admin::{wait_for_news, write_secret};
use crate::failure::Failure;

/// The folder below the data directory.
const FOLDER: &str = "certs";
/// Names the shop's certificate and its token.
const SHOP: &str = "shop";
/// What lasts less than this is made anew.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Who else but the nodes has certificates.
#[derive(Debug, Clone)]
pub(crate) struct Bearers {
    /// May do everything.
    pub(crate) operator: BearerFiles,
    /// The shop.
    pub(crate) shop: BearerFiles,
    /// Where its token lies.
    pub(crate) shop_token: PathBuf,
}

impl Bearers {
    /// Makes the shop's token, which allows it all on its own buckets; done once, as long as the file is there.
    ///
    /// # Errors
    /// When the cluster does not answer, or the file cannot be written.
    pub(crate) async fn make_shop_token(&self, endpoints: &[String]) -> Result<(), TokenError> {
        if self.shop_token.exists() {
            return Ok(());
        }
        let client = Client::connect(ClientOptions {
            certificates: Some(self.operator.clone()),
            ..ClientOptions::new(endpoints)
        });
        let client = client.await?;
        let buckets = souk_commerce_api::buckets::all();
        let grants: Vec<String> = buckets
            .iter()
            .map(|bucket| format!("read,write,admin:{}", bucket.name))
            .collect();
        let admin = client.admin();
        let known = admin.list_tokens().await?;
        let made = if known.iter().any(|token| token.name == SHOP) {
            admin.rotate_token(SHOP, Duration::ZERO).await?
        } else {
            admin.create_token(SHOP, &grants, None).await?
        };
        // The shop may ask any of them first.
        wait_for_news(&client).await;
        Ok(write_secret(&self.shop_token, &made.token).map_err(Box::new)?)
    }
}

/// Why the shop has no token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    /// The nodes that were just started do not answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// They answered with an error.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The file cannot be written.
    #[error(transparent)]
    File(#[from] Box<Failure>),
}

/// Makes what is missing, and writes the folder into the cluster file.
///
/// # Errors
/// When the folder cannot be written, or holds the authority of another cluster.
pub(crate) fn make(file: &mut ClusterFile, home: &Path) -> Result<Bearers, TlsError> {
    let folder = Folder::new(home.join(FOLDER));
    let id = &file.cluster.id;
    let authority = if folder.authorities().exists() {
        Authority::open(&folder)?
    } else {
        Authority::make(&folder, id, AUTHORITY_LASTS, false)?
    };
    if authority.cluster() != id {
        return Err(TlsError::SomebodyElse {
            path: folder.authorities(),
            found: format!("the authority of cluster `{}`", authority.cluster()),
            wanted: format!("cluster `{id}`"),
        });
    }
    let make_if_needed = |kind, name: &str, hosts: &[String]| {
        let files = folder.of(kind, name);
        if !lasts(&files) {
            authority.issue(kind, name, hosts, CERTIFICATE_LASTS)?;
        }
        Ok::<_, TlsError>(files)
    };
    for node in &file.nodes {
        let hosts = [node.grpc.host().to_owned()];
        make_if_needed(BearerKind::Node, &node.name, &hosts)?;
    }
    let bearers = Bearers {
        operator: make_if_needed(BearerKind::Operator, "admin", &[])?,
        shop: make_if_needed(BearerKind::Client, SHOP, &[])?,
        shop_token: folder.path().join("shop.token"),
    };
    file.security.certificates = Some(folder.path().to_owned());
    Ok(bearers)
}

fn lasts(files: &BearerFiles) -> bool {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let needed = now.unwrap_or_default() + RENEW_BEFORE;
    let until = describe(&files.certificate).map(|certificate| certificate.valid_until_unix_s);
    files.key.exists() && until.is_ok_and(|until| until >= needed.as_secs().cast_signed())
}
