//! Prepares a machine for a run, and tidies up after it.
//!
//! Hosts are made whenever they can be; disks, clocks, fail points and shares of the machine only for faults that need them,
//! as a node that is not watched by a library behaves most like one in production.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::ability::{Abilities, Need};
use super::clock::{self, Clocks};
use super::disk::{Disks, RESERVE_BYTES};
use super::failpoint::{self, FailPoints};
use super::hosts::Hosts;
use super::mark::{Mark, sweep};
use super::starve::{Groups, Roots};
use crate::fault::Fault;
use crate::process::{HarnessError, Plot, Site};

/// Which hosts are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostsWanted {
    /// Namespaces where they can be made, this machine otherwise.
    #[default]
    Auto,
    /// Namespaces, or nothing.
    Namespaces,
    /// All processes side by side on this machine.
    Loopback,
}

impl HostsWanted {
    /// The option of `souk-jepsen run` that says so, with a space before it; empty for the default.
    #[must_use]
    pub fn option(self) -> &'static str {
        match self {
            HostsWanted::Auto => "",
            HostsWanted::Namespaces => " --hosts namespaces",
            HostsWanted::Loopback => " --hosts loopback",
        }
    }
}

/// See the module. Dropped, it removes everything; the cluster on it has to be gone by then.
#[derive(Debug)]
pub struct Ground {
    pub(super) hosts: Option<Hosts>,
    pub(super) disks: Option<Disks>,
    pub(super) clocks: Option<Clocks>,
    pub(super) fail_points: Option<FailPoints>,
    pub(super) groups: Option<Groups>,
    nodes: Vec<String>,
    /// Why there are no hosts, though they were wanted if possible.
    pub(super) why_loopback: Option<String>,
}

impl Ground {
    /// Prepares for nodes of these names, whose files go below `home`, a folder that exists.
    ///
    /// # Errors
    /// When this machine cannot do one of the faults, which is [`HarnessError::Lacking`], or a tool fails.
    pub fn prepare(
        faults: &[Fault],
        wanted: HostsWanted,
        home: &Path,
        nodes: &[String],
    ) -> Result<Ground, HarnessError> {
        let roots = Roots::find();
        let folders = roots.as_ref().map(Roots::folders).unwrap_or_default();
        for name in sweep(&folders) {
            tracing::warn!(name, "removed what a run left that was ended by force");
        }
        let abilities = Abilities::probe();
        check(&abilities, faults, wanted)?;
        let needs = |need| faults.iter().any(|fault| Need::of(*fault).contains(&need));
        let mark = Mark::new();
        let mut ground = Ground {
            hosts: None,
            disks: None,
            clocks: None,
            fail_points: None,
            groups: None,
            nodes: nodes.to_vec(),
            why_loopback: None,
        };
        match (wanted, abilities.lack_of(Need::Hosts)) {
            (HostsWanted::Loopback, _) => {}
            (_, Some(lack)) => ground.why_loopback = Some(lack.to_string()),
            (_, None) => ground.hosts = Some(Hosts::build(mark, nodes)?),
        }
        if needs(Need::Disks) {
            ground.disks = Some(Disks::mount(mark, home, nodes)?);
        }
        if let Some(library) = clock::library().filter(|_| needs(Need::Clocks)) {
            ground.clocks = Some(Clocks::set_up(library, home, nodes)?);
        }
        if let Some(folder) = failpoint::folder().filter(|_| needs(Need::FailPoints)) {
            ground.fail_points = Some(FailPoints::new(folder, home));
        }
        if let Some(roots) = roots.filter(|_| needs(Need::Groups)) {
            ground.groups = Some(Groups::make(roots, mark, nodes)?);
        }
        Ok(ground)
    }

    /// Where the servers of a cluster live on it.
    ///
    /// # Errors
    /// When a node was not prepared for.
    pub fn site(&self) -> Result<Site, HarnessError> {
        let loopback = Site::loopback(self.nodes.len());
        let mut plots = Vec::new();
        for (name, plot) in self.nodes.iter().zip(&loopback.plots) {
            plots.push(self.plot(name, plot.address)?);
        }
        Ok(Site {
            plots,
            front: match &self.hosts {
                Some(hosts) => IpAddr::V4(hosts.front()),
                None => loopback.front,
            },
            disk_reserve_bytes: self.disks.as_ref().map(|_| RESERVE_BYTES),
        })
    }

    /// Why nodes share this machine's network, though hosts of their own were wanted.
    #[must_use]
    pub fn why_loopback(&self) -> Option<&str> {
        self.why_loopback.as_deref()
    }

    /// `namespaces` or `loopback`.
    #[must_use]
    pub fn hosts_name(&self) -> &'static str {
        match self.hosts {
            Some(_) => "namespaces",
            None => "loopback",
        }
    }

    fn plot(&self, name: &str, loopback: IpAddr) -> Result<Plot, HarnessError> {
        let mut prefix = Vec::new();
        let mut address = loopback;
        if let Some(groups) = &self.groups {
            prefix.extend(groups.prefix(name)?);
        }
        if let Some(hosts) = &self.hosts {
            let host = hosts.of(name)?;
            prefix.extend(host.prefix());
            address = IpAddr::V4(host.address);
        }
        // Last, so that the libraries are loaded into the node only.
        let libraries = self.libraries();
        if !libraries.is_empty() {
            prefix.push("env".to_owned());
            prefix.push(format!("LD_PRELOAD={}", libraries.join(":")));
            prefix.extend(self.clocks.iter().flat_map(|clocks| clocks.variables(name)));
            prefix.extend(self.fail_points.iter().flat_map(FailPoints::variables));
        }
        let data = match &self.disks {
            Some(disks) => Some(PathBuf::from(disks.of(name)?)),
            None => None,
        };
        Ok(Plot {
            address,
            prefix,
            data,
        })
    }

    fn libraries(&self) -> Vec<String> {
        let clocks = self.clocks.iter().map(Clocks::preload);
        clocks
            .chain(self.fail_points.iter().map(FailPoints::preload))
            .collect()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if self.clocks.is_some() {
            clock::tidy();
        }
    }
}

/// Refuses what cannot be done here.
fn check(abilities: &Abilities, faults: &[Fault], wanted: HostsWanted) -> Result<(), HarnessError> {
    for fault in faults {
        let lacks: Vec<String> = abilities
            .lacks_for(*fault)
            .into_iter()
            .map(ToString::to_string)
            .collect();
        if !lacks.is_empty() {
            return Err(lacking(fault, lacks.join("; ")));
        }
        if wanted == HostsWanted::Loopback && Need::of(*fault).contains(&Need::Hosts) {
            let why =
                "it happens between hosts, and --hosts loopback asks for none; leave that away";
            return Err(lacking(fault, why.to_owned()));
        }
    }
    match (wanted, abilities.lack_of(Need::Hosts)) {
        (HostsWanted::Namespaces, Some(lack)) => {
            Err(lacking("a network of namespaces", lack.to_string()))
        }
        _ => Ok(()),
    }
}

fn lacking(what: impl ToString, why: String) -> HarnessError {
    HarnessError::Lacking {
        what: what.to_string(),
        why,
    }
}
