//! Checkout and orders.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::header::{ACCEPT, LOCATION, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{Stream, stream};
use serde::{Deserialize, Serialize};

use crate::checkout::CheckoutRequest;
use crate::http::extract::{ApiJson, ApiPath, ApiQuery};
use crate::http::faults::purchase_failed;
use crate::http::idempotency::IdempotencyKey;
use crate::http::paging::PageQuery;
use crate::http::problem::{Problem, ProblemKind};
use crate::http::state::ShopState;
use crate::ids::{CartId, CustomerId, OrderId};
use crate::orders::record::{Address, Event, Failure, OrderRecord, OrderStatus, Shipment};

/// How long a checkout is driven before the answer is that it is still pending.
const CHECKOUT_PATIENCE: Duration = Duration::from_secs(15);
/// How often a followed order is looked at.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);
/// How long an order is followed by one request, in looks.
const FOLLOW_LOOKS: u32 = 600;
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// What to buy and how to pay.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CheckoutBody {
    /// The cart to buy, whole.
    #[schema(value_type = String, pattern = "^[A-Za-z0-9_-]{1,64}$")]
    cart_id: CartId,
    /// Who buys, if they say so; lists the order under them.
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z0-9_@-][A-Za-z0-9._@-]{0,63}$")]
    customer_id: Option<CustomerId>,
    /// The means of payment.
    payment: PaymentBody,
    /// Where it goes.
    shipping_address: Address,
}

/// A means of payment.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PaymentBody {
    /// The payment provider's name for it.
    #[schema(pattern = "^[!-~]{1,200}$")]
    token: String,
}

impl CheckoutBody {
    fn into_request(self) -> Result<CheckoutRequest, Problem> {
        let token = &self.payment.token;
        let token_fits =
            (1..=200).contains(&token.len()) && token.bytes().all(|b| b.is_ascii_graphic());
        let address = &self.shipping_address;
        let country_fits =
            address.country.len() == 2 && address.country.bytes().all(|b| b.is_ascii_uppercase());
        let lines_fit = (1..=4).contains(&address.lines.len())
            && address.lines.iter().all(|line| is_text(line, 1, 200));
        for (fits, rule) in [
            (
                token_fits,
                "`payment.token` has to be 1 to 200 visible ASCII characters",
            ),
            (
                is_text(&address.name, 1, 200),
                "`shipping_address.name` has to be 1 to 200 characters",
            ),
            (
                lines_fit,
                "`shipping_address.lines` has to be 1 to 4 texts of 1 to 200 characters",
            ),
            (
                is_text(&address.city, 1, 100),
                "`shipping_address.city` has to be 1 to 100 characters",
            ),
            (
                is_text(&address.postal_code, 0, 20),
                "`shipping_address.postal_code` has at most 20 characters",
            ),
            (
                country_fits,
                "`shipping_address.country` has to be two capital letters such as `DE`",
            ),
        ] {
            if !fits {
                return Err(Problem::new(ProblemKind::Unprocessable, rule));
            }
        }
        Ok(CheckoutRequest {
            cart_id: self.cart_id,
            customer: self.customer_id,
            payment_token: self.payment.token,
            shipping_address: self.shipping_address,
        })
    }
}

fn is_text(text: &str, chars_min: usize, chars_max: usize) -> bool {
    (chars_min..=chars_max).contains(&text.chars().count())
}

/// One line of an order.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct OrderLineView {
    /// The article.
    sku: String,
    /// Its title when it was bought.
    title: String,
    /// Units.
    quantity: u32,
    /// The price of one unit, in minor units.
    unit_price_minor: i64,
}

/// An order.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct OrderView {
    /// The order.
    order_id: String,
    /// Where it stands.
    status: OrderStatus,
    /// Why it failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    failure: Option<Failure>,
    /// The cart it was made from.
    cart_id: String,
    /// Who buys, if they said so.
    customer_id: Option<String>,
    /// What is bought.
    lines: Vec<OrderLineView>,
    /// What it costs in all, in minor units.
    total_minor: i64,
    /// ISO 4217.
    #[schema(min_length = 3, max_length = 3)]
    currency: String,
    /// Where it goes.
    shipping_address: Address,
    /// How it was shipped, once it is.
    shipment: Option<Shipment>,
    /// When it was made, in Unix milliseconds.
    created_unix_ms: u64,
}

impl From<OrderRecord> for OrderView {
    fn from(order: OrderRecord) -> Self {
        Self {
            order_id: order.order_id.to_string(),
            status: order.status(),
            failure: order.failure().cloned(),
            cart_id: order.cart_id.to_string(),
            customer_id: order.customer.as_ref().map(ToString::to_string),
            lines: order
                .lines
                .iter()
                .map(|line| OrderLineView {
                    sku: line.sku.to_string(),
                    title: line.title.clone(),
                    quantity: line.quantity,
                    unit_price_minor: line.unit_price.amount_minor,
                })
                .collect(),
            total_minor: order.total.amount_minor,
            currency: order.total.currency.code().to_owned(),
            shipping_address: order.shipping_address,
            shipment: order.shipment,
            created_unix_ms: order.created_unix_ms,
        }
    }
}

/// Buys a cart: reserves the stock, takes the payment, makes the order.
///
/// Send a new random `Idempotency-Key` for each new purchase, and the same key with the same body for each retry:
/// every retry gets the same order, and one charge is made. `202` means that the order is still being processed: look
/// at it, or send the same request again.
#[utoipa::path(
    post,
    path = "/api/v1/orders/checkout",
    operation_id = "checkout",
    tag = "orders",
    params(("Idempotency-Key" = String, Header, pattern = "^[!-~]{1,255}$")),
    request_body = CheckoutBody,
    responses(
        (status = 201, body = OrderView, headers(("Location" = String, description = "The order."))),
        (status = 202, body = OrderView, headers(("Location" = String, description = "The order."))),
        (status = 402, description = "The payment was declined; nothing was charged."),
        (status = 409, description = "The cart is empty, not sold as it is, or out of stock."),
        (status = 422, description = "The content is not acceptable, or the key was used for another request.")
    )
)]
pub(crate) async fn checkout(
    State(shop): State<Arc<ShopState>>,
    headers: HeaderMap,
    ApiJson(body): ApiJson<CheckoutBody>,
) -> Result<Response, Problem> {
    let key = IdempotencyKey::required(&headers)?;
    let request = body.into_request()?;
    let _turn = shop.checkout_turn().await?;
    // In a task of its own, so that a caller who hangs up does not stop a purchase halfway.
    let checkout = Arc::clone(&shop.checkout);
    let place = async move {
        checkout
            .place(key.as_str(), &request, CHECKOUT_PATIENCE)
            .await
    };
    let placed = tokio::spawn(place).await.map_err(|_| {
        Problem::new(
            ProblemKind::Internal,
            "the checkout broke off; send it again",
        )
    })??;
    let order = placed.record;
    metrics::counter!("souk_shop_checkouts_total", "status" => status_label(order.status()))
        .increment(1);
    if let Some(failure) = order.failure() {
        return Err(purchase_failed(order.order_id, failure));
    }
    let is_pending = order.status() == OrderStatus::Pending;
    let status = if is_pending {
        StatusCode::ACCEPTED
    } else {
        StatusCode::CREATED
    };
    let location = format!("/api/v1/orders/{}", order.order_id);
    let mut response = (status, Json(OrderView::from(order))).into_response();
    let headers = response.headers_mut();
    if let Ok(location) = HeaderValue::from_str(&location) {
        headers.insert(LOCATION, location);
    }
    if is_pending {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("2"));
    }
    if placed.replayed {
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

fn status_label(status: OrderStatus) -> &'static str {
    match status {
        OrderStatus::Pending => "pending",
        OrderStatus::Placed => "placed",
        OrderStatus::Shipped => "shipped",
        OrderStatus::Delivered => "delivered",
        OrderStatus::Failed => "failed",
    }
}

/// One order.
#[utoipa::path(
    get,
    path = "/api/v1/orders/{order_id}",
    operation_id = "getOrder",
    tag = "orders",
    params(("order_id" = String, Path, format = "uuid")),
    responses(
        (status = 200, body = OrderView),
        (status = 404, description = "There is no such order.")
    )
)]
pub(crate) async fn order(
    State(shop): State<Arc<ShopState>>,
    ApiPath(text): ApiPath<String>,
) -> Result<Json<OrderView>, Problem> {
    Ok(Json(found(&shop, parse(&text)?).await?.into()))
}

/// What happened to an order.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct TrackingView {
    /// The order.
    order_id: String,
    /// Where it stands.
    status: OrderStatus,
    /// How it was shipped, once it is.
    shipment: Option<Shipment>,
    /// What happened, in order.
    events: Vec<Event>,
}

impl From<OrderRecord> for TrackingView {
    fn from(order: OrderRecord) -> Self {
        Self {
            order_id: order.order_id.to_string(),
            status: order.status(),
            shipment: order.shipment,
            events: order.events,
        }
    }
}

/// What happened to an order so far; with `Accept: text/event-stream`, also what happens next.
#[utoipa::path(
    get,
    path = "/api/v1/orders/{order_id}/tracking",
    operation_id = "trackOrder",
    tag = "orders",
    params(("order_id" = String, Path, format = "uuid")),
    responses(
        (status = 200, content(
            (TrackingView = "application/json"),
            (String = "text/event-stream")
        )),
        (status = 404, description = "There is no such order.")
    )
)]
pub(crate) async fn tracking(
    State(shop): State<Arc<ShopState>>,
    ApiPath(text): ApiPath<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let order = found(&shop, parse(&text)?).await?;
    let accept = headers
        .get(ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if accept.contains("text/event-stream") {
        let events = Sse::new(follow(shop, order)).keep_alive(KeepAlive::default());
        return Ok(events.into_response());
    }
    Ok(Json(TrackingView::from(order)).into_response())
}

/// The events of an order as they come, until it is delivered or has failed.
fn follow(
    shop: Arc<ShopState>,
    order: OrderRecord,
) -> impl Stream<Item = Result<SseEvent, Infallible>> {
    struct Follow {
        shop: Arc<ShopState>,
        order: OrderRecord,
        sent: usize,
        looks: u32,
    }
    let start = Follow {
        shop,
        order,
        sent: 0,
        looks: 0,
    };
    stream::unfold(start, |mut follow| async move {
        loop {
            if let Some(event) = follow.order.events.get(follow.sent) {
                follow.sent += 1;
                let data = serde_json::to_string(event).expect("an event is a number and a name");
                let event = SseEvent::default()
                    .id(follow.sent.to_string())
                    .event("tracking")
                    .data(data);
                return Some((Ok(event), follow));
            }
            let is_over = matches!(
                follow.order.status(),
                OrderStatus::Delivered | OrderStatus::Failed
            );
            if is_over || follow.looks >= FOLLOW_LOOKS {
                return None;
            }
            tokio::time::sleep(FOLLOW_EVERY).await;
            follow.looks += 1;
            // A look that fails is followed by another one.
            if let Ok(Some(newer)) = follow.shop.orders.get(follow.order.order_id).await {
                follow.order = newer.record;
            }
        }
    })
}

/// An entry of a customer's list.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct CustomerOrderView {
    /// The order.
    order_id: String,
    /// What it cost, in minor units.
    total_minor: i64,
    /// ISO 4217.
    #[schema(min_length = 3, max_length = 3)]
    currency: String,
    /// Lines in it.
    lines_count: usize,
    /// When it was made, in Unix milliseconds.
    created_unix_ms: u64,
}

/// A page of a customer's orders, newest first.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct CustomerOrdersView {
    /// The orders.
    items: Vec<CustomerOrderView>,
    /// For the next page; `null` on the last.
    next_cursor: Option<String>,
}

/// The placed orders of a customer, newest first.
#[utoipa::path(
    get,
    path = "/api/v1/customers/{customer_id}/orders",
    operation_id = "listCustomerOrders",
    tag = "orders",
    params(
        ("customer_id" = String, Path, pattern = "^[A-Za-z0-9_@-][A-Za-z0-9._@-]{0,63}$"),
        PageQuery
    ),
    responses((status = 200, body = CustomerOrdersView))
)]
pub(crate) async fn customer_orders(
    State(shop): State<Arc<ShopState>>,
    ApiPath(customer): ApiPath<CustomerId>,
    ApiQuery(page): ApiQuery<PageQuery>,
) -> Result<Json<CustomerOrdersView>, Problem> {
    let (limit, cursor) = page.checked()?;
    let page = shop.customers.list(&customer, limit, cursor).await?;
    let items = page.orders.into_iter().map(|order| CustomerOrderView {
        order_id: order.order_id.to_string(),
        total_minor: order.total.amount_minor,
        currency: order.total.currency.code().to_owned(),
        lines_count: order.lines_count,
        created_unix_ms: order.created_unix_ms,
    });
    Ok(Json(CustomerOrdersView {
        items: items.collect(),
        next_cursor: page.next,
    }))
}

/// The order id in a path.
pub(crate) fn parse(text: &str) -> Result<OrderId, Problem> {
    text.parse().map_err(|error: crate::ids::IdError| {
        Problem::new(ProblemKind::BadRequest, error.to_string())
    })
}

async fn found(shop: &ShopState, id: OrderId) -> Result<OrderRecord, Problem> {
    let order = shop.orders.get(id).await?;
    order.map(|order| order.record).ok_or_else(|| {
        Problem::new(ProblemKind::NotFound, format!("there is no order {id}"))
            .with_code("order_not_found")
    })
}
