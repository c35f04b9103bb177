//! A batch of puts: what has the same replicas is named, stored and sent together, with one sync on each.
//!
//! Shape: the puts are dealt into *lots*; a lot is one write of `crate::siblings`. What this node does not hold
//! goes to nodes that do, one by one; the client library sends only what the node holds.
//! Invariants: 1. every put of the batch has a result of its own, in its order. 2. no key is in a lot twice.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::future::{join, join_all};
use smallvec::SmallVec;
use souk_kv_proto::kv::{
    BatchPutItem, BatchPutRequest, BatchPutResponse, PutRequest, PutResponse, RequestOptions,
    batch_put_item, session_request::Body as Ask,
};
use souk_ring::NodeId;
use tokio::time::Instant;

use super::{
    check,
    requests::{Hop, Requests, put_response},
};
use crate::{error::RequestError, keys::BucketId, siblings::PlacedWrite};

/// A lot takes no further write once it holds this many.
const LOT_WRITES_MAX: usize = 256;
/// A lot takes no further write once its values hold this many bytes.
const LOT_BYTES_MAX: usize = 1024 * 1024;

type Put = Result<PutResponse, RequestError>;

/// Writes that go the same way.
struct Lot {
    way: Way,
    writes: SmallVec<[PlacedWrite; 1]>,
    /// The place of each write in the batch.
    indexes: Vec<usize>,
    keys: BTreeSet<Bytes>,
    bytes: usize,
    /// The earliest of all.
    deadline: Instant,
}

/// Who gets a write, and what it waits for.
#[derive(PartialEq)]
struct Way {
    bucket: BucketId,
    /// Sorted: their order decides who coordinates, and that is this node.
    primaries: SmallVec<[NodeId; 4]>,
    fallbacks: SmallVec<[NodeId; 4]>,
    options: RequestOptions,
}

impl Way {
    fn of(write: &PlacedWrite, options: RequestOptions) -> Self {
        let mut primaries: SmallVec<[NodeId; 4]> = write.place.receivers().into();
        primaries.sort_unstable();
        Self {
            bucket: write.place.bucket.id,
            primaries,
            fallbacks: write.place.standins().into(),
            options,
        }
    }
}

impl Lot {
    fn takes(&self, way: &Way, write: &PlacedWrite) -> bool {
        self.way == *way
            && self.writes.len() < LOT_WRITES_MAX
            && self.bytes < LOT_BYTES_MAX
            && !self.keys.contains(&write.place.store_key)
    }

    fn add(&mut self, index: usize, write: PlacedWrite, deadline: Instant) {
        let value = write.write.value.as_ref();
        self.bytes += value.map_or(0, |value| value.bytes.len());
        self.keys.insert(write.place.store_key.clone());
        self.deadline = self.deadline.min(deadline);
        self.indexes.push(index);
        self.writes.push(write);
    }
}

impl Requests {
    /// Runs a batch of puts.
    pub(super) async fn batch_put(
        &self,
        request: BatchPutRequest,
    ) -> Result<BatchPutResponse, RequestError> {
        check::batch(request.puts.len())?;
        let count = request.puts.len();
        let mut results: Vec<Option<Put>> = (0..count).map(|_| None).collect();
        let mut lots: Vec<Lot> = Vec::new();
        let mut elsewhere = Vec::new();
        for (index, put) in request.puts.into_iter().enumerate() {
            match self.check_put(&put).await {
                Err(error) => results[index] = Some(Err(error)),
                Ok((write, options, deadline)) => {
                    if write.place.receivers().contains(&self.core.cluster.node) {
                        deal(&mut lots, index, write, options, deadline);
                    } else {
                        elsewhere.push(self.put_elsewhere(index, put, write, options, deadline));
                    }
                }
            }
        }
        let lots = join_all(lots.into_iter().map(|lot| self.put_lot(lot)));
        let (lots, elsewhere) = join(lots, join_all(elsewhere)).await;
        for (index, result) in lots.into_iter().flatten().chain(elsewhere) {
            results[index] = Some(result);
        }
        let items = results.into_iter().map(|result| {
            let result = result.unwrap_or_else(|| {
                let cause = "a put of a batch got no result".to_owned();
                Err(RequestError::Internal(cause))
            });
            BatchPutItem {
                result: Some(match result {
                    Ok(written) => batch_put_item::Result::Written(written),
                    Err(error) => batch_put_item::Result::Error(error.to_wire()),
                }),
            }
        });
        Ok(BatchPutResponse {
            items: items.collect(),
        })
    }

    async fn put_lot(&self, lot: Lot) -> Vec<(usize, Put)> {
        let coordinator = &self.core.siblings;
        let outcomes = coordinator
            .put_all(lot.writes, &lot.way.options, lot.deadline)
            .await;
        let results = outcomes
            .into_iter()
            .map(|outcome| outcome.map(put_response));
        lot.indexes.into_iter().zip(results).collect()
    }

    async fn put_elsewhere(
        &self,
        index: usize,
        put: PutRequest,
        write: PlacedWrite,
        options: RequestOptions,
        deadline: Instant,
    ) -> (usize, Put) {
        let written = self.write(write, options, deadline, Hop::First, || Ask::Put(put));
        (index, written.await)
    }
}

fn deal(
    lots: &mut Vec<Lot>,
    index: usize,
    write: PlacedWrite,
    options: RequestOptions,
    deadline: Instant,
) {
    let way = Way::of(&write, options);
    let open = lots.iter().position(|lot| lot.takes(&way, &write));
    let open = open.unwrap_or_else(|| {
        lots.push(Lot {
            way,
            writes: SmallVec::new(),
            indexes: Vec::new(),
            keys: BTreeSet::new(),
            bytes: 0,
            deadline,
        });
        lots.len() - 1
    });
    lots[open].add(index, write, deadline);
}
