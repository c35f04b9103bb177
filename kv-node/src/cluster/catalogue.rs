//! Which buckets there are, and how each behaves; which stores operators have given up, and which tokens are good.
//!
//! The truth is a register group of all members (`crate::system`); this is what the node has seen of
//! it, kept on disk so that a node cut off from everybody still serves its carts. A bucket never
//! changes under its id, so an old catalogue can lack buckets but is never wrong about one.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use bytes::Bytes;
use prost::Message;
use souk_kv_core::{
    access::{Holder, Refusal, Token, TokenBook},
    causality::MergeMode,
    quorum::Quorums,
};
use souk_kv_proto::{
    convert::access::{token_from_store, token_to_store},
    kv::{BucketConfig, BucketMode},
    store,
};
use souk_kv_storage::{Keyspace, StorageError, Store, WriteBatch};
use souk_ring::{NodeId, ReplicasN};
use tracing::warn;

use super::durability::{Durabilities, INTERVAL_MS_MAX, interval};
use crate::{
    error::RequestError,
    keys::{self, BucketId},
};

/// Largest value of a bucket that names no limit.
const VALUE_BYTES_MAX_DEFAULT: u32 = 1024 * 1024;
/// Largest limit a bucket may name.
const VALUE_BYTES_MAX: u32 = 16 * 1024 * 1024;
/// Most siblings of a key in a bucket that names no limit.
const SIBLINGS_MAX_DEFAULT: u32 = 100;
/// Fewest copies of a register bucket, where the layout keeps as many.
const REGISTER_COPIES_MIN: u32 = 3;
/// Longest name.
const NAME_BYTES_MAX: usize = 63;

/// How a bucket treats writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Siblings,
    Lww,
    Register,
}

impl Mode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Siblings => "siblings",
            Self::Lww => "lww",
            Self::Register => "register",
        }
    }
}

/// One bucket, ready to use.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bucket {
    pub(crate) id: BucketId,
    pub(crate) name: String,
    pub(crate) mode: Mode,
    pub(crate) replicas_n: ReplicasN,
    pub(crate) quorums: Quorums,
    pub(crate) ttl_ms: u64,
    pub(crate) value_bytes_max: u32,
    pub(crate) siblings_max: u32,
    /// How long a write may be acknowledged before it is on disk; 0 is not at all.
    pub(crate) durability_interval_ms: u32,
}

impl Bucket {
    /// Checks a configuration and fills in what it leaves out. `copies` is the layout's N.
    pub(crate) fn new(config: &BucketConfig, copies: ReplicasN) -> Result<Self, RequestError> {
        check_name(&config.name)?;
        let mode = match config.mode() {
            BucketMode::Siblings => Mode::Siblings,
            BucketMode::Lww => Mode::Lww,
            BucketMode::Register => Mode::Register,
            BucketMode::Unspecified => {
                return Err(invalid(
                    &config.name,
                    "it has no mode: name siblings, lww or register",
                ));
            }
        };
        let layout_n = copies.get();
        let replicas_n = or_default(config.replicas_n, layout_n);
        if replicas_n > layout_n {
            return Err(invalid(
                &config.name,
                format_args!(
                    "replicas_n is {replicas_n}, the layout keeps {layout_n} copies: choose 1 to {layout_n}"
                ),
            ));
        }
        let replicas = ReplicasN::new(replicas_n).map_err(|cause| invalid(&config.name, cause))?;
        let majority = replicas_n / 2 + 1;
        let small = |number: u32| u8::try_from(number).unwrap_or(u8::MAX);
        let quorums = Quorums::new(
            small(replicas_n),
            small(or_default(config.read_quorum, majority)),
            small(or_default(config.write_quorum, majority)),
            (config.write_floor > 0).then(|| small(config.write_floor)),
        )
        .map_err(|cause| invalid(&config.name, cause))?;
        if mode == Mode::Register
            && (config.read_quorum > 0
                || config.write_quorum > 0
                || config.write_floor > 0
                || config.ttl_ms > 0)
        {
            return Err(invalid(
                &config.name,
                "register buckets always use majorities and keep rows until they are deleted: leave out read_quorum, write_quorum, write_floor and ttl_ms",
            ));
        }
        if mode == Mode::Register && config.durability_interval_ms > 0 {
            return Err(invalid(
                &config.name,
                "register buckets are always synced, for an acceptor that forgets a vote breaks its promise: leave out durability_interval_ms",
            ));
        }
        let durability_interval_ms = config.durability_interval_ms;
        if durability_interval_ms > INTERVAL_MS_MAX {
            return Err(invalid(
                &config.name,
                format_args!(
                    "durability_interval_ms is {durability_interval_ms}: choose 1 to {INTERVAL_MS_MAX}, or 0 to be on disk before the answer"
                ),
            ));
        }
        let value_bytes_max = or_default(config.value_bytes_max, VALUE_BYTES_MAX_DEFAULT);
        if value_bytes_max > VALUE_BYTES_MAX {
            return Err(invalid(
                &config.name,
                format_args!("value_bytes_max is {value_bytes_max}: choose 1 to {VALUE_BYTES_MAX}"),
            ));
        }
        Ok(Self {
            id: BucketId(config.id),
            name: config.name.clone(),
            mode,
            replicas_n: replicas,
            quorums,
            ttl_ms: config.ttl_ms,
            value_bytes_max,
            siblings_max: or_default(config.siblings_max, SIBLINGS_MAX_DEFAULT),
            durability_interval_ms,
        })
    }

    /// Whether a new bucket keeps enough copies for its mode. Buckets that exist are served as they are.
    pub(crate) fn check_copies(&self, copies: ReplicasN) -> Result<(), RequestError> {
        let least = copies.get().min(REGISTER_COPIES_MIN);
        if self.mode == Mode::Register && self.replicas_n.get() < least {
            return Err(invalid(
                &self.name,
                format_args!(
                    "a register bucket with {} copies has no majority left to learn from when one is lost: choose {least} to {copies}",
                    self.replicas_n
                ),
            ));
        }
        Ok(())
    }

    /// How concurrent values of this bucket merge.
    pub(crate) fn merge_mode(&self) -> MergeMode {
        match self.mode {
            Mode::Siblings | Mode::Register => MergeMode::Siblings,
            Mode::Lww => MergeMode::LastWriterWins,
        }
    }

    /// The configuration with everything filled in.
    pub(crate) fn config(&self) -> BucketConfig {
        let is_register = self.mode == Mode::Register;
        let unless_register = |number: u32| if is_register { 0 } else { number };
        let mode = match self.mode {
            Mode::Siblings => BucketMode::Siblings,
            Mode::Lww => BucketMode::Lww,
            Mode::Register => BucketMode::Register,
        };
        BucketConfig {
            name: self.name.clone(),
            id: self.id.0,
            mode: mode.into(),
            replicas_n: self.replicas_n.get(),
            read_quorum: unless_register(self.quorums.read_quorum().into()),
            write_quorum: unless_register(self.quorums.write_quorum().into()),
            write_floor: self.quorums.write_floor().unwrap_or(0).into(),
            ttl_ms: self.ttl_ms,
            value_bytes_max: self.value_bytes_max,
            siblings_max: self.siblings_max,
            durability_interval_ms: self.durability_interval_ms,
        }
    }
}

fn or_default(given: u32, default: u32) -> u32 {
    if given == 0 { default } else { given }
}

fn invalid(name: &str, problem: impl std::fmt::Display) -> RequestError {
    RequestError::Invalid(format!("bucket `{name}` cannot be: {problem}"))
}

fn check_name(name: &str) -> Result<(), RequestError> {
    let good = !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_'
        });
    if good {
        return Ok(());
    }
    let shown: String = name.chars().take(80).collect();
    Err(RequestError::Invalid(format!(
        "`{shown}` is no bucket name: use 1 to {NAME_BYTES_MAX} characters of a-z, 0-9, `-` and `_`, beginning with a letter"
    )))
}

#[derive(Debug, Default)]
struct Seen {
    version: u64,
    by_name: BTreeMap<String, Arc<Bucket>>,
    /// Given up by operators, each with the member that it was of.
    forgotten: BTreeMap<Bytes, NodeId>,
    tokens: TokenBook,
}

/// The buckets as last seen.
#[derive(Debug)]
pub(crate) struct Catalogue {
    store: Store,
    copies: ReplicasN,
    seen: ArcSwap<Seen>,
    durabilities: Durabilities,
}

impl Catalogue {
    /// Reads what the node had seen before it stopped.
    pub(crate) fn open(store: Store, copies: ReplicasN) -> Result<Self, StorageError> {
        let catalogue = Self {
            store,
            copies,
            seen: ArcSwap::default(),
            durabilities: Durabilities::default(),
        };
        match catalogue.store.get(Keyspace::Meta, keys::META_CATALOGUE) {
            Ok(None) => {}
            Ok(Some(bytes)) => match store::Catalogue::decode(bytes) {
                Ok(stored) => catalogue.remember(&stored),
                // It can be had again from any peer.
                Err(cause) => warn!(%cause, "the stored bucket catalogue is damaged"),
            },
            Err(StorageError::Corrupt { detail, .. }) => {
                warn!(%detail, "the stored bucket catalogue is damaged");
            }
            Err(error) => return Err(error),
        }
        Ok(catalogue)
    }

    pub(crate) fn version(&self) -> u64 {
        self.seen.load().version
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<Bucket>> {
        self.seen.load().by_name.get(name).cloned()
    }

    /// Every bucket seen.
    pub(crate) fn all(&self) -> Vec<Arc<Bucket>> {
        self.seen.load().by_name.values().cloned().collect()
    }

    /// How durable the buckets are; what is handed out here follows the catalogue.
    pub(crate) fn durabilities(&self) -> Durabilities {
        self.durabilities.clone()
    }

    /// The bucket of that number, if it was seen here.
    pub(crate) fn by_id(&self, id: BucketId) -> Option<Arc<Bucket>> {
        let seen = self.seen.load();
        seen.by_name
            .values()
            .find(|bucket| bucket.id == id)
            .cloned()
    }

    /// Whether an operator has given this store up.
    pub(crate) fn is_forgotten_store(&self, store_id: &[u8]) -> bool {
        self.seen.load().forgotten.contains_key(store_id)
    }

    /// Judges a token that somebody shows, and goes on with the verdict.
    pub(crate) fn judge<T>(
        &self,
        holder: &Holder,
        now_unix_ms: u64,
        then: impl FnOnce(Result<&Token, Refusal>) -> T,
    ) -> T {
        then(self.seen.load().tokens.judge(holder, now_unix_ms))
    }

    pub(crate) fn to_wire(&self) -> store::Catalogue {
        let seen = self.seen.load();
        store::Catalogue {
            version: seen.version,
            buckets: seen
                .by_name
                .values()
                .map(|bucket| bucket.config())
                .collect(),
            forgotten: seen
                .forgotten
                .iter()
                .map(|(store_id, member)| store::ForgottenStore {
                    node_id: member.0,
                    store_id: store_id.clone(),
                })
                .collect(),
            tokens: seen.tokens.iter().map(token_to_store).collect(),
        }
    }

    /// Takes a newer catalogue, durably. An older one changes nothing.
    pub(crate) async fn update(&self, newer: store::Catalogue) -> Result<(), StorageError> {
        if newer.version <= self.version() {
            return Ok(());
        }
        let mut batch = WriteBatch::new();
        batch.put(Keyspace::Meta, keys::META_CATALOGUE, newer.encode_to_vec());
        self.store.commit(batch).await?;
        self.remember(&newer);
        Ok(())
    }

    fn remember(&self, newer: &store::Catalogue) {
        let mut by_name = BTreeMap::new();
        for config in &newer.buckets {
            match Bucket::new(config, self.copies) {
                Ok(bucket) => {
                    by_name.insert(bucket.name.clone(), Arc::new(bucket));
                }
                Err(cause) => warn!(%cause, "a bucket of the catalogue cannot be used"),
            }
        }
        let forgotten: BTreeMap<Bytes, NodeId> = newer
            .forgotten
            .iter()
            .map(|store| (store.store_id.clone(), NodeId(store.node_id)))
            .collect();
        let tokens = newer.tokens.iter().filter_map(|stored| {
            let token = token_from_store(stored);
            token
                .inspect_err(|cause| warn!(%cause, "a token of the catalogue cannot be used"))
                .ok()
        });
        let seen = Arc::new(Seen {
            version: newer.version,
            by_name,
            forgotten,
            tokens: TokenBook::new(tokens),
        });
        self.seen.rcu(|current| {
            if current.version < seen.version {
                Arc::clone(&seen)
            } else {
                Arc::clone(current)
            }
        });
        // A bucket never changes under its id, so whoever comes last here is right, or lacks a bucket
        // until the next change, and what is lacking is synced.
        let newest = self.seen.load();
        let intervals = newest
            .by_name
            .values()
            .filter_map(|bucket| Some((bucket.id, interval(bucket.durability_interval_ms)?)));
        self.durabilities.replace(intervals.collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str, mode: BucketMode) -> BucketConfig {
        BucketConfig {
            name: name.to_owned(),
            mode: mode.into(),
            ..Default::default()
        }
    }

    fn three() -> ReplicasN {
        ReplicasN::new(3).expect("in range")
    }

    #[test]
    fn defaults_are_filled_in() {
        let bucket =
            Bucket::new(&config("carts", BucketMode::Siblings), three()).expect("a good bucket");
        assert_eq!(
            (
                bucket.quorums.replicas_n(),
                bucket.quorums.read_quorum(),
                bucket.quorums.write_quorum()
            ),
            (3, 2, 2)
        );
        assert_eq!(
            Bucket::new(&bucket.config(), three()).expect("it came from a bucket"),
            bucket
        );
    }

    #[test]
    fn bad_configurations_say_why() {
        let check = |config: BucketConfig, part: &str| {
            let error = Bucket::new(&config, three()).expect_err(part);
            assert!(error.to_string().contains(part), "{error}");
        };
        check(config("Carts", BucketMode::Siblings), "no bucket name");
        check(config("", BucketMode::Siblings), "no bucket name");
        check(
            config("carts", BucketMode::Unspecified),
            "name siblings, lww or register",
        );
        check(
            BucketConfig {
                replicas_n: 4,
                ..config("carts", BucketMode::Lww)
            },
            "choose 1 to 3",
        );
        check(
            BucketConfig {
                write_quorum: 4,
                ..config("carts", BucketMode::Lww)
            },
            "write_quorum is 4",
        );
        check(
            BucketConfig {
                write_floor: 1,
                ..config("stock", BucketMode::Register)
            },
            "always use majorities",
        );
        let two = BucketConfig {
            replicas_n: 2,
            ..config("stock", BucketMode::Register)
        };
        let two = Bucket::new(&two, three()).expect("one that exists is served");
        let error = two.check_copies(three()).expect_err("it is too few");
        assert!(error.to_string().contains("choose 3 to 3"), "{error}");
        check(
            BucketConfig {
                durability_interval_ms: 50,
                ..config("stock", BucketMode::Register)
            },
            "always synced",
        );
        check(
            BucketConfig {
                durability_interval_ms: 10_001,
                ..config("views", BucketMode::Lww)
            },
            "choose 1 to 10000",
        );
    }
}
