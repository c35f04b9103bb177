//! The gate that every register vote passes: under which epoch, and whether this store may speak at all.
//!
//! A turnstile: votes go through one by one while the gate stands open; to change the sign above it, the
//! keeper waits until nobody is inside. So when a new epoch is told to anybody, every vote that was
//! given under the old one is already on disk.
//!
//! Place: shared by `crate::members`, which changes it, and `crate::register`, which passes it.
//! Invariants: 1. a vote holds its [`Passage`] until its commit is durable. 2. a changed gate is seen by every vote
//! that enters after [`Fence::replace`] has returned, and no vote under the old gate is under way then.

use std::sync::Arc;

use arc_swap::ArcSwap;
use souk_ring::LayoutEpoch;
use tokio::sync::{RwLock, RwLockReadGuard};

use crate::error::RequestError;

/// What the node has adopted, and what that lets it say.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    pub(crate) epoch: LayoutEpoch,
    pub(crate) voice: Voice,
}

/// Whether this node's store may speak for its past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Voice {
    /// It votes on everything.
    Sure,
    /// It votes on layouts, and on no register.
    Learner,
    /// It votes on nothing; why.
    Silent(String),
}

/// The gate and who is inside.
#[derive(Debug)]
pub(crate) struct Fence {
    gate: ArcSwap<Gate>,
    inside: RwLock<()>,
}

/// Held by a vote from its decision until it is on disk.
#[derive(Debug)]
pub(crate) struct Passage<'a> {
    /// The epoch that the vote counts under.
    pub(crate) epoch: LayoutEpoch,
    _inside: RwLockReadGuard<'a, ()>,
}

impl Fence {
    /// Closed until [`Fence::set_first`].
    pub(crate) fn new() -> Self {
        let gate = Gate {
            epoch: LayoutEpoch(0),
            voice: Voice::Silent("the node is starting".to_owned()),
        };
        Self {
            gate: ArcSwap::from_pointee(gate),
            inside: RwLock::new(()),
        }
    }

    /// Opens the gate before anybody can be inside.
    pub(crate) fn set_first(&self, gate: Gate) {
        self.gate.store(Arc::new(gate));
    }

    /// The gate as it stands.
    pub(crate) fn look(&self) -> Arc<Gate> {
        self.gate.load_full()
    }

    /// Lets a vote of that epoch in. One of an older epoch passes too, and is refused by the acceptor itself,
    /// which names the newer one.
    pub(crate) async fn enter(&self, asked: LayoutEpoch) -> Result<Passage<'_>, RequestError> {
        let inside = self.inside.read().await;
        let gate = self.look();
        check(&gate, asked)?;
        Ok(Passage {
            epoch: gate.epoch,
            _inside: inside,
        })
    }

    /// The epoch that a read counts under. It may be told after the gate has changed: it was true after it was asked for.
    pub(crate) fn glance(&self, asked: LayoutEpoch) -> Result<LayoutEpoch, RequestError> {
        let gate = self.look();
        check(&gate, asked)?;
        Ok(gate.epoch)
    }

    /// Waits until nobody is inside and changes the gate.
    pub(crate) async fn replace(&self, change: impl FnOnce() -> Gate) {
        let _alone = self.inside.write().await;
        self.gate.store(Arc::new(change()));
    }
}

fn check(gate: &Gate, asked: LayoutEpoch) -> Result<(), RequestError> {
    let refusal = match &gate.voice {
        Voice::Sure if asked <= gate.epoch => return Ok(()),
        Voice::Sure => format!(
            "this node has adopted layout {} and was asked under {asked}: it fetches the newer one",
            gate.epoch
        ),
        Voice::Learner => {
            "this node is being taught what its lost store knew, and does not vote until then"
                .to_owned()
        }
        Voice::Silent(why) => format!("this node does not vote: {why}"),
    };
    Err(RequestError::NotReady(refusal))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn gate(epoch: u64, voice: Voice) -> Gate {
        Gate {
            epoch: LayoutEpoch(epoch),
            voice,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_epoch_waits_for_the_votes_inside() {
        let fence = Arc::new(Fence::new());
        fence.set_first(gate(1, Voice::Sure));
        let inside = fence.enter(LayoutEpoch(1)).await.expect("it is open");
        let changing = Arc::clone(&fence);
        let change = tokio::spawn(async move {
            changing.replace(|| gate(2, Voice::Sure)).await;
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(fence.look().epoch, LayoutEpoch(1));
        assert!(!change.is_finished());
        drop(inside);
        change.await.expect("nobody is inside");
        let later = fence
            .enter(LayoutEpoch(1))
            .await
            .expect("the acceptor refuses it");
        assert_eq!(later.epoch, LayoutEpoch(2));
    }

    #[tokio::test]
    async fn who_may_not_speak_does_not_enter() {
        let fence = Fence::new();
        for voice in [Voice::Learner, Voice::Silent("test".to_owned())] {
            fence.set_first(gate(1, voice));
            fence
                .enter(LayoutEpoch(1))
                .await
                .expect_err("it may not vote");
            fence
                .glance(LayoutEpoch(1))
                .expect_err("it may not be read");
        }
        fence.set_first(gate(1, Voice::Sure));
        let error = fence.enter(LayoutEpoch(2)).await.expect_err("it is behind");
        assert!(error.to_string().contains("asked under e2"), "{error}");
    }
}
