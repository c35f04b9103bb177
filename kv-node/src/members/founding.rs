//! How the first layout learns which store each founder came with.
//!
//! A founding charter with a line for every founder's seal: each founder meets all others, writes down the
//! seals it saw, and the charter is in force when all of them have written down the very same. So there
//! is one charter at most: who has stored one never stores another, and all have to.
//!
//! Place: I/O; runs once in the life of a store, and again only when it comes to a cluster that was founded before.
//! Invariants: 1. a store that has stored a draft stores another first layout only if that is in force.
//! 2. in force means: every founder has told, after storing it, that it has stored this one.

use std::{sync::Arc, time::Duration};

use souk_kv_proto::store::StoreIdentity;
use souk_kv_storage::StorageError;
use souk_ring::LayoutEpoch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Members;

/// How often founders look at each other's drafts.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Works towards a layout in force, until there is one.
pub(crate) async fn found(members: Arc<Members>, stop: CancellationToken) {
    while !members.is_agreed() {
        if let Err(cause) = members.founding_step().await {
            warn!(%cause, "the first layout could not be stored");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(LOOK_EVERY) => {}
        }
    }
}

impl Members {
    async fn founding_step(&self) -> Result<(), StorageError> {
        self.store_draft().await?;
        let others: Vec<_> = self.cluster.peers().nodes().collect();
        for node in others {
            self.pull(node).await;
        }
        self.agree_if_all_have().await
    }

    /// Stores the first layout with all founders' stores, once all of them were met.
    async fn store_draft(&self) -> Result<(), StorageError> {
        let _one_at_a_time = self.adopting.lock().await;
        let draft = self.cluster.layout();
        if draft.is_founded() {
            return Ok(());
        }
        let mut stores = self.met.lock().clone();
        stores.insert(self.cluster.node, self.store_id());
        let Ok(founded) = draft.founded(&stores) else {
            return Ok(());
        };
        let identity = self.identity.lock().clone();
        self.write(Some((&draft, &founded)), &identity).await?;
        self.fence
            .replace(|| {
                self.cluster.set_layout(Arc::new(founded));
                self.gate()
            })
            .await;
        Ok(())
    }

    async fn agree_if_all_have(&self) -> Result<(), StorageError> {
        let _one_at_a_time = self.adopting.lock().await;
        let layout = self.cluster.layout();
        let (own, hash) = (self.cluster.node, layout.hash());
        let is_draft = layout.is_founded()
            && layout.epoch() == LayoutEpoch::FIRST
            && layout.store_of(own) == Some(self.store_id());
        if self.is_agreed() || !is_draft {
            return Ok(());
        }
        let all_have_it = {
            let stored_by = self.stored_by.lock();
            let has_it = |node| node == own || stored_by.get(&node) == Some(&hash);
            layout.members().keys().copied().all(has_it)
        };
        if !all_have_it {
            return Ok(());
        }
        let identity = StoreIdentity {
            genesis_agreed: true,
            named: true,
            ..self.identity.lock().clone()
        };
        self.write(None, &identity).await?;
        *self.identity.lock() = identity;
        self.fence
            .replace(|| {
                self.agreed.send_replace(true);
                self.gate()
            })
            .await;
        info!("all initial members have stored the same first layout");
        self.changed.notify_waiters();
        Ok(())
    }
}
