//! Where the files of a bearer lie, and reading them.
//!
//! A folder of certificates holds `ca.crt`, the authorities to trust, one after the other; `node.n1.crt` and
//! `node.n1.key` for node n1, and so on for operators and clients; and perhaps `revoked.crl`. The authority's own key,
//! `ca.key`, is needed by nobody who only connects, and belongs on no node.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use rustls_pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem, pem::PemObject,
};

use crate::{Bearer, BearerKind, TlsError};

const MAKE_IT: &str =
    "make it with `souk cert` (`souk cert --help` shows how), or check path and permissions";
const MAKE_IT_ANEW: &str = "put the file there again, or make it anew with `souk cert`";
/// Others than the owner and the group may read it.
const READABLE_BY_OTHERS: u32 = 0o007;

/// A folder of certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder(PathBuf);

impl Folder {
    /// The folder at a path, there or not.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The authorities to trust.
    #[must_use]
    pub fn authorities(&self) -> PathBuf {
        self.0.join("ca.crt")
    }

    /// The authority's private key.
    #[must_use]
    pub fn authority_key(&self) -> PathBuf {
        self.0.join("ca.key")
    }

    /// What was revoked.
    #[must_use]
    pub fn revoked(&self) -> PathBuf {
        self.0.join("revoked.crl")
    }

    /// The files of one bearer.
    #[must_use]
    pub fn of(&self, kind: BearerKind, name: &str) -> BearerFiles {
        BearerFiles {
            authorities: self.authorities(),
            certificate: self.0.join(format!("{kind}.{name}.crt")),
            key: self.0.join(format!("{kind}.{name}.key")),
            revoked: Some(self.revoked()),
        }
    }

    /// The bearers of one kind whose certificates lie here, by name; none when the folder cannot be read.
    #[must_use]
    pub fn bearers(&self, kind: BearerKind) -> Vec<String> {
        let prefix = format!("{kind}.");
        let files = fs::read_dir(&self.0).into_iter().flatten().flatten();
        let names = files.filter_map(|file| {
            let name = file.file_name().into_string().ok()?;
            let name = name.strip_prefix(&prefix)?.strip_suffix(".crt")?;
            Some(name.to_owned())
        });
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }
}

/// The files that a bearer needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BearerFiles {
    /// Certificates of the authorities to trust, PEM.
    pub authorities: PathBuf,
    /// The own certificate, PEM, perhaps with those that lead to the authority.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// The list of what was revoked, PEM; that file may be missing.
    pub revoked: Option<PathBuf>,
}

/// What the files held.
pub(crate) struct Content {
    pub(crate) authorities: Vec<CertificateDer<'static>>,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) revoked: Vec<CertificateRevocationListDer<'static>>,
    pub(crate) bearer: Bearer,
}

/// When each of the files was changed last; two equal ones mean that nothing has changed.
pub(crate) type Stamps = [Option<(SystemTime, u64, u64)>; 4];

impl BearerFiles {
    /// Cheap: no file is opened.
    pub(crate) fn stamps(&self) -> Stamps {
        let stamp = |path: &Path| {
            let data = fs::metadata(path).ok()?;
            Some((data.modified().ok()?, data.len(), data.ino()))
        };
        [
            stamp(&self.authorities),
            stamp(&self.certificate),
            stamp(&self.key),
            self.revoked.as_deref().and_then(stamp),
        ]
    }

    /// Reads all of them.
    pub(crate) fn read(&self) -> Result<Content, TlsError> {
        let authorities: Vec<CertificateDer<'static>> = read_all(&self.authorities)?;
        let chain: Vec<CertificateDer<'static>> = read_all(&self.certificate)?;
        let own = chain
            .first()
            .ok_or_else(|| empty(&self.certificate, "certificate"))?;
        if authorities.is_empty() {
            return Err(empty(&self.authorities, "certificate"));
        }
        let bearer = Bearer::of(own).ok_or_else(|| TlsError::Content {
            path: self.certificate.clone(),
            problem: "names no bearer (souk://cluster/kind/name)".to_owned(),
            mend: "make it with `souk cert`",
        })?;
        self.check_key_is_private()?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|cause| match cause {
            pem::Error::NoItemsFound => empty(&self.key, "private key"),
            other => unusable(&self.key, other),
        })?;
        let revoked = match &self.revoked {
            Some(path) => match read_all(path) {
                Err(TlsError::File { cause, .. }) if cause.kind() == ErrorKind::NotFound => {
                    Vec::new()
                }
                // Cut short on its way here, perhaps: it must not lift what was revoked.
                Ok(lists) if lists.is_empty() => {
                    return Err(empty(path, "list of revoked certificates"));
                }
                read => read?,
            },
            None => Vec::new(),
        };
        Ok(Content {
            authorities,
            chain,
            key,
            revoked,
            bearer,
        })
    }

    fn check_key_is_private(&self) -> Result<(), TlsError> {
        let data = fs::metadata(&self.key).map_err(|cause| missing(&self.key, cause))?;
        if data.permissions().mode() & READABLE_BY_OTHERS == 0 {
            return Ok(());
        }
        Err(TlsError::KeyExposed {
            path: self.key.clone(),
        })
    }
}

/// Every item of a file; it may hold none.
pub(crate) fn read_all<T: PemObject>(path: &Path) -> Result<Vec<T>, TlsError> {
    let items = T::pem_file_iter(path).map_err(|cause| unusable(path, cause))?;
    items
        .collect::<Result<_, _>>()
        .map_err(|cause| unusable(path, cause))
}

fn unusable(path: &Path, cause: pem::Error) -> TlsError {
    match cause {
        pem::Error::Io(cause) => missing(path, cause),
        other => TlsError::Content {
            path: path.to_owned(),
            problem: format!("cannot be read as PEM ({other})"),
            mend: MAKE_IT_ANEW,
        },
    }
}

pub(crate) fn missing(path: &Path, cause: std::io::Error) -> TlsError {
    TlsError::File {
        path: path.to_owned(),
        cause,
        mend: MAKE_IT,
    }
}

fn empty(path: &Path, what: &str) -> TlsError {
    TlsError::Content {
        path: path.to_owned(),
        problem: format!("holds no {what}"),
        mend: MAKE_IT_ANEW,
    }
}
