//! This node's copies of records.
//!
//! Invariants: 1. what is on disk only grows in the order of merging. 2. an answer follows the sync.

use std::sync::Arc;

use bytes::Bytes;
use souk_kv_core::causality::{MergeMode, Record};
use souk_kv_proto::convert::causality::{decode_record, encode_record};
use souk_kv_storage::{Commit, Keyspace, Scan, StorageError, Store, WriteBatch};
use tracing::warn;

use crate::{
    error::RequestError,
    guard::{KeyGuard, KeyGuards},
    keys,
};

/// The replica side of `siblings` and `lww` buckets.
#[derive(Debug)]
pub(crate) struct Records {
    store: Store,
    guards: Arc<KeyGuards>,
}

/// A record as it lies here, read under its guard.
pub(crate) struct Local {
    pub(crate) record: Record,
    /// False when the stored bytes were damaged: what was there is not known.
    pub(crate) is_whole: bool,
}

/// One row of a scan.
pub(crate) struct LocalRow {
    pub(crate) sort_key: Bytes,
    pub(crate) record: Bytes,
}

impl Records {
    pub(crate) fn new(store: Store, guards: Arc<KeyGuards>) -> Self {
        Self { store, guards }
    }

    /// The encoded record; empty when there is none. A damaged one is an error, never served.
    pub(crate) fn read(&self, store_key: &[u8]) -> Result<Bytes, RequestError> {
        Ok(self
            .store
            .get(Keyspace::Records, store_key)?
            .unwrap_or_default())
    }

    /// Waits until nobody else changes this key.
    pub(crate) async fn lock(&self, store_key: &[u8]) -> KeyGuard {
        self.guards.lock(store_key).await
    }

    /// Reads for a change; the caller holds the guard. Damage is reported as a record that is not whole.
    pub(crate) fn read_for_change(&self, store_key: &[u8]) -> Result<Local, RequestError> {
        match self.store.get(Keyspace::Records, store_key) {
            Ok(None) => Ok(Local {
                record: Record::default(),
                is_whole: true,
            }),
            Ok(Some(bytes)) => match decode_record(bytes) {
                Ok((record, _)) => Ok(Local {
                    record,
                    is_whole: true,
                }),
                Err(cause) => {
                    warn!(%cause, "a stored record cannot be decoded; it is mended by its peers");
                    Ok(Local {
                        record: Record::default(),
                        is_whole: false,
                    })
                }
            },
            Err(StorageError::Corrupt { detail, .. }) => {
                warn!(%detail, "a stored record is damaged; it is mended by its peers");
                Ok(Local {
                    record: Record::default(),
                    is_whole: false,
                })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Hands a record to the disk; the caller holds the guard until the commit resolves.
    pub(crate) fn write(&self, store_key: Bytes, record: Bytes) -> Commit {
        let mut batch = WriteBatch::new();
        batch.put(Keyspace::Records, store_key, record);
        self.store.submit(batch)
    }

    /// Takes in what another replica holds; returns when it is on disk.
    pub(crate) async fn merge(
        &self,
        store_key: Bytes,
        incoming: Bytes,
    ) -> Result<(), RequestError> {
        if keys::split_record(&store_key).is_none() {
            return Err(RequestError::Invalid(
                "a peer sent a damaged record key".to_owned(),
            ));
        }
        let (arrived, mode) =
            decode_record(incoming.clone()).map_err(|cause| RequestError::Corrupt {
                what: "a record sent by a peer",
                cause: cause.to_string(),
            })?;
        let _guard = self.lock(&store_key).await;
        let local = self.read_for_change(&store_key)?;
        let Some(merged) = merged(local, arrived, incoming, mode) else {
            return Ok(());
        };
        Ok(self.write(store_key, merged).await?)
    }

    /// Rows of one partition key in order, `limit` at most, and whether more follow.
    pub(crate) fn scan(
        &self,
        scan: &Scan,
        prefix_bytes: usize,
    ) -> Result<(Vec<LocalRow>, bool), RequestError> {
        let page = self.store.scan(scan)?;
        let mut rows = Vec::with_capacity(page.rows.len());
        for row in page.rows {
            rows.push(LocalRow {
                sort_key: row.key.slice(prefix_bytes..),
                record: row.value?,
            });
        }
        Ok((rows, page.more))
    }
}

/// The bytes to store after merging, or `None` when nothing changes.
pub(crate) fn merged(
    local: Local,
    arrived: Record,
    incoming: Bytes,
    mode: MergeMode,
) -> Option<Bytes> {
    if !local.is_whole || local.record.is_empty() {
        return Some(incoming);
    }
    let mut record = local.record;
    record
        .merge(&arrived, mode)
        .then(|| encode_record(&record, mode))
}
