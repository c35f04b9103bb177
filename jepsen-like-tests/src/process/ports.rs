//! Ports that nobody listens on.
//!
//! They are taken from below the range that the system gives to outgoing connections: a port of a killed
//! node must still be free when the node is started again.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use super::HarnessError;

const FIRST: u16 = 12_000;
const COUNT: u16 = 18_000;

/// `wanted` distinct free ports on 127.0.0.1. Concurrent tests of one process never get the same; those of
/// other processes begin elsewhere.
pub(super) fn free_ports(wanted: usize) -> Result<Vec<u16>, HarnessError> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = std::process::id().wrapping_mul(97) % u32::from(COUNT);
    let start = u16::try_from(start).unwrap_or(0);
    let mut free = Vec::with_capacity(wanted);
    for _ in 0..COUNT {
        if free.len() == wanted {
            break;
        }
        let offset = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = FIRST + offset;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            free.push(port);
        }
    }
    if free.len() == wanted {
        Ok(free)
    } else {
        Err(HarnessError::NoPorts { wanted })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ports_are_distinct_and_free() {
        let one = free_ports(5).unwrap();
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, one[4] + 1));
        let two = free_ports(5).unwrap();
        let all: BTreeSet<u16> = one.iter().chain(&two).copied().collect();
        assert_eq!(all.len(), 10);
        assert!(held.is_err() || !two.contains(&(one[4] + 1)));
    }
}
