//! What is measured, and where.
//!
//! | work | souk | etcd | PostgreSQL |
//! |---|---|---|---|
//! | hot | reservations of one SKU (`reserve-hot`) | compare-and-swap of one key | `UPDATE … WHERE qty >= 1` of one row |
//! | compare-and-set of one row | `cas-hot` | as above | |
//! | spread | compare-and-set over 10,000 rows | the same | `UPDATE … WHERE qty >= 1` over 10,000 rows |
//! | put, get | plain writes and quorum reads | puts and linearizable reads | |
//!
//! Invariants: 1. an operation is one success that a client was told of, whatever it took.

use std::fmt;

use clap::ValueEnum;

/// Keys, or rows, of everything that is spread.
pub(crate) const KEYS: u32 = 10_000;
/// Size of a value in bytes.
pub(crate) const VALUE_BYTES: usize = 256;

/// Something that can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum System {
    /// A file that is appended to and synced, again and again.
    Disk,
    /// Three nodes of souk.
    Souk,
    /// Three members of etcd.
    Etcd,
    /// One PostgreSQL server.
    Postgres,
    /// A PostgreSQL server that waits for one of two standbys.
    PostgresQuorum,
}

impl System {
    /// As it is given on the command line and in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Souk => "souk",
            Self::Etcd => "etcd",
            Self::Postgres => "postgres",
            Self::PostgresQuorum => "postgres-quorum",
        }
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Work {
    /// Append and sync.
    Sync,
    /// Plain writes.
    Put,
    /// Reads that see every acknowledged write.
    Get,
    /// Compare-and-set, each client on rows of its own.
    CasSpread,
    /// Compare-and-set of one row by everybody.
    CasHot,
    /// Reservations of one article by everybody.
    ReserveHot,
    /// `UPDATE … WHERE qty >= 1` of one row by everybody.
    UpdateHot,
    /// `UPDATE … WHERE qty >= 1` of any row.
    UpdateSpread,
}

impl Work {
    /// As in JSON; for souk also the workload of `souk bench`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Put => "put",
            Self::Get => "get",
            Self::CasSpread => "cas-spread",
            Self::CasHot => "cas-hot",
            Self::ReserveHot => "reserve-hot",
            Self::UpdateHot => "update-hot",
            Self::UpdateSpread => "update-spread",
        }
    }
}

/// One workload in one system, with so many clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Measure {
    /// Where.
    pub(crate) system: System,
    /// What.
    pub(crate) work: Work,
    /// How many wait for answers at the same time.
    pub(crate) clients: u32,
}

impl Measure {
    /// Everything, in the order of a round: what is compared with each other lies close together.
    pub(crate) fn all(clients: u32) -> Vec<Self> {
        use System::{Disk, Etcd, Postgres, PostgresQuorum, Souk};
        [
            (Disk, Work::Sync, 1),
            (Souk, Work::ReserveHot, clients),
            (Souk, Work::CasHot, clients),
            (Etcd, Work::CasHot, clients),
            (Postgres, Work::UpdateHot, clients),
            (PostgresQuorum, Work::UpdateHot, clients),
            (Souk, Work::CasSpread, clients),
            (Etcd, Work::CasSpread, clients),
            (Postgres, Work::UpdateSpread, clients),
            (PostgresQuorum, Work::UpdateSpread, clients),
            (Souk, Work::Put, clients),
            (Etcd, Work::Put, clients),
            (Souk, Work::Get, clients),
            (Etcd, Work::Get, clients),
            (Souk, Work::Put, 1),
            (Etcd, Work::Put, 1),
            (Souk, Work::CasSpread, 1),
            (Etcd, Work::CasSpread, 1),
            (Postgres, Work::UpdateSpread, 1),
            (PostgresQuorum, Work::UpdateSpread, 1),
        ]
        .map(|(system, work, clients)| Self {
            system,
            work,
            clients,
        })
        .into()
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (work, clients) = (self.work.name(), self.clients);
        write!(f, "{} {work}, {clients} client(s)", self.system)
    }
}
