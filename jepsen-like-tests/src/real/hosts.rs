//! One network namespace for each node, all on one bridge, which this machine is on as well.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::mark::{Mark, remove_namespace};
use super::tool::run;
use crate::process::HarnessError;

/// The interface of every node.
pub(super) const INTERFACE: &str = "eth0";
/// Networks that are tried: 10.128.0.0/24 to 10.227.255.0/24.
const SECOND_FIRST: u32 = 128;
const SECOND_COUNT: u32 = 100;
const THIRD_COUNT: u32 = 256;
const TRIES_MAX: u32 = 64;
/// The last part of this machine's address.
const FRONT: u8 = 254;

/// See the module. Dropped, it removes them.
#[derive(Debug)]
pub(super) struct Hosts {
    hub: String,
    /// This machine's end of the bridge.
    interface: String,
    front: Ipv4Addr,
    hosts: BTreeMap<String, Host>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) namespace: String,
    pub(super) address: Ipv4Addr,
}

impl Hosts {
    /// Makes one for each name.
    pub(super) fn build(mark: Mark, names: &[String]) -> Result<Hosts, HarnessError> {
        let network = free_network(mark)?;
        let address = |last: u8| Ipv4Addr::new(network[0], network[1], network[2], last);
        let mut built = Hosts {
            hub: format!("{mark}-hub"),
            interface: mark.short(),
            front: address(FRONT),
            hosts: BTreeMap::new(),
        };
        // From here on whatever was made is removed by dropping it.
        let (hub, front) = (built.hub.clone(), built.interface.clone());
        run(&format!("ip netns add {hub}"))?;
        run(&format!("ip -n {hub} link add br0 type bridge"))?;
        run(&format!("ip -n {hub} link set br0 up"))?;
        run(&format!(
            "ip link add {front} type veth peer name front netns {hub}"
        ))?;
        run(&format!("ip -n {hub} link set front master br0 up"))?;
        run(&format!("ip address add {}/24 dev {front}", built.front))?;
        run(&format!("ip link set {front} up"))?;
        for (number, name) in (1..FRONT).zip(names) {
            let host = Host {
                namespace: format!("{mark}-{name}"),
                address: address(number),
            };
            built.hosts.insert(name.clone(), host.clone());
            host.build(&hub, name)?;
        }
        Ok(built)
    }

    pub(super) fn front(&self) -> Ipv4Addr {
        self.front
    }

    /// The host of a node.
    pub(super) fn of(&self, name: &str) -> Result<&Host, HarnessError> {
        self.hosts
            .get(name)
            .ok_or_else(|| HarnessError::NoSuchServer {
                name: name.to_owned(),
            })
    }
}

impl Host {
    fn build(&self, hub: &str, name: &str) -> Result<(), HarnessError> {
        let Host { namespace, address } = self;
        run(&format!("ip netns add {namespace}"))?;
        run(&format!(
            "ip link add {INTERFACE} netns {namespace} type veth peer name {name} netns {hub}"
        ))?;
        run(&format!("ip -n {hub} link set {name} master br0 up"))?;
        run(&format!(
            "ip -n {namespace} address add {address}/24 dev {INTERFACE}"
        ))?;
        run(&format!("ip -n {namespace} link set {INTERFACE} up"))?;
        run(&format!("ip -n {namespace} link set lo up"))?;
        Ok(())
    }

    /// What starts a command in it.
    pub(super) fn prefix(&self) -> Vec<String> {
        let file = format!("--net=/run/netns/{}", self.namespace);
        vec!["nsenter".to_owned(), file]
    }

    /// Runs a command line in it.
    pub(super) fn run(&self, line: &str) -> Result<String, HarnessError> {
        run(&format!("{} {line}", self.prefix().join(" ")))
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        // Fails only when it is gone already.
        run(&format!("ip link delete {}", self.interface)).ok();
        for host in self.hosts.values() {
            remove_namespace(&host.namespace);
        }
        remove_namespace(&self.hub);
    }
}

/// The first three parts of addresses that nothing of this machine uses.
fn free_network(mark: Mark) -> Result<[u8; 3], HarnessError> {
    let used = run("ip -o -4 route show table all")?;
    let candidate = |number: u32| {
        let number = mark.spread().wrapping_add(number);
        let second = SECOND_FIRST + (number / THIRD_COUNT) % SECOND_COUNT;
        let third = number % THIRD_COUNT;
        [10, second, third].map(|part| u8::try_from(part).unwrap_or(u8::MAX))
    };
    (0..TRIES_MAX)
        .map(candidate)
        .find(|[a, b, c]| !used.contains(&format!("{a}.{b}.{c}.")))
        .ok_or_else(|| HarnessError::Lacking {
            what: "a network of hosts".to_owned(),
            why: format!(
                "none of {TRIES_MAX} networks below 10.128.0.0 is free; remove some of their routes"
            ),
        })
}

#[cfg(test)]
mod tests {
    use super::super::ability::{Abilities, Need};
    use super::*;

    #[test]
    fn hosts_of_two_runs_live_side_by_side_and_are_gone_when_dropped() {
        if let Some(lack) = Abilities::probe().lack_of(Need::Hosts) {
            eprintln!("skipped: {lack}");
            return;
        }
        let names = ["n1".to_owned(), "n2".to_owned()];
        let one = Hosts::build(Mark::new(), &names).unwrap();
        let other = Hosts::build(Mark::new(), &names).unwrap();
        assert_ne!(one.front(), other.front());
        let host = one.of("n2").unwrap().clone();
        let seen = host.run("ip -o -4 address show").unwrap();
        assert!(seen.contains(&host.address.to_string()), "{seen}");
        let (hub, interface) = (one.hub.clone(), one.interface.clone());
        drop(one);
        let left = run("ip netns list").unwrap() + &run("ip -o link show").unwrap();
        for name in [&host.namespace, &hub, &interface] {
            assert!(!left.contains(name.as_str()), "{name} is left in {left}");
        }
        assert!(
            left.contains(&other.hub),
            "that of the other run was removed"
        );
    }
}
