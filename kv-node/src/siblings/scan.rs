//! Rows of one partition key, merged from R replicas.
//!
//! Replicas may each stop at the limit, at different rows. Only rows up to the nearest of those
//! stops are complete, so the page ends there and the continuation goes on behind it.
//!
//! A replica with a damaged row among them counts as one that gave no answer: what it lacks another has.
//! Stand-ins of primaries that seem down are asked for what their hint space holds, as a get does.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use souk_kv_core::{
    causality::{MergeMode, Record},
    outcome::Outcome,
    quorum::{GetAction, GetAnswer, GetCoordinator, GetRequest},
};
use souk_kv_proto::{
    convert::causality::decode_record,
    kv::RequestOptions,
    peer::{ScanRecords, ScanReply, peer_message::Body},
};
use souk_kv_storage::{Keyspace, Scan};
use souk_ring::NodeId;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, warn};

use super::request::{Coordinator, REPLICA_TIMEOUT, RecordPlace, read_quorum};
use crate::{
    error::RequestError,
    hint::HintSpace,
    keys::{prefix_end, split_record},
};

/// Which rows of a partition key, in sort-key order.
#[derive(Debug, Clone, Default)]
pub(crate) struct RangeQuery {
    /// First sort key, inclusive.
    pub(crate) start: Bytes,
    /// Last sort key, exclusive; `None` means the end.
    pub(crate) end: Option<Bytes>,
    pub(crate) limit: usize,
    pub(crate) reverse: bool,
}

/// A page of rows, tombstones included, and whether there are more behind the last one.
#[derive(Debug)]
pub(crate) struct ScanOutcome {
    pub(crate) rows: Vec<(Bytes, Record)>,
    pub(crate) more: bool,
}

/// What one replica holds.
struct Rows {
    rows: Vec<(Bytes, Record)>,
    more: bool,
}

impl Coordinator {
    /// Reads rows of one partition key from R replicas.
    pub(crate) async fn scan(
        &self,
        place: &RecordPlace,
        query: &RangeQuery,
        options: &RequestOptions,
        deadline: Instant,
    ) -> Result<ScanOutcome, RequestError> {
        let started = Instant::now();
        // Whom to ask, and when it is enough, is decided as for a get; the rows are merged here.
        let request = GetRequest {
            primaries: place.primaries(),
            fallbacks: place.fallbacks(),
            local: self.cluster.node,
            read_quorum: read_quorum(place, options)?,
            ask_all: false,
            strict: options.strict,
            mode: place.bucket.merge_mode(),
        };
        let (mut get, mut pending) =
            GetCoordinator::start(request, |node| self.cluster.health_of(node));
        let mut asked: FuturesUnordered<BoxFuture<'static, (NodeId, Option<Rows>)>> =
            FuturesUnordered::new();
        let mut replies = Vec::with_capacity(usize::from(request.read_quorum));
        loop {
            for action in pending.drain(..) {
                match action {
                    GetAction::Ask { node, with_hints } => {
                        asked.push(self.ask_rows(place, query, node, with_hints, deadline));
                    }
                    GetAction::Answer(GetAnswer::Enough { .. }) => {
                        return Ok(merge(replies, query, place.bucket.merge_mode()));
                    }
                    GetAction::Answer(GetAnswer::TooFew { needed, .. }) => {
                        return Err(RequestError::Timeout {
                            answered: replies.len(),
                            needed: needed.into(),
                            waited_ms: u64::try_from(started.elapsed().as_millis())
                                .unwrap_or(u64::MAX),
                            mend: "try again, or scan with consistency `one` if a possibly old answer will do",
                            outcome: Outcome::NotApplied,
                        });
                    }
                    // Told of empty records only, it sees nothing to repair.
                    GetAction::RepairStale { .. } => {}
                }
            }
            pending = match timeout_at(deadline, asked.next()).await {
                Ok(Some((node, Some(rows)))) => {
                    replies.push(rows);
                    get.on_reply(node, None)
                }
                Ok(Some((node, None))) => get.on_failed(node),
                Ok(None) | Err(_) => get.on_deadline(),
            };
        }
    }

    fn ask_rows(
        &self,
        place: &RecordPlace,
        query: &RangeQuery,
        node: NodeId,
        with_hints: bool,
        deadline: Instant,
    ) -> BoxFuture<'static, (NodeId, Option<Rows>)> {
        if self.cluster.is_learner(node) {
            // What it has not been taught yet would look like rows that are not there.
            return Box::pin(std::future::ready((node, None)));
        }
        let request = ScanRecords {
            store_prefix: place.group.record_prefix(),
            start: query.start.clone(),
            end: query.end.clone().unwrap_or_default(),
            limit: u32::try_from(query.limit).unwrap_or(u32::MAX),
            reverse: query.reverse,
            with_hints,
        };
        if node == self.cluster.node {
            let reply = self
                .records
                .scan_for(&request, &self.hints)
                .inspect_err(|cause| {
                    warn!(%cause, "local rows cannot be read; replicas are asked instead");
                });
            let rows = reply.ok().and_then(decode);
            return Box::pin(std::future::ready((node, rows)));
        }
        let cluster = Arc::clone(&self.cluster);
        let deadline = deadline.min(Instant::now() + REPLICA_TIMEOUT);
        Box::pin(async move {
            let rows = match cluster
                .call(node, Body::ScanRecords(request), deadline)
                .await
            {
                Ok(Body::ScanReply(reply)) => decode(reply),
                Ok(_) => None,
                Err(cause) => {
                    debug!(node = node.0, %cause, "a replica gave no answer to a scan");
                    None
                }
            };
            (node, rows)
        })
    }
}

impl super::Records {
    /// Answers a replica's part of a scan, or a stand-in's.
    pub(crate) fn scan_for(
        &self,
        request: &ScanRecords,
        hints: &HintSpace,
    ) -> Result<ScanReply, RequestError> {
        let prefix = &request.store_prefix;
        if !split_record(prefix).is_some_and(|(_, rest)| rest.is_empty()) {
            return Err(RequestError::Invalid(
                "a peer sent a damaged scan prefix".to_owned(),
            ));
        }
        let joined = |sort_key: &[u8]| Bytes::from([prefix, sort_key].concat());
        let start = Bound::Included(joined(&request.start));
        let end = if request.end.is_empty() {
            prefix_end(prefix).map_or(Bound::Unbounded, Bound::Excluded)
        } else {
            Bound::Excluded(joined(&request.end))
        };
        let limit = request.limit as usize;
        let (rows, more) = if request.with_hints {
            hints.scan_any(prefix, (start, end), limit, request.reverse)?
        } else {
            let mut scan = Scan::range(Keyspace::Records, (start, end)).limit(limit);
            if request.reverse {
                scan = scan.reversed();
            }
            self.scan(&scan, prefix.len())?
        };
        Ok(ScanReply { rows, more })
    }
}

/// The rows of a reply; `None` if one of them is damaged.
fn decode(reply: ScanReply) -> Option<Rows> {
    let mut rows = Vec::with_capacity(reply.rows.len());
    for row in reply.rows {
        match decode_record(row.record) {
            Ok((record, _)) => rows.push((row.key, record)),
            Err(cause) => {
                warn!(%cause, "a replica's row cannot be decoded; the next replica is asked");
                return None;
            }
        }
    }
    Some(Rows {
        rows,
        more: reply.more,
    })
}

fn merge(replies: Vec<Rows>, query: &RangeQuery, mode: MergeMode) -> ScanOutcome {
    let mut rows: BTreeMap<Bytes, Record> = BTreeMap::new();
    let mut horizon: Option<Bytes> = None;
    for reply in replies {
        if let (true, Some((last, _))) = (reply.more, reply.rows.last()) {
            let nearer = horizon.as_ref().is_none_or(|horizon| {
                if query.reverse {
                    last > horizon
                } else {
                    last < horizon
                }
            });
            if nearer {
                horizon = Some(last.clone());
            }
        }
        for (key, record) in reply.rows {
            rows.entry(key).or_default().merge(&record, mode);
        }
    }
    if let Some(horizon) = &horizon {
        rows.retain(|key, _| {
            if query.reverse {
                key >= horizon
            } else {
                key <= horizon
            }
        });
    }
    let mut rows: Vec<(Bytes, Record)> = rows.into_iter().collect();
    if query.reverse {
        rows.reverse();
    }
    let more = horizon.is_some() || rows.len() > query.limit;
    rows.truncate(query.limit);
    ScanOutcome { rows, more }
}
