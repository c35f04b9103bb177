//! What the shop asks of a cart store.
//!
//! Shape: a trait, so that tests put carts in memory behind it; `souk_cart`'s store stands behind it in production.

use std::sync::Arc;

use futures::future::BoxFuture;
use souk_cart::{AddTag, CartError, CartView, Quantity, RemovalTag, Sku};

use crate::fault::StoreFault;
use crate::ids::CartId;

/// A cart as it was read, or as a change left it.
#[derive(Clone, Debug)]
pub struct SeenCart {
    /// What it shows.
    pub view: CartView,
    /// It was read from, or written to, fewer copies than usual; recent changes may be missing.
    pub degraded: bool,
}

/// A cart that could not be read or changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CartFault {
    /// What: the cart's rules forbid it; nothing was changed.
    #[error(transparent)]
    Refused(#[from] CartError),
    /// What: the store did not do as asked.
    #[error(transparent)]
    Store(#[from] StoreFault),
}

/// What the shop asks of a cart store. Every change carries the id of its request, so that a retry changes nothing.
pub trait Carts: Send + Sync + 'static {
    /// What the cart shows; a cart that nobody wrote to is empty.
    fn view<'a>(&'a self, cart: &'a CartId) -> BoxFuture<'a, Result<SeenCart, CartFault>>;
    /// Puts units in, beside those that are there.
    fn add<'a>(
        &'a self,
        cart: &'a CartId,
        tag: AddTag,
        sku: Sku,
        quantity: Quantity,
        now_unix_ms: u64,
    ) -> BoxFuture<'a, Result<SeenCart, CartFault>>;
    /// Sets the whole quantity of an article that is there.
    fn change<'a>(
        &'a self,
        cart: &'a CartId,
        tag: AddTag,
        sku: Sku,
        quantity: Quantity,
        now_unix_ms: u64,
    ) -> BoxFuture<'a, Result<SeenCart, CartFault>>;
    /// Takes an article out.
    fn remove<'a>(
        &'a self,
        cart: &'a CartId,
        tag: RemovalTag,
        sku: Sku,
    ) -> BoxFuture<'a, Result<SeenCart, CartFault>>;
    /// Takes exactly these adds out: what an order bought.
    fn remove_ordered<'a>(
        &'a self,
        cart: &'a CartId,
        tag: RemovalTag,
        lines: Vec<(Sku, Vec<AddTag>)>,
    ) -> BoxFuture<'a, Result<(), CartFault>>;
}

/// A cart store that is shared by every room of the shop.
pub type SharedCarts = Arc<dyn Carts>;
