//! Nodes that have shown themselves and are no members: whom an operator may let join.
//!
//! Place: I/O; filled by who knocks (`crate::join` on the other side), read by the API for operators.
//! Invariants: 1. who has not knocked for a while is forgotten. 2. at most [`NEWCOMERS_MAX`] are remembered.
//! Not here: letting anybody in, which is a decided layout's doing.

use std::{collections::BTreeMap, time::Duration};

use parking_lot::Mutex;
use souk_ring::{MemberSpec, Name, StoreId};
use tokio::time::Instant;

/// Newcomers remembered at once.
const NEWCOMERS_MAX: usize = 100;
/// Who was silent for so long has gone away.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);

/// A node at the door.
#[derive(Debug, Clone)]
pub(crate) struct Newcomer {
    pub(crate) spec: MemberSpec,
    pub(crate) store: StoreId,
}

/// Everybody at the door of this node.
#[derive(Debug, Default)]
pub(crate) struct Newcomers {
    by_name: Mutex<BTreeMap<Name, (Newcomer, Instant)>>,
}

impl Newcomers {
    /// Somebody knocks. The later of two with one name counts. False when there are too many.
    pub(crate) fn knock(&self, newcomer: Newcomer) -> bool {
        let now = Instant::now();
        let mut by_name = self.by_name.lock();
        by_name.retain(|_, (_, heard)| now.duration_since(*heard) < FORGOTTEN_AFTER);
        let name = newcomer.spec.name.clone();
        if by_name.len() >= NEWCOMERS_MAX && !by_name.contains_key(&name) {
            return false;
        }
        by_name.insert(name, (newcomer, now));
        true
    }

    /// Who is there now, by name.
    pub(crate) fn all(&self) -> Vec<Newcomer> {
        let now = Instant::now();
        let by_name = self.by_name.lock();
        let fresh = |(newcomer, heard): &(Newcomer, Instant)| {
            (now.duration_since(*heard) < FORGOTTEN_AFTER).then(|| newcomer.clone())
        };
        by_name.values().filter_map(fresh).collect()
    }

    /// The one of that name.
    pub(crate) fn named(&self, name: &str) -> Option<Newcomer> {
        let named = |newcomer: &Newcomer| newcomer.spec.name.as_str() == name;
        self.all().into_iter().find(named)
    }
}

#[cfg(test)]
mod tests {
    use souk_ring::Weight;

    use super::*;

    fn newcomer(name: &str, store: u8) -> Newcomer {
        let spec = MemberSpec {
            name: name.parse().expect("a good name"),
            zone: "z".parse().expect("a good name"),
            weight: Weight::default(),
            grpc_address: String::new(),
            http_address: String::new(),
        };
        Newcomer {
            spec,
            store: StoreId([store; 16]),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_is_forgotten() {
        let newcomers = Newcomers::default();
        assert!(newcomers.knock(newcomer("n4", 4)));
        tokio::time::advance(FORGOTTEN_AFTER / 2).await;
        assert!(newcomers.knock(newcomer("n5", 5)));
        assert!(newcomers.knock(newcomer("n5", 6)));
        assert_eq!(newcomers.all().len(), 2);
        let store = newcomers.named("n5").map(|newcomer| newcomer.store);
        assert_eq!(store, Some(StoreId([6; 16])));
        tokio::time::advance(FORGOTTEN_AFTER / 2).await;
        assert!(newcomers.named("n4").is_none());
        assert_eq!(newcomers.all().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_door_is_narrow() {
        let newcomers = Newcomers::default();
        for number in 0..NEWCOMERS_MAX {
            assert!(newcomers.knock(newcomer(&format!("n{number}"), 1)));
        }
        assert!(!newcomers.knock(newcomer("one-more", 1)));
        assert!(newcomers.knock(newcomer("n7", 2)));
    }
}
