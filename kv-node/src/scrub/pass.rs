//! One walk over everything that a node has stored.
//!
//! Records are read vnode by vnode, and their trees judged by them; the other keyspaces row by row. A pass holds
//! nobody up: the governor lets it in, page by page.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use metrics::{counter, gauge};
use souk_kv_storage::{Gap, Keyspace, StorageError, Store};
use souk_ring::PartitionId;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Mended, Mender, stretch::mend_stretch};
use crate::{
    anti_entropy::Walker,
    cluster::Cluster,
    error::RequestError,
    governor::{Governor, Job},
    keys::GroupKey,
    register::{self, GroupStore},
};

/// Rows verified at once in keyspaces other than records.
const PAGE_ROWS: usize = 256;
const PAGE_UNITS: u32 = 32;
/// Lines of what could not be mended; more are counted only.
const UNMENDED_LINES: usize = 50;
/// What helps against a damaged file: an engine cannot leave a part of it behind.
const NEW_STORE: &str = "sooner or later the engine stops writing over it: stop the node, set its data directory aside and start it with an empty one; it learns everything from the others";
/// The keyspaces that are verified row by row, and what is done about damage in them.
const OTHERS: [(Keyspace, &str); 5] = [
    (
        Keyspace::Registers,
        "no group can be told from its key: its register group finds the damage when it is asked",
    ),
    (
        Keyspace::Hints,
        "it is dropped when its target is up; the target gets the write by anti-entropy",
    ),
    (
        Keyspace::Meta,
        "restart the node; if it refuses, wipe its directory",
    ),
    (
        Keyspace::Merkle,
        "the next start counts the leaf anew from its records",
    ),
    (Keyspace::Feed, "consumers read on behind it"),
];

/// What a pass has found so far.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct ScrubReport {
    pub(crate) vnodes: u64,
    pub(crate) vnodes_total: u64,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) damaged: u64,
    pub(crate) mended: u64,
    /// Damaged rows of register groups, which are learnt anew from the other acceptors.
    pub(crate) learning: u64,
    pub(crate) leaves_mended: u64,
    /// Stretches of keys that cannot be read at all.
    pub(crate) gaps: u64,
    /// What could not be mended, and what to do, for people.
    pub(crate) unmended: Vec<String>,
}

impl ScrubReport {
    /// Damage that stays for now.
    fn left(&self) -> u64 {
        self.damaged
            .saturating_sub(self.mended)
            .saturating_sub(self.learning)
    }

    fn unmended(&mut self, line: String) {
        if self.unmended.len() < UNMENDED_LINES {
            self.unmended.push(line);
        }
    }
}

/// Walks over what is stored.
#[derive(Debug)]
pub(crate) struct Scrubber {
    store: Store,
    cluster: Arc<Cluster>,
    walker: Arc<Walker>,
    mender: Arc<Mender>,
    groups: Arc<GroupStore>,
    governor: Arc<Governor>,
}

impl Scrubber {
    pub(crate) fn new(
        store: Store,
        cluster: Arc<Cluster>,
        walker: Arc<Walker>,
        mender: Arc<Mender>,
        groups: Arc<GroupStore>,
        governor: Arc<Governor>,
    ) -> Self {
        Self {
            store,
            cluster,
            walker,
            mender,
            groups,
            governor,
        }
    }

    /// One pass; `told` hears how far it is. `rest` is taken after each vnode.
    ///
    /// # Errors
    /// [`RequestError`] when the store is closed or takes no writes; damage is no error.
    pub(crate) async fn pass(
        &self,
        rest: Duration,
        told: &mut (dyn FnMut(&ScrubReport) + Send),
    ) -> Result<ScrubReport, RequestError> {
        let layout = self.cluster.layout();
        let mut report = ScrubReport {
            vnodes_total: layout.partition_count().get().into(),
            ..ScrubReport::default()
        };
        // All of them: a node may hold records of a partition that it no longer owns.
        for partition in layout.partition_count().partitions() {
            self.vnode(partition, &mut report).await?;
            report.vnodes += 1;
            told(&report);
            sleep(rest).await;
        }
        for (keyspace, advice) in OTHERS {
            self.keyspace(keyspace, advice, &mut report).await?;
            told(&report);
        }
        counter!("souk_scrub_passes_total").increment(1);
        gauge!("souk_scrub_unmended").set(report.left() as f64);
        Ok(report)
    }

    async fn vnode(
        &self,
        partition: PartitionId,
        report: &mut ScrubReport,
    ) -> Result<(), RequestError> {
        let found = self.walker.check(partition, Job::Scrub).await?;
        report.rows += found.records;
        report.bytes += found.bytes;
        report.leaves_mended += found.leaves_mended;
        for key in &found.damaged {
            report.damaged += 1;
            self.mend(key, report).await?;
        }
        for gap in &found.gaps {
            self.note_gap(Keyspace::Records, gap, report);
            let stretch =
                mend_stretch(&self.cluster, &self.mender, &self.governor, partition, gap).await;
            report.damaged += stretch.damaged;
            report.mended += stretch.mended;
            if stretch.damaged > stretch.mended || stretch.silent > 0 {
                report.unmended(format!(
                    "partition {}: {} of {} keys in {gap} were replaced, {} replicas did not say what they hold: scrub again when they are back",
                    partition.0, stretch.mended, stretch.damaged, stretch.silent
                ));
            }
        }
        if !found.damaged.is_empty() {
            // What was written over damage has a leaf that only a count of the records can put right.
            let again = self.walker.check(partition, Job::Scrub).await?;
            report.leaves_mended += again.leaves_mended;
        }
        Ok(())
    }

    async fn mend(&self, key: &Bytes, report: &mut ScrubReport) -> Result<(), RequestError> {
        counter!("souk_scrub_damaged_total", "keyspace" => Keyspace::Records.name()).increment(1);
        let why = match self.mender.mend(key).await? {
            Mended::Replaced | Mended::Sound => {
                report.mended += 1;
                return Ok(());
            }
            Mended::TooFew { answered, needed } => {
                self.mender.note(key.clone());
                format!(
                    "{answered} of {needed} other replicas answered: it is tried again when they are back"
                )
            }
            Mended::NowhereElse => {
                "no other replica holds it: restore it from a backup, or write it anew".to_owned()
            }
            Mended::NoPlace => "its bucket is not known on this node".to_owned(),
        };
        report.unmended(format!("record {}: {why}", shown(key)));
        Ok(())
    }

    async fn keyspace(
        &self,
        keyspace: Keyspace,
        advice: &str,
        report: &mut ScrubReport,
    ) -> Result<(), StorageError> {
        let mut after: Option<Bytes> = None;
        loop {
            self.governor.pace(Job::Scrub, PAGE_UNITS).await;
            let mut judge = |key: &[u8], value: &[u8]| match keyspace {
                Keyspace::Registers => register::judge(key, value),
                _ => Ok(()),
            };
            let page = self
                .store
                .verify_page(keyspace, after.as_deref(), PAGE_ROWS, &mut judge)?;
            report.rows += page.checked as u64;
            report.bytes += page.bytes;
            for row in page.corrupt {
                counter!("souk_scrub_damaged_total", "keyspace" => keyspace.name()).increment(1);
                report.damaged += 1;
                let group = match keyspace {
                    Keyspace::Registers => GroupKey::from_record_prefix(&row.key),
                    _ => None,
                };
                match group {
                    Some(group) => {
                        self.groups.take_out(&group);
                        report.learning += 1;
                    }
                    None => {
                        report.unmended(format!("{keyspace} {}: {advice}", shown(&row.key)));
                    }
                }
            }
            for gap in page.gaps {
                self.note_gap(keyspace, &gap.gap, report);
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    fn note_gap(&self, keyspace: Keyspace, gap: &Gap, report: &mut ScrubReport) {
        counter!("souk_scrub_gaps_total", "keyspace" => keyspace.name()).increment(1);
        report.gaps += 1;
        warn!(%keyspace, %gap, "a stretch of keys cannot be read: a file of the engine is damaged");
        report.unmended(format!(
            "{gap} of {keyspace} cannot be read, a file of the engine is damaged: {NEW_STORE}"
        ));
    }
}

fn shown(key: &[u8]) -> String {
    key.escape_ascii().to_string()
}

/// Passes without end, slowly, until `stop`.
pub(crate) async fn scrub_loop(scrubber: Arc<Scrubber>, pause: Duration, stop: CancellationToken) {
    let work = async {
        loop {
            // First, so that a node which has just started is left alone.
            sleep(pause).await;
            match scrubber.pass(pause, &mut |_| {}).await {
                Ok(report) if report.damaged + report.gaps > 0 => warn!(
                    damaged = report.damaged,
                    mended = report.mended,
                    learning = report.learning,
                    gaps = report.gaps,
                    "a scrub found damage: `souk admin scrub` shows it"
                ),
                Ok(report) => info!(rows = report.rows, "a scrub found everything sound"),
                Err(cause) => warn!(%cause, "a scrub ended early"),
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}
