//! What the rooms of the shop say when the store does not do as asked.
//!
//! Place: between the errors of the client library and the cart and stock stores, and the HTTP problems.
//! Shape: one enum for every store-backed room: the caller only needs to know whether the change can have happened.
//! Invariants: 1. an unknown outcome stays unknown all the way to the customer.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use souk_kv_client::{ErrorCode, Outcome, RequestError};

/// Why the store did not do as asked, as it said.
pub type Cause = Arc<dyn Error + Send + Sync>;

/// A call on the store that did not succeed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreFault {
    /// What: the store did not take the request; nothing was changed. Mend: try again later.
    #[error("the shop cannot {doing} now; try again later")]
    Unavailable {
        /// What was attempted, as a verb phrase.
        doing: &'static str,
        /// When trying again makes sense, if the store said so.
        retry_after: Option<Duration>,
        /// What the store said.
        #[source]
        source: Cause,
    },
    /// What: no answer in time; the change may or may not have been made. Mend: read, then decide; or send the
    /// same request with the same key again.
    #[error("it is unknown whether the shop could {doing}; look before you try again")]
    Unknown {
        /// What was attempted, as a verb phrase.
        doing: &'static str,
        /// What the store said.
        #[source]
        source: Cause,
    },
    /// What: the request itself makes no sense to the store, for example a cursor that it never gave.
    #[error("the store does not take this request to {doing}")]
    Malformed {
        /// What was attempted, as a verb phrase.
        doing: &'static str,
        /// What the store said.
        #[source]
        source: Cause,
    },
    /// What: other writers changed the same row again and again. Mend: try again.
    #[error("too many others want to {doing} at the same moment; try again")]
    Contended {
        /// What was attempted, as a verb phrase.
        doing: &'static str,
    },
    /// What: stored bytes make no sense to this shop. Mend: upgrade it if a newer one wrote them.
    #[error("a stored {what} cannot be read ({why}); upgrade this shop if a newer one wrote it")]
    Unreadable {
        /// What was read.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
}

impl StoreFault {
    /// A failed request, as what it means for `doing`.
    #[must_use]
    pub fn from_request(doing: &'static str, error: RequestError) -> Self {
        if error.code == ErrorCode::InvalidArgument {
            return Self::Malformed {
                doing,
                source: Arc::new(error),
            };
        }
        let (outcome, retry_after) = (error.outcome(), error.retry_after);
        Self::from_outcome(doing, outcome, retry_after, Arc::new(error))
    }

    /// A failure with this outcome.
    #[must_use]
    pub fn from_outcome(
        doing: &'static str,
        outcome: Outcome,
        retry_after: Option<Duration>,
        source: Cause,
    ) -> Self {
        match outcome {
            Outcome::NotApplied => Self::Unavailable {
                doing,
                retry_after,
                source,
            },
            Outcome::Applied | Outcome::Unknown => Self::Unknown { doing, source },
        }
    }
}
