//! Walks over this node's records, finds what can be collected, and sees to it.
//!
//! Of a key's primaries the first one is responsible; the others leave it alone. An expired value is deleted here;
//! everything else that is ripe goes into a round, and what the round finds to differ is mended by a read of all replicas.
//!
//! Place: one task per node, at the governor's pace, a pause between walks.
//! Invariants: 1. at most one round of a node at a time. 2. a walk holds at most one round's candidates in memory.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use metrics::{counter, gauge};
use smallvec::SmallVec;
use souk_kv_core::{
    causality::{Mint as MintKind, Record},
    tombstone::{Item, Judgement, Purpose, ROUND_ITEMS_MAX, judge},
};
use souk_kv_proto::{
    convert::causality::{decode_record, encode_record},
    kv::{Consistency, RequestOptions},
    mutant,
};
use souk_ring::NodeId;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{member, round};
use crate::{
    anti_entropy::Held,
    core::NodeCore,
    error::RequestError,
    governor::Job,
    siblings::{RecordChange, RecordPlace, Space},
};

/// Records read at once.
const PAGE: usize = 128;
/// Differing records that a walk has mended; the others wait for the next one, or for anti-entropy.
const MENDED_MAX: usize = 256;
const MEND_TIMEOUT: Duration = Duration::from_secs(2);

/// Walks until `stop`, with the configured pause in between, or sooner when somebody wants it.
pub(crate) async fn collect_loop(core: Arc<NodeCore>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(core.limits.tombstones_pause) => {}
            () = core.tombstones.wanted.notified() => {}
        }
        if let Some(why) = core.not_ready() {
            let why = format!("the node is not ready: {why}");
            core.tombstones.note_failure(why);
            continue;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            walked = Walk::new(&core).run() => match walked {
                Ok(()) => {}
                Err(cause) => {
                    warn!(%cause, "looking for tombstones ended early");
                    core.tombstones.note_failure(cause.to_string());
                }
            }
        }
    }
}

/// One walk over all records.
struct Walk<'a> {
    core: &'a Arc<NodeCore>,
    candidates: Vec<Item>,
    tombstones: u64,
    ripening: u64,
    different: u64,
    mended: usize,
    waiting_for: BTreeMap<NodeId, String>,
}

impl<'a> Walk<'a> {
    fn new(core: &'a Arc<NodeCore>) -> Self {
        Self {
            core,
            candidates: Vec::new(),
            tombstones: 0,
            ripening: 0,
            different: 0,
            mended: 0,
            waiting_for: BTreeMap::new(),
        }
    }

    async fn run(mut self) -> Result<(), RequestError> {
        let mut after: Option<Bytes> = None;
        loop {
            let units = u32::try_from(PAGE).unwrap_or(u32::MAX);
            self.core.governor.pace(Job::Collection, units).await;
            let page = self.core.records.page(after.as_deref(), PAGE)?;
            for row in &page.rows {
                // Damage is the scrub's and the readers' to find.
                if let Ok(bytes) = &row.value
                    && let Ok((record, _)) = decode_record(bytes.clone())
                {
                    self.consider(&row.key, record).await?;
                }
            }
            after = page.rows.last().map(|row| row.key.clone());
            if self.candidates.len() >= ROUND_ITEMS_MAX || !page.more {
                self.collect().await?;
            }
            if !page.more {
                break;
            }
        }
        self.finish();
        Ok(())
    }

    async fn consider(&mut self, store_key: &Bytes, record: Record) -> Result<(), RequestError> {
        let core = self.core;
        let now_ms = core.cluster.environment.unix_ms();
        let judgement = judge(&record, member::ripeness(core), now_ms);
        let purpose = match judgement {
            Judgement::Nothing | Judgement::Wanted => return Ok(()),
            Judgement::Foldable => Some(Purpose::Fold),
            Judgement::Erasable => Some(Purpose::Erase),
            Judgement::Ripening | Judgement::Expired => None,
        };
        let Some(place) = core.place_of(store_key) else {
            return Ok(());
        };
        if mutant!("tombstone-by-age") && purpose != Some(Purpose::Fold) {
            let held = Held::Record(record.causal_hash());
            let commit = core
                .mint
                .note_erased(place.group.partition, &record, |floor| {
                    core.records.erase(store_key.clone(), held, floor)
                });
            return Ok(commit.await?);
        }
        let primaries = place.primaries().iter().copied();
        let primaries: SmallVec<[NodeId; 3]> = primaries
            .filter(|node| !core.cluster.is_forgotten(*node))
            .collect();
        if primaries.first() != Some(&core.cluster.node) {
            return Ok(());
        }
        self.tombstones += u64::from(judgement != Judgement::Foldable);
        self.ripening += u64::from(judgement == Judgement::Ripening);
        if judgement == Judgement::Expired {
            bury(core, &place).await?;
        }
        if let Some(purpose) = purpose
            && self.candidates.len() < ROUND_ITEMS_MAX
        {
            self.candidates.push(Item {
                key: store_key.clone(),
                digest: record.causal_hash(),
                purpose,
                primaries,
            });
        }
        Ok(())
    }

    /// Runs a round over the candidates so far, and mends those that turn out to differ.
    async fn collect(&mut self) -> Result<(), RequestError> {
        let core = self.core;
        let items = std::mem::take(&mut self.candidates);
        if items.is_empty() {
            return Ok(());
        }
        let absent = absent(core);
        if !absent.is_empty() {
            self.waiting_for.extend(absent);
            return Ok(());
        }
        let number = core.mint.counter().await?;
        let outcome = round::run(core, number, items).await;
        let report = &outcome.report;
        let mut erased = 0;
        let mut folded = 0;
        for place in &report.settled {
            match outcome.items[*place].purpose {
                Purpose::Erase => erased += 1,
                Purpose::Fold => folded += 1,
            }
        }
        self.tombstones = self.tombstones.saturating_sub(erased);
        self.different += report.different.len() as u64;
        counter!("souk_tombstones_erased_total").increment(erased);
        counter!("souk_records_folded_total").increment(folded);
        {
            let mut state = core.tombstones.state.lock();
            state.erased += erased;
            state.folded += folded;
        }
        if erased + folded > 0 {
            info!(erased, folded, "collected by proof");
        }
        for place in &report.different {
            self.mend(&outcome.items[*place].key).await;
        }
        self.waiting_for.extend(outcome.waiting_for);
        Ok(())
    }

    /// A read of all replicas repairs those that lack something.
    async fn mend(&mut self, store_key: &Bytes) {
        if self.mended >= MENDED_MAX {
            return;
        }
        self.mended += 1;
        let core = self.core;
        let Some(place) = core.place_of(store_key) else {
            return;
        };
        core.governor.pace(Job::Collection, 1).await;
        let options = RequestOptions {
            consistency: Consistency::All.into(),
            strict: true,
            ..Default::default()
        };
        let deadline = Instant::now() + MEND_TIMEOUT;
        if let Err(cause) = core.siblings.get(&place, &options, deadline).await {
            debug!(%cause, "the replicas of a tombstone could not be compared");
        }
    }

    fn finish(self) {
        gauge!("souk_tombstones_count").set(self.tombstones as f64);
        gauge!("souk_tombstones_waiting_for_nodes").set(self.waiting_for.len() as f64);
        let mut state = self.core.tombstones.state.lock();
        if state.waiting_for != self.waiting_for && !self.waiting_for.is_empty() {
            warn!(waiting_for = ?self.waiting_for, "tombstones cannot be collected yet");
        }
        state.walks += 1;
        state.walk_failure = None;
        state.tombstones = self.tombstones;
        state.ripening = self.ripening;
        state.different = self.different;
        state.waiting_for = self.waiting_for;
    }
}

/// The members without which a round need not be begun.
fn absent(core: &NodeCore) -> BTreeMap<NodeId, String> {
    member::members(core)
        .into_iter()
        .filter(|node| *node != core.cluster.node && !core.cluster.peers().is_connected(*node))
        .map(|node| (node, "there is no link to it".to_owned()))
        .collect()
}

/// Deletes expired values here, if they still are; the others get it like any write they have missed.
async fn bury(core: &NodeCore, place: &RecordPlace) -> Result<(), RequestError> {
    let mode = place.bucket.merge_mode();
    let _guard = core.records.lock(&place.store_key).await;
    let mut local = core.records.read_for_change(&place.store_key)?;
    let now_ms = core.cluster.environment.unix_ms();
    if local.is_damaged
        || judge(&local.record, member::ripeness(core), now_ms) != Judgement::Expired
    {
        return Ok(());
    }
    let Some(actor) = core.mint.actor(place.group.partition).await? else {
        return Ok(());
    };
    let dot = core.mint.dot(actor).await?;
    let before = local.held();
    local
        .record
        .bury(mode, dot, MintKind::Vector, now_ms)
        .map_err(|cause| RequestError::Internal(cause.to_string()))?;
    let change = RecordChange {
        store_key: place.store_key.clone(),
        record: encode_record(&local.record, mode),
        before,
        after: Held::of(&local.record),
    };
    core.records.write_all([change], Space::Reserve).await?;
    core.tombstones.state.lock().expired += 1;
    counter!("souk_values_expired_total").increment(1);
    Ok(())
}
