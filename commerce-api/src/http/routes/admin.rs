//! What only the shop's own people may do: edit products, receive stock, ship and deliver.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::header::{AUTHORIZATION, IF_MATCH, IF_NONE_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use souk_inventory::{CommandId, Quantity, StockCommand};
use souk_kv_client::Context;
use utoipa::openapi::schema::{Array, ArrayBuilder, ObjectBuilder, Type};

use super::orders::{TrackingView, parse};
use super::products::{StockView, entity_tag, found, with_entity_tag};
use crate::catalog::Product;
use crate::catalog::product::{
    ATTRIBUTE_CHARS_MAX, AttributeValue, CATEGORY_CHARS_MAX, CATEGORY_LEVELS_MAX, HIGHLIGHTS_MAX,
};
use crate::clock::now_unix_ms;
use crate::fulfilment;
use crate::http::extract::{ApiJson, ApiPath};
use crate::http::idempotency::IdempotencyKey;
use crate::http::problem::{Problem, ProblemKind};
use crate::http::state::ShopState;
use crate::http::whole::{maybe_whole, whole};
use crate::ids::{ProductId, digest};
use crate::orders::record::Shipment;

/// Proof that the request carries the admin token.
pub(crate) struct Admin;

impl FromRequestParts<Arc<ShopState>> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shop: &Arc<ShopState>) -> Result<Self, Problem> {
        if !shop.lets_in(parts.extensions.get()) {
            return Err(Problem::new(
                ProblemKind::Forbidden,
                "admin calls are answered on the shop's own machine only",
            ));
        }
        let Some(expected) = &shop.admin_token else {
            return Err(Problem::new(
                ProblemKind::Forbidden,
                "admin calls are switched off; start the shop with an admin token to use them",
            ));
        };
        let given = parts
            .headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let given = given
            .and_then(|value| value.strip_prefix("Bearer "))
            .unwrap_or_default();
        // Digests have one length, so comparing them tells nothing about the token.
        if digest(given.as_bytes()) != digest(expected.as_bytes()) {
            return Err(Problem::new(
                ProblemKind::Unauthenticated,
                "send the shop's admin token as `Authorization: Bearer TOKEN`",
            ));
        }
        Ok(Self)
    }
}

/// A product as an admin writes it; what is left out is empty.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProductBody {
    /// Its title.
    #[schema(min_length = 1, max_length = 500)]
    title: String,
    /// Its brand.
    #[serde(default)]
    #[schema(max_length = 200)]
    brand: String,
    /// From the widest category to the narrowest.
    #[serde(default)]
    #[schema(schema_with = category_levels)]
    category_path: Vec<String>,
    /// The usual price in minor units; left out, it is listed but not sold.
    #[serde(default, deserialize_with = "maybe_whole")]
    #[schema(minimum = 0, maximum = 10000000000_i64)]
    price_minor: Option<i64>,
    /// The reduced price in minor units.
    #[serde(default, deserialize_with = "maybe_whole")]
    #[schema(minimum = 0, maximum = 10000000000_i64)]
    sale_price_minor: Option<i64>,
    /// What it is.
    #[serde(default)]
    #[schema(max_length = 20000)]
    description: String,
    /// Selling points.
    #[serde(default)]
    #[schema(schema_with = highlights)]
    highlights: Vec<String>,
    /// Everything else, by name.
    #[serde(default)]
    attributes: BTreeMap<String, AttributeValue>,
}

fn category_levels() -> Array {
    texts(CATEGORY_LEVELS_MAX, CATEGORY_CHARS_MAX)
}

fn highlights() -> Array {
    texts(HIGHLIGHTS_MAX, ATTRIBUTE_CHARS_MAX)
}

/// A list of up to `items_max` texts of 1 to `chars_max` characters, which the attributes above cannot say.
fn texts(items_max: usize, chars_max: usize) -> Array {
    let text = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(chars_max));
    ArrayBuilder::new()
        .items(text)
        .max_items(Some(items_max))
        .build()
}

/// Writes a product. To replace one, send its entity tag as `If-Match`; without that, only a new product is made.
///
/// The tag is checked just before the write. Two editors who write within the same instant may both succeed, and the
/// later one stays.
#[utoipa::path(
    put,
    path = "/api/v1/products/{product_id}",
    operation_id = "putProduct",
    tag = "admin",
    security(("admin" = [])),
    params(
        ("product_id" = String, Path, pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$"),
        ("If-Match" = Option<String>, Header, pattern = "^([*]|\"[0-9a-f]{32}\")$", description = "The entity tag to replace, or `*` for any."),
        ("If-None-Match" = Option<String>, Header, pattern = "^[*]$", description = "Only make a product.")
    ),
    request_body = ProductBody,
    responses(
        (status = 200, body = super::products::ProductView, description = "Replaced."),
        (status = 201, body = super::products::ProductView, description = "Made."),
        (status = 401, description = "No or a wrong token."),
        (status = 403, description = "Admin calls are switched off."),
        (status = 412, description = "It changed, or exists, or does not."),
        (status = 428, description = "The product exists, and `If-Match` was not sent.")
    )
)]
pub(crate) async fn put_product(
    _admin: Admin,
    State(shop): State<Arc<ShopState>>,
    ApiPath(id): ApiPath<ProductId>,
    headers: HeaderMap,
    ApiJson(body): ApiJson<ProductBody>,
) -> Result<Response, Problem> {
    let stored = shop.catalog.get(&id).await?;
    check_preconditions(&headers, stored.as_ref().map(|stored| &stored.product))?;
    let created = stored
        .as_ref()
        .map_or_else(now_unix_ms, |old| old.product.created_unix_ms);
    let mut product = Product::new(id, body.title, shop.currency, created);
    product.brand = body.brand;
    product.category_path = body.category_path;
    product.price_minor = body.price_minor;
    product.sale_price_minor = body.sale_price_minor;
    product.description = body.description;
    product.highlights = body.highlights;
    product.attributes = body.attributes;
    if let Some(old) = &stored {
        product.rating = old.product.rating;
        product.review_count = old.product.review_count;
    }
    product.validate()?;
    let status = if stored.is_some() {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    let context = stored.map_or_else(Context::default, |stored| stored.context);
    shop.catalog.put(&product, &context).await?;
    let (index, copy) = (Arc::clone(&shop.index), product.clone());
    // This process sees its own edit at once; others follow by the shard's mark.
    let indexed = tokio::task::spawn_blocking(move || index.apply(&[copy], &[])).await;
    if !matches!(indexed, Ok(Ok(_))) {
        tracing::warn!(product = %product.id, "the edit reaches the index only with the next look");
    }
    Ok(with_entity_tag(status, product))
}

fn check_preconditions(headers: &HeaderMap, stored: Option<&Product>) -> Result<(), Problem> {
    let failed = |detail: &str| Err(Problem::new(ProblemKind::PreconditionFailed, detail));
    let only_new = header(headers, &IF_NONE_MATCH, |text| text == "*")?.is_some();
    let replaced = header(headers, &IF_MATCH, is_entity_tag_or_any)?;
    match (replaced, stored) {
        (None, None) => Ok(()),
        (Some(_), None) => failed("there is no such product; leave `If-Match` out to make it"),
        (_, Some(_)) if only_new => failed("the product exists; send its entity tag as `If-Match`"),
        (None, Some(_)) => Err(Problem::new(
            ProblemKind::PreconditionRequired,
            "the product exists; send its entity tag as `If-Match` to replace it",
        )),
        (Some(tag), Some(product)) if tag == "*" || tag == entity_tag(product) => Ok(()),
        (Some(_), Some(_)) => {
            failed("the product has changed; read it again and edit what you then see")
        }
    }
}

/// The value of a header that has to be well formed if it is there.
fn header<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    is_well_formed: impl Fn(&str) -> bool,
) -> Result<Option<&'a str>, Problem> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    let text = value
        .to_str()
        .ok()
        .map(str::trim)
        .filter(|text| is_well_formed(text));
    text.map(Some).ok_or_else(|| {
        let rule = "has to be `*`, or, where it replaces something, one entity tag as it was read";
        Problem::new(
            ProblemKind::BadRequest,
            format!("the header `{name}` {rule}"),
        )
    })
}

fn is_entity_tag_or_any(text: &str) -> bool {
    let digits = text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    text == "*" || digits.is_some_and(|digits| uuid::Uuid::try_parse(digits).is_ok())
}

/// Units that came in.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReceiptBody {
    /// Units.
    #[serde(deserialize_with = "whole")]
    #[schema(minimum = 1, maximum = 1000000)]
    quantity: u32,
}

/// Receives units of a product. The same `Idempotency-Key` for the same product is counted once.
#[utoipa::path(
    post,
    path = "/api/v1/admin/stock/{product_id}/receipts",
    operation_id = "receiveStock",
    tag = "admin",
    security(("admin" = [])),
    params(
        ("product_id" = String, Path, pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$"),
        ("Idempotency-Key" = String, Header, pattern = "^[!-~]{1,255}$")
    ),
    request_body = ReceiptBody,
    responses(
        (status = 200, body = StockView),
        (status = 401, description = "No or a wrong token."),
        (status = 403, description = "Admin calls are switched off."),
        (status = 404, description = "There is no such product."),
        (status = 409, description = "The stock would grow too large.")
    )
)]
pub(crate) async fn receive(
    _admin: Admin,
    State(shop): State<Arc<ShopState>>,
    ApiPath(id): ApiPath<ProductId>,
    headers: HeaderMap,
    ApiJson(body): ApiJson<ReceiptBody>,
) -> Result<Json<StockView>, Problem> {
    let key = IdempotencyKey::required(&headers)?;
    let quantity = Quantity::new(body.quantity)
        .map_err(|error| Problem::new(ProblemKind::Unprocessable, error.to_string()))?;
    found(&shop, &id).await?;
    let name = format!("receipt/{id}/{}", key.as_str());
    let command_id = CommandId::from_bytes(digest(name.as_bytes()).into_bytes());
    shop.stocks
        .command(
            &id,
            StockCommand::Receive {
                command_id,
                quantity,
            },
        )
        .await?;
    Ok(Json(StockView::new(&id, shop.stocks.counts(&id).await?)))
}

/// Ships a placed order. Sending the same shipment again changes nothing.
#[utoipa::path(
    post,
    path = "/api/v1/admin/orders/{order_id}/shipments",
    operation_id = "shipOrder",
    tag = "admin",
    security(("admin" = [])),
    params(("order_id" = String, Path, format = "uuid")),
    request_body = Shipment,
    responses(
        (status = 200, body = TrackingView),
        (status = 401, description = "No or a wrong token."),
        (status = 403, description = "Admin calls are switched off."),
        (status = 404, description = "There is no such order."),
        (status = 409, description = "The order is not placed, or was shipped otherwise.")
    )
)]
pub(crate) async fn ship(
    _admin: Admin,
    State(shop): State<Arc<ShopState>>,
    ApiPath(text): ApiPath<String>,
    ApiJson(shipment): ApiJson<Shipment>,
) -> Result<Json<TrackingView>, Problem> {
    let order_id = parse(&text)?;
    for (name, value) in [
        ("carrier", &shipment.carrier),
        ("tracking_number", &shipment.tracking_number),
    ] {
        if !(1..=100).contains(&value.chars().count()) {
            let rule = format!("`{name}` has to be 1 to 100 characters");
            return Err(Problem::new(ProblemKind::Unprocessable, rule));
        }
    }
    Ok(Json(
        fulfilment::ship(&shop.checkout, order_id, shipment)
            .await?
            .into(),
    ))
}

/// Notes that a shipped order has arrived. Noting it again changes nothing.
#[utoipa::path(
    post,
    path = "/api/v1/admin/orders/{order_id}/deliveries",
    operation_id = "deliverOrder",
    tag = "admin",
    security(("admin" = [])),
    params(("order_id" = String, Path, format = "uuid")),
    responses(
        (status = 200, body = TrackingView),
        (status = 401, description = "No or a wrong token."),
        (status = 403, description = "Admin calls are switched off."),
        (status = 404, description = "There is no such order."),
        (status = 409, description = "The order is not shipped.")
    )
)]
pub(crate) async fn deliver(
    _admin: Admin,
    State(shop): State<Arc<ShopState>>,
    ApiPath(text): ApiPath<String>,
) -> Result<Json<TrackingView>, Problem> {
    Ok(Json(
        fulfilment::deliver(&shop.checkout, parse(&text)?)
            .await?
            .into(),
    ))
}
