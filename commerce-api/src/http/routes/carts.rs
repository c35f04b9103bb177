//! Carts: put in, show, change, take out.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use souk_cart::{AddTag, Quantity, RemovalTag, Sku};
use uuid::Uuid;

use crate::carts::HeldCart;
use crate::carts::port::SeenCart;
use crate::carts::priced::{PricedCart, priced, product_id};
use crate::catalog::Product;
use crate::clock::now_unix_ms;
use crate::http::extract::{ApiJson, ApiPath};
use crate::http::idempotency::IdempotencyKey;
use crate::http::problem::{Problem, ProblemKind};
use crate::http::state::ShopState;
use crate::http::whole::whole;
use crate::ids::{CartId, ProductId, digest};
use crate::search::Card;

/// An article for a cart.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddItem {
    /// The cart; left out, a new one is made and named in the answer.
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z0-9_-]{1,64}$")]
    cart_id: Option<CartId>,
    /// The article.
    #[schema(value_type = String, pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$")]
    sku: ProductId,
    /// Units to put in, beside those that are there.
    #[serde(deserialize_with = "whole")]
    #[schema(minimum = 1, maximum = 99999)]
    quantity: u32,
}

/// The whole quantity of an article.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeItem {
    /// Units in all.
    #[serde(deserialize_with = "whole")]
    #[schema(minimum = 1, maximum = 99999)]
    quantity: u32,
}

/// Puts an article into a cart.
///
/// Accepted as long as one copy of the cart can be written; `degraded` then says so. With an `Idempotency-Key` and a
/// `cart_id`, a repeated request is counted once.
#[utoipa::path(
    post,
    path = "/api/v1/cart/items",
    operation_id = "addToCart",
    tag = "cart",
    params(("Idempotency-Key" = Option<String>, Header, pattern = "^[!-~]{1,255}$")),
    request_body = AddItem,
    responses(
        (status = 200, body = PricedCart),
        (status = 404, description = "There is no such product."),
        (status = 409, description = "The cart is full.")
    )
)]
pub(crate) async fn add(
    State(shop): State<Arc<ShopState>>,
    headers: HeaderMap,
    ApiJson(item): ApiJson<AddItem>,
) -> Result<Json<PricedCart>, Problem> {
    let key = IdempotencyKey::optional(&headers)?;
    let quantity = quantity(item.quantity)?;
    check_sold(&shop, &item.sku).await?;
    let cart_id = item
        .cart_id
        .unwrap_or_else(|| CartId::from_random(Uuid::new_v4()));
    let tag = AddTag::from_bytes(request_id(key.as_ref(), "add", &cart_id).into_bytes());
    let sku = sku(&item.sku)?;
    let cart = shop
        .carts
        .add(&cart_id, tag, sku, quantity, now_unix_ms())
        .await?;
    Ok(shown(&shop, &cart_id, cart).await)
}

/// Shows a cart with today's prices. A cart that nobody filled is empty.
#[utoipa::path(
    get,
    path = "/api/v1/cart/{cart_id}",
    operation_id = "getCart",
    tag = "cart",
    params(("cart_id" = String, Path, pattern = "^[A-Za-z0-9_-]{1,64}$")),
    responses((status = 200, body = PricedCart))
)]
pub(crate) async fn show(
    State(shop): State<Arc<ShopState>>,
    ApiPath(cart_id): ApiPath<CartId>,
) -> Result<Json<PricedCart>, Problem> {
    let cart = shop.carts.view(&cart_id).await?;
    Ok(shown(&shop, &cart_id, cart).await)
}

/// Sets the whole quantity of an article that is in the cart.
#[utoipa::path(
    put,
    path = "/api/v1/cart/{cart_id}/items/{sku}",
    operation_id = "changeCartItem",
    tag = "cart",
    params(
        ("cart_id" = String, Path, pattern = "^[A-Za-z0-9_-]{1,64}$"),
        ("sku" = String, Path, pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$"),
        ("Idempotency-Key" = Option<String>, Header, pattern = "^[!-~]{1,255}$")
    ),
    request_body = ChangeItem,
    responses(
        (status = 200, body = PricedCart),
        (status = 404, description = "The article is not in the cart."),
        (status = 409, description = "The cart is full.")
    )
)]
pub(crate) async fn change(
    State(shop): State<Arc<ShopState>>,
    ApiPath((cart_id, id)): ApiPath<(CartId, ProductId)>,
    headers: HeaderMap,
    ApiJson(item): ApiJson<ChangeItem>,
) -> Result<Json<PricedCart>, Problem> {
    let key = IdempotencyKey::optional(&headers)?;
    let quantity = quantity(item.quantity)?;
    let tag = AddTag::from_bytes(request_id(key.as_ref(), "change", &cart_id).into_bytes());
    let cart = shop
        .carts
        .change(&cart_id, tag, sku(&id)?, quantity, now_unix_ms())
        .await?;
    Ok(shown(&shop, &cart_id, cart).await)
}

/// Takes an article out. Taking out what is not there changes nothing.
#[utoipa::path(
    delete,
    path = "/api/v1/cart/{cart_id}/items/{sku}",
    operation_id = "removeCartItem",
    tag = "cart",
    params(
        ("cart_id" = String, Path, pattern = "^[A-Za-z0-9_-]{1,64}$"),
        ("sku" = String, Path, pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$")
    ),
    responses((status = 200, body = PricedCart))
)]
pub(crate) async fn remove(
    State(shop): State<Arc<ShopState>>,
    ApiPath((cart_id, id)): ApiPath<(CartId, ProductId)>,
) -> Result<Json<PricedCart>, Problem> {
    let tag = RemovalTag::from_bytes(Uuid::new_v4().into_bytes());
    let cart = shop.carts.remove(&cart_id, tag, sku(&id)?).await?;
    Ok(shown(&shop, &cart_id, cart).await)
}

/// Holds the units in the cart for a while, in place of what was held for it before.
///
/// A courtesy: checkout works with it and without. An article of which there are too few is not held, the others are.
#[utoipa::path(
    post,
    path = "/api/v1/cart/{cart_id}/hold",
    operation_id = "holdCart",
    tag = "cart",
    params(("cart_id" = String, Path, pattern = "^[A-Za-z0-9_-]{1,64}$")),
    responses(
        (status = 200, body = HeldCart),
        (status = 409, description = "This shop holds no carts.")
    )
)]
pub(crate) async fn hold(
    State(shop): State<Arc<ShopState>>,
    ApiPath(cart_id): ApiPath<CartId>,
) -> Result<Json<HeldCart>, Problem> {
    if !shop.checkout.cart_holds.is_on() {
        return Err(Problem::new(
            ProblemKind::Conflict,
            "this shop holds no carts; buy at once, units are kept during checkout",
        )
        .with_code("holds_off"));
    }
    let cart = shop.carts.view(&cart_id).await?;
    Ok(Json(shop.checkout.cart_holds.hold(&cart_id, &cart).await?))
}

/// Lets go of what is held for the cart. The cart stays as it is.
#[utoipa::path(
    delete,
    path = "/api/v1/cart/{cart_id}/hold",
    operation_id = "releaseCart",
    tag = "cart",
    params(("cart_id" = String, Path, pattern = "^[A-Za-z0-9_-]{1,64}$")),
    responses((status = 204, description = "Nothing is held any more."))
)]
pub(crate) async fn let_go(
    State(shop): State<Arc<ShopState>>,
    ApiPath(cart_id): ApiPath<CartId>,
) -> Result<StatusCode, Problem> {
    shop.checkout.cart_holds.release(&cart_id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The cart with prices. A cart is shown even when the catalogue cannot be read: then with the prices that the
/// index knows, and where it knows none, without.
async fn shown(shop: &ShopState, cart_id: &CartId, cart: SeenCart) -> Json<PricedCart> {
    let ids: Vec<_> = cart.view.lines().iter().map(product_id).collect();
    let (cards, degraded): (Vec<Option<Card>>, bool) = match shop.checkout.products(&ids).await {
        Ok(products) => {
            let card = |product: &Option<Product>| product.as_ref().map(Card::from);
            (products.iter().map(card).collect(), cart.degraded)
        }
        Err(error) => {
            tracing::warn!(%error, "a cart is shown with prices from the index");
            let card = |id: &Option<ProductId>| shop.index.card_of(id.as_ref()?).ok().flatten();
            (ids.iter().map(card).collect(), true)
        }
    };
    Json(priced(
        cart_id.as_str(),
        &cart.view,
        &cards,
        shop.currency,
        degraded,
    ))
}

/// The index is asked first: it answers also while the catalogue cannot be read, and carts must take items then.
async fn check_sold(shop: &ShopState, id: &ProductId) -> Result<(), Problem> {
    if shop.index.contains(id) || shop.catalog.get(id).await?.is_some() {
        return Ok(());
    }
    Err(Problem::new(
        ProblemKind::NotFound,
        format!("there is no product `{id}`; search for one at /api/v1/products/search"),
    )
    .with_code("unknown_sku"))
}

fn sku(id: &ProductId) -> Result<Sku, Problem> {
    Sku::new(id.as_str()).map_err(|error| {
        Problem::new(ProblemKind::Unprocessable, error.to_string()).with_code(error.code())
    })
}

fn quantity(units: u32) -> Result<Quantity, Problem> {
    Quantity::new(units).map_err(|error| {
        Problem::new(ProblemKind::Unprocessable, error.to_string()).with_code(error.code())
    })
}

/// A retry under one key has one id; without a key every request is a new one.
fn request_id(key: Option<&IdempotencyKey>, doing: &str, cart_id: &CartId) -> Uuid {
    key.map_or_else(Uuid::new_v4, |key| {
        digest(format!("{doing}/{cart_id}/{}", key.as_str()).as_bytes())
    })
}
