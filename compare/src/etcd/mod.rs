//! Three members of etcd on this machine, with their defaults, and the load on them.
//!
//! | file | idea |
//! |---|---|
//! | `api` | the few messages of etcd's API that are needed |
//! | `load` | clients that write, read, compare and set |
//!
//! etcd syncs its log before it acknowledges, on a majority of members; reads are linearizable unless asked otherwise.
//! Clients are spread over the members, as etcd's own benchmarks do.

mod api;
mod load;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::error::CompareError;
use crate::figure::Figure;
use crate::measure::Measure;
use crate::process::{Server, free_ports, is_installed, output};
use load::Load;

/// Running members.
#[derive(Debug)]
pub(crate) struct Etcd {
    load: Load,
    _members: Vec<Server>,
}

/// Why etcd cannot be measured here; none when it can.
pub(crate) fn missing() -> Option<String> {
    let programs = [("etcd", "etcd-server"), ("etcdctl", "etcd-client")];
    programs
        .into_iter()
        .find(|(program, _)| !is_installed(program))
        .map(|(program, package)| format!("there is no {program}; install the package {package}"))
}

impl Etcd {
    /// Starts three members, waits until they have a leader, and writes the keys.
    pub(crate) fn start(home: &Path, clients: u32) -> Result<Self, CompareError> {
        let ports = free_ports::<6>()?;
        let urls = ports.map(|port| format!("http://127.0.0.1:{port}"));
        let (peers, endpoints) = urls.split_at(3);
        let members = (1..).zip(peers);
        let members: Vec<String> = members.map(|(n, url)| format!("e{n}={url}")).collect();
        let all = members.join(",");
        let mut servers = Vec::new();
        for (number, (peer, client)) in (1..).zip(peers.iter().zip(endpoints)) {
            let name = format!("e{number}");
            let mut command = Command::new("etcd");
            command
                .arg("--data-dir")
                .arg(home.join(format!("etcd-{name}")));
            for (option, value) in [
                ("--name", &name),
                ("--listen-peer-urls", peer),
                ("--initial-advertise-peer-urls", peer),
                ("--listen-client-urls", client),
                ("--advertise-client-urls", client),
                ("--initial-cluster", &all),
            ] {
                command.args([option, value]);
            }
            let log = home.join(format!("etcd-{name}.log"));
            servers.push(Server::start(&mut command, log, Signal::TERM)?);
        }
        for (server, endpoint) in servers.iter_mut().zip(endpoints) {
            server.wait_until(|| {
                let mut ask = Command::new("etcdctl");
                ask.env("ETCDCTL_API", "3");
                output(ask.args(["--endpoints", endpoint, "endpoint", "health"])).is_ok()
            })?;
        }
        Ok(Self {
            load: Load::new(endpoints, clients)?,
            _members: servers,
        })
    }

    /// Runs one workload.
    pub(crate) fn run(
        &mut self,
        measure: &Measure,
        time: Duration,
    ) -> Result<Figure, CompareError> {
        self.load.run(measure, time)
    }
}
