//! What a node does about its own store: asks to be taken in when the layout names another one, learns while
//! it is a learner, and mends single groups that were found damaged.
//!
//! Place: I/O; one task per node. Plans nothing but the three automatic changes of a layout: a member's lost store
//! is swapped for its new one, a learner that was taught counts again, and an epoch passes as a fence.
//! Invariants: 1. a store that some layout has named is never offered again: it takes a new identity first.
//! 2. a learner is offered as full only after everything that it holds was taught. 3. fences pass at a bounded rate.
//! Not here: changes that operators ask for.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use metrics::{counter, gauge};
use souk_kv_proto::mutant;
use souk_ring::LayoutError;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{DecideError, Voice};
use crate::{
    core::NodeCore,
    register::{Pupil, TeachError},
};

/// How often a node that has nothing to mend looks again.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a node waits after it could not get on.
const TRY_AGAIN: Duration = Duration::from_millis(500);
/// Two fences for damaged groups are at least this far apart; groups found meanwhile share the next one.
const FENCE_EVERY: Duration = Duration::from_secs(10);

/// Why a step could not be taken now.
#[derive(Debug, thiserror::Error)]
enum CareError {
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Decide(#[from] DecideError),
    #[error(transparent)]
    Teach(#[from] TeachError),
    #[error(transparent)]
    Storage(#[from] souk_kv_storage::StorageError),
}

/// Cares for this node's store until `stop`.
pub(crate) async fn care_for_store(core: Arc<NodeCore>, stop: CancellationToken) {
    let mut agreed = core.members.agreed();
    tokio::select! {
        () = stop.cancelled() => return,
        known = agreed.wait_for(|agreed| *agreed) => if known.is_err() { return },
    }
    let mut care = Care {
        core: &core,
        fenced: None,
        last_trouble: String::new(),
    };
    loop {
        let pause = tokio::select! {
            () = stop.cancelled() => return,
            pause = care.step() => pause,
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(pause) => {}
            () = core.members.changed() => {}
        }
    }
}

struct Care<'a> {
    core: &'a NodeCore,
    /// When this node last let an epoch pass as a fence.
    fenced: Option<Instant>,
    /// Said once, not at every try.
    last_trouble: String,
}

impl Care<'_> {
    /// Does what is to be done now; how long to wait after it.
    async fn step(&mut self) -> Duration {
        let voice = self.core.members.voice();
        let (standing, done) = match voice {
            Voice::Sure => (0.0, self.mend_groups().await),
            Voice::Learner => (1.0, self.learn().await),
            Voice::Silent(_) => (2.0, self.ask_in().await),
        };
        gauge!("souk_member_standing").set(standing);
        match done {
            Ok(()) => {
                self.last_trouble.clear();
                LOOK_EVERY
            }
            Err(cause) => {
                let trouble = cause.to_string();
                if trouble != self.last_trouble {
                    warn!(%cause, "this node's store cannot be made whole yet");
                    self.last_trouble = trouble;
                }
                TRY_AGAIN
            }
        }
    }

    /// The layout names another store for this node: asks the others to take this one in, as a learner.
    async fn ask_in(&self) -> Result<(), CareError> {
        // With a new name it would bring back what was deleted since an operator gave it up.
        if self.core.own_store_forgotten.load(Ordering::Acquire) {
            return Ok(());
        }
        let members = &self.core.members;
        // Who has left is not taken in again by itself.
        if members.has_left() {
            return Ok(());
        }
        for node in self.core.cluster.peers().nodes() {
            members.pull(node).await;
        }
        // The layout itself, not the voice: that follows a layout a moment later, and a store that gives up its name
        // in that moment is lost to its group.
        let named = self.core.cluster.layout().store_of(self.core.cluster.node);
        if named == Some(members.store_id()) {
            return Ok(());
        }
        if members.was_named() {
            members
                .rename_store("another store speaks for this node by now")
                .await?;
            self.core
                .mint
                .replace_all("the store took a new identity")
                .await?;
        }
        let layout = self.core.cluster.layout();
        let wish = layout.swapped(self.core.cluster.node, members.store_id())?;
        info!(
            epoch = wish.epoch().0,
            "asking the other members to take this node's new store in"
        );
        members.decide(wish).await?;
        counter!("souk_stores_swapped_total").increment(1);
        Ok(())
    }

    async fn learn(&self) -> Result<(), CareError> {
        let pupil = Pupil::new(self.core).await?;
        if !mutant!("learner-untaught") {
            pupil.learn_all().await?;
        }
        let layout = self.core.cluster.layout();
        info!(
            epoch = layout.epoch().0,
            "this node has learnt what its lost store knew"
        );
        let wish = layout.promoted(self.core.cluster.node)?;
        self.core.members.decide(wish).await?;
        Ok(())
    }

    /// Learns groups anew that were found damaged, once an epoch has passed since.
    async fn mend_groups(&mut self) -> Result<(), CareError> {
        let damaged = self.core.groups.damaged();
        if damaged.is_empty() {
            return Ok(());
        }
        let layout = self.core.cluster.layout();
        let needs_fence = damaged.iter().any(|(_, found)| *found >= layout.epoch());
        let may_fence = self
            .fenced
            .is_none_or(|fenced| fenced.elapsed() >= FENCE_EVERY);
        if needs_fence && may_fence {
            self.fenced = Some(Instant::now());
            info!(
                groups = damaged.len(),
                "an epoch passes as a fence for damaged register groups"
            );
            self.core.members.decide(layout.fenced()?).await?;
        }
        let epoch = self.core.cluster.layout().epoch();
        let pupil = Pupil::new(self.core).await?;
        for (key, _) in damaged.iter().filter(|(_, found)| *found < epoch) {
            pupil.learn_group(key).await?;
            info!(group = ?key, "a damaged register group was learnt anew");
        }
        Ok(())
    }
}
