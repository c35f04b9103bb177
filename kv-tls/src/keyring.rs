//! What was read from a bearer's files, kept up to date while they change.
//!
//! Shape: one ring per bearer and process. Every handshake looks whether a file is newer, at most once a second, and
//! so does whoever keeps connections; what cannot be read is told once and changes nothing. Connections that were
//! accepted hang on the ring: when the files change they are judged anew, and those that would no longer be accepted
//! are cut.
//! Invariants: 1. a ring in hand holds certificates that the own authorities accept. 2. the bearer never changes.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use metrics::counter;
use parking_lot::Mutex;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    crypto::{CryptoProvider, ring},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::CertifiedKey,
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    Bearer, BearerFiles, BearerKind, TlsError,
    explain::{Reason, of_error},
    files::{Content, Stamps},
    name::any_node,
};

/// Shortest time between two looks at the files.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two looks whether the time of what is connected is over; each costs a check of a signature for each of them.
const JUDGE_EVERY: Duration = Duration::from_secs(60);
/// What both ends speak above TLS.
const HTTP2: &[u8] = b"h2";

/// The certificates of one bearer, and whom it trusts. Cheap to share.
pub struct Keyring {
    files: BearerFiles,
    bearer: Bearer,
    current: ArcSwap<Keys>,
    looked: Mutex<Looked>,
    accepted: Mutex<Vec<Weak<Accepted>>>,
}

#[derive(Debug)]
struct Looked {
    at: Instant,
    stamps: Stamps,
    /// When what is connected was judged last.
    judged: Instant,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring")
            .field("bearer", &self.bearer)
            .finish_non_exhaustive()
    }
}

/// What the files held at one moment, ready for handshakes.
pub(crate) struct Keys {
    pub(crate) dialling: Arc<ClientConfig>,
    pub(crate) listening: Arc<ServerConfig>,
    callers: Arc<dyn ClientCertVerifier>,
}

/// A connection that was accepted, and what it was accepted for.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) bearer: Bearer,
    pub(crate) cut: CancellationToken,
}

impl Keyring {
    /// Reads the files of a bearer.
    ///
    /// # Errors
    /// [`TlsError`] when a file is missing, makes no sense, is readable by everybody, or holds a certificate that
    /// nobody in the cluster would accept.
    pub fn open(files: BearerFiles) -> Result<Arc<Self>, TlsError> {
        let stamps = files.stamps();
        let content = files.read()?;
        let bearer = content.bearer.clone();
        let keys = Keys::make(&files, content)?;
        Ok(Arc::new(Self {
            files,
            bearer,
            current: ArcSwap::from_pointee(keys),
            looked: Mutex::new(Looked {
                at: Instant::now(),
                stamps,
                judged: Instant::now(),
            }),
            accepted: Mutex::default(),
        }))
    }

    /// The same, and it has to be the certificate of that node.
    ///
    /// # Errors
    /// As [`Keyring::open`]; [`TlsError::SomebodyElse`] when it is not.
    pub fn open_for_node(
        files: BearerFiles,
        cluster: &str,
        node: &str,
    ) -> Result<Arc<Self>, TlsError> {
        let keyring = Self::open(files)?;
        let wanted = Bearer {
            cluster: cluster.to_owned(),
            kind: BearerKind::Node,
            name: node.to_owned(),
        };
        if keyring.bearer == wanted {
            return Ok(keyring);
        }
        Err(TlsError::SomebodyElse {
            path: keyring.files.certificate.clone(),
            found: keyring.bearer.to_string(),
            wanted: wanted.to_string(),
        })
    }

    /// Whose certificates they are.
    #[must_use]
    pub fn bearer(&self) -> &Bearer {
        &self.bearer
    }

    /// What handshakes use from now on.
    pub(crate) fn keys(&self) -> Arc<Keys> {
        self.look();
        self.current.load_full()
    }

    /// Reads the files again if one has changed since the last look, and judges what is connected. Looks at most once
    /// a second.
    pub fn look(&self) {
        let mut looked = self.looked.lock();
        if looked.at.elapsed() < LOOK_EVERY {
            return;
        }
        looked.at = Instant::now();
        let stamps = self.files.stamps();
        let changed = stamps != looked.stamps;
        looked.stamps = stamps;
        let is_time_to_judge = changed || looked.judged.elapsed() >= JUDGE_EVERY;
        if is_time_to_judge {
            looked.judged = looked.at;
        }
        drop(looked);
        if changed {
            match self.read_again() {
                Ok(keys) => {
                    info!(bearer = %self.bearer, "certificates were read anew");
                    counter!("souk_tls_reloads_total", "outcome" => "ok").increment(1);
                    self.current.store(Arc::new(keys));
                }
                Err(problem) => {
                    warn!(%problem, "the new certificates cannot be used, the old ones stay in force");
                    counter!("souk_tls_reloads_total", "outcome" => "failed").increment(1);
                }
            }
        }
        if is_time_to_judge {
            self.judge_accepted();
        }
    }

    fn read_again(&self) -> Result<Keys, TlsError> {
        let content = self.files.read()?;
        if content.bearer != self.bearer {
            return Err(TlsError::SomebodyElse {
                path: self.files.certificate.clone(),
                found: content.bearer.to_string(),
                wanted: self.bearer.to_string(),
            });
        }
        Keys::make(&self.files, content)
    }

    /// Notes down a connection, so that it ends when its certificate does.
    pub(crate) fn accepted(
        &self,
        chain: Vec<CertificateDer<'static>>,
        bearer: Bearer,
    ) -> Arc<Accepted> {
        let connection = Arc::new(Accepted {
            chain,
            bearer,
            cut: CancellationToken::new(),
        });
        let mut accepted = self.accepted.lock();
        accepted.retain(|other| other.strong_count() > 0);
        accepted.push(Arc::downgrade(&connection));
        connection
    }

    fn judge_accepted(&self) {
        let accepted: Vec<Arc<Accepted>> = {
            let mut accepted = self.accepted.lock();
            accepted.retain(|other| other.strong_count() > 0);
            accepted.iter().filter_map(Weak::upgrade).collect()
        };
        let keys = self.current.load();
        let now = UnixTime::now();
        for connection in accepted {
            let Some((own, above)) = connection.chain.split_first() else {
                continue;
            };
            let Err(error) = keys.callers.verify_client_cert(own, above, now) else {
                continue;
            };
            if connection.cut.is_cancelled() {
                continue;
            }
            let reason = of_error(&error).as_str();
            warn!(bearer = %connection.bearer, reason, "a connection is cut: its certificate is no longer accepted");
            counter!("souk_tls_connections_cut_total", "reason" => reason).increment(1);
            connection.cut.cancel();
        }
    }
}

impl Keys {
    fn make(files: &BearerFiles, content: Content) -> Result<Self, TlsError> {
        let Content {
            authorities,
            chain,
            key,
            revoked,
            bearer,
        } = content;
        let wrong = |path: &std::path::Path, cause: &dyn std::fmt::Display| TlsError::Content {
            path: path.to_owned(),
            problem: format!("cannot be used ({cause})"),
            mend: "make it anew with `souk cert`",
        };
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots
                .add(authority)
                .map_err(|cause| wrong(&files.authorities, &cause))?;
        }
        let (roots, provider) = (Arc::new(roots), Arc::new(ring::default_provider()));
        let of_revoked = files.revoked.as_deref().unwrap_or(&files.authorities);
        let callers =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .with_crls(revoked.iter().cloned())
                .only_check_end_entity_revocation()
                .allow_unknown_revocation_status()
                .build()
                .map_err(|cause| wrong(of_revoked, &cause))?;
        let nodes = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .with_crls(revoked)
            .only_check_end_entity_revocation()
            .allow_unknown_revocation_status()
            .build()
            .map_err(|cause| wrong(of_revoked, &cause))?;
        check_own(files, &chain, &bearer, callers.as_ref(), &nodes)?;
        match CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider) {
            Ok(_) => {}
            Err(rustls::Error::InconsistentKeys(_)) => {
                return Err(TlsError::Content {
                    path: files.key.clone(),
                    problem: format!("is not the key of {}", files.certificate.display()),
                    mend: "put both files there as they were made, together",
                });
            }
            Err(cause) => return Err(wrong(&files.key, &cause)),
        }
        let usable = |cause: rustls::Error| wrong(&files.certificate, &cause);
        Ok(Self {
            dialling: dialling(&provider, nodes, chain.clone(), key.clone_key()).map_err(usable)?,
            listening: listening(&provider, Arc::clone(&callers), chain, key).map_err(usable)?,
            callers,
        })
    }
}

fn dialling(
    provider: &Arc<CryptoProvider>,
    nodes: Arc<WebPkiServerVerifier>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13])?
        .with_webpki_verifier(nodes)
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![HTTP2.to_vec()];
    // A resumed session would rest on a check of long ago.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

fn listening(
    provider: &Arc<CryptoProvider>,
    callers: Arc<dyn ClientCertVerifier>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(callers)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![HTTP2.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The own certificate as the others will see it: better told at the start than by a refused connection.
fn check_own(
    files: &BearerFiles,
    chain: &[CertificateDer<'static>],
    bearer: &Bearer,
    callers: &dyn ClientCertVerifier,
    nodes: &WebPkiServerVerifier,
) -> Result<(), TlsError> {
    let refused = |error: &rustls::Error| {
        let reason = of_error(error);
        TlsError::Refused {
            path: files.certificate.clone(),
            reason,
            problem: match reason {
                Reason::Other => format!("it cannot be used ({error})"),
                reason => format!("it {} ({error})", reason.flaw()),
            },
            mend: match reason {
                Reason::UnknownAuthority => format!(
                    "use the ca.crt that signed it instead of {}, or make it anew with `souk cert`",
                    files.authorities.display()
                ),
                reason => reason.mend().to_owned(),
            },
        }
    };
    let (own, above) = chain
        .split_first()
        .expect("files without a certificate are refused");
    let now = UnixTime::now();
    callers
        .verify_client_cert(own, above, now)
        .map_err(|error| refused(&error))?;
    if bearer.kind == BearerKind::Node {
        let name = ServerName::try_from(any_node(&bearer.cluster)).map_err(|_| TlsError::Name {
            name: bearer.cluster.clone(),
        })?;
        nodes
            .verify_server_cert(own, above, &name, &[], now)
            .map_err(|error| refused(&error))?;
    }
    Ok(())
}
