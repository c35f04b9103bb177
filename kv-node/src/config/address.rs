//! Where a server listens and others find it: `host:port`.
//!
//! Place: pure; the driver resolves it when it listens or connects.
//! Not here: name resolution, which can block and can change.

use std::fmt;
use std::net::IpAddr;

/// A host (an IP address or a DNS name) and a port of 1 to 65535.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// Reads `host:port`; an IPv6 host stands in brackets. `None` when it is neither.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let all_digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port: u16 = port.parse().ok().filter(|port| all_digits && *port != 0)?;
        let host = match host.strip_prefix('[') {
            Some(rest) => rest
                .strip_suffix(']')
                .filter(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok())?,
            None => Some(host).filter(|host| is_host(host))?,
        };
        Some(Self {
            host: host.to_owned(),
            port,
        })
    }

    /// IP address or DNS name, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// 1 to 65535.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The same host on another port.
    #[must_use]
    pub fn with_port(&self, port: u16) -> Self {
        Self {
            host: self.host.clone(),
            port,
        }
    }

    /// True if only this machine can reach it. A DNS name other than `localhost` counts as reachable.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(ip) => ip.is_loopback(),
            Err(_) => self.host == "localhost",
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// An IPv4 address, or labels of a DNS name. All digits and dots must be an IPv4 address.
fn is_host(host: &str) -> bool {
    if host.parse::<std::net::Ipv4Addr>().is_ok() {
        return true;
    }
    let labels_fit = host.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    });
    let looks_like_ip = host
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    host.len() <= 253 && labels_fit && !looks_like_ip
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, loopback: Option<bool>) {
        let address = Address::parse(text);
        assert_eq!(
            address.as_ref().map(Address::is_loopback),
            loopback,
            "{text}"
        );
        if let Some(address) = address {
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn loopback_addresses_are_recognised() {
        check("127.0.0.1:7101", Some(true));
        check("127.9.9.9:1", Some(true));
        check("localhost:8080", Some(true));
        check("[::1]:7101", Some(true));
    }

    #[test]
    fn reachable_addresses_are_recognised() {
        check("0.0.0.0:7101", Some(false));
        check("[::]:7101", Some(false));
        check("10.0.0.4:65535", Some(false));
        check("n1.example.com:7101", Some(false));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            ":",
            "127.0.0.1",
            "127.0.0.1:0",
            "127.0.0.1:65536",
            "127.0.0.1:+80",
            "300.0.0.1:80",
        ] {
            check(text, None);
        }
        for text in [
            "::1:7101",
            "[::1:7101",
            "[127.0.0.1]:80",
            "http://a:80",
            "a b:80",
            "-a:80",
            ":80",
        ] {
            check(text, None);
        }
    }
}
