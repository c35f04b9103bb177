//! Where a row lives: bucket, partition key, sort key.
//!
//! Source: DeCandia et al., Dynamo, SOSP 2007, §4.2; the sort key orders rows within one partition key.
//! Invariant: only bucket and partition key choose the place on the ring.

use std::fmt;

use bytes::Bytes;

/// Longest partition key and longest sort key, in bytes.
pub const KEY_BYTES_MAX: usize = 1024;

/// The full name of one row.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Name of the bucket.
    pub bucket: String,
    /// 1 to [`KEY_BYTES_MAX`] bytes; rows with an equal partition key live together.
    pub partition_key: Bytes,
    /// 0 to [`KEY_BYTES_MAX`] bytes; orders the rows of one partition key.
    pub sort_key: Bytes,
}

impl Key {
    /// A key from its three parts, which are copied. Lengths are checked when the key is used.
    ///
    /// ```
    /// let key = souk_kv_client::Key::new("carts", "customer-17", "");
    /// assert_eq!(key.to_string(), "carts/customer-17");
    /// ```
    pub fn new(
        bucket: impl Into<String>,
        partition_key: impl AsRef<[u8]>,
        sort_key: impl AsRef<[u8]>,
    ) -> Key {
        Key {
            bucket: bucket.into(),
            partition_key: Bytes::copy_from_slice(partition_key.as_ref()),
            sort_key: Bytes::copy_from_slice(sort_key.as_ref()),
        }
    }
}

/// `bucket/partition key[/sort key]`, with bytes that are not printable ASCII escaped.
impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}/{}",
            self.bucket,
            self.partition_key.escape_ascii()
        )?;
        if !self.sort_key.is_empty() {
            write!(formatter, "/{}", self.sort_key.escape_ascii())?;
        }
        Ok(())
    }
}
