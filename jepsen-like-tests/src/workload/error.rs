//! Why a workload could not do its part. Requests that fail while it runs are no errors: they are its history.

use souk_kv_client::{ClientError, RequestError};

/// Why a workload could not do its part.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// No node took the connection.
    #[error("cannot connect to the cluster")]
    Connect(#[from] ClientError),
    /// A request outside of the history failed, such as making a bucket.
    #[error("cannot {what}")]
    Request {
        /// What was tried.
        what: &'static str,
        /// Why.
        #[source]
        source: RequestError,
    },
    /// Something did not come to rest after everything was running again.
    #[error("{what} after {waited_s} s of calm; last seen: {last}")]
    NotSettled {
        /// What is still the case.
        what: &'static str,
        /// How long it was waited for, in seconds.
        waited_s: u64,
        /// What was seen last.
        last: String,
    },
    /// The shop did not answer, or not as it should.
    #[error("the shop: {what}")]
    Shop {
        /// What happened.
        what: String,
    },
    /// The workload needs a shop, and the cluster has none.
    #[error("this workload needs a shop in front of the cluster")]
    NoShop,
    /// The payment provider's book cannot be read.
    #[error("cannot read the payment provider's book: {what}")]
    Book {
        /// What is wrong.
        what: String,
    },
}
