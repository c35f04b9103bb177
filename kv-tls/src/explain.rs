//! Why a handshake failed, in words that say what to do.
//!
//! Shape: each end sees a failure in its own way. The one that checked sees the flaw itself; the other one only gets
//! an alert, and is told what its own certificate may lack.

use std::{error::Error, fmt, io};

use rustls::{AlertDescription, CertificateError, InvalidMessage};

/// In one word, for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The other end showed no certificate.
    NoCertificate,
    /// No authority that is trusted signed it.
    UnknownAuthority,
    /// Its time is over.
    Expired,
    /// Its time has not begun.
    NotYetValid,
    /// It was revoked.
    Revoked,
    /// It is somebody else's.
    WrongName,
    /// It is for another purpose: a client's, where a node's is needed.
    WrongPurpose,
    /// The other end does not speak TLS, or no version of it that is spoken here.
    NotTls,
    /// The handshake took too long or broke off.
    BrokenOff,
    /// Anything else.
    Other,
}

impl Reason {
    /// As metrics and logs name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoCertificate => "no_certificate",
            Self::UnknownAuthority => "unknown_authority",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Revoked => "revoked",
            Self::WrongName => "wrong_name",
            Self::WrongPurpose => "wrong_purpose",
            Self::NotTls => "not_tls",
            Self::BrokenOff => "broken_off",
            Self::Other => "other",
        }
    }

    /// What a certificate with this flaw is, after "the certificate of the other end".
    pub(crate) fn flaw(self) -> &'static str {
        match self {
            Self::NoCertificate => "is missing",
            Self::UnknownAuthority => {
                "is signed by an authority that is not in the authorities' file"
            }
            Self::Expired => "has expired",
            Self::NotYetValid => "is not valid yet",
            Self::Revoked => "was revoked",
            Self::WrongName => "is another bearer's",
            Self::WrongPurpose => "is for another purpose",
            Self::NotTls | Self::BrokenOff | Self::Other => "cannot be used",
        }
    }

    /// What to do about it, said to whoever made the certificate.
    pub(crate) fn mend(self) -> &'static str {
        match self {
            Self::NoCertificate => {
                "give a certificate and its key (--cert and --key, or `security.certificates` in cluster.toml)"
            }
            Self::UnknownAuthority => {
                "use certificates of this cluster's authority, and its ca.crt, on both ends"
            }
            Self::Expired => "make a new one with `souk cert`; it is taken up without a restart",
            Self::NotYetValid => "set the clocks of both machines right, or wait",
            Self::Revoked => "make a new one with `souk cert`, if its bearer may come back",
            Self::WrongName => {
                "check which node answers at this address, and whose files it was started with"
            }
            Self::WrongPurpose => {
                "make it with `souk cert node` for a node, `souk cert operator` or `souk cert client` for others"
            }
            Self::NotTls => "use TLS on both ends or on none, and a client that speaks version 1.3",
            Self::BrokenOff => "check the network, and the log of the other end",
            Self::Other => "see the log of the other end",
        }
    }
}

/// A handshake that failed.
#[derive(Debug, Clone)]
pub struct HandshakeError {
    reason: Reason,
    text: String,
}

impl HandshakeError {
    pub(crate) fn new(reason: Reason, text: impl Into<String>) -> Self {
        Self {
            reason,
            text: text.into(),
        }
    }

    /// In one word.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// The failed handshake at the bottom of an error, if there is one.
    #[must_use]
    pub fn find_in<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            // An error of the system carries others inside without naming them as its source.
            let carried = error
                .downcast_ref::<io::Error>()
                .and_then(io::Error::get_ref)
                .and_then(|inner| inner.downcast_ref());
            let found = error.downcast_ref().or(carried);
            if found.is_some() {
                return found;
            }
            next = error.source();
        }
        None
    }

    /// Makes sense of what went wrong while bytes were read or written; an error that has nothing to do with TLS comes
    /// back as `Err`.
    pub(crate) fn explain(cause: io::Error) -> Result<Self, io::Error> {
        let Some(error) = cause
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>())
        else {
            return Err(cause);
        };
        let (reason, text) = match error {
            rustls::Error::AlertReceived(alert) => {
                let reason = of_alert(*alert);
                let text = format!(
                    "the other end refused our certificate, or one that we did not show (it said {alert:?}): {}",
                    reason.mend()
                );
                (reason, text)
            }
            other => {
                let reason = of_error(other);
                let what = match reason {
                    Reason::NotTls => "the other end does not speak TLS 1.3".to_owned(),
                    Reason::Other => format!("no secure connection ({other})"),
                    flaw => format!("the certificate of the other end {} ({other})", flaw.flaw()),
                };
                (reason, format!("{what}: {}", reason.mend()))
            }
        };
        Ok(Self { reason, text })
    }
}

/// What is at the bottom of a failed connection, in words: the failed handshake, or else the last of its sources.
#[must_use]
pub fn bottom_of(error: &(dyn Error + 'static)) -> String {
    if let Some(handshake) = HandshakeError::find_in(error) {
        return handshake.to_string();
    }
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Without a source: the text names it already.
impl Error for HandshakeError {}

impl From<HandshakeError> for io::Error {
    fn from(error: HandshakeError) -> Self {
        io::Error::new(io::ErrorKind::PermissionDenied, error)
    }
}

/// The flaw behind an error of our own end.
pub(crate) fn of_error(error: &rustls::Error) -> Reason {
    match error {
        rustls::Error::NoCertificatesPresented => Reason::NoCertificate,
        rustls::Error::InvalidCertificate(flaw) => of_flaw(flaw),
        rustls::Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        )
        | rustls::Error::PeerIncompatible(_) => Reason::NotTls,
        rustls::Error::AlertReceived(alert) => of_alert(*alert),
        _ => Reason::Other,
    }
}

fn of_flaw(flaw: &CertificateError) -> Reason {
    match flaw {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Reason::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Reason::NotYetValid
        }
        CertificateError::Revoked => Reason::Revoked,
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            Reason::UnknownAuthority
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Reason::WrongName
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            Reason::WrongPurpose
        }
        _ => Reason::Other,
    }
}

fn of_alert(alert: AlertDescription) -> Reason {
    match alert {
        AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
            Reason::NoCertificate
        }
        AlertDescription::UnknownCA | AlertDescription::DecryptError => Reason::UnknownAuthority,
        AlertDescription::CertificateExpired => Reason::Expired,
        AlertDescription::CertificateRevoked => Reason::Revoked,
        AlertDescription::UnsupportedCertificate => Reason::WrongPurpose,
        AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure => Reason::NotTls,
        AlertDescription::AccessDenied => Reason::WrongName,
        _ => Reason::Other,
    }
}
