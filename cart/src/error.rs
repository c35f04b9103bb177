//! Why a cart refuses a change, and why stored bytes are not a cart.
//!
//! Place: pure; returned by [`crate::Cart`].
//! Not here: refusals of the store below (the client library's own errors).

use thiserror::Error;

use crate::cart::{ADDS_MAX, CART_BYTES_MAX};
use crate::format::CART_FORMAT;
use crate::line::Sku;
use crate::tag::AddTag;

/// Why a change of a cart is refused. The cart is unchanged: the outcome is always "not applied".
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CartError {
    /// What: the cart shows [`ADDS_MAX`] adds already. Mend: remove some, or raise the quantity of a line instead.
    #[error(
        "the cart holds {adds_count} lines, at most {} are allowed; remove some, or check out first",
        ADDS_MAX
    )]
    TooManyAdds {
        /// How many adds it shows.
        adds_count: usize,
    },
    /// What: the cart's stored form reached [`CART_BYTES_MAX`]. Why: removed tags are kept for ever, and this cart has
    /// seen many thousands of changes. Mend: go on in a new cart; removals are still taken.
    #[error(
        "the cart takes {bytes} bytes, at most {} are allowed; check out, or move its lines to a new cart",
        CART_BYTES_MAX
    )]
    CartTooLarge {
        /// The size of its stored form.
        bytes: usize,
    },
    /// What: the quantity of an article that is not in the cart should change. Why: it was never there, or it was
    /// removed since. Mend: show the cart again; add the article if it is still wanted.
    #[error("{sku} is not in the cart, so its quantity cannot change; add it instead")]
    NotInCart {
        /// The article.
        sku: Sku,
    },
    /// What: a request id was used before with another content. Mend: make a new id for each new request.
    #[error(
        "request id {tag} was used before for another change of this cart; use a new id for a new request"
    )]
    TagReused {
        /// The id.
        tag: AddTag,
    },
}

impl CartError {
    /// A short name that does not change, for logs and problem documents.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooManyAdds { .. } => "cart_too_many_lines",
            Self::CartTooLarge { .. } => "cart_too_large",
            Self::NotInCart { .. } => "cart_line_missing",
            Self::TagReused { .. } => "request_id_reused",
        }
    }

    /// Whether sending the same request again can succeed without the shopper changing anything. It never can.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::TooManyAdds { .. }
            | Self::CartTooLarge { .. }
            | Self::NotInCart { .. }
            | Self::TagReused { .. } => false,
        }
    }
}

/// Why stored bytes cannot be read as a cart. The bytes are never overwritten because of it.
#[derive(Debug, Error)]
pub enum CartFormatError {
    /// What: the bytes are not a cart. Mend: find out who else writes to the bucket.
    #[error("the stored value of {bytes} bytes is not a cart")]
    NotACart {
        /// The length of the value.
        bytes: usize,
        /// What the parser met.
        #[source]
        source: serde_json::Error,
    },
    /// What: a newer release wrote this cart. Mend: upgrade this process before it serves carts again.
    #[error(
        "the cart is stored in format {found}, this release reads up to format {}; upgrade it",
        CART_FORMAT
    )]
    NewerFormat {
        /// The format number found.
        found: u32,
    },
}

impl CartFormatError {
    /// A short name that does not change, for logs and problem documents.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotACart { .. } => "cart_unreadable",
            Self::NewerFormat { .. } => "cart_format_newer",
        }
    }
}
