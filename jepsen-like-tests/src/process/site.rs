//! Where the servers of a cluster live, and how they are started there.
//!
//! Place: a plan that [`super::TestCluster`] follows; [`crate::real`] makes one of hosts that can be broken, and
//! [`Site::loopback`] one of nothing but this machine.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

/// Where everybody lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// One for each node, in order.
    pub plots: Vec<Plot>,
    /// Where the shop and the payment provider listen.
    pub front: IpAddr,
    /// Free disk space below which nodes refuse writes, in bytes; none leaves it at the default.
    pub disk_reserve_bytes: Option<u64>,
}

/// Where one node lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plot {
    /// Where it listens.
    pub address: IpAddr,
    /// Program and arguments that start the command behind them; empty to start it directly. Whatever they are,
    /// they become that command, so that the process keeps its number.
    pub prefix: Vec<String>,
    /// The folder in which its data folder lies; none for that of the cluster.
    pub data: Option<PathBuf>,
}

impl Site {
    /// All processes side by side on 127.0.0.1.
    #[must_use]
    pub fn loopback(nodes: usize) -> Site {
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let plot = Plot {
            address,
            prefix: Vec::new(),
            data: None,
        };
        Site {
            plots: vec![plot; nodes],
            front: address,
            disk_reserve_bytes: None,
        }
    }

    /// Whether other machines might reach it, as far as addresses tell.
    pub(super) fn is_exposed(&self) -> bool {
        !self.front.is_loopback() || self.plots.iter().any(|plot| !plot.address.is_loopback())
    }
}
