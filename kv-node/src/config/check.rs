//! Rules that join several keys of a cluster file.
//!
//! Place: pure; runs after every key has been read on its own.
//! Invariants held for a file that passes: names and addresses are unique, every address is a
//! loopback one unless certificates are named or `insecure` says otherwise, and what may be in flight to a peer holds at least one largest value.

use std::collections::BTreeMap;
use std::ops::Range;

use super::address::Address;
use super::error::Fault;
use super::keys::{self, Key, Whole};
use super::reader::{Found, Problems, Section};
use super::sections::{ReadNode, Security};

/// The key of the only server that never speaks TLS.
pub(super) const PAYMENT_PROVIDER: &str = "shop.payment_provider";

/// Every server of the file: its key, its address and where that stands.
pub(super) type Servers = Vec<(String, Found<Address>)>;

/// Node names are unique, and there is at least one node.
pub(super) fn names(nodes: &[ReadNode], problems: &Problems<'_>) {
    if nodes.is_empty() && problems.is_empty() {
        problems.note(0..0, "node", Fault::NoNodes);
    }
    let mut seen: BTreeMap<&str, &Range<usize>> = BTreeMap::new();
    for node in nodes.iter().filter(|node| !node.name.value.is_empty()) {
        let name = &node.name;
        if let Some(first) = seen.insert(&name.value, &name.span) {
            let fault = Fault::DuplicateName {
                value: name.value.clone(),
                first_line: problems.line(first),
            };
            problems.note(name.span.clone(), "node.name", fault);
            seen.insert(&name.value, first);
        }
    }
}

/// No two servers share an address; none is exposed by accident.
pub(super) fn addresses(servers: &Servers, security: &Security, problems: &Problems<'_>) {
    let mut seen: BTreeMap<&Address, (&str, usize)> = BTreeMap::new();
    for (key, found) in servers {
        let value = found.value.to_string();
        if !security.insecure && !found.value.is_loopback() {
            let value = value.clone();
            let fault = if security.certificates.is_none() {
                Some(Fault::Exposed { value })
            } else {
                (key == PAYMENT_PROVIDER).then_some(Fault::ExposedProvider { value })
            };
            if let Some(fault) = fault {
                problems.note(found.span.clone(), key, fault);
            }
        }
        if let Some((first_key, first_line)) = seen.get(&found.value) {
            let fault = Fault::DuplicateAddress {
                value,
                first_key: (*first_key).to_owned(),
                first_line: *first_line,
            };
            problems.note(found.span.clone(), key, fault);
        } else {
            seen.insert(&found.value, (key, problems.line(&found.span)));
        }
    }
}

/// All rules of the form "this is at least that". Values replaced by stand-ins are not compared.
pub(super) fn relations(
    limits: &Section<'_, '_, '_>,
    failure_detection: &Section<'_, '_, '_>,
    problems: &Problems<'_>,
) {
    if !problems.is_empty() {
        return;
    }
    let value = (limits, &keys::VALUE_BYTES_MAX);
    let heartbeat = (failure_detection, &keys::HEARTBEAT_MS);
    at_least((limits, &keys::PEER_IN_FLIGHT_BYTES_MAX), value, problems);
    at_least(
        (failure_detection, &keys::ACCEPTABLE_PAUSE_MS),
        heartbeat,
        problems,
    );
}

type Place<'a, 'r, 't, 'p> = (&'a Section<'r, 't, 'p>, &'static Key<Whole>);

fn at_least(
    (section, key): Place<'_, '_, '_, '_>,
    (other_section, other): Place<'_, '_, '_, '_>,
    problems: &Problems<'_>,
) {
    let (found, least) = (section.whole(key), other_section.whole(other));
    if found.value < least.value {
        let dotted = |key: &Key<Whole>| format!("{}.{}", key.section, key.name);
        let fault = Fault::LessThan {
            value: found.value,
            other: dotted(other),
            other_value: least.value,
        };
        problems.note(found.span, dotted(key), fault);
    }
}
