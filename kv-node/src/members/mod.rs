//! Who takes part: the layout that this node has adopted, its vote on the next one, and what it may say.
//!
//! | file | idea |
//! |---|---|
//! | `fence` | the gate that every register vote passes: which epoch, and whether this store may speak |
//! | `founding` | how the first layout learns which store each founder came with |
//! | `exchange` | layouts in and out: told, asked for, adopted |
//! | `deciding` | this node's vote on the next layout, and its own proposals |
//! | `pulse` | how an older copy of a data directory is found out |
//! | `recover` | what an operator declares when too few sure members are left |
//! | `staged`, `newcomers` | what operators wish for, and who is at the door |
//! | `history` | which layouts were adopted, for people |
//! | `care` | what a node does when its store is not the one that the layout names, or is being taught |
//!
//! Place: I/O; drives `souk_kv_core::layout`. Everything that asks "which layout, whose store" asks here.
//! Invariants: 1. a layout is on disk before anything is said under it, and epochs never fall. 2. once a
//! layout is adopted, no vote under an older one is still on its way to the disk. 3. a store that the layout
//! does not name votes on nothing; one that was named once asks to be taken in only under a new identity.
//! Not here: how a learner is taught one group (`crate::register::teaching`), routing, failure detection.

mod care;
mod deciding;
mod exchange;
mod fence;
mod founding;
mod history;
mod newcomers;
mod pulse;
mod recover;
mod staged;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use souk_kv_core::{layout::LayoutVote, register::BallotClock};
use souk_kv_proto::{
    convert::layout::{decode_vote, layout_to_wire},
    store::StoreIdentity,
};
use souk_kv_storage::{Keyspace, StorageError, Store, WriteBatch};
use souk_ring::{Layout, LayoutEpoch, MemberSpec, NodeId, StoreId};
use tokio::sync::{Notify, watch};
use tracing::{error, info, warn};

use crate::{
    cluster::Cluster,
    identity::{Identity, store_of},
    keys,
};

pub(crate) use care::care_for_store;
pub(crate) use deciding::DecideError;
pub(crate) use fence::{Fence, Gate, Voice};
pub(crate) use founding::found;
pub(crate) use history::deeds;
pub(crate) use newcomers::{Newcomer, Newcomers};
use pulse::Pulses;
pub(crate) use pulse::{Pulse, count_pulse};
pub(crate) use staged::StagedLayout;

/// What a node that is no member any more says of itself.
const LEFT: &str = "it has left the cluster, whose layout names it no more: stop it; to come back it has to join again, with an empty data directory";

/// The member set as this node has adopted it.
#[derive(Debug)]
pub(crate) struct Members {
    cluster: Arc<Cluster>,
    store: Store,
    fence: Arc<Fence>,
    /// Where `cluster.toml` says that the members are: a node may move without a change of layout.
    addresses: Vec<MemberSpec>,
    identity: Mutex<StoreIdentity>,
    /// Which store each member came with last, where the layout names none or another.
    met: Mutex<BTreeMap<NodeId, StoreId>>,
    /// Digests of the first layout that founders have stored.
    stored_by: Mutex<BTreeMap<NodeId, u64>>,
    vote: tokio::sync::Mutex<Option<LayoutVote<Arc<Layout>>>>,
    /// Held while a layout is made durable.
    adopting: tokio::sync::Mutex<()>,
    ballots: Mutex<BallotClock>,
    agreed: watch::Sender<bool>,
    pulses: Pulses,
    /// Nodes that want to become members.
    pub(crate) newcomers: Newcomers,
    /// Peers say that a newer layout does not name this node any more.
    removed: AtomicBool,
    /// Rung when a layout or the identity has changed.
    changed: Notify,
}

/// How a greeting is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Greeting {
    /// Its store is the one that the layout names, or the first one seen before the founding.
    Member,
    /// The layout names another store.
    Stranger,
    /// It is the right store, in an older state than it had: it has forgotten promises.
    RolledBack,
}

impl Members {
    /// `layout` is the one that `identity` was opened with.
    pub(crate) async fn open(
        store: Store,
        cluster: Arc<Cluster>,
        fence: Arc<Fence>,
        identity: Identity,
        addresses: Vec<MemberSpec>,
    ) -> Result<Self, StorageError> {
        let vote = store.get(Keyspace::Meta, keys::META_LAYOUT_VOTE)?;
        // Damage was found, and the store renamed, when the identity was opened.
        let vote = vote.and_then(|bytes| decode_vote(bytes).ok());
        let is_agreed = identity.stored.genesis_agreed && cluster.layout().is_founded();
        let pulses = Pulses::open(store.clone(), cluster.environment.random_u64()).await?;
        let ballots = BallotClock::new(cluster.environment.random_u64());
        let members = Self {
            store,
            fence,
            addresses,
            identity: Mutex::new(identity.stored),
            met: Mutex::default(),
            stored_by: Mutex::default(),
            vote: tokio::sync::Mutex::new(vote),
            adopting: tokio::sync::Mutex::new(()),
            ballots: Mutex::new(ballots),
            agreed: watch::Sender::new(is_agreed),
            pulses,
            newcomers: Newcomers::default(),
            removed: AtomicBool::new(false),
            changed: Notify::new(),
            cluster,
        };
        members.fence.set_first(members.gate());
        Ok(members)
    }

    /// The store behind this node.
    pub(crate) fn store_id(&self) -> StoreId {
        store_of(&self.identity.lock())
    }

    /// Whether a layout has named this store already.
    pub(crate) fn was_named(&self) -> bool {
        self.identity.lock().named
    }

    /// The same, as greetings carry it.
    pub(crate) fn store_id_bytes(&self) -> Bytes {
        Bytes::copy_from_slice(&self.store_id().0)
    }

    /// Whether a layout is in force here.
    pub(crate) fn is_agreed(&self) -> bool {
        *self.agreed.borrow()
    }

    /// Turns true once a layout is in force.
    pub(crate) fn agreed(&self) -> watch::Receiver<bool> {
        self.agreed.subscribe()
    }

    /// What this node may say now.
    pub(crate) fn voice(&self) -> Voice {
        self.fence.look().voice.clone()
    }

    /// Why requests cannot be taken here now; `None` when they can.
    pub(crate) fn not_ready(&self) -> Option<String> {
        let layout = self.cluster.layout();
        if self.has_left() {
            return Some(LEFT.to_owned());
        }
        if self.is_agreed() {
            let named = layout.store_of(self.cluster.node) == Some(self.store_id());
            return (!named).then(|| {
                format!(
                    "its store is not the one that layout {} names for it: it asks the other members to take it in",
                    layout.epoch()
                )
            });
        }
        let missing: Vec<&str> = layout
            .members()
            .values()
            .filter(|member| {
                member.id != self.cluster.node && !self.cluster.peers().is_connected(member.id)
            })
            .map(|member| member.name.as_str())
            .collect();
        Some(format!(
            "the first layout is not agreed on yet, it waits for {}: start all nodes of cluster.toml once",
            if missing.is_empty() {
                "its peers to store it".to_owned()
            } else {
                missing.join(", ")
            }
        ))
    }

    /// What this process says of itself in greetings.
    pub(crate) fn pulse(&self) -> Pulse {
        self.pulses.pulse()
    }

    /// What it says in heartbeats.
    pub(crate) fn pulse_count(&self) -> u64 {
        self.pulses.own()
    }

    /// Hears what a member says in a heartbeat.
    pub(crate) fn hear_pulse(&self, node: NodeId, count: u64) {
        self.pulses.hear_heartbeat(node, count);
    }

    /// Judges the store that a member came with, and whether it is as new as it was.
    pub(crate) fn judge(&self, node: NodeId, store: &[u8], pulse: Pulse) -> Greeting {
        let Ok(store) = <[u8; 16]>::try_from(store).map(StoreId) else {
            return Greeting::Stranger;
        };
        match self.cluster.layout().store_of(node) {
            Some(named) if named == store => {
                if self.pulses.hear_greeting(node, store, pulse) {
                    Greeting::Member
                } else {
                    Greeting::RolledBack
                }
            }
            Some(_) => {
                // An operator's recovery has to name it.
                self.met.lock().insert(node, store);
                Greeting::Stranger
            }
            None => {
                self.met.lock().insert(node, store);
                Greeting::Member
            }
        }
    }

    /// Takes over a newer layout that is in force, durably. False when it is none.
    pub(crate) async fn adopt(&self, newer: &Layout) -> Result<bool, StorageError> {
        let _one_at_a_time = self.adopting.lock().await;
        let current = self.cluster.layout();
        let is_news = newer.epoch() > current.epoch() || !self.is_agreed();
        if !is_news || newer.epoch() < current.epoch() || !self.is_ours(newer) {
            return Ok(false);
        }
        let newer = Arc::new(newer.clone().with_addresses(&self.addresses));
        let identity = {
            let known = self.identity.lock();
            let is_named = newer.store_of(self.cluster.node) == Some(store_of(&known));
            StoreIdentity {
                genesis_agreed: true,
                named: known.named || is_named,
                ..known.clone()
            }
        };
        self.write(Some((&current, &newer)), &identity).await?;
        *self.identity.lock() = identity;
        self.fence
            .replace(|| {
                self.cluster.set_layout(Arc::clone(&newer));
                self.agreed.send_replace(true);
                self.gate()
            })
            .await;
        for member in newer.members().values() {
            let before = current.store_of(member.id);
            if before.is_some() && before != member.store {
                self.cluster.peers().reset(member.id);
            }
        }
        info!(
            epoch = newer.epoch().0,
            learners = ?newer.learners(),
            moving = newer.moving_since().is_some(),
            "a layout was adopted"
        );
        if newer.member(self.cluster.node).is_none() {
            warn!("this node has left the cluster, which has its copies by now: it can be stopped");
        }
        self.changed.notify_waiters();
        Ok(true)
    }

    /// Gives this node's store a new identity, because what `why` says can no longer be trusted.
    pub(crate) async fn rename_store(&self, why: &str) -> Result<(), StorageError> {
        let _one_at_a_time = self.adopting.lock().await;
        let identity = StoreIdentity {
            store_id: Bytes::copy_from_slice(&self.cluster.environment.random_id()),
            named: false,
            ..self.identity.lock().clone()
        };
        self.write(None, &identity).await?;
        warn!(why, "this node's store takes a new identity");
        *self.identity.lock() = identity;
        self.fence.replace(|| self.gate()).await;
        self.changed.notify_waiters();
        Ok(())
    }

    /// Whether the newest layout that this node has heard of names it no more.
    pub(crate) fn has_left(&self) -> bool {
        let layout = self.cluster.layout();
        self.removed.load(Ordering::Acquire)
            || (self.is_agreed() && layout.member(self.cluster.node).is_none())
    }

    /// A peer says that this node is no member of the newer layout that it has adopted.
    pub(crate) async fn note_removed(&self) {
        if self.removed.swap(true, Ordering::AcqRel) {
            return;
        }
        error!("{LEFT}");
        let _one_at_a_time = self.adopting.lock().await;
        self.fence.replace(|| self.gate()).await;
        self.changed.notify_waiters();
    }

    /// Waits until the layout or the identity changes.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// What the present layout and identity allow.
    fn gate(&self) -> Gate {
        let layout = self.cluster.layout();
        let (node, store) = (self.cluster.node, self.store_id());
        let voice = if !self.is_agreed() {
            Voice::Silent("the first layout is not agreed on yet".to_owned())
        } else if self.has_left() {
            Voice::Silent(LEFT.to_owned())
        } else if layout.store_of(node) != Some(store) {
            Voice::Silent(format!(
                "layout {} names another store for this node",
                layout.epoch()
            ))
        } else if layout.is_learner(node) {
            Voice::Learner
        } else {
            Voice::Sure
        };
        Gate {
            epoch: layout.epoch(),
            voice,
        }
    }

    fn is_ours(&self, layout: &Layout) -> bool {
        let current = self.cluster.layout();
        let is_ours = layout.is_founded()
            && layout.cluster_id() == current.cluster_id()
            && layout.genesis_hash() == current.genesis_hash()
            && layout.partition_count() == current.partition_count();
        if !is_ours {
            error!(
                epoch = layout.epoch().0,
                "a layout of another cluster was offered and is ignored"
            );
        }
        is_ours
    }

    async fn write(
        &self,
        // The one before, too.
        layouts: Option<(&Layout, &Layout)>,
        identity: &StoreIdentity,
    ) -> Result<(), StorageError> {
        let mut batch = WriteBatch::new();
        batch.put(
            Keyspace::Meta,
            keys::META_IDENTITY,
            identity.encode_to_vec(),
        );
        if let Some((older, newer)) = layouts {
            batch.put(
                Keyspace::Meta,
                keys::META_LAYOUT,
                layout_to_wire(newer).encode_to_vec(),
            );
            let now_unix_ms = self.cluster.environment.unix_ms();
            history::note(&mut batch, older, newer, now_unix_ms);
        }
        self.store.commit(batch.using_reserve()).await
    }

    fn epoch(&self) -> LayoutEpoch {
        self.cluster.layout().epoch()
    }
}
