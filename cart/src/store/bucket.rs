//! What the cart store needs of the client library, and the client library giving it.
//!
//! Place: I/O; used by [`super::CartStore`]. Tests stand in for [`CartBucket`].
//! Not here: what is written (`crate::format`).

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use souk_kv_client::{
    BucketConfig, BucketMode, Client, Consistency, Context, ErrorCode, Key, Read, ReadOptions,
    RequestError, Value, WriteOptions, Written,
};

use super::CartId;
use crate::CART_CONTENT_TYPE;

/// A siblings bucket with one row for each cart.
pub trait CartBucket: Send + Sync {
    /// Reads every sibling of a cart.
    fn read(
        &self,
        id: &CartId,
        consistency: Consistency,
        timeout: Duration,
    ) -> impl Future<Output = Result<Read, RequestError>> + Send;

    /// Writes a cart over everything that `context` has seen.
    fn write(
        &self,
        id: &CartId,
        cart: Bytes,
        context: &Context,
        timeout: Duration,
    ) -> impl Future<Output = Result<Written, RequestError>> + Send;
}

/// How a bucket of carts has to be made: siblings, majorities of the layout's copies, and a floor of one copy, which is
/// what keeps carts writable when all replicas but one are gone.
pub fn cart_bucket(name: &str) -> BucketConfig {
    BucketConfig {
        name: name.to_owned(),
        mode: BucketMode::Siblings.into(),
        write_floor: 1,
        ..BucketConfig::default()
    }
}

/// Carts behind a real client.
#[derive(Debug, Clone)]
pub struct ClientCarts {
    client: Client,
    bucket: String,
}

impl ClientCarts {
    /// The carts in a bucket, which was made as [`cart_bucket`] says.
    pub fn new(client: Client, bucket: impl Into<String>) -> Self {
        Self {
            client,
            bucket: bucket.into(),
        }
    }

    fn key(&self, id: &CartId) -> Key {
        Key::new(self.bucket.as_str(), id.as_str(), "")
    }
}

impl CartBucket for ClientCarts {
    async fn read(
        &self,
        id: &CartId,
        consistency: Consistency,
        timeout: Duration,
    ) -> Result<Read, RequestError> {
        let options = ReadOptions {
            consistency,
            timeout: Some(timeout),
            ..ReadOptions::default()
        };
        self.client.get(&self.key(id), options).await
    }

    async fn write(
        &self,
        id: &CartId,
        cart: Bytes,
        context: &Context,
        timeout: Duration,
    ) -> Result<Written, RequestError> {
        let options = WriteOptions {
            timeout: Some(timeout),
            ..WriteOptions::default()
        };
        self.client
            .put(
                &self.key(id),
                Value::new(CART_CONTENT_TYPE, cart),
                context,
                options,
            )
            .await
    }
}

/// Whether a failed read says that nodes are in trouble, so that fewer of them may still help; otherwise the request
/// itself is at fault and asking differently is no cure.
pub(super) fn is_outage(failure: &RequestError) -> bool {
    match failure.code {
        ErrorCode::Unavailable
        | ErrorCode::Timeout
        | ErrorCode::Overloaded
        | ErrorCode::Contention
        | ErrorCode::Disk
        | ErrorCode::Corrupt
        | ErrorCode::Internal
        | ErrorCode::NotReady
        | ErrorCode::StaleEpoch
        | ErrorCode::ConnectionLost
        | ErrorCode::Unspecified => true,
        ErrorCode::InvalidArgument
        | ErrorCode::ValueTooLarge
        | ErrorCode::BucketNotFound
        | ErrorCode::WrongMode
        | ErrorCode::BucketExists
        | ErrorCode::Unauthenticated
        | ErrorCode::PermissionDenied
        | ErrorCode::RequestTooOld
        | ErrorCode::SiblingsFull
        | ErrorCode::WrongCluster => false,
    }
}
