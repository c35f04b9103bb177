//! What a client has seen of a record: every write by its dot, and the newest of them also by their requests.
//!
//! The picture: a dot is a room number, a request is a guest. A retried request can have been run twice, by two
//! coordinators, under two dots; a client that was answered by one of them knows one room number only. Were its next
//! write to replace just that, the other run would stand beside it for ever, as if it had never been replaced.
//!
//! Place: pure; what reads and writes answer, and the token that clients hand back with their next write.
//! Shape: at most [`REMEMBERED_REQUESTS_MAX`] requests: those of the siblings shown, and of the client's own writes
//! since.
//! Invariants: 1. every request named here had its value shown to the client, or was the client's own.
//! Not here: requests that were replaced before ([`super::RequestMemory`], which replicas share).

use smallvec::SmallVec;

use super::{
    CausalContext, Dot, REMEMBERED_REQUESTS_MAX, Record, RequestId, Sibling, memory::Remembered,
};

/// The writes that a client has seen of one record; opaque to clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    context: CausalContext,
    /// Oldest first.
    requests: SmallVec<[(RequestId, Dot); 1]>,
}

impl Observed {
    /// What a reader of `record` sees: all of it.
    #[must_use]
    pub fn whole(record: &Record) -> Observed {
        Observed::from_parts(
            record.context().clone(),
            record
                .siblings()
                .iter()
                .map(|sibling| (sibling.request, sibling.dot)),
        )
    }

    /// Puts it together from decoded parts. Requests that asked for no memory are left out, and so is what exceeds
    /// [`REMEMBERED_REQUESTS_MAX`], oldest first.
    #[must_use]
    pub fn from_parts(
        context: CausalContext,
        requests: impl IntoIterator<Item = (RequestId, Dot)>,
    ) -> Observed {
        let mut observed = Observed {
            context,
            requests: SmallVec::new(),
        };
        for (request, dot) in requests {
            observed.name(request, dot);
        }
        observed
    }

    /// The dots of all writes seen.
    #[must_use]
    pub const fn context(&self) -> &CausalContext {
        &self.context
    }

    /// The requests of the newest writes seen, each with a dot under which it was run, oldest first.
    #[must_use]
    pub fn requests(&self) -> &[(RequestId, Dot)] {
        &self.requests
    }

    /// True when nothing was seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.context.is_empty() && self.requests.is_empty()
    }

    /// True when the client has seen this sibling, under whichever dot.
    #[must_use]
    pub fn covers(&self, sibling: &Sibling) -> bool {
        self.context.contains(sibling.dot)
            || self
                .requests
                .iter()
                .any(|(request, _)| *request == sibling.request)
    }

    /// Adds what `other` has seen: for a client that was answered twice before it writes.
    pub fn merge(&mut self, other: &Observed) {
        self.context.merge(&other.context);
        for &(request, dot) in &other.requests {
            self.name(request, dot);
        }
    }

    /// What a replica has to remember when a write that has seen this replaces it at `now_ms`.
    pub(super) fn superseded_at(&self, now_ms: u64) -> impl Iterator<Item = Remembered> + '_ {
        self.requests.iter().map(move |&(request, dot)| Remembered {
            request,
            dot,
            superseded_unix_ms: now_ms,
        })
    }

    /// What to answer a write with, so that the client's next one replaces it without a read between. `record` is
    /// where it was taken in, or had been before, and `dot` its name there.
    ///
    /// When the client has been shown every sibling of `record`, that is all of the record, which is short.
    /// Otherwise it is only what the client had seen, and its write: covering an unread sibling would let the next
    /// write destroy it. Covering dots that merely seem replaced is no way out either, for one of them may be the
    /// second name of a request that was run twice, and is still unread under its first.
    #[must_use]
    pub fn with_own_write(&self, record: &Record, request: RequestId, dot: Dot) -> Observed {
        let mut answer = self.clone();
        answer.context.insert(dot);
        answer.name(request, dot);
        if record
            .siblings()
            .iter()
            .all(|sibling| answer.covers(sibling))
        {
            answer.context.merge(record.context());
            // What they took the place of, the record remembers itself.
            answer.requests.clear();
            for sibling in record.siblings() {
                answer.name(sibling.request, sibling.dot);
            }
        } else {
            answer
                .context
                .observe_stamp(record.context().newest_stamp());
        }
        answer
    }

    fn name(&mut self, request: RequestId, dot: Dot) {
        if !request.is_remembered() || self.requests.iter().any(|(known, _)| *known == request) {
            return;
        }
        if self.requests.len() == REMEMBERED_REQUESTS_MAX {
            self.requests.remove(0);
        }
        self.requests.push((request, dot));
    }
}

/// Dots alone: what clients of earlier versions hand back.
impl From<CausalContext> for Observed {
    fn from(context: CausalContext) -> Observed {
        Observed::from_parts(context, [])
    }
}
