//! The carts of `souk_cart`'s store, as the shop asks for them.
//!
//! Invariants: 1. a fault says of each change whether it can have happened.

use futures::future::BoxFuture;
use souk_cart::store::{CartAnswer, CartBucket, CartId as StoreCartId, CartStore, CartStoreError};
use souk_cart::{AddTag, Quantity, RemovalTag, Sku};

use super::port::{CartFault, Carts, SeenCart};
use crate::fault::StoreFault;
use crate::ids::CartId;

impl<B: CartBucket + 'static> Carts for CartStore<B> {
    fn view<'a>(&'a self, cart: &'a CartId) -> BoxFuture<'a, Result<SeenCart, CartFault>> {
        Box::pin(async move { seen(self.get(&store_id(cart)?).await) })
    }

    fn add<'a>(
        &'a self,
        cart: &'a CartId,
        tag: AddTag,
        sku: Sku,
        quantity: Quantity,
        now_unix_ms: u64,
    ) -> BoxFuture<'a, Result<SeenCart, CartFault>> {
        Box::pin(async move {
            let id = store_id(cart)?;
            seen(CartStore::add(self, &id, tag, sku, quantity, now_unix_ms).await)
        })
    }

    fn change<'a>(
        &'a self,
        cart: &'a CartId,
        tag: AddTag,
        sku: Sku,
        quantity: Quantity,
        now_unix_ms: u64,
    ) -> BoxFuture<'a, Result<SeenCart, CartFault>> {
        Box::pin(async move {
            let id = store_id(cart)?;
            seen(CartStore::change(self, &id, tag, &sku, quantity, now_unix_ms).await)
        })
    }

    fn remove<'a>(
        &'a self,
        cart: &'a CartId,
        tag: RemovalTag,
        sku: Sku,
    ) -> BoxFuture<'a, Result<SeenCart, CartFault>> {
        Box::pin(async move {
            let id = store_id(cart)?;
            seen(CartStore::remove(self, &id, tag, &sku).await)
        })
    }

    fn remove_ordered<'a>(
        &'a self,
        cart: &'a CartId,
        tag: RemovalTag,
        lines: Vec<(Sku, Vec<AddTag>)>,
    ) -> BoxFuture<'a, Result<(), CartFault>> {
        Box::pin(async move {
            let id = store_id(cart)?;
            let lines = lines.iter().map(|(sku, tags)| (sku, tags.as_slice()));
            seen(CartStore::remove_ordered(self, &id, tag, lines).await).map(|_| ())
        })
    }
}

fn store_id(cart: &CartId) -> Result<StoreCartId, CartFault> {
    StoreCartId::new(cart.as_str()).map_err(|error| {
        StoreFault::Unreadable {
            what: "cart id",
            why: error.to_string(),
        }
        .into()
    })
}

fn seen(answer: Result<CartAnswer, CartStoreError>) -> Result<SeenCart, CartFault> {
    match answer {
        Ok(answer) => Ok(SeenCart {
            degraded: answer.is_degraded(),
            view: answer.cart.view(),
        }),
        Err(CartStoreError::Refused(refusal)) => Err(refusal.into()),
        Err(CartStoreError::Format { source, .. }) => Err(StoreFault::Unreadable {
            what: "cart",
            why: source.to_string(),
        }
        .into()),
        Err(CartStoreError::TooLittleRead { .. }) => Err(StoreFault::Contended {
            doing: "change the cart while copies of it are away",
        }
        .into()),
        Err(CartStoreError::Read { source, .. }) => {
            Err(StoreFault::from_request("read the cart", source).into())
        }
        Err(CartStoreError::Write { source, .. }) => {
            Err(StoreFault::from_request("change the cart", source).into())
        }
    }
}
