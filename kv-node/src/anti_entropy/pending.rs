//! Records on their way to the disk, whose leaves in memory are already ahead.
//!
//! Invariants: 1. what is refused is taken back. 2. what nobody waited for is suspect: its fate is not known here.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use souk_kv_storage::{Commit, NotWritten, StorageError};

use super::forest::{Forest, LeafChanges};

/// A batch of records on its way. Resolves as [`Commit`] does.
#[must_use = "the answer says whether the records were written"]
pub(crate) struct RecordCommit {
    commit: Commit,
    /// The leaves that are ahead of the disk.
    pending: Option<(Arc<Forest>, LeafChanges)>,
}

impl RecordCommit {
    /// One that changes no leaf, or was refused on the spot.
    pub(super) fn settled(commit: Commit) -> Self {
        Self {
            commit,
            pending: None,
        }
    }

    pub(super) fn pending(commit: Commit, forest: Arc<Forest>, changes: LeafChanges) -> Self {
        Self {
            commit,
            pending: Some((forest, changes)),
        }
    }

    /// Why it was refused on the spot; `None` once it is queued. The writer may still refuse it later.
    pub(crate) fn refusal(&self) -> Option<&NotWritten> {
        self.commit.refusal()
    }
}

impl Future for RecordCommit {
    type Output = Result<(), StorageError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.commit).poll(context));
        if let Some((forest, changes)) = self.pending.take() {
            match &answer {
                Ok(()) => {}
                Err(StorageError::NotWritten(_)) => forest.take_back(&changes),
                Err(_) => forest.suspect(changes.iter().map(|change| change.place)),
            }
        }
        Poll::Ready(answer)
    }
}

impl Drop for RecordCommit {
    fn drop(&mut self) {
        if let Some((forest, changes)) = self.pending.take() {
            forest.suspect(changes.iter().map(|change| change.place));
        }
    }
}
