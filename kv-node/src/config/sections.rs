//! The sections of `cluster.toml` as typed values.
//!
//! Place: pure; what the driver, the shop and the command line read. Units and ranges: [`super::keys`].
//! Invariants: a value here lies in its range, as the reader has checked.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::address::Address;
use super::keys;
use super::reader::{Found, Section};

/// `[cluster]`: what all nodes must agree on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSection {
    /// Name of the cluster.
    pub id: String,
    /// A power of two, 1 to 65536.
    pub partitions_count: u32,
    /// Copies of every key, 1 to 7.
    pub replicas_n: u8,
}

/// One `[[node]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSection {
    /// Unique in the file.
    pub name: String,
    /// What fails together.
    pub zone: String,
    /// Share of the data, 1 to 1000.
    pub weight: u32,
    /// Where clients and peers find it.
    pub grpc: Address,
    /// Where it answers health checks and metrics.
    pub http: Address,
    /// Its own choice, if it has one; see [`super::ClusterFile::engine_of`].
    pub engine: Option<EngineName>,
}

/// `[shop]`: the shop in front of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShopSection {
    /// Where it serves its HTTP API.
    pub listen: Address,
    /// Where the simulated payment provider listens.
    pub payment_provider: Address,
    /// How long a checkout keeps the units that it reserved.
    pub checkout_hold: Duration,
    /// How long the units of a cart are kept when its customer asks; zero switches it off.
    pub cart_hold: Duration,
}

/// `[limits]`: named bounds of queues, waits and sizes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Time for a request whose caller names none.
    pub request_timeout: Duration,
    /// Largest value, in bytes.
    pub value_bytes_max: u32,
    /// Bytes that may wait for an answer of one peer.
    pub peer_in_flight_bytes_max: u64,
    /// Unanswered requests of one client connection.
    pub client_in_flight_max: u32,
    /// Disk space for hints, in bytes.
    pub hints_bytes_max: u64,
    /// How long answers to writes are remembered.
    pub request_memory: Duration,
    /// How far a stamp may lie ahead of a node's own clock.
    pub clock_skew_max: Duration,
    /// Pause between two walks that look for deletes to collect.
    pub tombstones_pause: Duration,
    /// How long a stopping process may take.
    pub shutdown_timeout: Duration,
    /// Within which 99 of 100 requests shall be answered; else background work slows down.
    pub foreground_p99_target: Duration,
    /// Of 100 reads, how many may ask one replica more than they need, 0 to 100.
    pub hedged_reads_percent_max: u8,
}

/// `[failure_detection]`: when a silent peer is taken for down.
#[derive(Debug, Clone, PartialEq)]
pub struct FailureDetection {
    /// Pause between two signs of life.
    pub heartbeat: Duration,
    /// Suspicion from which a peer is taken for down, 1.0 to 16.0.
    pub phi_threshold: f64,
    /// Silence that is never suspicious.
    pub acceptable_pause: Duration,
}

/// `[repair]`: how eagerly replicas are compared and data is read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repair {
    /// Before a node compares its records with all other replicas again.
    pub round_pause: Duration,
    /// How long two replicas have to differ before records are moved.
    pub recheck: Duration,
    /// Between two partitions of a scrub.
    pub scrub_pause: Duration,
}

/// `[storage]`: the engine and its bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageSection {
    /// Of nodes that name none.
    pub engine: EngineName,
    /// Memory of the block cache.
    pub cache_bytes: u64,
    /// Changes of one keyspace in memory.
    pub memtable_bytes_max: u64,
    /// Disk space of the journal.
    pub journal_bytes_max: u64,
    /// Bytes that may wait for the next sync.
    pub queue_bytes_max: u64,
    /// Writes that may wait for the next sync.
    pub queue_requests_max: u32,
    /// Free disk space below which writes are refused.
    pub disk_reserve_bytes: u64,
}

/// `[security]`: who may reach the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Security {
    /// Where the certificates lie; `None` means that nodes and clients trust whoever reaches them.
    pub certificates: Option<PathBuf>,
    /// True allows reachable addresses without TLS and tokens.
    pub insecure: bool,
}

/// A storage engine by its name in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EngineName {
    /// Log-structured and durable; the default.
    Fjall,
    /// The durable alternative.
    Sled,
    /// Forgets everything when the node stops; for tests.
    Memory,
}

impl EngineName {
    /// As it stands in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fjall => "fjall",
            Self::Sled => "sled",
            Self::Memory => "memory",
        }
    }

    /// The engine of that name, one of [`keys::ENGINES`].
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Fjall, Self::Sled, Self::Memory]
            .into_iter()
            .find(|engine| engine.as_str() == name)
    }
}

impl fmt::Display for EngineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl ClusterSection {
    pub(super) fn read(section: &Section<'_, '_, '_>) -> Self {
        Self {
            id: section.name(&keys::CLUSTER_ID).value,
            partitions_count: narrow(section.whole(&keys::PARTITIONS_COUNT)),
            replicas_n: narrow(section.whole(&keys::REPLICAS_N)),
        }
    }
}

/// A node with the places of what must be unique.
pub(super) struct ReadNode {
    pub(super) name: Found<String>,
    pub(super) grpc: Option<Found<Address>>,
    pub(super) http: Option<Found<Address>>,
    zone: String,
    weight: u32,
    engine: Option<EngineName>,
}

impl ReadNode {
    pub(super) fn read(section: &Section<'_, '_, '_>) -> Self {
        Self {
            name: section.name(&keys::NODE_NAME),
            grpc: section.address(&keys::NODE_GRPC),
            http: section.address(&keys::NODE_HTTP),
            zone: section.name(&keys::NODE_ZONE).value,
            weight: narrow(section.whole(&keys::NODE_WEIGHT)),
            engine: section
                .choice(&keys::NODE_ENGINE)
                .and_then(EngineName::from_name),
        }
    }

    /// `None` only when a problem was noted.
    pub(super) fn finish(self) -> Option<NodeSection> {
        Some(NodeSection {
            name: self.name.value,
            zone: self.zone,
            weight: self.weight,
            grpc: self.grpc?.value,
            http: self.http?.value,
            engine: self.engine,
        })
    }
}

impl StorageSection {
    pub(super) fn read(section: &Section<'_, '_, '_>) -> Self {
        let engine = section
            .choice(&keys::ENGINE)
            .and_then(EngineName::from_name);
        Self {
            engine: engine.unwrap_or(EngineName::Fjall),
            cache_bytes: section.whole(&keys::CACHE_BYTES).value,
            memtable_bytes_max: section.whole(&keys::MEMTABLE_BYTES_MAX).value,
            journal_bytes_max: section.whole(&keys::JOURNAL_BYTES_MAX).value,
            queue_bytes_max: section.whole(&keys::QUEUE_BYTES_MAX).value,
            queue_requests_max: narrow(section.whole(&keys::QUEUE_REQUESTS_MAX)),
            disk_reserve_bytes: section.whole(&keys::DISK_RESERVE_BYTES).value,
        }
    }
}

impl Limits {
    pub(super) fn read(section: &Section<'_, '_, '_>) -> Self {
        Self {
            request_timeout: millis(section.whole(&keys::REQUEST_TIMEOUT_MS)),
            value_bytes_max: narrow(section.whole(&keys::VALUE_BYTES_MAX)),
            peer_in_flight_bytes_max: section.whole(&keys::PEER_IN_FLIGHT_BYTES_MAX).value,
            client_in_flight_max: narrow(section.whole(&keys::CLIENT_IN_FLIGHT_MAX)),
            hints_bytes_max: section.whole(&keys::HINTS_BYTES_MAX).value,
            request_memory: millis(section.whole(&keys::REQUEST_MEMORY_MS)),
            clock_skew_max: millis(section.whole(&keys::CLOCK_SKEW_MAX_MS)),
            tombstones_pause: millis(section.whole(&keys::TOMBSTONES_PAUSE_MS)),
            shutdown_timeout: millis(section.whole(&keys::SHUTDOWN_TIMEOUT_MS)),
            foreground_p99_target: millis(section.whole(&keys::FOREGROUND_P99_TARGET_MS)),
            hedged_reads_percent_max: narrow(section.whole(&keys::HEDGED_READS_PERCENT_MAX)),
        }
    }
}

impl FailureDetection {
    pub(super) fn read(section: &Section<'_, '_, '_>) -> Self {
        Self {
            heartbeat: millis(section.whole(&keys::HEARTBEAT_MS)),
            phi_threshold: section.number(&keys::PHI_THRESHOLD).value,
            acceptable_pause: millis(section.whole(&keys::ACCEPTABLE_PAUSE_MS)),
        }
    }
}

impl Repair {
    pub(super) fn read(section: &Section<'_, '_, '_>) -> Self {
        Self {
            round_pause: millis(section.whole(&keys::ROUND_PAUSE_MS)),
            recheck: millis(section.whole(&keys::RECHECK_MS)),
            scrub_pause: millis(section.whole(&keys::SCRUB_PAUSE_MS)),
        }
    }
}

impl Security {
    pub(super) fn read(section: &Section<'_, '_, '_>) -> Self {
        Self {
            certificates: section.folder(&keys::CERTIFICATES),
            insecure: section.flag(&keys::INSECURE).value,
        }
    }
}

fn millis(found: Found<u64>) -> Duration {
    Duration::from_millis(found.value)
}

fn narrow<T: TryFrom<u64, Error: fmt::Debug>>(found: Found<u64>) -> T {
    T::try_from(found.value).expect("the range of the key in `keys` fits the type of its field")
}
