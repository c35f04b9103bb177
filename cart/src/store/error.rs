//! Why a request on a stored cart fails, and what may be believed of it then.
//!
//! Place: returned by [`super::CartStore`].
//! Not here: the failures below it, which it carries as their sources.

use souk_kv_client::{Outcome, RequestError};
use thiserror::Error;

use super::{CartId, bucket};
use crate::{CartError, CartFormatError};

/// Why a request on a stored cart fails.
#[derive(Debug, Error)]
pub enum CartStoreError {
    /// What: the cart itself does not allow it. Mend: as the refusal says.
    #[error(transparent)]
    Refused(#[from] CartError),
    /// What: a stored value is not a cart, or a newer release wrote it. Mend: as the source says; it is not overwritten.
    #[error("cart {cart} has a value that cannot be read")]
    Format {
        /// The cart.
        cart: CartId,
        /// What is wrong with it.
        #[source]
        source: CartFormatError,
    },
    /// What: the cart could not be read. Mend: try again; adds go through all the same.
    #[error("cart {cart} could not be read")]
    Read {
        /// The cart.
        cart: CartId,
        /// Why.
        #[source]
        source: RequestError,
    },
    /// What: only one replica could be read and it does not show the article. Mend: try again shortly.
    #[error(
        "only one copy of cart {cart} can be read and it does not show the article; try again shortly"
    )]
    TooLittleRead {
        /// The cart.
        cart: CartId,
    },
    /// What: the change could not be written, or nobody confirmed it. Mend: send it again under the same tag, which is
    /// safe whatever the outcome.
    #[error("cart {cart} could not be written")]
    Write {
        /// The cart.
        cart: CartId,
        /// Why.
        #[source]
        source: RequestError,
    },
}

impl CartStoreError {
    /// A short name that does not change, for logs and problem documents.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::Format { source, .. } => source.code(),
            Self::Read { .. } => "cart_read_failed",
            Self::TooLittleRead { .. } => "cart_read_partial",
            Self::Write { .. } => "cart_write_failed",
        }
    }

    /// What may be believed of the change.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Refused(_)
            | Self::Format { .. }
            | Self::Read { .. }
            | Self::TooLittleRead { .. } => Outcome::NotApplied,
            Self::Write { source, .. } => source.outcome(),
        }
    }

    /// Whether the same request may succeed later. Repeating it under its tag never applies it twice.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.is_retryable(),
            Self::Format { .. } => false,
            Self::Read { source, .. } | Self::Write { source, .. } => source.is_retryable(),
            Self::TooLittleRead { .. } => true,
        }
    }

    /// Whether an add may go on without having read the cart. A value of a newer release counts as unreadable too: the
    /// add then stands beside it, and that release merges them.
    pub(super) fn leaves_blind_add(&self) -> bool {
        match self {
            Self::Read { source, .. } => bucket::is_outage(source),
            Self::Format { .. } => true,
            Self::Refused(_) | Self::TooLittleRead { .. } | Self::Write { .. } => false,
        }
    }
}
