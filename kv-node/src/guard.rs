//! One writer per key at a time: read, change and commit of one record must not interleave.
//!
//! Place: taken by everything on this node that writes records, hints or register state.
//! Shape: a fixed number of locks; a key's hash picks one. Two keys may share one, which costs a
//! little waiting and never correctness. A task holds one guard at a time, so no two can wait for each other.

use siphasher::sip::SipHasher13;
use std::hash::Hasher;
use std::sync::Arc;
use tokio::sync::{Mutex, OwnedMutexGuard};

/// With 64 writers at work, two of them share a lock by chance in about one case of a hundred.
const GUARDS_COUNT: usize = 4096;

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
        let mut hasher = SipHasher13::new();
        hasher.write(key);
        let index = usize::try_from(hasher.finish() % GUARDS_COUNT as u64)
            .expect("it is less than the number of guards");
        Arc::clone(&self.guards[index]).lock_owned().await
    }
}
