//! One writer per key at a time: read, change and commit of one record must not interleave.
//!
//! Place: taken by everything on this node that writes records, hints or register state.
//! Shape: a fixed number of locks; a key's hash picks one. Two keys may share one, which costs a
//! little waiting and never correctness.
//! Invariants: a task takes all its guards in one call, in the order of the locks, so no two wait for each other.

use siphasher::sip::SipHasher13;
use smallvec::SmallVec;
use std::hash::Hasher;
use std::sync::Arc;
use tokio::sync::{Mutex, OwnedMutexGuard};

/// With 64 writers of a hundred keys each at work, a key meets a taken lock by chance in one case of ten.
const GUARDS_COUNT: usize = 65_536;

/// The locks.
#[derive(Debug)]
pub(crate) struct KeyGuards {
    guards: Vec<Arc<Mutex<()>>>,
}

/// Held while a key is being changed.
pub(crate) type KeyGuard = OwnedMutexGuard<()>;

impl KeyGuards {
    pub(crate) fn new() -> Self {
        Self {
            guards: (0..GUARDS_COUNT)
                .map(|_| Arc::new(Mutex::new(())))
                .collect(),
        }
    }

    /// Waits until nobody else changes this key.
    pub(crate) async fn lock(&self, key: &[u8]) -> KeyGuard {
        Arc::clone(&self.guards[lock_of(key)]).lock_owned().await
    }

    /// Waits until nobody else changes any of these keys.
    pub(crate) async fn lock_all<'a>(
        &self,
        keys: impl Iterator<Item = &'a [u8]>,
    ) -> SmallVec<[KeyGuard; 1]> {
        let mut locks: SmallVec<[usize; 1]> = keys.map(lock_of).collect();
        locks.sort_unstable();
        locks.dedup();
        let mut held = SmallVec::with_capacity(locks.len());
        for lock in locks {
            held.push(Arc::clone(&self.guards[lock]).lock_owned().await);
        }
        held
    }
}

fn lock_of(key: &[u8]) -> usize {
    let mut hasher = SipHasher13::new();
    hasher.write(key);
    usize::try_from(hasher.finish() % GUARDS_COUNT as u64)
        .expect("it is less than the number of guards")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn crossing_lots_end() {
        let guards = Arc::new(KeyGuards::new());
        let keys: Vec<[u8; 1]> = (0..=u8::MAX).map(|byte| [byte]).collect();
        let turns = (0..20).map(|turn| {
            let (guards, mut keys) = (Arc::clone(&guards), keys.clone());
            keys.rotate_left(turn * 11);
            keys.push([7]);
            tokio::spawn(async move {
                for _ in 0..20 {
                    let held = guards.lock_all(keys.iter().map(|key| &key[..])).await;
                    tokio::task::yield_now().await;
                    drop(held);
                }
            })
        });
        for turn in turns.collect::<Vec<_>>() {
            turn.await.expect("it ends");
        }
    }
}
