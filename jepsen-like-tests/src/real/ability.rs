//! What this machine can do to processes: found out by trying, not by guessing from names and versions.
//!
//! Invariant: a fault whose needs are all there can be done; for every other one it is said what is missing and how to
//! mend it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::{Serialize, Serializer};

use super::mark::{Mark, remove_namespace};
use super::starve::Roots;
use super::tool::{find, run, run_words};
use super::{clock, failpoint};
use crate::fault::Fault;

/// A tool or a right that some faults need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// Network namespaces of their own.
    Hosts,
    /// Dropping packets.
    Filter,
    /// Holding packets back.
    Queue,
    /// Limiting what a network carries.
    Shaper,
    /// A wrong time of day.
    Clocks,
    /// Failing system calls.
    FailPoints,
    /// Disks of their own.
    Disks,
    /// Sharing out processors and memory.
    Groups,
}

impl Need {
    /// All of them.
    pub const ALL: [Need; 8] = [
        Need::Hosts,
        Need::Filter,
        Need::Queue,
        Need::Shaper,
        Need::Clocks,
        Need::FailPoints,
        Need::Disks,
        Need::Groups,
    ];

    /// What a fault needs; nothing where signals and files suffice.
    #[must_use]
    pub fn of(fault: Fault) -> &'static [Need] {
        match fault {
            Fault::None
            | Fault::KillOne
            | Fault::KillMajority
            | Fault::PauseOne
            | Fault::Restart
            | Fault::BitFlip
            | Fault::Wipe
            | Fault::KillShop
            | Fault::Membership => &[],
            Fault::SplitOne
            | Fault::SplitHalves
            | Fault::SplitRing
            | Fault::SplitBridge
            | Fault::SplitOneWay
            | Fault::SplitFlapping
            | Fault::Lossy => &[Need::Hosts, Need::Filter],
            Fault::Slow | Fault::Jitter => &[Need::Hosts, Need::Queue],
            Fault::Narrow => &[Need::Hosts, Need::Shaper],
            Fault::ClockJump | Fault::ClockStrobe | Fault::ClockRate => &[Need::Clocks],
            Fault::DiskFull => &[Need::Disks],
            Fault::SyncError | Fault::TornWrite => &[Need::FailPoints],
            Fault::CpuStarved | Fault::MemoryStarved => &[Need::Groups],
        }
    }

    /// What has to be there, and how it comes there.
    fn remedy(self) -> &'static str {
        match self {
            Need::Hosts => "run it as root with `ip` and `nsenter` (Debian: iproute2, util-linux)",
            Need::Filter => {
                "install `nft` (Debian: nftables) and use a kernel with nf_tables and its numgen"
            }
            Need::Queue => "install `iptables` and use a kernel with the NFQUEUE target",
            Need::Shaper => "install `tc` (Debian: iproute2) and use a kernel with sch_tbf",
            Need::Clocks => "install libfaketime (Debian: faketime)",
            Need::FailPoints => "install libfiu (Debian: fiu-utils)",
            Need::Disks => "run it as root, where a tmpfs can be mounted",
            Need::Groups => {
                "run it as root, with control groups for cpu and memory mounted and writable"
            }
        }
    }
}

/// Something that is missing here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lack {
    /// For what.
    pub need: Need,
    /// What was tried, and what came of it.
    pub missing: String,
    /// How to mend it.
    pub mend: &'static str,
}

impl fmt::Display for Lack {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}; {}", self.missing, self.mend)
    }
}

/// What this machine can do. Serialised as what it cannot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abilities {
    lacks: BTreeMap<Need, Lack>,
}

impl Abilities {
    /// Tries everything once, in a namespace that is removed again.
    #[must_use]
    pub fn probe() -> Abilities {
        Self::probe_as(Mark::new())
    }

    fn probe_as(mark: Mark) -> Abilities {
        let namespace = format!("{mark}-probe");
        let mut lacks = BTreeMap::new();
        for need in Need::ALL {
            let tried = match need {
                Need::Hosts => tools(&["ip", "nsenter"]).and_then(|()| hosts(&namespace)),
                Need::Filter => tools(&["nft"]).and_then(|()| filter(&namespace)),
                Need::Queue => tools(&["iptables"]).and_then(|()| queue(&namespace)),
                Need::Shaper => tools(&["tc"]).and_then(|()| shaper(&namespace)),
                Need::Clocks => some(clock::library(), "there is no libfaketimeMT.so.1"),
                Need::FailPoints => {
                    some(failpoint::folder(), "there is no libfiu or no `fiu-ctrl`")
                }
                Need::Disks => tools(&["mount", "umount"]).and_then(|()| disks()),
                Need::Groups => groups(mark),
            };
            if let Err(missing) = tried {
                let mend = need.remedy();
                lacks.insert(
                    need,
                    Lack {
                        need,
                        missing,
                        mend,
                    },
                );
            }
        }
        remove_namespace(&namespace);
        Abilities { lacks }
    }

    /// What is missing for a need, if anything is.
    #[must_use]
    pub fn lack_of(&self, need: Need) -> Option<&Lack> {
        self.lacks.get(&need)
    }

    /// What is missing for a fault; empty when it can be done.
    #[must_use]
    pub fn lacks_for(&self, fault: Fault) -> Vec<&Lack> {
        let needs = Need::of(fault).iter();
        needs.filter_map(|need| self.lack_of(*need)).collect()
    }
}

impl Serialize for Abilities {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.lacks.values())
    }
}

fn some<T>(found: Option<T>, missing: &str) -> Result<(), String> {
    found.map(|_| ()).ok_or_else(|| missing.to_owned())
}

fn tools(names: &[&str]) -> Result<(), String> {
    let missing = names.iter().find(|name| find(name).is_none());
    missing.map_or(Ok(()), |name| Err(format!("there is no `{name}`")))
}

/// Leaves the namespace for the others.
fn hosts(namespace: &str) -> Result<(), String> {
    tried(&format!("ip netns add {namespace}"))?;
    tried(&format!("ip -n {namespace} link add br0 type bridge"))?;
    tried(&format!(
        "ip -n {namespace} link add one type veth peer name other"
    ))?;
    tried(&format!("nsenter --net=/run/netns/{namespace} true"))
}

fn filter(namespace: &str) -> Result<(), String> {
    let rules = "add table inet try\nadd counter inet try lost\nadd set inet try who { type ipv4_addr; }\n\
                 add chain inet try taken { type filter hook input priority 0; policy accept; }\n\
                 add rule inet try taken ip saddr @who numgen random mod 1000 < 1 counter name lost drop\n";
    let file = format!("--net=/run/netns/{namespace}");
    let done = run_words(&["nsenter", &file, "nft", "-f", "-"], rules);
    done.map(|_| ()).map_err(|problem| problem.to_string())
}

fn queue(namespace: &str) -> Result<(), String> {
    inside(
        namespace,
        "iptables -w -A OUTPUT -d 192.0.2.1 -j NFQUEUE --queue-num 0 --queue-bypass",
    )
}

fn shaper(namespace: &str) -> Result<(), String> {
    inside(
        namespace,
        "tc qdisc replace dev lo root tbf rate 400kbit burst 5kb latency 2s",
    )
}

fn disks() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("only root may mount disks".to_owned());
    }
    let folder = tempfile::tempdir().map_err(|problem| problem.to_string())?;
    let path = folder.path().display().to_string();
    tried(&format!("mount -t tmpfs -o size=1m souk-jepsen {path}"))?;
    tried(&format!("umount {path}"))
}

fn groups(mark: Mark) -> Result<(), String> {
    let roots = Roots::find().ok_or("cpu and memory are not both under control groups here")?;
    for root in roots.folders() {
        try_group(&root.join(format!("{mark}-probe")))?;
    }
    Ok(())
}

fn try_group(folder: &Path) -> Result<(), String> {
    let made = std::fs::create_dir(folder).and_then(|()| std::fs::remove_dir(folder));
    made.map_err(|problem| format!("{} cannot be made: {problem}", folder.display()))
}

fn inside(namespace: &str, line: &str) -> Result<(), String> {
    tried(&format!("nsenter --net=/run/netns/{namespace} {line}"))
}

fn tried(line: &str) -> Result<(), String> {
    run(line).map(|_| ()).map_err(|problem| problem.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_with_its_remedy() {
        let missing = "there is no `nft`".to_owned();
        let (need, mend) = (Need::Filter, Need::Filter.remedy());
        let lack = Lack {
            need,
            missing,
            mend,
        };
        let abilities = Abilities {
            lacks: BTreeMap::from([(need, lack)]),
        };
        assert!(abilities.lacks_for(Fault::KillOne).is_empty());
        assert!(abilities.lacks_for(Fault::Slow).is_empty());
        let told = abilities.lacks_for(Fault::SplitOne)[0].to_string();
        assert!(
            told.contains("`nft`") && told.contains("nftables"),
            "{told}"
        );
        let json = serde_json::to_value(&abilities).unwrap();
        assert_eq!(json[0]["need"], "filter", "{json}");
    }

    #[test]
    fn a_probe_leaves_nothing() {
        // Other tests of this process probe at the same time.
        let mark = Mark::new();
        let abilities = Abilities::probe_as(mark);
        for lack in abilities.lacks.values() {
            eprintln!("cannot do {:?} here: {lack}", lack.need);
        }
        let left = run("ip netns list").unwrap_or_default();
        let ours = format!("{mark}-probe");
        let is_probe = |line: &str| line.split_whitespace().next() == Some(&ours);
        assert!(!left.lines().any(is_probe), "{left}");
    }
}
