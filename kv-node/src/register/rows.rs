//! Linearizable reads of a group's rows: one round trip when the acceptors agree.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use metrics::counter;
use souk_kv_core::register::{
    ReadOutcome, ReadReply, ReadRequest, ReadRound, Row, RowKey, RowRange, RowSelection, Rows,
};
use souk_kv_proto::{
    convert::register::{read_reply_from_wire, read_to_wire},
    mutant,
    peer::peer_message::Body,
};
use souk_ring::NodeId;
use tokio::time::{Instant, sleep_until};

use super::{GroupPlace, RegisterCoordinator, acceptor::RANGE_BYTES_MAX, group_to_wire};
use crate::error::RequestError;

/// How long an acceptor may take before the read goes on without it.
const READ_TIMEOUT: Duration = Duration::from_millis(500);

/// A range of live rows, by sort key.
#[derive(Debug, Clone)]
pub(crate) struct RowsQuery {
    pub(crate) start: bytes::Bytes,
    /// Exclusive; `None` means the end of the group.
    pub(crate) end: Option<bytes::Bytes>,
    pub(crate) limit: usize,
    pub(crate) reverse: bool,
}

/// Live rows in order. With `more`, go on behind `last_seen`, which may be a deleted row.
#[derive(Debug)]
pub(crate) struct RowsPage {
    pub(crate) rows: Vec<(bytes::Bytes, Row)>,
    pub(crate) last_seen: Option<bytes::Bytes>,
    pub(crate) more: bool,
}

impl RegisterCoordinator {
    /// Reads one row; `None` when it is missing or deleted.
    pub(crate) async fn row(
        &self,
        place: &GroupPlace,
        sort_key: &[u8],
        deadline: Instant,
    ) -> Result<Option<Row>, RequestError> {
        let key = RowKey::user(sort_key);
        let mut rows = self
            .rows(place, RowSelection::keys([key.clone()]), deadline)
            .await?;
        Ok(rows.remove(&key).filter(Row::is_live))
    }

    /// Reads a range of rows, all as they were at one moment.
    pub(crate) async fn scan(
        &self,
        place: &GroupPlace,
        query: &RowsQuery,
        deadline: Instant,
    ) -> Result<RowsPage, RequestError> {
        // Every user key begins with the byte of its kind, and no other key is below the next kind.
        let end = match &query.end {
            Some(end) => RowKey::user(end),
            None => RowKey::memory_floor(),
        };
        let rows_max = query.limit + 1;
        let range = RowRange {
            from: RowKey::user(&query.start),
            to: Some(end),
            rows_max: u32::try_from(rows_max).unwrap_or(u32::MAX),
            reverse: query.reverse,
        };
        let rows = self
            .rows(place, RowSelection::range(range), deadline)
            .await?;
        let bytes: u64 = rows.iter().map(|(key, row)| row.weight(key)).sum();
        let more = rows.len() >= rows_max || bytes >= RANGE_BYTES_MAX as u64;
        let mut rows: Vec<(bytes::Bytes, Row)> = rows
            .into_iter()
            .filter_map(|(key, row)| Some((key.sort_key()?, row)))
            .collect();
        if query.reverse {
            rows.reverse();
        }
        rows.truncate(query.limit);
        let last_seen = rows.last().map(|(key, _)| key.clone());
        rows.retain(|(_, row)| row.is_live());
        Ok(RowsPage {
            rows,
            last_seen,
            more,
        })
    }

    async fn rows(
        &self,
        place: &GroupPlace,
        selection: RowSelection,
        deadline: Instant,
    ) -> Result<Rows, RequestError> {
        self.check_reachable(place)?;
        // A write in progress makes acceptors disagree for a moment; a second look is cheaper than a ballot.
        for _ in 0..2 {
            if let Some(rows) = self.read_round(place, &selection, deadline).await {
                return Ok(rows);
            }
        }
        counter!("souk_register_reads_settled_total").increment(1);
        self.settle(place, selection, deadline).await
    }

    /// `None` when the acceptors do not agree, or the rows of what they agree on are not at hand.
    async fn read_round(
        &self,
        place: &GroupPlace,
        selection: &RowSelection,
        deadline: Instant,
    ) -> Option<Rows> {
        let local = self.shared.voting.cluster.node;
        let has_local = place.acceptors.contains(&local);
        let mut round = ReadRound::new((*place.voters).clone(), place.epoch);
        let mut asked = FuturesUnordered::new();
        let rows = Arc::new(selection.clone());
        let none = Arc::new(RowSelection::default());
        for &node in place.acceptors.iter() {
            // Rows from one replier are enough: here, where they cost no wire.
            let wants_rows = node == local || !has_local;
            let rows = Arc::clone(if wants_rows { &rows } else { &none });
            asked.push(self.ask_read(
                place,
                node,
                ReadRequest {
                    epoch: place.epoch,
                    rows,
                },
            ));
        }
        let give_up = deadline.min(Instant::now() + READ_TIMEOUT);
        let mut replies: Vec<(NodeId, Rows)> = Vec::with_capacity(place.acceptors.len());
        let outcome = loop {
            let decided = tokio::select! {
                biased;
                Some((node, reply)) = asked.next() => match reply {
                    Some(reply) => {
                        let decided = round.on_reply(node, &reply);
                        if let ReadReply::Report(report) = reply {
                            replies.push((node, report.rows));
                        }
                        decided
                    }
                    None => round.on_failed(node),
                },
                () = sleep_until(give_up) => Some(round.on_timeout()),
            };
            if mutant!("read-asks-one") && !replies.is_empty() {
                break round.on_timeout();
            }
            if let Some(outcome) = decided {
                break outcome;
            }
        };
        if mutant!("read-asks-one") {
            return replies.pop().map(|(_, rows)| rows);
        }
        let ReadOutcome::Settled { ballot, sources } = outcome else {
            return None;
        };
        let brought_rows = |node: NodeId| node == local || !has_local;
        let found = replies
            .into_iter()
            .find(|(node, _)| sources.contains(node) && brought_rows(*node));
        if let Some((_, rows)) = found {
            return Some(rows);
        }
        // The copy here lags or is ahead: take the rows from one that has the settled ballot.
        let source = *sources.first()?;
        let request = ReadRequest {
            epoch: place.epoch,
            rows,
        };
        match self.ask_read(place, source, request).await {
            (_, Some(ReadReply::Report(report))) if report.accepted == ballot => Some(report.rows),
            _ => None,
        }
    }

    fn ask_read(
        &self,
        place: &GroupPlace,
        node: NodeId,
        request: ReadRequest,
    ) -> BoxFuture<'static, (NodeId, Option<ReadReply>)> {
        let voting = self.shared.voting.clone();
        let place = place.clone();
        Box::pin(async move {
            if node == voting.cluster.node {
                let reply = voting.groups.read(&place.key, &request).await;
                return (node, reply.ok());
            }
            let body = Body::ReadGroup(read_to_wire(group_to_wire(&place.key), &request));
            let answer = voting
                .cluster
                .call(node, body, Instant::now() + READ_TIMEOUT)
                .await;
            let reply = match answer {
                Ok(Body::ReadGroupReply(reply)) => read_reply_from_wire(reply).ok(),
                _ => None,
            };
            (node, reply)
        })
    }
}
