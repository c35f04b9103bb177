//! The kinds of trouble.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Nothing.
    None,
    /// One node at a time is killed and started again, another one each time.
    KillOne,
    /// A majority of the nodes is killed at once, and started again.
    KillMajority,
    /// One node at a time is frozen, and goes on later with connections that others gave up.
    PauseOne,
    /// Every node in turn is stopped politely and started again.
    Restart,
    /// One node is cut off from all others.
    SplitOne,
    /// The nodes fall into two halves.
    SplitHalves,
    /// Each node sees a majority, and no two see the same one.
    SplitRing,
    /// Two halves that see each other only through one node.
    SplitBridge,
    /// One node is heard and does not hear, or hears and is not heard.
    SplitOneWay,
    /// One node is cut off and back again many times.
    SplitFlapping,
    /// Messages of one node take long.
    Slow,
    /// Packets of one node are lost, and sent again later.
    Lossy,
    /// Messages overtake one another between all nodes.
    Jitter,
    /// The time of day of one node jumps, ahead or back.
    ClockJump,
    /// The time of day of one node jumps to and fro.
    ClockStrobe,
    /// The time of day of one node runs too fast or too slow.
    ClockRate,
    /// One disk has no room.
    DiskFull,
    /// A sync fails with an I/O error; the node is started again later.
    SyncError,
    /// Power fails while a write is on its way to the disk.
    TornWrite,
    /// A bit of one disk changes while its node is down, of the same node each time.
    BitFlip,
    /// One node, the same each time, comes back with an empty disk.
    Wipe,
    /// The network of one node carries little.
    Narrow,
    /// One node hardly gets the processor.
    CpuStarved,
    /// One node hardly gets memory.
    MemoryStarved,
    /// The shop is killed and started again.
    KillShop,
    /// Members join, leave and are replaced, and a node that gains copies is killed meanwhile.
    Membership,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 27] = [
        Fault::None,
        Fault::KillOne,
        Fault::KillMajority,
        Fault::PauseOne,
        Fault::Restart,
        Fault::SplitOne,
        Fault::SplitHalves,
        Fault::SplitRing,
        Fault::SplitBridge,
        Fault::SplitOneWay,
        Fault::SplitFlapping,
        Fault::Slow,
        Fault::Lossy,
        Fault::Jitter,
        Fault::ClockJump,
        Fault::ClockStrobe,
        Fault::ClockRate,
        Fault::DiskFull,
        Fault::SyncError,
        Fault::TornWrite,
        Fault::BitFlip,
        Fault::Wipe,
        Fault::Narrow,
        Fault::CpuStarved,
        Fault::MemoryStarved,
        Fault::KillShop,
        Fault::Membership,
    ];

    /// Names of several, as the command line takes them.
    #[must_use]
    pub fn names(faults: &[Fault]) -> String {
        let names: Vec<&str> = faults.iter().map(|fault| fault.as_str()).collect();
        names.join(",")
    }

    /// Its name on the command line and in files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.texts().0
    }

    /// What it does, in a line.
    #[must_use]
    pub fn about(self) -> &'static str {
        self.texts().1
    }

    /// Whether it can be done to simulated nodes. What can be done to real ones depends on the machine:
    /// [`crate::real::Abilities`].
    #[must_use]
    pub fn is_simulated(self) -> bool {
        !matches!(
            self,
            Fault::Narrow | Fault::CpuStarved | Fault::MemoryStarved | Fault::KillShop
        )
    }

    fn texts(self) -> (&'static str, &'static str) {
        match self {
            Fault::None => ("none", "nothing is broken"),
            Fault::KillOne => (
                "kill-one",
                "kill -9 of one node at a time, then started again",
            ),
            Fault::KillMajority => (
                "kill-majority",
                "kill -9 of a majority at once, then started again",
            ),
            Fault::PauseOne => ("pause-one", "one node at a time is frozen and goes on"),
            Fault::Restart => (
                "restart",
                "every node in turn is stopped politely and started again",
            ),
            Fault::SplitOne => ("split-one", "one node is cut off from all others"),
            Fault::SplitHalves => ("split-halves", "the nodes fall into two halves"),
            Fault::SplitRing => (
                "split-ring",
                "each node sees a majority, and no two see the same one",
            ),
            Fault::SplitBridge => (
                "split-bridge",
                "two halves that see each other only through one node",
            ),
            Fault::SplitOneWay => (
                "split-one-way",
                "one node is heard and does not hear, or the other way round",
            ),
            Fault::SplitFlapping => (
                "split-flapping",
                "one node is cut off and back again many times",
            ),
            Fault::Slow => ("slow", "messages of one node take 200 ms and more"),
            Fault::Lossy => ("lossy", "packets of one node are lost and sent again later"),
            Fault::Jitter => ("jitter", "messages between all nodes overtake one another"),
            Fault::ClockJump => ("clock-jump", "the time of day of one node jumps"),
            Fault::ClockStrobe => (
                "clock-strobe",
                "the time of day of one node jumps to and fro",
            ),
            Fault::ClockRate => (
                "clock-rate",
                "the time of day of one node runs too fast or too slow",
            ),
            Fault::DiskFull => ("disk-full", "one disk has no room"),
            Fault::SyncError => (
                "sync-error",
                "a sync fails; the node is started again later",
            ),
            Fault::TornWrite => (
                "torn-write",
                "power fails while a write is on its way to the disk",
            ),
            Fault::BitFlip => (
                "bit-flip",
                "a bit of one disk changes while its node is down",
            ),
            Fault::Wipe => ("wipe", "one node comes back with an empty disk"),
            Fault::Narrow => (
                "narrow",
                "the network of one node carries little; real nodes only",
            ),
            Fault::CpuStarved => (
                "cpu-starved",
                "one node hardly gets the processor; real nodes only",
            ),
            Fault::MemoryStarved => (
                "memory-starved",
                "one node hardly gets memory; real nodes only",
            ),
            Fault::KillShop => (
                "kill-shop",
                "kill -9 of the shop, then started again; real processes only",
            ),
            Fault::Membership => (
                "membership",
                "members join, leave and are replaced, one that gains copies is killed",
            ),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Fault, String> {
        let found = Fault::ALL.into_iter().find(|fault| fault.as_str() == text);
        found.ok_or_else(|| {
            let names = Fault::ALL.map(Fault::as_str).join(", ");
            format!("there is no fault `{text}`; the faults are {names}")
        })
    }
}
