//! Replaces damaged records by what the other replicas hold.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use metrics::counter;
use parking_lot::Mutex;
use souk_kv_core::causality::{MergeMode, Record};
use souk_kv_proto::{
    convert::causality::{decode_record, encode_record},
    peer::{ReadRecord, peer_message::Body},
};
use souk_ring::NodeId;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::{
    cluster::{Bucket, Cluster},
    error::RequestError,
    governor::{Governor, Job},
    siblings::Records,
};

/// Damaged keys remembered at once; a scrub finds the others again.
const NOTED_MAX: usize = 4096;
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// What became of a damaged record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mended {
    /// It was replaced.
    Replaced,
    /// Somebody else has written it anew.
    Sound,
    /// Fewer replicas answered than know every acknowledged write. Another try may fare better.
    TooFew { answered: usize, needed: usize },
    /// No other replica holds it.
    NowhereElse,
    /// Its bucket or its place is not known here.
    NoPlace,
}

/// Mends records.
#[derive(Debug)]
pub(crate) struct Mender {
    cluster: Arc<Cluster>,
    records: Arc<Records>,
    governor: Arc<Governor>,
    noted: Mutex<BTreeSet<Bytes>>,
}

impl Mender {
    pub(crate) fn new(
        cluster: Arc<Cluster>,
        records: Arc<Records>,
        governor: Arc<Governor>,
    ) -> Self {
        Self {
            cluster,
            records,
            governor,
            noted: Mutex::default(),
        }
    }

    /// Remembers a key whose record was found damaged, to be mended soon.
    pub(crate) fn note(&self, store_key: Bytes) {
        let mut noted = self.noted.lock();
        if noted.len() < NOTED_MAX {
            noted.insert(Bytes::copy_from_slice(&store_key));
        }
    }

    /// Mends what was noted.
    pub(crate) async fn mend_noted(&self) {
        let noted = std::mem::take(&mut *self.noted.lock());
        for key in noted {
            match self.mend(&key).await {
                Ok(Mended::TooFew { .. }) => self.note(key),
                Ok(_) => {}
                Err(cause) => {
                    warn!(%cause, "a damaged record cannot be mended now");
                    self.note(key);
                }
            }
        }
    }

    /// Replaces a damaged record by what the other replicas know together.
    ///
    /// # Errors
    /// [`RequestError`] when this node cannot read or write.
    pub(crate) async fn mend(&self, store_key: &Bytes) -> Result<Mended, RequestError> {
        if !self.records.read_for_change(store_key)?.is_damaged {
            return Ok(Mended::Sound);
        }
        let Some((bucket, others)) = self.others(store_key) else {
            return Ok(Mended::NoPlace);
        };
        let needed = needed(&bucket, others.len());
        // What the others answer may be collected before it is stored here.
        let _work = self.cluster.in_flight.enter();
        let mut answered = 0;
        let mut merged = Record::default();
        for node in others {
            self.governor.pace(Job::Scrub, 1).await;
            if let Some(record) = self.ask(node, store_key).await {
                merged.merge(&record, bucket.merge_mode());
                answered += 1;
            }
        }
        if answered < needed || needed == 0 {
            return Ok(Mended::TooFew { answered, needed });
        }
        if merged.is_empty() {
            return Ok(Mended::NowhereElse);
        }
        let bytes = encode_record(&merged, bucket.merge_mode());
        self.records.merge(store_key.clone(), bytes).await?;
        counter!("souk_scrub_records_mended_total").increment(1);
        info!(
            bucket = bucket.name,
            "a damaged record was replaced by what the other replicas hold"
        );
        Ok(Mended::Replaced)
    }

    /// The bucket of a record, and who else holds it.
    fn others(&self, store_key: &[u8]) -> Option<(Arc<Bucket>, Vec<NodeId>)> {
        let (bucket, mut holders) = self.cluster.holders(store_key)?;
        holders.retain(|node| *node != self.cluster.node);
        Some((bucket, holders))
    }

    /// A replica's whole record; `None` without a usable answer.
    async fn ask(&self, node: NodeId, store_key: &Bytes) -> Option<Record> {
        let read = ReadRecord {
            store_key: store_key.clone(),
            with_hints: false,
        };
        let deadline = Instant::now() + READ_TIMEOUT;
        let body = Body::ReadRecord(read);
        match self.cluster.call_in_bulk(node, body, deadline).await {
            Ok(Body::RecordReply(reply)) if reply.record.is_empty() => Some(Record::default()),
            Ok(Body::RecordReply(reply)) => decode_record(reply.record)
                .ok()
                .map(|(record, _mode): (Record, MergeMode)| record),
            _ => None,
        }
    }
}

/// Answers after which no acknowledged write can be missing: W nodes have each, so of the others any
/// N − W + 1. Where writes are acknowledged by one copy, all others are the most there is to ask.
fn needed(bucket: &Bucket, others: usize) -> usize {
    let copies = usize::from(bucket.quorums.replicas_n());
    let acknowledged = usize::from(bucket.quorums.write_quorum());
    (copies + 1).saturating_sub(acknowledged).min(others)
}
