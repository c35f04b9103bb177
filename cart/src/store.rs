//! Carts in a siblings bucket: read, merge what stands there, change it, write it back over what was read.
//!
//! A cart takes an add whenever any node takes a write. When no quorum answers a read, one replica's copy will do; when
//! nothing can be read at all, the add is written alone, with an empty context. It then stands beside the cart as a
//! sibling, and the next reader merges the two. Every answer says how much of that was necessary.
//!
//! Removals and changes act on what they saw, so they need a reading. On one replica's copy they take what it shows; but
//! where it does not show the article at all they refuse to guess.
//!
//! Place: I/O, behind the feature `store`; talks to `souk_kv_client` through [`CartBucket`].
//! Source: DeCandia et al., Dynamo, SOSP 2007, §2.2 and §4.4 (an add is never refused, the reader merges).
//! Invariants: 1. a value is overwritten only under the context of a read that it was merged from. 2. a value that
//! cannot be read is never overwritten. 3. an add or a removal sent again is written again, so that its acknowledgement
//! always stands on enough copies.
//! Not here: retries of single requests, routing (`souk_kv_client`); how carts merge (`crate::cart`).

mod bucket;
mod error;
mod id;

use std::time::Duration;

use souk_kv_client::{Consistency, Context};

pub use bucket::{CartBucket, ClientCarts, cart_bucket};
pub use error::CartStoreError;
pub use id::{CART_ID_BYTES_MAX, CartId, CartIdError};

use crate::{AddTag, Cart, CartEffect, CartError, Quantity, RemovalTag, Sku};

/// How long each step may take. All are deadlines over the client library's own attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CartStoreOptions {
    /// For a read that waits for the bucket's quorum, 1 ms to 60 s. Default 800 ms.
    pub quorum_read_timeout: Duration,
    /// For the read from any one replica that follows when the first fails, 1 ms to 60 s. Default 400 ms.
    pub single_read_timeout: Duration,
    /// For the write, 1 ms to 60 s. Default 2 s.
    pub write_timeout: Duration,
}

impl Default for CartStoreOptions {
    fn default() -> Self {
        Self {
            quorum_read_timeout: Duration::from_millis(800),
            single_read_timeout: Duration::from_millis(400),
            write_timeout: Duration::from_secs(2),
        }
    }
}

/// How much of the cart an answer stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CartReading {
    /// The bucket's read quorum answered.
    Quorum,
    /// One replica answered; it may lack recent changes.
    OneReplica,
    /// Nothing could be read: the cart shown is this request's add alone.
    Nothing,
}

/// The answer to a request on one cart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CartAnswer {
    /// The cart after the request, as far as it is known.
    pub cart: Cart,
    /// What the cart was read from.
    pub reading: CartReading,
    /// Whether the write was accepted by fewer copies than the bucket asks for. The store makes more by itself; the
    /// change is lost only if those few are lost before.
    pub few_copies: bool,
}

impl CartAnswer {
    /// Whether any part of the answer is weaker than in a healthy cluster.
    pub fn is_degraded(&self) -> bool {
        self.reading != CartReading::Quorum || self.few_copies
    }
}

/// Carts by their ids.
#[derive(Debug, Clone)]
pub struct CartStore<B = ClientCarts> {
    bucket: B,
    options: CartStoreOptions,
}

/// A cart together with the context that covers everything it was merged from.
struct Found {
    cart: Cart,
    context: Context,
    reading: CartReading,
}

impl<B: CartBucket> CartStore<B> {
    /// Carts in this bucket.
    pub fn new(bucket: B, options: CartStoreOptions) -> Self {
        Self { bucket, options }
    }

    /// The cart; an empty one when it was never written.
    ///
    /// # Errors
    /// [`CartStoreError::Read`] when no replica answered, [`CartStoreError::Format`] when a value cannot be read.
    pub async fn get(&self, id: &CartId) -> Result<CartAnswer, CartStoreError> {
        let Found { cart, reading, .. } = self.read(id).await?;
        Ok(CartAnswer {
            cart,
            reading,
            few_copies: false,
        })
    }

    /// Adds `quantity` units of `sku` under the request's tag; see [`Cart::add`]. Written blind when nothing can be read.
    ///
    /// `added_unix_ms` is the caller's clock in Unix milliseconds; a retry passes the tag and the time of the first try.
    ///
    /// # Errors
    /// [`CartStoreError::Refused`] for a full cart or a reused tag, [`CartStoreError::Write`] when no node took the write.
    pub async fn add(
        &self,
        id: &CartId,
        tag: AddTag,
        sku: Sku,
        quantity: Quantity,
        added_unix_ms: u64,
    ) -> Result<CartAnswer, CartStoreError> {
        let mut found = match self.read(id).await {
            Ok(found) => found,
            Err(unreadable) if unreadable.leaves_blind_add() => {
                tracing::warn!(cart = %id, error = &unreadable as &dyn std::error::Error, "adding without reading");
                Found {
                    cart: Cart::default(),
                    context: Context::default(),
                    reading: CartReading::Nothing,
                }
            }
            Err(refusal) => return Err(refusal),
        };
        found.cart.add(tag, sku, quantity, added_unix_ms)?;
        self.write(id, found).await
    }

    /// Makes `quantity` the whole quantity of `sku`; see [`Cart::change`].
    ///
    /// # Errors
    /// As for [`CartStore::add`]; [`CartStoreError::Read`] when nothing can be read, and
    /// [`CartStoreError::TooLittleRead`] when the only replica that answered does not show the article.
    pub async fn change(
        &self,
        id: &CartId,
        tag: AddTag,
        sku: &Sku,
        quantity: Quantity,
        changed_unix_ms: u64,
    ) -> Result<CartAnswer, CartStoreError> {
        let mut found = self.read(id).await?;
        match found.cart.change(tag, sku, quantity, changed_unix_ms) {
            Ok(CartEffect::Changed | CartEffect::Unchanged) => self.write(id, found).await,
            Err(CartError::NotInCart { .. }) if found.reading != CartReading::Quorum => {
                Err(CartStoreError::TooLittleRead { cart: id.clone() })
            }
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Removes what shows of `sku`; see [`Cart::remove`].
    ///
    /// # Errors
    /// As for [`CartStore::change`], but never refused because of the cart itself.
    pub async fn remove(
        &self,
        id: &CartId,
        tag: RemovalTag,
        sku: &Sku,
    ) -> Result<CartAnswer, CartStoreError> {
        let mut found = self.read(id).await?;
        let effect = found.cart.remove(tag, sku);
        self.write_removal(id, found, tag, effect).await
    }

    /// Takes out what an order contains; see [`Cart::remove_ordered`].
    ///
    /// # Errors
    /// As for [`CartStore::remove`].
    pub async fn remove_ordered<'a>(
        &self,
        id: &CartId,
        tag: RemovalTag,
        lines: impl IntoIterator<Item = (&'a Sku, &'a [AddTag])>,
    ) -> Result<CartAnswer, CartStoreError> {
        let mut found = self.read(id).await?;
        let effect = found.cart.remove_ordered(tag, lines);
        self.write_removal(id, found, tag, effect).await
    }

    async fn write_removal(
        &self,
        id: &CartId,
        found: Found,
        tag: RemovalTag,
        effect: CartEffect,
    ) -> Result<CartAnswer, CartStoreError> {
        if effect == CartEffect::Changed || found.cart.knows_removal(tag) {
            return self.write(id, found).await;
        }
        match found.reading {
            CartReading::Quorum => Ok(CartAnswer {
                cart: found.cart,
                reading: found.reading,
                few_copies: false,
            }),
            // "Nothing to remove" would be a promise about copies that nobody asked.
            CartReading::OneReplica | CartReading::Nothing => {
                Err(CartStoreError::TooLittleRead { cart: id.clone() })
            }
        }
    }

    /// Reads from a quorum, else from one replica, and merges the siblings.
    async fn read(&self, id: &CartId) -> Result<Found, CartStoreError> {
        let options = &self.options;
        let quorum = self
            .bucket
            .read(id, Consistency::Bucket, options.quorum_read_timeout)
            .await;
        let (read, reading) = match quorum {
            Ok(read) => (read, CartReading::Quorum),
            Err(failure) if bucket::is_outage(&failure) => {
                tracing::debug!(cart = %id, error = &failure as &dyn std::error::Error, "reading from one replica");
                let single = self
                    .bucket
                    .read(id, Consistency::One, options.single_read_timeout)
                    .await;
                let read = single.map_err(|source| CartStoreError::Read {
                    cart: id.clone(),
                    source,
                })?;
                (read, CartReading::OneReplica)
            }
            Err(source) => {
                return Err(CartStoreError::Read {
                    cart: id.clone(),
                    source,
                });
            }
        };
        let siblings = read
            .values
            .iter()
            .map(|value| Cart::from_bytes(&value.data));
        let siblings: Vec<Cart> =
            siblings
                .collect::<Result<_, _>>()
                .map_err(|source| CartStoreError::Format {
                    cart: id.clone(),
                    source,
                })?;
        Ok(Found {
            cart: Cart::merge_all(&siblings),
            context: read.context,
            reading,
        })
    }

    async fn write(&self, id: &CartId, found: Found) -> Result<CartAnswer, CartStoreError> {
        let Found {
            cart,
            context,
            reading,
        } = found;
        let written = self
            .bucket
            .write(id, cart.to_bytes(), &context, self.options.write_timeout)
            .await;
        let written = written.map_err(|source| CartStoreError::Write {
            cart: id.clone(),
            source,
        })?;
        Ok(CartAnswer {
            cart,
            reading,
            few_copies: written.degraded,
        })
    }
}
