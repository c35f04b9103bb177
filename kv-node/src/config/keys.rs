//! Every key of `cluster.toml`: its meaning, unit, range and default, in one place.
//!
//! Think of it as the form behind the file: the reader fills it in, the comments of the committed
//! `cluster.toml` are compared with it by a test, and error messages quote it.
//!
//! Place: pure; read by `reader` (values), `mod` (typed sections) and the tests.
//! Invariants: 1. a default lies in its range. 2. no two keys of one section share a name.

use std::fmt::Debug;

/// A key and what it accepts.
#[derive(Debug)]
pub struct Key<A> {
    /// Without brackets; `node` for each `[[node]]`.
    pub section: &'static str,
    /// As it stands before the `=`.
    pub name: &'static str,
    /// One or two sentences.
    pub meaning: &'static str,
    /// Kind, unit, range and default of the value.
    pub accepts: A,
}

/// A whole number.
#[derive(Debug)]
pub struct Whole {
    /// For example `ms` or `bytes`.
    pub unit: &'static str,
    /// Smallest value, inclusive.
    pub min: u64,
    /// Largest value, inclusive.
    pub max: u64,
    /// Used when the key is left out.
    pub default: u64,
    /// Only 1, 2, 4, 8 and so on.
    pub power_of_two: bool,
}

/// A number with a fraction.
#[derive(Debug)]
pub struct Number {
    /// Smallest value, inclusive.
    pub min: f64,
    /// Largest value, inclusive.
    pub max: f64,
    /// Used when the key is left out.
    pub default: f64,
}

/// One of a few words.
#[derive(Debug)]
pub struct Choice {
    /// The words.
    pub known: &'static [&'static str],
    /// Used when the key is left out; without one, something else decides.
    pub default: Option<&'static str>,
}

/// 1 to 63 characters of a-z, 0-9 and `-`.
#[derive(Debug)]
pub struct Name {
    /// Used when the key is left out; without one, the key is required.
    pub default: Option<&'static str>,
}

/// `host:port`.
#[derive(Debug)]
pub struct HostPort {
    /// Used when the key is left out; without one, the key is required.
    pub default: Option<&'static str>,
}

/// A folder; a relative one begins at the folder of the cluster file. Without it, something else decides.
#[derive(Debug)]
pub struct Folder {
    /// A folder as it might be written.
    pub example: &'static str,
}

/// `true` or `false`.
#[derive(Debug)]
pub struct Flag {
    /// Used when the key is left out.
    pub default: bool,
}

/// What people are told of a key.
pub trait Documented: Sync {
    /// See [`Key::section`].
    fn section(&self) -> &'static str;
    /// See [`Key::name`].
    fn name(&self) -> &'static str;
    /// See [`Key::meaning`].
    fn meaning(&self) -> &'static str;
    /// Range and unit in words, for example `10 to 60000 ms`.
    fn range(&self) -> String;
    /// As it would be written; `None` when the key is required or something else decides.
    fn default_text(&self) -> Option<String>;
    /// What might be written where nothing has to be.
    fn example(&self) -> String;
    /// The second line of its comment in `cluster.toml`, below the meaning.
    fn bounds(&self) -> String {
        match self.default_text() {
            Some(default) => format!("Range: {}. Default: {default}.", self.range()),
            None => format!("Range: {}. No default.", self.range()),
        }
    }
}

/// What a kind of value tells of itself.
pub trait Accepts: Sync {
    /// See [`Documented::range`].
    fn range(&self) -> String;
    /// See [`Documented::default_text`].
    fn default_text(&self) -> Option<String>;
    /// See [`Documented::example`].
    fn example(&self) -> String {
        self.default_text().unwrap_or_default()
    }
}

impl<A: Accepts> Documented for Key<A> {
    fn section(&self) -> &'static str {
        self.section
    }
    fn name(&self) -> &'static str {
        self.name
    }
    fn meaning(&self) -> &'static str {
        self.meaning
    }
    fn range(&self) -> String {
        self.accepts.range()
    }
    fn default_text(&self) -> Option<String> {
        self.accepts.default_text()
    }
    fn example(&self) -> String {
        self.accepts.example()
    }
}

impl Accepts for Whole {
    fn range(&self) -> String {
        let powers = if self.power_of_two {
            ", a power of two"
        } else {
            ""
        };
        format!("{} to {} {}{powers}", self.min, self.max, self.unit)
    }
    fn default_text(&self) -> Option<String> {
        Some(self.default.to_string())
    }
}

impl Accepts for Number {
    fn range(&self) -> String {
        format!("{:?} to {:?}", self.min, self.max)
    }
    fn default_text(&self) -> Option<String> {
        Some(format!("{:?}", self.default))
    }
}

impl Accepts for Choice {
    fn range(&self) -> String {
        let known: Vec<String> = self
            .known
            .iter()
            .map(|word| format!("\"{word}\""))
            .collect();
        known.join(" or ")
    }
    fn default_text(&self) -> Option<String> {
        self.default.map(|word| format!("\"{word}\""))
    }
    fn example(&self) -> String {
        let other = self.known.get(1).or(self.known.first());
        format!("\"{}\"", other.unwrap_or(&""))
    }
}

impl Accepts for Folder {
    fn range(&self) -> String {
        "a folder, from the folder of this file on unless it begins with `/`".to_owned()
    }
    fn default_text(&self) -> Option<String> {
        None
    }
    fn example(&self) -> String {
        format!("\"{}\"", self.example)
    }
}

impl Accepts for Name {
    fn range(&self) -> String {
        "1 to 63 characters of a-z, 0-9 and `-`".to_owned()
    }
    fn default_text(&self) -> Option<String> {
        self.default.map(|name| format!("\"{name}\""))
    }
}

impl Accepts for HostPort {
    fn range(&self) -> String {
        "\"host:port\", port 1 to 65535".to_owned()
    }
    fn default_text(&self) -> Option<String> {
        self.default.map(|address| format!("\"{address}\""))
    }
}

impl Accepts for Flag {
    fn range(&self) -> String {
        "true or false".to_owned()
    }
    fn default_text(&self) -> Option<String> {
        Some(self.default.to_string())
    }
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
const TIB: u64 = 1024 * GIB;

const fn whole(unit: &'static str, min: u64, max: u64, default: u64) -> Whole {
    Whole {
        unit,
        min,
        max,
        default,
        power_of_two: false,
    }
}

/// The storage engines a node knows.
pub const ENGINES: &[&str] = &["fjall", "sled", "memory"];

/// `cluster.id`
pub const CLUSTER_ID: Key<Name> = Key {
    section: "cluster",
    name: "id",
    meaning: "Names the cluster; nodes refuse peers and data directories of another one. Fixed at first start.",
    accepts: Name {
        default: Some("souk-dev"),
    },
};
/// `cluster.partitions_count`
pub const PARTITIONS_COUNT: Key<Whole> = Key {
    section: "cluster",
    name: "partitions_count",
    meaning: "Equal slices of the hash space, the unit of placement. Fixed at first start.",
    accepts: Whole {
        unit: "partitions",
        min: 1,
        max: 65_536,
        default: 256,
        power_of_two: true,
    },
};
/// `cluster.replicas_n`
pub const REPLICAS_N: Key<Whole> = Key {
    section: "cluster",
    name: "replicas_n",
    meaning: "Copies of every key, on distinct nodes; with fewer nodes, one copy per node. Fixed at first start.",
    accepts: whole("copies", 1, 7, 3),
};

/// `node.name`
pub const NODE_NAME: Key<Name> = Key {
    section: "node",
    name: "name",
    meaning: "Names the node, for `souk node --name` and in every table and log.",
    accepts: Name { default: None },
};
/// `node.zone`
pub const NODE_ZONE: Key<Name> = Key {
    section: "node",
    name: "zone",
    meaning: "What fails together, such as a rack or a building; copies are spread over zones first.",
    accepts: Name { default: Some("a") },
};
/// `node.weight`
pub const NODE_WEIGHT: Key<Whole> = Key {
    section: "node",
    name: "weight",
    meaning: "Share of the data compared with the other nodes.",
    accepts: whole("shares", 1, 1000, 1),
};
/// `node.grpc`
pub const NODE_GRPC: Key<HostPort> = Key {
    section: "node",
    name: "grpc",
    meaning: "Where the node serves clients and peers, and where they find it.",
    accepts: HostPort { default: None },
};
/// `node.http`
pub const NODE_HTTP: Key<HostPort> = Key {
    section: "node",
    name: "http",
    meaning: "Where the node answers /healthz, /readyz and /metrics.",
    accepts: HostPort { default: None },
};
/// `node.engine`
pub const NODE_ENGINE: Key<Choice> = Key {
    section: "node",
    name: "engine",
    meaning: "Storage engine of this node; without it, what [storage] says.",
    accepts: Choice {
        known: ENGINES,
        default: None,
    },
};

/// `shop.listen`
pub const SHOP_LISTEN: Key<HostPort> = Key {
    section: "shop",
    name: "listen",
    meaning: "Where the shop serves its HTTP API.",
    accepts: HostPort {
        default: Some("127.0.0.1:8080"),
    },
};
/// `shop.payment_provider`
pub const SHOP_PAYMENT_PROVIDER: Key<HostPort> = Key {
    section: "shop",
    name: "payment_provider",
    meaning: "Where the simulated payment provider listens and the shop finds it.",
    accepts: HostPort {
        default: Some("127.0.0.1:8090"),
    },
};

/// `shop.checkout_hold_ms`
pub const SHOP_CHECKOUT_HOLD_MS: Key<Whole> = Key {
    section: "shop",
    name: "checkout_hold_ms",
    meaning: "How long a checkout keeps the units that it reserved while it is not paid; then others may buy them.",
    accepts: whole("ms", 1_000, 86_400_000, 600_000),
};

/// `shop.cart_hold_ms`
pub const SHOP_CART_HOLD_MS: Key<Whole> = Key {
    section: "shop",
    name: "cart_hold_ms",
    meaning: "How long the units of a cart are kept when its customer asks; 0 switches that off.",
    accepts: whole("ms", 0, 86_400_000, 900_000),
};

/// `limits.request_timeout_ms`
pub const REQUEST_TIMEOUT_MS: Key<Whole> = Key {
    section: "limits",
    name: "request_timeout_ms",
    meaning: "Time that a request may take when its caller names none; what lasts longer has an unknown outcome.",
    accepts: whole("ms", 10, 60_000, 2_000),
};
/// `limits.value_bytes_max`
pub const VALUE_BYTES_MAX: Key<Whole> = Key {
    section: "limits",
    name: "value_bytes_max",
    meaning: "Largest value that a node accepts; a bucket may set a lower limit.",
    accepts: whole("bytes", 1, 16 * MIB, MIB),
};
/// `limits.peer_in_flight_bytes_max`
pub const PEER_IN_FLIGHT_BYTES_MAX: Key<Whole> = Key {
    section: "limits",
    name: "peer_in_flight_bytes_max",
    meaning: "Bytes that may wait for an answer of one peer; beyond it, requests to that peer are refused at once. At least value_bytes_max.",
    accepts: whole("bytes", MIB, 4 * GIB, 64 * MIB),
};
/// `limits.client_in_flight_max`
pub const CLIENT_IN_FLIGHT_MAX: Key<Whole> = Key {
    section: "limits",
    name: "client_in_flight_max",
    meaning: "Unanswered requests of one client connection; beyond it they are refused with a hint when to retry.",
    accepts: whole("requests", 1, 1_000_000, 4_096),
};
/// `limits.hints_bytes_max`
pub const HINTS_BYTES_MAX: Key<Whole> = Key {
    section: "limits",
    name: "hints_bytes_max",
    meaning: "Disk space for writes kept for absent nodes; a node whose space is full refuses to stand in, and drops nothing.",
    accepts: whole("bytes", MIB, TIB, GIB),
};
/// `limits.request_memory_ms`
pub const REQUEST_MEMORY_MS: Key<Whole> = Key {
    section: "limits",
    name: "request_memory_ms",
    meaning: "How long the answer to a write is remembered, so that a retry is not applied twice; older requests are refused.",
    accepts: whole("ms", 1_000, 86_400_000, 600_000),
};
/// `limits.clock_skew_max_ms`
pub const CLOCK_SKEW_MAX_MS: Key<Whole> = Key {
    section: "limits",
    name: "clock_skew_max_ms",
    meaning: "How far a time stamp may lie ahead of a node's own clock; stamps further ahead are refused.",
    accepts: whole("ms", 1, 60_000, 1_000),
};
/// `limits.tombstones_pause_ms`
pub const TOMBSTONES_PAUSE_MS: Key<Whole> = Key {
    section: "limits",
    name: "tombstones_pause_ms",
    meaning: "Pause between two walks over a node's records that look for deletes to collect; they are erased only when every member takes part.",
    accepts: whole("ms", 100, 86_400_000, 60_000),
};
/// `limits.shutdown_timeout_ms`
pub const SHUTDOWN_TIMEOUT_MS: Key<Whole> = Key {
    section: "limits",
    name: "shutdown_timeout_ms",
    meaning: "How long a stopping process may take to finish its requests and close its data before it is ended.",
    accepts: whole("ms", 100, 300_000, 10_000),
};

/// `limits.foreground_p99_target_ms`
pub const FOREGROUND_P99_TARGET_MS: Key<Whole> = Key {
    section: "limits",
    name: "foreground_p99_target_ms",
    meaning: "Time within which 99 of 100 requests shall be answered; while they are not, hints, repair and other background work slow down.",
    accepts: whole("ms", 1, 60_000, 25),
};
/// `limits.hedged_reads_percent_max`
pub const HEDGED_READS_PERCENT_MAX: Key<Whole> = Key {
    section: "limits",
    name: "hedged_reads_percent_max",
    meaning: "Of 100 reads, how many may ask one replica more when the first ones are slow; 0 never asks.",
    accepts: whole("percent", 0, 100, 10),
};

/// `failure_detection.heartbeat_ms`
pub const HEARTBEAT_MS: Key<Whole> = Key {
    section: "failure_detection",
    name: "heartbeat_ms",
    meaning: "Pause between two signs of life to a peer.",
    accepts: whole("ms", 10, 10_000, 200),
};
/// `failure_detection.phi_threshold`
pub const PHI_THRESHOLD: Key<Number> = Key {
    section: "failure_detection",
    name: "phi_threshold",
    meaning: "Suspicion from which a peer is taken for down; 8 is wrong about once in 10^8 pauses.",
    accepts: Number {
        min: 1.0,
        max: 16.0,
        default: 8.0,
    },
};
/// `failure_detection.acceptable_pause_ms`
pub const ACCEPTABLE_PAUSE_MS: Key<Whole> = Key {
    section: "failure_detection",
    name: "acceptable_pause_ms",
    meaning: "Silence that is never suspicious, such as a busy processor. At least heartbeat_ms.",
    accepts: whole("ms", 10, 60_000, 1_000),
};

/// `repair.round_pause_ms`
pub const ROUND_PAUSE_MS: Key<Whole> = Key {
    section: "repair",
    name: "round_pause_ms",
    meaning: "Pause before a node compares its records with all other replicas again.",
    accepts: whole("ms", 20, 86_400_000, 5_000),
};
/// `repair.recheck_ms`
pub const RECHECK_MS: Key<Whole> = Key {
    section: "repair",
    name: "recheck_ms",
    meaning: "How long two replicas have to differ before records are moved for it, so that writes under way are not repaired.",
    accepts: whole("ms", 1, 60_000, 500),
};
/// `repair.scrub_pause_ms`
pub const SCRUB_PAUSE_MS: Key<Whole> = Key {
    section: "repair",
    name: "scrub_pause_ms",
    meaning: "Rest of a node between reading one partition of its own data to see whether it is sound, and the next.",
    accepts: whole("ms", 1, 3_600_000, 500),
};

/// `storage.engine`
pub const ENGINE: Key<Choice> = Key {
    section: "storage",
    name: "engine",
    meaning: "Storage engine of nodes that name none; \"memory\" forgets everything when the node stops and is for tests.",
    accepts: Choice {
        known: ENGINES,
        default: Some("fjall"),
    },
};
/// `storage.cache_bytes`
pub const CACHE_BYTES: Key<Whole> = Key {
    section: "storage",
    name: "cache_bytes",
    meaning: "Memory of the engine's cache of blocks (fjall) or pages (sled).",
    accepts: whole("bytes", MIB, TIB, 64 * MIB),
};
/// `storage.memtable_bytes_max`
pub const MEMTABLE_BYTES_MAX: Key<Whole> = Key {
    section: "storage",
    name: "memtable_bytes_max",
    meaning: "Changes of one keyspace in memory before fjall writes them to a table; with writes faster than the disk, five times that for a moment. Fixed when the data directory is made.",
    accepts: whole("bytes", MIB, GIB, 32 * MIB),
};
/// `storage.journal_bytes_max`
pub const JOURNAL_BYTES_MAX: Key<Whole> = Key {
    section: "storage",
    name: "journal_bytes_max",
    meaning: "Disk space of fjall's journals before it folds the oldest into tables; a start after a crash reads this much.",
    accepts: whole("bytes", 64 * MIB, 64 * GIB, 256 * MIB),
};
/// `storage.queue_bytes_max`
pub const QUEUE_BYTES_MAX: Key<Whole> = Key {
    section: "storage",
    name: "queue_bytes_max",
    meaning: "Bytes that may wait for the next sync; beyond it, writes are refused with a hint when to retry.",
    accepts: whole("bytes", 64 * MIB, 4 * GIB, 128 * MIB),
};
/// `storage.queue_requests_max`
pub const QUEUE_REQUESTS_MAX: Key<Whole> = Key {
    section: "storage",
    name: "queue_requests_max",
    meaning: "Writes that may wait for the next sync; beyond it, they are refused with a hint when to retry.",
    accepts: whole("requests", 1, 1_000_000, 8_192),
};
/// `storage.disk_reserve_bytes`
pub const DISK_RESERVE_BYTES: Key<Whole> = Key {
    section: "storage",
    name: "disk_reserve_bytes",
    meaning: "Free disk space below which writes are refused until there is room again; deletes and what frees space go on down to a quarter of it. 0 lets the disk run full, which stops the engine.",
    accepts: whole("bytes", 0, TIB, 256 * MIB),
};

/// `security.certificates`
pub const CERTIFICATES: Key<Folder> = Key {
    section: "security",
    name: "certificates",
    meaning: "Where `souk cert` put the certificates: ca.crt, and for each node node.NAME.crt and node.NAME.key. With it, nodes and clients speak TLS and show certificates to each other, and clients need tokens.",
    accepts: Folder { example: "certs" },
};
/// `security.insecure`
pub const INSECURE: Key<Flag> = Key {
    section: "security",
    name: "insecure",
    meaning: "Allows addresses that other machines can reach, without TLS and tokens; anyone there can read and change everything.",
    accepts: Flag { default: false },
};

/// All keys, section after section, in the order of the committed file.
pub static ALL: &[&dyn Documented] = &[
    &CLUSTER_ID,
    &PARTITIONS_COUNT,
    &REPLICAS_N,
    &NODE_NAME,
    &NODE_ZONE,
    &NODE_WEIGHT,
    &NODE_GRPC,
    &NODE_HTTP,
    &NODE_ENGINE,
    &SHOP_LISTEN,
    &SHOP_PAYMENT_PROVIDER,
    &SHOP_CHECKOUT_HOLD_MS,
    &SHOP_CART_HOLD_MS,
    &REQUEST_TIMEOUT_MS,
    &VALUE_BYTES_MAX,
    &PEER_IN_FLIGHT_BYTES_MAX,
    &CLIENT_IN_FLIGHT_MAX,
    &HINTS_BYTES_MAX,
    &REQUEST_MEMORY_MS,
    &CLOCK_SKEW_MAX_MS,
    &TOMBSTONES_PAUSE_MS,
    &SHUTDOWN_TIMEOUT_MS,
    &FOREGROUND_P99_TARGET_MS,
    &HEDGED_READS_PERCENT_MAX,
    &HEARTBEAT_MS,
    &PHI_THRESHOLD,
    &ACCEPTABLE_PAUSE_MS,
    &ROUND_PAUSE_MS,
    &RECHECK_MS,
    &SCRUB_PAUSE_MS,
    &ENGINE,
    &CACHE_BYTES,
    &MEMTABLE_BYTES_MAX,
    &JOURNAL_BYTES_MAX,
    &QUEUE_BYTES_MAX,
    &QUEUE_REQUESTS_MAX,
    &DISK_RESERVE_BYTES,
    &CERTIFICATES,
    &INSECURE,
];

/// The sections, in the order of the committed file.
#[must_use]
pub fn sections() -> Vec<&'static str> {
    let mut sections: Vec<&'static str> = ALL.iter().map(|key| key.section()).collect();
    sections.dedup();
    sections
}

/// The keys of one section.
#[must_use]
pub fn names_in(section: &str) -> Vec<&'static str> {
    ALL.iter()
        .filter(|key| key.section() == section)
        .map(|key| key.name())
        .collect()
}
