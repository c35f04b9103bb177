//! The stamp that makes badges: an authority of one cluster, which signs, renews and revokes certificates.
//!
//! Place: I/O on files only; behind the command line and tests. Its key is needed here alone: keep it off the nodes.
//! Invariants: 1. files are put in place whole, the key before the certificate, so that a node that reads meanwhile
//! goes on with the old ones. 2. a key is readable by its owner only. 3. several authorities may be trusted at a time,
//! the newest signs: that is how an authority itself is replaced.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write as _},
    net::IpAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::Duration,
};

use rand::RngCore as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevocationReason, RevokedCertParams, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use time::OffsetDateTime;
use webpki::{BorrowedCertRevocationList, CertRevocationList, EndEntityCert};

use crate::{
    Bearer, BearerKind, Folder, TlsError,
    files::{missing, read_all},
    name::{any_node, is_name, this_node},
};

/// How long an authority lasts when nothing else is said.
pub const AUTHORITY_LASTS: Duration = days(3650);
/// How long other certificates last when nothing else is said.
pub const CERTIFICATE_LASTS: Duration = days(365);
/// Clocks differ: a new certificate has been valid for so long already.
const CLOCKS_DIFFER: Duration = Duration::from_secs(300);
const SERIAL_BYTES: usize = 16;
const KEEP_THE_KEY: &str = "look whether ca.crt and ca.key lie there as `souk cert ca` made them";

const fn days(count: u64) -> Duration {
    Duration::from_secs(count * 24 * 3600)
}

/// An authority with its key.
pub struct Authority {
    folder: Folder,
    cluster: String,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes an authority in a folder, which is made if it is missing. `beside_others` keeps trusting those that are
    /// there: all holders of the old ones go on until they have new certificates.
    ///
    /// # Errors
    /// When there is an authority already and the new one shall not stand beside it; when nothing can be written.
    pub fn make(
        folder: &Folder,
        cluster: &str,
        lasts: Duration,
        beside_others: bool,
    ) -> Result<Self, TlsError> {
        check_name(cluster)?;
        let path = folder.authorities();
        let trusted = match fs::read_to_string(&path) {
            Ok(_) if !beside_others => {
                return Err(TlsError::Exists {
                    path,
                    mend: "use it, name another folder, or replace it step by step with `souk cert ca --rotate`",
                });
            }
            Ok(text) => text,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => String::new(),
            Err(cause) => return Err(missing(&path, cause)),
        };
        fs::create_dir_all(folder.path()).map_err(|cause| missing(folder.path(), cause))?;
        let serial = serial();
        let mut params = params(lasts, &serial);
        let label: String = serial[..4]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        // Two authorities of one cluster must not share a name: lists of what was revoked go by it.
        called(&mut params, &format!("Souk authority {label} of {cluster}"));
        params.subject_alt_names = vec![uri(&format!("souk://{cluster}/authority/{label}"))?];
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(not_made)?;
        let certificate = params.self_signed(&key).map_err(not_made)?;
        put(
            &folder.authority_key(),
            key.serialize_pem().as_bytes(),
            true,
        )?;
        // The newest one first.
        let all = format!("{}{trusted}", certificate.pem());
        put(&path, all.as_bytes(), false)?;
        Ok(Self {
            folder: folder.clone(),
            cluster: cluster.to_owned(),
            certificate: certificate.into(),
            issuer: Issuer::new(params, key),
        })
    }

    /// Opens the authority of a folder: the first of its `ca.crt`, with `ca.key`.
    ///
    /// # Errors
    /// When there is none, or the key is missing.
    pub fn open(folder: &Folder) -> Result<Self, TlsError> {
        let path = folder.authorities();
        let certificates: Vec<CertificateDer<'static>> = read_all(&path)?;
        let wrong = |problem: &str| TlsError::Content {
            path: path.clone(),
            problem: problem.to_owned(),
            mend: KEEP_THE_KEY,
        };
        let first = certificates
            .first()
            .ok_or_else(|| wrong("holds no certificate"))?;
        let cluster = cluster_of(first).ok_or_else(|| wrong("names no cluster"))?;
        let path_of_key = folder.authority_key();
        let key = fs::read_to_string(&path_of_key).map_err(|cause| missing(&path_of_key, cause))?;
        let key = KeyPair::from_pem(&key).map_err(not_made)?;
        Ok(Self {
            folder: folder.clone(),
            cluster,
            certificate: first.clone(),
            issuer: Issuer::from_ca_cert_der(first, key).map_err(not_made)?,
        })
    }

    /// Where it puts what it makes.
    #[must_use]
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The id of its cluster.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Makes a certificate with a new key and puts both into the folder, in place of what may be there. `hosts` are
    /// further names and addresses for a node, for clients of others' making that go by them.
    ///
    /// # Errors
    /// When a name cannot stand in a certificate, or nothing can be written.
    pub fn issue(
        &self,
        kind: BearerKind,
        name: &str,
        hosts: &[String],
        lasts: Duration,
    ) -> Result<Bearer, TlsError> {
        check_name(name)?;
        let bearer = Bearer {
            cluster: self.cluster.clone(),
            kind,
            name: name.to_owned(),
        };
        let mut params = params(lasts, &serial());
        called(&mut params, &format!("{kind} {name} of {}", self.cluster));
        params.subject_alt_names = vec![uri(&bearer.uri())?];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if kind == BearerKind::Node {
            params
                .extended_key_usages
                .push(ExtendedKeyUsagePurpose::ServerAuth);
            let own = [any_node(&self.cluster), this_node(&self.cluster, name)];
            for host in own.iter().chain(hosts) {
                params.subject_alt_names.push(host_name(host)?);
            }
        }
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(not_made)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(not_made)?;
        let files = self.folder.of(kind, name);
        put(&files.key, key.serialize_pem().as_bytes(), true)?;
        put(&files.certificate, certificate.pem().as_bytes(), false)?;
        Ok(bearer)
    }

    /// Adds a certificate to the list of what was revoked; false when it was there. Nodes that read the list cut its
    /// bearer off.
    ///
    /// # Errors
    /// When the certificate or the list cannot be read, another authority signed it, or nothing can be written.
    pub fn revoke(&self, certificate: &Path) -> Result<bool, TlsError> {
        let wrong = |problem: &str, mend: &'static str| TlsError::Content {
            path: certificate.to_owned(),
            problem: problem.to_owned(),
            mend,
        };
        let name_it = "name the certificate that is to be revoked (a .crt file)";
        let chain: Vec<CertificateDer<'static>> = read_all(certificate)?;
        let own = chain
            .first()
            .ok_or_else(|| wrong("holds no certificate", name_it))?;
        let parsed = EndEntityCert::try_from(own)
            .map_err(|cause| wrong(&format!("is no certificate ({cause})"), name_it))?;
        let authority = EndEntityCert::try_from(&self.certificate)
            .map_err(|cause| damaged(&self.folder.authorities(), &cause))?;
        if parsed.issuer() != authority.subject() {
            return Err(wrong(
                "was signed by another authority than the newest of this folder",
                "take that authority out of ca.crt on all nodes, which ends all that it has signed",
            ));
        }
        let path = self.folder.revoked();
        let lists: Vec<CertificateRevocationListDer<'static>> = match read_all(&path) {
            Err(TlsError::File { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {
                Vec::new()
            }
            read => read?,
        };
        let (mut serials, mut kept) = (BTreeSet::new(), String::new());
        for list in &lists {
            let (issuer, revoked) = read_list(list).map_err(|cause| TlsError::Content {
                path: path.clone(),
                problem: format!("is no list of revoked certificates ({cause})"),
                mend: "put the list there again that was in use",
            })?;
            if issuer == authority.subject() {
                serials.extend(revoked);
            } else {
                kept.push_str(&pem_of_list(list));
            }
        }
        let is_new = serials.insert(parsed.serial().to_vec());
        let list = self.list_of(serials)?;
        put(&path, format!("{list}{kept}").as_bytes(), false)?;
        Ok(is_new)
    }

    fn list_of(&self, serials: BTreeSet<Vec<u8>>) -> Result<String, TlsError> {
        let now = OffsetDateTime::now_utc();
        let revoked = |serial: Vec<u8>| RevokedCertParams {
            serial_number: SerialNumber::from_slice(&serial),
            revocation_time: now,
            reason_code: Some(RevocationReason::Unspecified),
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: now - CLOCKS_DIFFER,
            next_update: now + AUTHORITY_LASTS,
            crl_number: SerialNumber::from(now.unix_timestamp().unsigned_abs()),
            issuing_distribution_point: None,
            revoked_certs: serials.into_iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).map_err(not_made)?;
        list.pem().map_err(not_made)
    }
}

/// When a certificate's time is over, in Unix seconds; for people who look what is to be renewed.
///
/// # Errors
/// When the file cannot be read or holds no certificate.
pub fn describe(path: &Path) -> Result<Description, TlsError> {
    let wrong = |problem: String| TlsError::Content {
        path: path.to_owned(),
        problem,
        mend: "put the file there again, or make it anew with `souk cert`",
    };
    let chain: Vec<CertificateDer<'static>> = read_all(path)?;
    let first = chain
        .first()
        .ok_or_else(|| wrong("holds no certificate".to_owned()))?;
    let (_, parsed) = x509_parser::parse_x509_certificate(first)
        .map_err(|cause| wrong(format!("is no certificate ({cause})")))?;
    Ok(Description {
        bearer: Bearer::of(first),
        subject: parsed.subject().to_string(),
        valid_from_unix_s: parsed.validity().not_before.timestamp(),
        valid_until_unix_s: parsed.validity().not_after.timestamp(),
    })
}

/// What people want to know of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Whose it is; `None` for authorities.
    pub bearer: Option<Bearer>,
    /// In its own words.
    pub subject: String,
    /// When its time began, in Unix seconds.
    pub valid_from_unix_s: i64,
    /// When its time is over, in Unix seconds.
    pub valid_until_unix_s: i64,
}

/// Who signed a list, and the serial numbers on it.
fn read_list(
    list: &CertificateRevocationListDer<'_>,
) -> Result<(Vec<u8>, Vec<Vec<u8>>), webpki::Error> {
    let parsed = BorrowedCertRevocationList::from_der(list)?;
    let serials = (&parsed)
        .into_iter()
        .map(|revoked| revoked.map(|revoked| revoked.serial_number.to_vec()))
        .collect::<Result<_, _>>()?;
    let list = CertRevocationList::Borrowed(parsed);
    Ok((list.issuer().to_vec(), serials))
}

fn params(lasts: Duration, serial: &[u8]) -> CertificateParams {
    let now = OffsetDateTime::now_utc();
    let mut params = CertificateParams::default();
    params.not_before = now - CLOCKS_DIFFER;
    params.not_after = now + lasts;
    params.serial_number = Some(SerialNumber::from_slice(serial));
    params
}

fn called(params: &mut CertificateParams, name: &str) {
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
}

/// Random, and a positive number of full length.
fn serial() -> [u8; SERIAL_BYTES] {
    let mut serial = [0; SERIAL_BYTES];
    rand::rng().fill_bytes(&mut serial);
    serial[0] = (serial[0] & 0x7f) | 0x40;
    serial
}

fn uri(text: &str) -> Result<SanType, TlsError> {
    let text = text.try_into().map_err(not_made)?;
    Ok(SanType::URI(text))
}

fn host_name(host: &str) -> Result<SanType, TlsError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let name = host.try_into().map_err(not_made)?;
    Ok(SanType::DnsName(name))
}

/// The cluster that an authority's certificate names.
fn cluster_of(certificate: &CertificateDer<'_>) -> Option<String> {
    let parsed = EndEntityCert::try_from(certificate).ok()?;
    parsed.valid_uri_names().find_map(|uri| {
        let (cluster, rest) = uri.strip_prefix("souk://")?.split_once('/')?;
        (rest.starts_with("authority/") && is_name(cluster)).then(|| cluster.to_owned())
    })
}

fn check_name(name: &str) -> Result<(), TlsError> {
    if is_name(name) {
        return Ok(());
    }
    Err(TlsError::Name {
        name: name.to_owned(),
    })
}

fn not_made(cause: rcgen::Error) -> TlsError {
    TlsError::NotMade {
        cause: cause.to_string(),
        mend: "check names and hosts, and that ca.crt and ca.key belong together",
    }
}

fn damaged(path: &Path, cause: &webpki::Error) -> TlsError {
    TlsError::Content {
        path: path.to_owned(),
        problem: format!("is damaged ({cause})"),
        mend: KEEP_THE_KEY,
    }
}

fn pem_of_list(list: &CertificateRevocationListDer<'_>) -> String {
    pem::encode(&pem::Pem::new("X509 CRL", list.to_vec()))
}

/// Puts a file in place whole; a secret one for its owner's eyes only.
fn put(path: &Path, bytes: &[u8], secret: bool) -> Result<(), TlsError> {
    let written = || -> io::Result<()> {
        let beside = path.with_extension("new");
        // A file left by an earlier attempt might be readable by others.
        match fs::remove_file(&beside) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
            _ => {}
        }
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(if secret { 0o600 } else { 0o644 })
            .open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    written().map_err(|cause| missing(path, cause))
}
