//! Lets an accept that came too early wait for the one that it stands on.
//!
//! Ballots of one coordinator build on each other, but on the way they may overtake: messages of one link are worked
//! off side by side. Letters that arrive in the wrong order are laid aside for a moment, not sent back with a demand
//! for the whole file. It also lets a lagging acceptor fall in again: what arrives while it is being brought up waits,
//! and follows in order.
//!
//! Place: in memory; used by `acceptor`.
//! Invariants: 1. a place is taken under the group's guard, and a group changes only under it, so that no arrival is
//! missed. 2. at most [`WAITING_MAX`] accepts of one group wait, none longer than [`WAIT_MAX`].
//! Not here: whether an accept fits (`souk_kv_core::register`).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::{Notify, futures::OwnedNotified};

use crate::keys::GroupKey;

/// How long an accept waits for its predecessor. Longer than messages overtake each other, shorter than anybody
/// would mind who waits for an acceptor that missed one.
pub(super) const WAIT_MAX: Duration = Duration::from_millis(30);
/// Accepts of one group that may wait.
const WAITING_MAX: usize = 64;

/// Who waits, by group.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    groups: Mutex<BTreeMap<GroupKey, Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    changed: Arc<Notify>,
    count: usize,
}

/// A place among those who wait for a change of a group; given up when it is dropped.
pub(super) struct Place<'a> {
    arrivals: &'a Arrivals,
    key: GroupKey,
    changed: std::pin::Pin<Box<OwnedNotified>>,
}

impl Arrivals {
    /// Takes a place; `None` when there are too many.
    pub(super) fn join(&self, key: &GroupKey) -> Option<Place<'_>> {
        let mut groups = self.groups.lock();
        let waiting = groups.entry(key.clone()).or_default();
        if waiting.count >= WAITING_MAX {
            return None;
        }
        waiting.count += 1;
        Some(Place {
            arrivals: self,
            key: key.clone(),
            changed: Box::pin(Arc::clone(&waiting.changed).notified_owned()),
        })
    }

    /// Tells all who wait that the group has changed.
    pub(super) fn announce(&self, key: &GroupKey) {
        let groups = self.groups.lock();
        if let Some(waiting) = groups.get(key) {
            waiting.changed.notify_waiters();
        }
    }
}

impl Place<'_> {
    /// Waits until the group has changed since the place was taken.
    pub(super) async fn changed(&mut self) {
        self.changed.as_mut().await;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut groups = self.arrivals.groups.lock();
        if let Some(waiting) = groups.get_mut(&self.key) {
            waiting.count -= 1;
            if waiting.count == 0 {
                groups.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::FutureExt;
    use souk_ring::PartitionId;

    use super::*;
    use crate::keys::BucketId;

    fn group(name: &'static str) -> GroupKey {
        GroupKey {
            partition: PartitionId(0),
            bucket: BucketId(1),
            partition_key: Bytes::from_static(name.as_bytes()),
        }
    }

    #[tokio::test]
    async fn a_change_between_taking_a_place_and_waiting_counts() {
        let arrivals = Arrivals::default();
        let mut place = arrivals.join(&group("a")).expect("there is room");
        let mut other = arrivals.join(&group("b")).expect("there is room");
        arrivals.announce(&group("a"));
        place.changed().await;
        assert_eq!(other.changed().now_or_never(), None);
    }

    #[test]
    fn places_are_counted_and_given_up() {
        let arrivals = Arrivals::default();
        let places: Vec<_> = (0..WAITING_MAX)
            .map(|_| arrivals.join(&group("a")).expect("there is room"))
            .collect();
        assert!(arrivals.join(&group("a")).is_none());
        drop(places);
        assert!(arrivals.groups.lock().is_empty());
        arrivals.join(&group("a")).expect("there is room again");
    }
}
