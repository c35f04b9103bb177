//! Every request of the public API: checked, routed to a node that holds the key, run.
//!
//! Unary calls, sessions and requests forwarded by other nodes all come through [`Requests::run`].

use std::{future::Future, pin::Pin, sync::Arc};

use bytes::Bytes;
use futures::future::join_all;
use metrics::{counter, histogram};
use prost::Message;
use souk_kv_core::{
    causality::{Observed, Record},
    outcome::Outcome,
    overload::Work,
    register::Row,
};
use souk_kv_proto::{
    convert::{
        causality::{encode_observed, value_from_wire, value_to_wire},
        layout::layout_to_wire,
        register::cell_to_wire,
    },
    kv::{
        self, BatchGetItem, BatchGetResponse, DeleteRequest, ErrorCode, Explain, GetRequest,
        GetResponse, PutRequest, PutResponse, RequestOptions, RowOperation, ScanRequest,
        ScanResponse, ScanRow, SessionRequest, TopologyResponse, TransactRequest, TransactResponse,
        batch_get_item, row_operation, session_request::Body as Ask,
        session_response::Body as Answer,
    },
    peer::{Forward, peer_message::Body},
};
use souk_ring::NodeId;
use tokio::time::Instant;
use tracing::debug;

use super::{check, transact};
use crate::{
    access::{Caller, needs_of},
    cluster::{Bucket, Mode},
    core::NodeCore,
    error::RequestError,
    keys::prefix_end,
    register::RowsQuery,
    siblings::{PlacedWrite, PutOutcome, RangeQuery, WriteRequest},
};

/// Values that one batch brings back, in bytes.
const BATCH_ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;
/// When a request that was refused for overload is worth trying again.
const OVERLOAD_RETRY_MS: u32 = 50;

/// Answers requests. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Requests {
    pub(super) core: Arc<NodeCore>,
}

/// Whether a request may still be handed to another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hop {
    First,
    /// Another node sent it here: answer or refuse, but do not pass it on.
    Last,
}

type Run<'a, T> = Pin<Box<dyn Future<Output = Result<T, RequestError>> + Send + 'a>>;

impl Requests {
    pub(crate) fn new(core: Arc<NodeCore>) -> Self {
        Self { core }
    }

    /// Runs a client's request, if the client may have it run.
    pub(crate) async fn run(&self, ask: Ask, caller: &Caller) -> Answer {
        if let Err(error) = self.core.access.check(caller, || needs_of(&ask)) {
            debug!(request = kind(&ask), %error, "a request was refused");
            return Answer::Error(error.to_wire());
        }
        match self.answer(ask, Hop::First).await {
            Answer::Topology(topology) => Answer::Topology(self.as_seen_by(caller, topology)),
            answer => answer,
        }
    }

    /// Runs a request that another node handed over.
    pub(crate) async fn run_forwarded(&self, ask: Ask) -> Answer {
        self.answer(ask, Hop::Last).await
    }

    async fn answer(&self, ask: Ask, hop: Hop) -> Answer {
        let started = Instant::now();
        let kind = kind(&ask);
        let is_single = matches!(
            ask,
            Ask::Get(_) | Ask::Put(_) | Ask::Delete(_) | Ask::Transact(_)
        );
        let result = match self.core.not_ready() {
            // The topology is what a client needs to find a node that is ready.
            Some(_) if matches!(ask, Ask::Topology(_)) => Ok(Answer::Topology(self.topology())),
            Some(reason) => Err(RequestError::NotReady(reason)),
            // Another node has admitted it; here its link bounds it.
            None if hop == Hop::Last => self.dispatch(ask, hop).await,
            None => match self.core.admission.admit(work_of(&ask)) {
                Some(_ticket) => self.dispatch(ask, hop).await,
                None => {
                    counter!("souk_requests_refused_total").increment(1);
                    Err(RequestError::Overloaded {
                        what: "the node has as many requests in work as it takes",
                        retry_after_ms: OVERLOAD_RETRY_MS,
                    })
                }
            },
        };
        let outcome = match &result {
            Ok(_) => "ok",
            Err(error) => error.outcome().as_str(),
        };
        // Refusals are quick and batches long, whatever the load.
        let tells_of_load = matches!(&result, Ok(_) | Err(RequestError::Timeout { .. }));
        if is_single && tells_of_load {
            self.core.governor.answered(started.elapsed());
        }
        histogram!("souk_request_seconds", "request" => kind, "outcome" => outcome)
            .record(started.elapsed().as_secs_f64());
        result.unwrap_or_else(|error| {
            debug!(request = kind, %error, "a request failed");
            Answer::Error(error.to_wire())
        })
    }

    fn dispatch(&self, ask: Ask, hop: Hop) -> Run<'_, Answer> {
        Box::pin(async move {
            Ok(match ask {
                Ask::Get(request) => Answer::Get(self.get(request, hop).await?),
                Ask::Put(request) => Answer::Put(self.put(request, hop).await?),
                Ask::Delete(request) => Answer::Put(self.delete(request, hop).await?),
                Ask::Scan(request) => Answer::Scan(self.scan(request, hop).await?),
                Ask::Transact(request) => Answer::Transact(self.transact(request, hop).await?),
                Ask::Topology(_) => Answer::Topology(self.topology()),
                Ask::BatchGet(request) => Answer::BatchGet(self.batch_get(request).await?),
                Ask::BatchPut(request) => Answer::BatchPut(self.batch_put(request).await?),
                Ask::Authenticate(_) => {
                    return Err(RequestError::Invalid(
                        "a token is shown on a session, or in the metadata of a call".to_owned(),
                    ));
                }
            })
        })
    }

    async fn get(&self, request: GetRequest, hop: Hop) -> Result<GetResponse, RequestError> {
        let key = check::key(request.key.clone())?;
        let options = request.options.unwrap_or_default();
        let deadline = check::deadline(&options, &self.core.limits)?;
        let bucket = self.core.bucket(&key.bucket, deadline).await?;
        if bucket.mode == Mode::Register {
            let place = self.core.group_place(bucket, key.partition_key);
            if self.is_elsewhere(&place.acceptors, hop)? {
                let ask = Ask::Get(request);
                return as_get(self.forward(&place.acceptors, ask, deadline).await?);
            }
            let row = self
                .core
                .registers
                .row(&place, &key.sort_key, deadline)
                .await?;
            return Ok(row.as_ref().map_or_else(GetResponse::default, row_response));
        }
        let place = self
            .core
            .record_place(bucket, key.partition_key, &key.sort_key);
        let found = self.core.siblings.get(&place, &options, deadline).await?;
        let now_ms = self.core.cluster.environment.unix_ms();
        let explain = found.explanation.map(|explanation| Explain {
            siblings: u32::try_from(found.record.siblings().len()).unwrap_or(u32::MAX),
            ..explanation.to_wire(&self.core.cluster, &place)
        });
        Ok(GetResponse {
            values: live_values(&found.record, now_ms),
            context: encode_observed(&Observed::whole(&found.record)),
            version: Bytes::new(),
            explain,
        })
    }

    async fn put(&self, request: PutRequest, hop: Hop) -> Result<PutResponse, RequestError> {
        let (write, options, deadline) = self.check_put(&request).await?;
        self.write(write, options, deadline, hop, || Ask::Put(request))
            .await
    }

    /// A put as the client sent it, checked, and where it goes.
    pub(super) async fn check_put(
        &self,
        request: &PutRequest,
    ) -> Result<(PlacedWrite, RequestOptions, Instant), RequestError> {
        let key = check::key(request.key.clone())?;
        let options = request.options.unwrap_or_default();
        let deadline = check::deadline(&options, &self.core.limits)?;
        let bucket = self.core.bucket(&key.bucket, deadline).await?;
        refuse_plain_write(&bucket)?;
        let data = request.value.as_ref().map_or(&[][..], |value| &value.data);
        check::value_size(&bucket, &self.core.limits, data)?;
        let now_ms = self.core.cluster.environment.unix_ms();
        let expires_unix_ms = check::expiry(request.ttl_ms, &bucket, now_ms)?;
        let value = value_from_wire(request.value.clone().unwrap_or_default())
            .map_err(|cause| RequestError::Invalid(cause.to_string()))?;
        let write = WriteRequest {
            observed: check::context(&request.context)?,
            request: check::request_id(request.request_id.as_ref())?,
            expires_unix_ms,
            value: Some(value),
        };
        let place = self
            .core
            .record_place(bucket, key.partition_key, &key.sort_key);
        Ok((PlacedWrite { place, write }, options, deadline))
    }

    async fn delete(&self, request: DeleteRequest, hop: Hop) -> Result<PutResponse, RequestError> {
        let key = check::key(request.key.clone())?;
        let options = request.options.unwrap_or_default();
        let deadline = check::deadline(&options, &self.core.limits)?;
        let bucket = self.core.bucket(&key.bucket, deadline).await?;
        refuse_plain_write(&bucket)?;
        let write = WriteRequest {
            observed: check::context(&request.context)?,
            request: check::request_id(request.request_id.as_ref())?,
            expires_unix_ms: None,
            value: None,
        };
        let place = self
            .core
            .record_place(bucket, key.partition_key, &key.sort_key);
        let write = PlacedWrite { place, write };
        self.write(write, options, deadline, hop, || Ask::Delete(request))
            .await
    }

    pub(super) async fn write(
        &self,
        write: PlacedWrite,
        options: RequestOptions,
        deadline: Instant,
        hop: Hop,
        ask: impl FnOnce() -> Ask,
    ) -> Result<PutResponse, RequestError> {
        let primaries = write.place.receivers();
        if hop == Hop::First && !primaries.contains(&self.core.cluster.node) {
            match self.forward(primaries, ask(), deadline).await {
                // Without a primary in sight this node stands in itself: carts are always writable.
                Err(error) if is_refused_at_the_door(&error) => {}
                answer => return as_put(answer?),
            }
        }
        let written = self.core.siblings.put(write, &options, deadline).await?;
        Ok(put_response(written))
    }

    async fn scan(&self, request: ScanRequest, hop: Hop) -> Result<ScanResponse, RequestError> {
        check::partition_key(&request.partition_key)?;
        let options = request.options.unwrap_or_default();
        let deadline = check::deadline(&options, &self.core.limits)?;
        let limit = check::scan_limit(request.limit)?;
        for bound in [
            &request.prefix,
            &request.start,
            &request.end,
            &request.continuation,
        ] {
            check::sort_key(bound)?;
        }
        let bucket = self.core.bucket(&request.bucket, deadline).await?;
        let Some((start, end)) = bounds(&request) else {
            return Ok(ScanResponse::default());
        };
        if bucket.mode == Mode::Register {
            let place = self.core.group_place(bucket, request.partition_key.clone());
            if self.is_elsewhere(&place.acceptors, hop)? {
                let ask = Ask::Scan(request);
                return as_scan(self.forward(&place.acceptors, ask, deadline).await?);
            }
            let query = RowsQuery {
                start,
                end,
                limit,
                reverse: request.reverse,
            };
            let page = self.core.registers.scan(&place, &query, deadline).await?;
            let rows = page
                .rows
                .iter()
                .map(|(sort_key, row)| row_of_register(sort_key, row));
            return Ok(ScanResponse {
                rows: rows.collect(),
                continuation: page.last_seen.filter(|_| page.more).unwrap_or_default(),
            });
        }
        let place = self.core.record_place(bucket, request.partition_key, b"");
        let query = RangeQuery {
            start,
            end,
            limit,
            reverse: request.reverse,
        };
        let page = self
            .core
            .siblings
            .scan(&place, &query, &options, deadline)
            .await?;
        let continuation = page
            .rows
            .last()
            .map(|(key, _)| key.clone())
            .filter(|_| page.more);
        let now_ms = self.core.cluster.environment.unix_ms();
        let rows = page.rows.into_iter().filter_map(|(sort_key, record)| {
            let values = live_values(&record, now_ms);
            (!values.is_empty()).then(|| ScanRow {
                sort_key,
                values,
                context: encode_observed(&Observed::whole(&record)),
                version: Bytes::new(),
            })
        });
        Ok(ScanResponse {
            rows: rows.collect(),
            continuation: continuation.unwrap_or_default(),
        })
    }

    async fn transact(
        &self,
        request: TransactRequest,
        hop: Hop,
    ) -> Result<TransactResponse, RequestError> {
        check::partition_key(&request.partition_key)?;
        let options = request.options.unwrap_or_default();
        let deadline = check::deadline(&options, &self.core.limits)?;
        let bucket = self.core.bucket(&request.bucket, deadline).await?;
        if bucket.mode != Mode::Register {
            return Err(RequestError::WrongMode {
                bucket: bucket.name.clone(),
                mode: bucket.mode.name(),
                mend: "conditional writes need a register bucket; use Put with a context here",
            });
        }
        let place = self
            .core
            .group_place(Arc::clone(&bucket), request.partition_key.clone());
        if self.is_elsewhere(&place.acceptors, hop)? {
            let ask = Ask::Transact(request);
            return as_transact(self.forward(&place.acceptors, ask, deadline).await?);
        }
        let now_ms = self.core.cluster.environment.unix_ms();
        let transaction = transact::transaction(request, &bucket, &self.core.limits, now_ms)?;
        let effects = transact::effects(&transaction);
        let verdict = self
            .core
            .registers
            .transact(&place, transaction, deadline)
            .await?;
        transact::response(verdict, &effects)
    }

    async fn batch_get(
        &self,
        request: kv::BatchGetRequest,
    ) -> Result<BatchGetResponse, RequestError> {
        check::batch(request.keys.len())?;
        let options = request.options;
        let gets = request.keys.into_iter().map(|key| {
            self.get(
                GetRequest {
                    key: Some(key),
                    options,
                },
                Hop::First,
            )
        });
        let items = join_all(gets).await.into_iter().map(|result| BatchGetItem {
            result: Some(match result {
                Ok(found) => batch_get_item::Result::Found(found),
                Err(error) => batch_get_item::Result::Error(error.to_wire()),
            }),
        });
        Ok(BatchGetResponse {
            items: Self::within_frame(items.collect()),
        })
    }

    /// A session's answer has to fit a frame; what does not is to be asked for again.
    fn within_frame(items: Vec<BatchGetItem>) -> Vec<BatchGetItem> {
        let mut bytes = 0;
        let fit = |item: BatchGetItem| {
            bytes += item.encoded_len();
            if bytes <= BATCH_ANSWER_BYTES_MAX {
                return item;
            }
            let error = RequestError::Overloaded {
                what: "the values of this batch do not fit one answer; ask for fewer keys at once",
                retry_after_ms: 0,
            };
            BatchGetItem {
                result: Some(batch_get_item::Result::Error(error.to_wire())),
            }
        };
        items.into_iter().map(fit).collect()
    }

    /// Nodes, placement and buckets.
    pub(super) fn topology(&self) -> TopologyResponse {
        let layout = layout_to_wire(&self.core.cluster.layout());
        let catalogue = self.core.cluster.catalogue.to_wire();
        TopologyResponse {
            layout: Some(layout),
            buckets: catalogue.buckets,
            catalogue_version: catalogue.version,
        }
    }

    /// The topology without buckets that are none of the caller's business.
    fn as_seen_by(&self, caller: &Caller, mut topology: TopologyResponse) -> TopologyResponse {
        if *caller != Caller::Trusted {
            let access = &self.core.access;
            topology
                .buckets
                .retain(|bucket| access.may_see(caller, &bucket.name));
        }
        topology
    }

    /// Whether a register request has to be handed to an acceptor of its group.
    fn is_elsewhere(&self, acceptors: &[NodeId], hop: Hop) -> Result<bool, RequestError> {
        if acceptors.contains(&self.core.cluster.node) {
            return Ok(false);
        }
        if hop == Hop::Last {
            return Err(RequestError::NotReady(
                "the request was handed to a node that does not hold its key: try again".to_owned(),
            ));
        }
        Ok(true)
    }

    /// Hands a request to the first of `nodes` that seems up and takes it.
    async fn forward(
        &self,
        nodes: &[NodeId],
        ask: Ask,
        deadline: Instant,
    ) -> Result<Answer, RequestError> {
        let mut refused = RequestError::Unavailable {
            reachable: 0,
            needed: 1,
        };
        for &node in nodes.iter().filter(|node| self.core.cluster.is_up(**node)) {
            match self.forward_to(node, ask.clone(), deadline).await {
                Err(error) if is_refused_at_the_door(&error) => refused = error,
                answer => return answer,
            }
        }
        Err(refused)
    }

    async fn forward_to(
        &self,
        node: NodeId,
        ask: Ask,
        deadline: Instant,
    ) -> Result<Answer, RequestError> {
        let is_read = matches!(ask, Ask::Get(_) | Ask::Scan(_));
        let request = SessionRequest {
            id: 0,
            body: Some(ask),
        };
        let body = Body::Forward(Forward {
            request: Some(request),
        });
        let started = Instant::now();
        match self.core.cluster.call(node, body, deadline).await {
            Ok(Body::ForwardReply(reply)) => match reply.body {
                Some(Answer::Error(error)) => Err(RequestError::Remote(error)),
                Some(answer) => Ok(answer),
                None => Err(RequestError::Internal(
                    "a peer answered with nothing".to_owned(),
                )),
            },
            Ok(_) => Err(RequestError::Internal(
                "a peer answered with something else".to_owned(),
            )),
            Err(cause) if cause.certainly_not_done() => Err(RequestError::Unavailable {
                reachable: 0,
                needed: 1,
            }),
            Err(_) => Err(RequestError::Timeout {
                answered: 0,
                needed: 1,
                waited_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
                mend: "it was handed to the node that holds the key and may still be applied; read, or repeat it under the same request id",
                outcome: if is_read {
                    Outcome::NotApplied
                } else {
                    Outcome::Unknown
                },
            }),
        }
    }
}

/// Whether another node may take a request that one refused: nothing was done, and it is not the
/// request's own fault.
fn is_refused_at_the_door(error: &RequestError) -> bool {
    error.outcome() == Outcome::NotApplied
        && matches!(
            error.code(),
            ErrorCode::Unavailable | ErrorCode::NotReady | ErrorCode::Overloaded | ErrorCode::Disk
        )
}

/// What a request weighs at the door.
fn work_of(ask: &Ask) -> Work {
    let put_bytes = |put: &PutRequest| put.value.as_ref().map_or(0, |value| value.data.len());
    let (operations, bytes) = match ask {
        Ask::Get(_) | Ask::Delete(_) | Ask::Scan(_) | Ask::Topology(_) | Ask::Authenticate(_) => {
            (1, 0)
        }
        Ask::Put(put) => (1, put_bytes(put)),
        Ask::BatchGet(batch) => (batch.keys.len(), 0),
        Ask::BatchPut(batch) => (batch.puts.len(), batch.puts.iter().map(put_bytes).sum()),
        Ask::Transact(transact) => {
            let bytes = |operation: &RowOperation| match &operation.action {
                Some(row_operation::Action::Put(value)) => value.data.len(),
                _ => 0,
            };
            (1, transact.operations.iter().map(bytes).sum())
        }
    };
    Work {
        operations: operations as u64,
        bytes: bytes as u64,
    }
}

fn kind(ask: &Ask) -> &'static str {
    match ask {
        Ask::Get(_) => "get",
        Ask::Put(_) => "put",
        Ask::Delete(_) => "delete",
        Ask::Scan(_) => "scan",
        Ask::Transact(_) => "transact",
        Ask::Topology(_) => "topology",
        Ask::BatchGet(_) => "batch_get",
        Ask::BatchPut(_) => "batch_put",
        Ask::Authenticate(_) => "authenticate",
    }
}

fn refuse_plain_write(bucket: &Bucket) -> Result<(), RequestError> {
    if bucket.mode == Mode::Register {
        return Err(RequestError::WrongMode {
            bucket: bucket.name.clone(),
            mode: bucket.mode.name(),
            mend: "plain writes would break its guarantees; use Transact, or `souk kv cas`",
        });
    }
    Ok(())
}

/// The answer to a write.
pub(super) fn put_response(written: PutOutcome) -> PutResponse {
    PutResponse {
        context: encode_observed(&written.context),
        copies: written.copies.into(),
        degraded: written.degraded,
        explain: written.explain,
    }
}

fn live_values(record: &Record, now_ms: u64) -> Vec<kv::Value> {
    record
        .live_siblings(now_ms)
        .filter_map(|sibling| sibling.value.as_ref())
        .map(value_to_wire)
        .collect()
}

fn row_response(row: &Row) -> GetResponse {
    GetResponse {
        values: row.cell.iter().map(cell_to_wire).collect(),
        context: Bytes::new(),
        version: transact::version_to_wire(row.version),
        explain: None,
    }
}

fn row_of_register(sort_key: &Bytes, row: &Row) -> ScanRow {
    ScanRow {
        sort_key: sort_key.clone(),
        values: row.cell.iter().map(cell_to_wire).collect(),
        context: Bytes::new(),
        version: transact::version_to_wire(row.version),
    }
}

/// Where a scan begins and ends; `None` when nothing can lie between.
fn bounds(request: &ScanRequest) -> Option<(Bytes, Option<Bytes>)> {
    let mut start = request.start.clone().max(request.prefix.clone());
    let mut end = Some(request.end.clone()).filter(|end| !end.is_empty());
    if let Some(prefix_end) = prefix_end(&request.prefix).filter(|_| !request.prefix.is_empty()) {
        end = Some(end.map_or(prefix_end.clone(), |end| end.min(prefix_end)));
    }
    if !request.continuation.is_empty() {
        if request.reverse {
            // The end is exclusive, so the next page begins right before the last row seen.
            let seen = request.continuation.clone();
            end = Some(end.map_or(seen.clone(), |end| end.min(seen)));
        } else {
            // The start is inclusive: the first key behind the last row seen is that row's with a zero byte more.
            let behind: Bytes = [&request.continuation[..], &[0]].concat().into();
            start = start.max(behind);
        }
    }
    end.as_ref()
        .is_none_or(|end| start < *end)
        .then_some((start, end))
}

fn as_get(answer: Answer) -> Result<GetResponse, RequestError> {
    match answer {
        Answer::Get(response) => Ok(response),
        _ => Err(wrong_answer()),
    }
}

fn as_put(answer: Answer) -> Result<PutResponse, RequestError> {
    match answer {
        Answer::Put(response) => Ok(response),
        _ => Err(wrong_answer()),
    }
}

fn as_scan(answer: Answer) -> Result<ScanResponse, RequestError> {
    match answer {
        Answer::Scan(response) => Ok(response),
        _ => Err(wrong_answer()),
    }
}

fn as_transact(answer: Answer) -> Result<TransactResponse, RequestError> {
    match answer {
        Answer::Transact(response) => Ok(response),
        _ => Err(wrong_answer()),
    }
}

fn wrong_answer() -> RequestError {
    RequestError::Internal("a peer answered another kind of request".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(request: ScanRequest, expected: Option<(&'static [u8], Option<&'static [u8]>)>) {
        let bounds = bounds(&request);
        let shown = bounds
            .as_ref()
            .map(|(start, end)| (start.as_ref(), end.as_deref()));
        assert_eq!(shown, expected);
    }

    #[test]
    fn bounds_join_prefix_range_and_continuation() {
        let bytes = Bytes::from_static;
        check(ScanRequest::default(), Some((b"", None)));
        check(
            ScanRequest {
                prefix: bytes(b"h/"),
                ..Default::default()
            },
            Some((b"h/", Some(b"h0"))),
        );
        check(
            ScanRequest {
                prefix: bytes(b"h/"),
                start: bytes(b"h/5"),
                end: bytes(b"z"),
                ..Default::default()
            },
            Some((b"h/5", Some(b"h0"))),
        );
        check(
            ScanRequest {
                prefix: bytes(b"h/"),
                continuation: bytes(b"h/7"),
                ..Default::default()
            },
            Some((b"h/7\0", Some(b"h0"))),
        );
        check(
            ScanRequest {
                continuation: bytes(b"h/7"),
                reverse: true,
                ..Default::default()
            },
            Some((b"", Some(b"h/7"))),
        );
        check(
            ScanRequest {
                start: bytes(b"b"),
                end: bytes(b"a"),
                ..Default::default()
            },
            None,
        );
    }
}
