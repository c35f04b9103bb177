//! Reviews: write one, read them, their summary.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::products::found;
use crate::clock::now_unix_ms;
use crate::http::extract::{ApiJson, ApiPath, ApiQuery};
use crate::http::paging::PageQuery;
use crate::http::problem::{Problem, ProblemKind};
use crate::http::state::ShopState;
use crate::http::whole::whole;
use crate::ids::{CustomerId, ProductId};
use crate::orders::record::OrderStatus;
use crate::reviews::{RatingSummary, Review, TEXT_CHARS_MAX, TITLE_CHARS_MAX};

/// Orders of a customer looked through for the *verified* badge.
const ORDERS_LOOKED_AT: u32 = 100;

/// A review to store.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReviewBody {
    /// Stars.
    #[serde(deserialize_with = "whole")]
    #[schema(minimum = 1, maximum = 5)]
    rating: u8,
    /// A headline.
    #[serde(default)]
    #[schema(max_length = 200)]
    title: String,
    /// What you say.
    #[serde(default)]
    #[schema(max_length = 5000)]
    text: String,
}

/// Stores a customer's review of a product, in place of an earlier one.
#[utoipa::path(
    put,
    path = "/api/v1/products/{product_id}/reviews/{customer_id}",
    operation_id = "putReview",
    tag = "reviews",
    params(
        ("product_id" = String, Path, pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$"),
        ("customer_id" = String, Path, pattern = "^[A-Za-z0-9_@-][A-Za-z0-9._@-]{0,63}$")
    ),
    request_body = ReviewBody,
    responses(
        (status = 200, body = Review),
        (status = 404, description = "There is no such product.")
    )
)]
pub(crate) async fn put(
    State(shop): State<Arc<ShopState>>,
    ApiPath((product, customer)): ApiPath<(ProductId, CustomerId)>,
    ApiJson(body): ApiJson<ReviewBody>,
) -> Result<Json<Review>, Problem> {
    let bad = |rule: String| Problem::new(ProblemKind::Unprocessable, rule);
    if !(1..=5).contains(&body.rating) {
        return Err(bad("`rating` has to lie between 1 and 5".to_owned()));
    }
    if body.title.chars().count() > TITLE_CHARS_MAX {
        return Err(bad(format!(
            "`title` has more than {TITLE_CHARS_MAX} characters"
        )));
    }
    if body.text.chars().count() > TEXT_CHARS_MAX {
        return Err(bad(format!(
            "`text` has more than {TEXT_CHARS_MAX} characters"
        )));
    }
    found(&shop, &product).await?;
    let review = Review {
        verified: has_received(&shop, &customer, &product).await?,
        customer,
        rating: body.rating,
        title: body.title,
        text: body.text,
        written_unix_ms: now_unix_ms(),
    };
    shop.reviews.put(&product, &review).await?;
    Ok(Json(review))
}

/// Whether the product was delivered to the customer with one of their latest orders.
async fn has_received(
    shop: &ShopState,
    customer: &CustomerId,
    product: &ProductId,
) -> Result<bool, Problem> {
    for entry in shop
        .customers
        .list(customer, ORDERS_LOOKED_AT, None)
        .await?
        .orders
    {
        let Some(order) = shop.orders.get(entry.order_id).await? else {
            continue;
        };
        let has_it = order.record.lines.iter().any(|line| line.sku == *product);
        if has_it && order.record.status() == OrderStatus::Delivered {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A page of reviews.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ReviewsView {
    /// All ratings of the product.
    summary: RatingSummary,
    /// The reviews of this page, in the order of their customers.
    items: Vec<Review>,
    /// For the next page; `null` on the last.
    next_cursor: Option<String>,
}

/// What customers say about a product.
#[utoipa::path(
    get,
    path = "/api/v1/products/{product_id}/reviews",
    operation_id = "listReviews",
    tag = "reviews",
    params(("product_id" = String, Path, pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$"), PageQuery),
    responses(
        (status = 200, body = ReviewsView),
        (status = 404, description = "There is no such product.")
    )
)]
pub(crate) async fn list(
    State(shop): State<Arc<ShopState>>,
    ApiPath(product): ApiPath<ProductId>,
    ApiQuery(page): ApiQuery<PageQuery>,
) -> Result<Json<ReviewsView>, Problem> {
    let (limit, cursor) = page.checked()?;
    found(&shop, &product).await?;
    let summary = shop.reviews.summary(&product).await?;
    let page = shop.reviews.list(&product, limit, cursor).await?;
    Ok(Json(ReviewsView {
        summary,
        items: page.reviews,
        next_cursor: page.next,
    }))
}
