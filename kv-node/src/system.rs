//! The cluster's own register group: which buckets there are, which stores operators have given up, and which tokens
//! are good. Beside it stands the one of `crate::members::staged`.
//!
//! All members vote on it, whatever the layout says of partitions. Every node keeps what it has seen
//! (`crate::cluster::Catalogue`); heartbeats tell who has seen more, and the other pulls.
//!
//! Shape: one row per bucket, store or token, and one that counts the changes. Both change in one transaction.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use souk_kv_core::{
    access::Token,
    causality::{ContentType, RequestId},
    register::{
        Answer, Cell, Condition, RequestStamp, Row, RowKey, RowOperation, Transaction, Verdict,
        Version, Write,
    },
};
use souk_kv_proto::{
    convert::access::{token_from_store, token_to_store},
    kv::BucketConfig,
    store::{self, AccessToken, ForgottenStore},
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
const TOKEN_ROW: &[u8] = b"t/";
/// Tokens of one cluster.
const TOKENS_MAX: usize = 1000;
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
    tokens: Vec<(Token, Version)>,
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

    /// Makes a token.
    pub(crate) async fn create_token(
        &self,
        token: &Token,
        deadline: Instant,
    ) -> Result<(), RequestError> {
        for _ in 0..TRIES {
            let snapshot = self.snapshot(deadline).await?;
            if snapshot
                .tokens
                .iter()
                .any(|(other, _)| other.name == token.name)
            {
                return Err(RequestError::Invalid(format!(
                    "there is a token `{0}` already: choose another name, give it a new secret with `souk admin token rotate {0}`, or end it with `souk admin token revoke {0}`",
                    token.name
                )));
            }
            if snapshot.tokens.len() >= TOKENS_MAX {
                return Err(RequestError::Invalid(format!(
                    "the cluster has {TOKENS_MAX} tokens, which is the most it takes: revoke what is not needed"
                )));
            }
            let bytes = token_to_store(token).encode_to_vec();
            if self
                .insert(&snapshot, &token_row(token), bytes, deadline)
                .await?
            {
                info!(token = token.name, id = %token.id, "token made");
                self.refresh(deadline).await.ok();
                return Ok(());
            }
        }
        Err(RequestError::Contention {
            outcome: souk_kv_core::outcome::Outcome::NotApplied,
        })
    }

    /// Changes the token of that name, or ends it where `change` gives none. Gives the token as it is then; as it was
    /// when it ended.
    pub(crate) async fn change_token(
        &self,
        name: &str,
        change: impl Fn(&Token) -> Option<Token>,
        deadline: Instant,
    ) -> Result<Token, RequestError> {
        for _ in 0..TRIES {
            let snapshot = self.snapshot(deadline).await?;
            let found = snapshot.tokens.iter().find(|(token, _)| token.name == name);
            let Some((token, version)) = found else {
                return Err(RequestError::Invalid(format!(
                    "there is no token `{name}`: see `souk admin token list`"
                )));
            };
            let changed = change(token);
            let operation = RowOperation {
                key: RowKey::user(&token_row(token)),
                condition: Condition::Version(*version),
                write: Some(match &changed {
                    Some(changed) => Write::Put(cell(token_to_store(changed).encode_to_vec())),
                    None => Write::Delete,
                }),
            };
            if self.change(&snapshot, operation, deadline).await? {
                let what = if changed.is_some() {
                    "changed"
                } else {
                    "ended"
                };
                info!(token = token.name, id = %token.id, "token {what}");
                let now = changed.unwrap_or_else(|| token.clone());
                self.refresh(deadline).await.ok();
                return Ok(now);
            }
        }
        Err(RequestError::Contention {
            outcome: souk_kv_core::outcome::Outcome::NotApplied,
        })
    }

    /// The tokens as a majority knows them, in the order of their names.
    pub(crate) async fn tokens(&self, deadline: Instant) -> Result<Vec<Token>, RequestError> {
        let snapshot = self.snapshot(deadline).await?;
        let mut tokens: Vec<Token> = snapshot
            .tokens
            .into_iter()
            .map(|(token, _)| token)
            .collect();
        tokens.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(tokens)
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
            tokens: snapshot
                .tokens
                .iter()
                .map(|(token, _)| token_to_store(token))
                .collect(),
        };
        Ok(self.cluster.catalogue.update(catalogue).await?)
    }

    async fn snapshot(&self, deadline: Instant) -> Result<Snapshot, RequestError> {
        let query = RowsQuery {
            start: Bytes::new(),
            end: None,
            limit: BUCKETS_MAX + FORGOTTEN_MAX + TOKENS_MAX + 1,
            reverse: false,
        };
        let page = self.registers.scan(&self.place(), &query, deadline).await?;
        let mut snapshot = Snapshot {
            counter: 0,
            counter_version: None,
            buckets: Vec::new(),
            forgotten: Vec::new(),
            tokens: Vec::new(),
        };
        for (key, row) in page.rows {
            if key == COUNTER_ROW {
                snapshot.counter_version = Some(row.version);
                snapshot.counter = counter(&row)?;
            } else if let (true, Some(cell)) = (key.starts_with(FORGOTTEN_ROW), &row.cell) {
                let store = ForgottenStore::decode(cell.bytes.clone()).map_err(damaged)?;
                snapshot.forgotten.push(store);
            } else if let (true, Some(cell)) = (key.starts_with(TOKEN_ROW), &row.cell) {
                let stored = AccessToken::decode(cell.bytes.clone()).map_err(damaged)?;
                let token = token_from_store(&stored).map_err(damaged)?;
                snapshot.tokens.push((token, row.version));
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
        let operation = RowOperation {
            key: RowKey::user(row),
            condition: Condition::Absent,
            write: Some(Write::Put(cell(bytes))),
        };
        self.change(snapshot, operation, deadline).await
    }

    /// False when somebody else changed the catalogue meanwhile.
    async fn change(
        &self,
        snapshot: &Snapshot,
        operation: RowOperation,
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
            operation,
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

fn token_row(token: &Token) -> Vec<u8> {
    [TOKEN_ROW, &token.id.0].concat()
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
