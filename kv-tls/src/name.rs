//! What a certificate says of its bearer.
//!
//! Every certificate carries one URI, `souk://<cluster>/<kind>/<name>`. A node's carries two host names beside it,
//! which stand for no host at all: one for "a node of this cluster" and one for "this very node". Whoever connects
//! asks for one of them, so that the ordinary check of host names does the work, wherever the node runs.

use std::fmt;

use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;

/// The scheme of the URI.
const SCHEME: &str = "souk://";
/// Under this, nobody else's names lie (ICANN reserved `internal` for private use).
const DOMAIN: &str = "souk.internal";

/// Which kind of bearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BearerKind {
    /// Speaks for a node to other nodes, and serves.
    Node,
    /// An operator: may do everything that clients may, without a token.
    Operator,
    /// A client, which needs a token for whatever it does.
    Client,
}

impl BearerKind {
    /// As it stands in certificates and names of files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Operator => "operator",
            Self::Client => "client",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Node, Self::Operator, Self::Client]
            .into_iter()
            .find(|kind| kind.as_str() == name)
    }
}

impl fmt::Display for BearerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who a certificate was made for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bearer {
    /// The cluster's id.
    pub cluster: String,
    /// Which kind.
    pub kind: BearerKind,
    /// 1 to 63 characters of a-z, 0-9 and `-`; for nodes, the name of the node.
    pub name: String,
}

impl Bearer {
    /// The URI that certificates carry.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("{SCHEME}{}/{}/{}", self.cluster, self.kind, self.name)
    }

    /// Reads such a URI; `None` when it is none.
    #[must_use]
    pub fn from_uri(uri: &str) -> Option<Self> {
        let mut parts = uri.strip_prefix(SCHEME)?.split('/');
        let (cluster, kind, name) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || !is_name(cluster) || !is_name(name) {
            return None;
        }
        Some(Self {
            cluster: cluster.to_owned(),
            kind: BearerKind::from_name(kind)?,
            name: name.to_owned(),
        })
    }

    /// Who a certificate was made for; `None` when it names nobody, or more than one. Says nothing about who signed it.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let parsed = EndEntityCert::try_from(certificate).ok()?;
        let mut bearers = parsed.valid_uri_names().filter_map(Self::from_uri);
        let bearer = bearers.next()?;
        bearers.next().is_none().then_some(bearer)
    }
}

impl fmt::Display for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} `{}` of cluster `{}`",
            self.kind, self.name, self.cluster
        )
    }
}

/// The host name that stands for any node of a cluster.
pub(crate) fn any_node(cluster: &str) -> String {
    format!("node.{cluster}.{DOMAIN}")
}

/// The host name that stands for one node of a cluster.
pub(crate) fn this_node(cluster: &str, node: &str) -> String {
    format!("{node}.node.{cluster}.{DOMAIN}")
}

/// What clusters, nodes and other bearers may be called.
pub(crate) fn is_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(uri: &str, expected: Option<(&str, BearerKind, &str)>) {
        let bearer = Bearer::from_uri(uri);
        let shown = bearer
            .as_ref()
            .map(|bearer| (bearer.cluster.as_str(), bearer.kind, bearer.name.as_str()));
        assert_eq!(shown, expected, "{uri}");
        if let Some(bearer) = bearer {
            assert_eq!(bearer.uri(), uri);
        }
    }

    #[test]
    fn bearers_are_read_as_they_are_written() {
        check("souk://dev/node/n1", Some(("dev", BearerKind::Node, "n1")));
        check(
            "souk://dev/operator/ann",
            Some(("dev", BearerKind::Operator, "ann")),
        );
        for wrong in [
            "souk://dev/node",
            "souk://dev/node/n1/x",
            "souk://dev/king/n1",
            "souk://dev/node/N1",
            "souk:///node/n1",
            "spiffe://dev/node/n1",
            "",
        ] {
            check(wrong, None);
        }
    }
}
