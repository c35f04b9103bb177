//! Ports that nobody listens on, for nodes that are stopped and started again.
//!
//! They lie below the range that the system gives to outgoing connections, one of which would else take the port of
//! a node while it is down.

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::atomic::{AtomicU16, Ordering},
};

const FIRST: u16 = 12_000;
const COUNT: u16 = 18_000;

/// So many ports on 127.0.0.1. Tests of one process never get the same; those of other processes begin elsewhere.
pub(crate) fn free_ports(wanted: usize) -> Vec<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id().wrapping_mul(97) % u32::from(COUNT)) as u16;
    let offsets = std::iter::repeat_with(|| NEXT.fetch_add(1, Ordering::Relaxed));
    let ports = offsets
        .map(|offset| FIRST + (start + offset % COUNT) % COUNT)
        .take(COUNT.into());
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let free: Vec<u16> = ports.filter(is_free).take(wanted).collect();
    assert_eq!(free.len(), wanted, "too few free ports from {FIRST} on");
    free
}
