//! The cluster's own register group: which buckets there are, and which stores operators have given up. Beside it
//! stands the one of `crate::members::staged`.
//!
//! All members vote on it, whatever the layout says of partitions. Every node keeps what it has seen
//! (`crate::cluster::Catalogue`); heartbeats tell who has seen more, and the other pulls.
//!
//! Shape: one row per bucket or store, and one that counts the changes. Both change in one transaction.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use souk_kv_core::{
    causality::{ContentType, RequestId},
    register::{
        Answer, Cell, Condition, RequestStamp, Row, RowKey, RowOperation, Transaction, Verdict,
        Version, Write,
    },
};
use souk_kv_proto::{
    kv::BucketConfig,
    store::{self, ForgottenStore},
};
use souk_ring::PartitionId;
use tokio::time::Instant;
use tracing::info;

use crate::{
    cluster::{Bucket, Cluster},
    error::RequestError,
    keys::{BucketId, GroupKey},
    members::StagedLayout,
    register::{GroupPlace, RegisterCoordinator, RowsQuery},
};

/// The bucket of the cluster's own groups, which belong to no partition.
pub(crate) const SYSTEM_BUCKET: BucketId = BucketId(0);
/// Buckets of one cluster.
const BUCKETS_MAX: usize = 1000;
const COUNTER_ROW: &[u8] = b"";
const BUCKET_ROW: &[u8] = b"b/";
const FORGOTTEN_ROW: &[u8] = b"f/";
/// Stores given up in one cluster.
const FORGOTTEN_MAX: usize = 1000;
/// Two operators at once cost each other a try.
const TRIES: usize = 8;

/// Creates and looks up buckets.
#[derive(Debug, Clone)]
pub(crate) struct SystemGroup {
    cluster: Arc<Cluster>,
    registers: RegisterCoordinator,
}

/// The group's rows, read at one moment.
struct Snapshot {
    counter: u64,
    counter_version: Option<Version>,
    buckets: Vec<BucketConfig>,
    forgotten: Vec<ForgottenStore>,
}

impl SystemGroup {
    pub(crate) fn new(cluster: Arc<Cluster>, registers: RegisterCoordinator) -> Self {
        Self { cluster, registers }
    }

    /// The group's name: it lives outside all buckets.
    pub(crate) fn key() -> GroupKey {
        GroupKey {
            partition: PartitionId(0),
            bucket: SYSTEM_BUCKET,
            partition_key: Bytes::from_static(b"catalogue"),
        }
    }

    /// All of the cluster's own groups.
    pub(crate) fn keys() -> [GroupKey; 2] {
        [Self::key(), StagedLayout::key()]
    }

    /// Whether all members vote on that group.
    pub(crate) fn owns(key: &GroupKey) -> bool {
        key.bucket == SYSTEM_BUCKET
    }

    fn place(&self) -> GroupPlace {
        GroupPlace::new(&self.cluster.layout(), Self::key(), 0)
    }

    /// Creates a bucket; true when it was not there yet.
    pub(crate) async fn create_bucket(
        &self,
        config: &BucketConfig,
        deadline: Instant,
    ) -> Result<(BucketConfig, bool), RequestError> {
        let copies = self.cluster.layout().replicas_n();
        let wanted = Bucket::new(
            &BucketConfig {
                id: 0,
                ..config.clone()
            },
            copies,
        )?;
        wanted.check_copies(copies)?;
        let wanted = wanted.config();
        for _ in 0..TRIES {
            let snapshot = self.snapshot(deadline).await?;
            let found = snapshot
                .buckets
                .iter()
                .find(|bucket| bucket.name == wanted.name)
                .cloned();
            if let Some(found) = found {
                self.remember(snapshot).await?;
                return same(&wanted, found);
            }
            if snapshot.buckets.len() >= BUCKETS_MAX {
                return Err(RequestError::Invalid(format!(
                    "the cluster has {BUCKETS_MAX} buckets, which is the most it takes"
                )));
            }
            let id = snapshot
                .buckets
                .iter()
                .map(|bucket| bucket.id)
                .max()
                .unwrap_or(0)
                + 1;
            let made = BucketConfig {
                id,
                ..wanted.clone()
            };
            let row = [BUCKET_ROW, made.name.as_bytes()].concat();
            if self
                .insert(&snapshot, &row, made.encode_to_vec(), deadline)
                .await?
            {
                info!(bucket = made.name, id, "bucket created");
                // It is created whatever becomes of this; heartbeats bring the news as well.
                self.refresh(deadline).await.ok();
                return Ok((made, true));
            }
        }
        Err(RequestError::Contention {
            outcome: souk_kv_core::outcome::Outcome::NotApplied,
        })
    }

    /// Gives a member's store up; false when it had been before.
    pub(crate) async fn forget(
        &self,
        store: &ForgottenStore,
        deadline: Instant,
    ) -> Result<bool, RequestError> {
        for _ in 0..TRIES {
            let snapshot = self.snapshot(deadline).await?;
            if snapshot.forgotten.contains(store) {
                self.remember(snapshot).await?;
                return Ok(false);
            }
            if snapshot.forgotten.len() >= FORGOTTEN_MAX {
                return Err(RequestError::Invalid(format!(
                    "the cluster has given up {FORGOTTEN_MAX} stores, which is the most it remembers"
                )));
            }
            let row = [FORGOTTEN_ROW, &store.store_id].concat();
            if self
                .insert(&snapshot, &row, store.encode_to_vec(), deadline)
                .await?
            {
                info!(node = store.node_id, "a store was given up");
                // It is given up whatever becomes of this; heartbeats bring the news as well.
                self.refresh(deadline).await.ok();
                return Ok(true);
            }
        }
        Err(RequestError::Contention {
            outcome: souk_kv_core::outcome::Outcome::NotApplied,
        })
    }

    /// Reads the newest catalogue and remembers it.
    pub(crate) async fn refresh(&self, deadline: Instant) -> Result<(), RequestError> {
        let snapshot = self.snapshot(deadline).await?;
        self.remember(snapshot).await
    }

    async fn remember(&self, snapshot: Snapshot) -> Result<(), RequestError> {
        let catalogue = store::Catalogue {
            version: snapshot.counter,
            buckets: snapshot.buckets,
            forgotten: snapshot.forgotten,
        };
        Ok(self.cluster.catalogue.update(catalogue).await?)
    }

    async fn snapshot(&self, deadline: Instant) -> Result<Snapshot, RequestError> {
        let query = RowsQuery {
            start: Bytes::new(),
            end: None,
            limit: BUCKETS_MAX + FORGOTTEN_MAX + 1,
            reverse: false,
        };
        let page = self.registers.scan(&self.place(), &query, deadline).await?;
        let mut snapshot = Snapshot {
            counter: 0,
            counter_version: None,
            buckets: Vec::new(),
            forgotten: Vec::new(),
        };
        for (key, row) in page.rows {
            if key == COUNTER_ROW {
                snapshot.counter_version = Some(row.version);
                snapshot.counter = counter(&row)?;
            } else if let (true, Some(cell)) = (key.starts_with(FORGOTTEN_ROW), &row.cell) {
                let store = ForgottenStore::decode(cell.bytes.clone()).map_err(damaged)?;
                snapshot.forgotten.push(store);
            } else if let Some(cell) = &row.cell {
                let bucket = BucketConfig::decode(cell.bytes.clone()).map_err(damaged)?;
                snapshot.buckets.push(bucket);
            }
        }
        Ok(snapshot)
    }

    /// False when somebody else changed the catalogue meanwhile.
    async fn insert(
        &self,
        snapshot: &Snapshot,
        row: &[u8],
        bytes: Vec<u8>,
        deadline: Instant,
    ) -> Result<bool, RequestError> {
        let counter = (snapshot.counter + 1).to_be_bytes().to_vec();
        let operations = vec![
            RowOperation {
                key: RowKey::user(COUNTER_ROW),
                condition: snapshot
                    .counter_version
                    .map_or(Condition::Absent, Condition::Version),
                write: Some(Write::Put(cell(counter))),
            },
            RowOperation {
                key: RowKey::user(row),
                condition: Condition::Absent,
                write: Some(Write::Put(cell(bytes))),
            },
        ];
        // No memory is needed: after an unknown outcome the name itself tells whether it was applied.
        let stamp = RequestStamp {
            request: RequestId {
                client: [0; 16],
                sequence: 0,
            },
            attempt: 1,
            lowest_unanswered: 0,
            issued_unix_ms: self.cluster.environment.unix_ms(),
        };
        let transaction = Transaction::new(stamp, operations)
            .map_err(|cause| RequestError::Internal(cause.to_string()))?;
        let judged = self
            .registers
            .transact(&self.place(), transaction, deadline)
            .await?;
        match judged.verdict {
            Verdict::Applied(_) | Verdict::Replayed(Answer::Applied(_)) => Ok(true),
            Verdict::NotApplied { .. } | Verdict::Replayed(Answer::NotApplied { .. }) => Ok(false),
            Verdict::Refused(cause) => Err(RequestError::Internal(cause.to_string())),
        }
    }
}

fn cell(bytes: Vec<u8>) -> Cell {
    Cell {
        content_type: ContentType::octets(),
        bytes: bytes.into(),
    }
}

fn counter(row: &Row) -> Result<u64, RequestError> {
    let bytes = row
        .cell
        .as_ref()
        .map(|cell| cell.bytes.as_ref())
        .unwrap_or_default();
    bytes.try_into().map(u64::from_be_bytes).map_err(damaged)
}

fn damaged(cause: impl ToString) -> RequestError {
    RequestError::Corrupt {
        what: "the bucket catalogue",
        cause: cause.to_string(),
    }
}

fn same(wanted: &BucketConfig, found: BucketConfig) -> Result<(BucketConfig, bool), RequestError> {
    let comparable = BucketConfig {
        id: wanted.id,
        ..found.clone()
    };
    if comparable == *wanted {
        return Ok((found, false));
    }
    let numbers = |bucket: &BucketConfig| {
        [
            ("mode", u64::try_from(bucket.mode).unwrap_or_default()),
            ("replicas_n", bucket.replicas_n.into()),
            ("read_quorum", bucket.read_quorum.into()),
            ("write_quorum", bucket.write_quorum.into()),
            ("write_floor", bucket.write_floor.into()),
            ("ttl_ms", bucket.ttl_ms),
            ("value_bytes_max", bucket.value_bytes_max.into()),
            ("siblings_max", bucket.siblings_max.into()),
            (
                "durability_interval_ms",
                bucket.durability_interval_ms.into(),
            ),
        ]
    };
    let differing: Vec<String> = numbers(wanted)
        .into_iter()
        .zip(numbers(&found))
        .filter(|(asked, there)| asked != there)
        .map(|((name, asked), (_, there))| format!("{name} is {there}, asked for {asked}"))
        .collect();
    Err(RequestError::BucketExists {
        name: wanted.name.clone(),
        difference: differing.join(", "),
    })
}
