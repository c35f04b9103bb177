//! The whole shop through its HTTP interface, over a store in memory and a real payment provider.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value as Json, json};

use uuid::Uuid;

use crate::checkout::CheckoutRequest;
use crate::checkout::resume::resume_due;
use crate::http::router::document;
use crate::ids::OrderId;
use crate::money::{Currency, Money};
use crate::orders::record::{Address, OrderStatus};
use crate::payment_provider::book::PaymentStatus;
use crate::testing::{Answer, CHECKOUT_HOLD, TestShop, checkout_body};

const ADMIN: (&str, &str) = ("authorization", "Bearer secret");

#[track_caller]
fn check_problem(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    assert_eq!(answer.body["code"], code, "{answer:?}");
    assert_eq!(answer.body["status"], status);
    assert!(answer.headers.contains_key("x-request-id"));
    assert_eq!(
        answer.body["request_id"],
        answer.headers["x-request-id"].to_str().unwrap()
    );
}

#[tokio::test]
async fn from_search_to_delivery() {
    let shop = TestShop::start().await;
    let found = shop
        .send("GET", "/api/v1/products/search?q=kettle", &[], None)
        .await;
    assert_eq!(found.body["items"][0]["id"], "kettle");
    let cart = shop.fill(&[("kettle", 1), ("cup", 3), ("kettle", 1)]).await;
    let shown = shop
        .send("GET", &format!("/api/v1/cart/{cart}"), &[], None)
        .await;
    assert_eq!(shown.body["total_minor"], 9_500);
    let placed = shop.checkout("k-1", &cart, "tok_ok").await;
    assert_eq!(placed.status, 201, "{placed:?}");
    assert_eq!(placed.body["status"], "placed");
    assert_eq!(placed.body["total_minor"], 9_500);
    assert_eq!(shop.units("kettle").await, (3, 0, 2));
    let order = placed.body["order_id"].as_str().unwrap().to_owned();
    assert_eq!(
        placed.headers["location"],
        format!("/api/v1/orders/{order}")
    );
    let emptied = shop
        .send("GET", &format!("/api/v1/cart/{cart}"), &[], None)
        .await;
    assert_eq!(emptied.body["lines"], json!([]));

    let parcel = json!({ "carrier": "Camel", "tracking_number": "C-1" });
    let path = format!("/api/v1/admin/orders/{order}/shipments");
    for _ in 0..2 {
        let shipped = shop
            .send("POST", &path, &[ADMIN], Some(parcel.clone()))
            .await;
        assert_eq!(shipped.body["status"], "shipped", "{shipped:?}");
    }
    assert_eq!(shop.units("kettle").await, (3, 0, 0));
    let other = json!({ "carrier": "Mule", "tracking_number": "M-1" });
    check_problem(
        &shop.send("POST", &path, &[ADMIN], Some(other)).await,
        409,
        "conflict",
    );
    let path = format!("/api/v1/admin/orders/{order}/deliveries");
    assert_eq!(
        shop.send("POST", &path, &[ADMIN], None).await.body["status"],
        "delivered"
    );

    let tracking = shop
        .send(
            "GET",
            &format!("/api/v1/orders/{order}/tracking"),
            &[],
            None,
        )
        .await;
    let kinds: Vec<&str> = tracking.body["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds.first(), Some(&"received"));
    assert_eq!(kinds.last(), Some(&"delivered"));
    let listed = shop
        .send("GET", "/api/v1/customers/ada/orders", &[], None)
        .await;
    assert_eq!(listed.body["items"][0]["order_id"], order);

    let review = json!({ "rating": 4, "title": "Boils" });
    let path = "/api/v1/products/kettle/reviews/ada";
    assert_eq!(
        shop.send("PUT", path, &[], Some(review.clone())).await.body["verified"],
        true
    );
    let path = "/api/v1/products/kettle/reviews/bob";
    assert_eq!(
        shop.send("PUT", path, &[], Some(review)).await.body["verified"],
        false
    );
    let reviews = shop
        .send("GET", "/api/v1/products/kettle/reviews", &[], None)
        .await;
    assert_eq!(reviews.body["summary"]["count"], 2);
}

#[tokio::test]
async fn units_are_held_as_long_as_the_shop_says() {
    let shop = TestShop::start().await;
    let cart = shop.fill(&[("cup", 1)]).await;
    let placed = shop.checkout("k-1", &cart, "tok_ok").await;
    let order_id: OrderId = placed.body["order_id"].as_str().unwrap().parse().unwrap();
    let stored = shop.state.orders.get(order_id).await.unwrap().unwrap();
    let record = stored.record;
    let held_ms = record.hold_expires_unix_ms - record.created_unix_ms;
    assert_eq!(Duration::from_millis(held_ms), CHECKOUT_HOLD);
}

#[tokio::test]
async fn a_held_cart_keeps_its_units_and_does_not_stand_in_its_own_way() {
    let shop = TestShop::start().await;
    let cart = shop.fill(&[("kettle", 5), ("cup", 2)]).await;
    let hold = format!("/api/v1/cart/{cart}/hold");
    let held = shop.send("POST", &hold, &[], None).await;
    assert_eq!(held.status, 200, "{held:?}");
    assert_eq!(
        held.body["lines"],
        json!([
            { "sku": "cup", "quantity": 2, "held": true },
            { "sku": "kettle", "quantity": 5, "held": true },
        ])
    );
    assert_eq!(shop.units("kettle").await, (0, 5, 0));

    // Nobody else gets them, neither by holding nor by buying.
    let other = shop.fill(&[("kettle", 1), ("cup", 1)]).await;
    let too_late = shop
        .send("POST", &format!("/api/v1/cart/{other}/hold"), &[], None)
        .await;
    let lines = &too_late.body["lines"];
    assert_eq!(
        (&lines[0]["held"], &lines[1]["held"]),
        (&json!(true), &json!(false))
    );
    let refused = shop.checkout("other", &other, "tok_ok").await;
    check_problem(&refused, 409, "out_of_stock");

    // Asked again, it takes the place of the first.
    let again = shop.send("POST", &hold, &[], None).await;
    assert_eq!(again.body["lines"][1]["held"], true, "{again:?}");
    assert_eq!(shop.units("kettle").await, (0, 5, 0));

    // Its own customer buys what was held, to the last unit.
    let bought = shop.checkout("own", &cart, "tok_ok").await;
    assert_eq!(bought.status, 201, "{bought:?}");
    assert_eq!(shop.units("kettle").await, (0, 0, 5));
    assert_eq!(shop.units("cup").await, (98, 0, 2));
}

#[tokio::test]
async fn what_was_held_comes_free_when_it_is_let_go() {
    let shop = TestShop::start().await;
    let cart = shop.fill(&[("kettle", 3)]).await;
    let hold = format!("/api/v1/cart/{cart}/hold");
    shop.send("POST", &hold, &[], None).await;
    assert_eq!(shop.units("kettle").await, (2, 3, 0));
    for _ in 0..2 {
        let answer = shop.send("DELETE", &hold, &[], None).await;
        assert_eq!(answer.status, 204, "twice is no error: {answer:?}");
    }
    assert_eq!(shop.units("kettle").await, (5, 0, 0));
}

#[tokio::test]
async fn lists_page_without_gaps_or_repeats() {
    let shop = TestShop::start().await;
    let mut placed = Vec::new();
    for number in 0..5 {
        let cart = shop.fill(&[("cup", 1)]).await;
        let answer = shop
            .checkout(&format!("page-{number}"), &cart, "tok_ok")
            .await;
        placed.push(answer.body["order_id"].as_str().unwrap().to_owned());
        let path = format!("/api/v1/products/cup/reviews/customer-{number}");
        shop.send("PUT", &path, &[], Some(json!({ "rating": 5.0 })))
            .await;
    }
    placed.reverse();
    check_pages(&shop, "/api/v1/customers/ada/orders", "order_id", &placed).await;
    let customers: Vec<String> = (0..5).map(|number| format!("customer-{number}")).collect();
    check_pages(
        &shop,
        "/api/v1/products/cup/reviews",
        "customer",
        &customers,
    )
    .await;
}

/// Reads a list two by two and compares `member` of its entries.
async fn check_pages(shop: &TestShop, path: &str, member: &str, expected: &[String]) {
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = shop
            .send("GET", &format!("{path}?limit=2{cursor}"), &[], None)
            .await;
        for item in page.body["items"].as_array().unwrap() {
            seen.push(item[member].as_str().unwrap().to_owned());
        }
        match page.body["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, expected, "{path}");
}

#[tokio::test]
async fn one_key_is_one_order_and_one_charge() {
    let shop = TestShop::start().await;
    let cart = shop.fill(&[("cup", 2)]).await;
    let tries = (0..8).map(|_| shop.checkout("same", &cart, "tok_ok"));
    let answers = futures::future::join_all(tries).await;
    let orders: BTreeSet<&str> = answers
        .iter()
        .map(|answer| answer.body["order_id"].as_str().unwrap())
        .collect();
    assert_eq!(orders.len(), 1);
    assert!(
        answers.iter().all(|answer| answer.status == 201),
        "{answers:?}"
    );
    assert_eq!(shop.units("cup").await, (98, 0, 2));
    assert_eq!(shop.kv.count("orders"), 1);
    assert_eq!(captured(&shop, order_id(&answers[0])).await, 1_000);
    let again = shop.checkout("same", &cart, "tok_ok").await;
    assert_eq!(again.headers["idempotency-replayed"], "true");
    check_problem(
        &shop.checkout("same", &cart, "tok_slow").await,
        422,
        "idempotency_key_reused",
    );
}

fn order_id(answer: &Answer) -> OrderId {
    answer.body["order_id"].as_str().unwrap().parse().unwrap()
}

/// What the provider has taken for an order, in minor units.
async fn captured(shop: &TestShop, order: OrderId) -> i64 {
    let key = order.part("payment");
    let url = format!("http://{}/v1/payments/by-key/{key}", shop.provider);
    let answer = reqwest::get(url).await.unwrap();
    if answer.status() == 404 {
        return 0;
    }
    let payment: Json = answer.json().await.unwrap();
    if payment["status"] == "captured" {
        payment["amount"]["amount_minor"].as_i64().unwrap()
    } else {
        0
    }
}

#[tokio::test]
async fn a_failed_purchase_leaves_nothing_behind() {
    let shop = TestShop::start().await;
    let cart = shop.fill(&[("cup", 1), ("kettle", 6)]).await;
    for _ in 0..2 {
        let answer = shop.checkout("short", &cart, "tok_ok").await;
        check_problem(&answer, 409, "out_of_stock");
        assert_eq!(captured(&shop, order_id(&answer)).await, 0);
    }
    let cart = shop.fill(&[("cup", 1)]).await;
    for (key, token) in [
        ("declined", "tok_declined"),
        ("refused", "tok_capture_refused"),
    ] {
        let answer = shop.checkout(key, &cart, token).await;
        check_problem(&answer, 402, "payment_declined");
        assert_eq!(captured(&shop, order_id(&answer)).await, 0);
        let order = answer.body["order_id"].as_str().unwrap();
        let shown = shop
            .send("GET", &format!("/api/v1/orders/{order}"), &[], None)
            .await;
        assert_eq!(shown.body["status"], "failed");
    }
    assert_eq!(shop.units("cup").await, (100, 0, 0));
    assert_eq!(shop.units("kettle").await, (5, 0, 0));
    assert_eq!(shop.kv.count("checkout-pending"), 0);
}

#[tokio::test]
async fn a_payment_that_timed_out_is_asked_about_not_repeated() {
    let shop = TestShop::start().await;
    let cart = shop.fill(&[("cup", 1)]).await;
    let answer = shop.checkout("silent", &cart, "tok_timeout_then_ok").await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(captured(&shop, order_id(&answer)).await, 500);
    assert_eq!(shop.units("cup").await, (99, 0, 1));
    // One call is enough to know: it looks its own key up when no answer comes.
    let provider = shop.state.checkout.desk.provider();
    let amount = Money::new(5, Currency::USD);
    let asked = provider
        .authorise(Uuid::from_u128(7), amount, "tok_timeout_then_ok")
        .await;
    assert_eq!(asked.unwrap().status, PaymentStatus::Authorised);
}

#[tokio::test]
async fn lost_answers_neither_lose_nor_double_anything() {
    let shop = TestShop::start().await;
    for every in 2..9 {
        let cart = shop.fill(&[("cup", 1)]).await;
        shop.kv.lose_every(every);
        let mut answer = shop
            .checkout(&format!("lossy-{every}"), &cart, "tok_ok")
            .await;
        shop.kv.lose_every(0);
        if answer.status != 201 {
            answer = shop
                .checkout(&format!("lossy-{every}"), &cart, "tok_ok")
                .await;
        }
        assert_eq!(answer.status, 201, "every {every}: {answer:?}");
        assert_eq!(captured(&shop, order_id(&answer)).await, 500);
    }
    assert_eq!(shop.units("cup").await, (93, 0, 7));
    assert_eq!(shop.kv.count("orders"), 7);
}

#[tokio::test]
async fn another_process_finishes_what_a_crashed_one_began() {
    let shop = TestShop::start().await;
    let cart = shop.fill(&[("cup", 2)]).await;
    let request = CheckoutRequest {
        cart_id: cart.parse().unwrap(),
        customer: None,
        payment_token: "tok_slow".to_owned(),
        shipping_address: Address {
            name: "Ada".to_owned(),
            lines: vec!["Canal 1".to_owned()],
            city: "Fez".to_owned(),
            postal_code: String::new(),
            country: "MA".to_owned(),
        },
    };
    // The shop dies while the payment is being asked for: the order is reserved, the answer never came.
    let attempt = shop
        .state
        .checkout
        .place("crash", &request, Duration::from_secs(9));
    assert!(
        tokio::time::timeout(Duration::from_millis(300), attempt)
            .await
            .is_err()
    );
    assert_eq!(shop.units("cup").await, (98, 2, 0), "held");
    assert_eq!(
        resume_due(&shop.state.checkout, Duration::from_secs(9))
            .await
            .unwrap(),
        0,
        "young"
    );
    assert_eq!(
        resume_due(&shop.state.checkout, Duration::ZERO)
            .await
            .unwrap(),
        1
    );
    assert_eq!(shop.units("cup").await, (98, 0, 2));
    assert_eq!(shop.kv.count("checkout-pending"), 0);
    let again = shop
        .state
        .checkout
        .place("crash", &request, Duration::from_secs(9))
        .await
        .unwrap();
    assert!(again.replayed);
    assert_eq!(again.record.status(), OrderStatus::Placed);
    assert_eq!(captured(&shop, again.record.order_id).await, 1_000);
}

#[tokio::test]
async fn what_is_added_during_checkout_stays_in_the_cart() {
    let shop = TestShop::start().await;
    let cart = shop.fill(&[("cup", 2)]).await;
    let buy = shop.checkout("k", &cart, "tok_slow");
    let add = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let item = json!({ "cart_id": cart, "sku": "cup", "quantity": 7 });
        shop.send("POST", "/api/v1/cart/items", &[], Some(item))
            .await
    };
    let (bought, _) = tokio::join!(buy, add);
    assert_eq!(bought.body["lines"][0]["quantity"], 2);
    let left = shop
        .send("GET", &format!("/api/v1/cart/{cart}"), &[], None)
        .await;
    assert_eq!(left.body["lines"][0]["quantity"], 7);
}

#[tokio::test]
async fn a_cart_takes_an_item_once_per_key() {
    let shop = TestShop::start().await;
    let cart = shop.fill(&[("cup", 1)]).await;
    let item = json!({ "cart_id": cart, "sku": "cup", "quantity": 2 });
    let mut quantity = Json::Null;
    for _ in 0..3 {
        let headers = [("idempotency-key", "once")];
        let answer = shop
            .send("POST", "/api/v1/cart/items", &headers, Some(item.clone()))
            .await;
        quantity = answer.body["lines"][0]["quantity"].clone();
    }
    assert_eq!(quantity, 3);
    let path = format!("/api/v1/cart/{cart}/items/cup");
    let changed = shop
        .send("PUT", &path, &[], Some(json!({ "quantity": 9 })))
        .await;
    assert_eq!(changed.body["lines"][0]["quantity"], 9);
    for _ in 0..2 {
        assert_eq!(
            shop.send("DELETE", &path, &[], None).await.body["lines"],
            json!([])
        );
    }
    let gone = shop
        .send("PUT", &path, &[], Some(json!({ "quantity": 9 })))
        .await;
    assert_eq!(gone.status, 404, "{gone:?}");
}

#[tokio::test]
async fn admins_edit_products_under_entity_tags() {
    let shop = TestShop::start().await;
    let path = "/api/v1/products/kettle";
    let body = || Some(json!({ "title": "The copper kettle", "price_minor": 4_500 }));
    check_problem(
        &shop.send("PUT", path, &[], body()).await,
        401,
        "unauthenticated",
    );
    check_problem(
        &shop.send("PUT", path, &[ADMIN], body()).await,
        428,
        "precondition_required",
    );
    let read = shop.send("GET", path, &[], None).await;
    let tag = read.headers["etag"].to_str().unwrap().to_owned();
    let unchanged = shop
        .send("GET", path, &[("if-none-match", &tag)], None)
        .await;
    assert_eq!(unchanged.status, 304);
    let edited = shop
        .send("PUT", path, &[ADMIN, ("if-match", &tag)], body())
        .await;
    assert_eq!(edited.status, 200, "{edited:?}");
    let stale = shop
        .send("PUT", path, &[ADMIN, ("if-match", &tag)], body())
        .await;
    check_problem(&stale, 412, "precondition_failed");
    let odd = shop
        .send("PUT", path, &[ADMIN, ("if-match", "null")], body())
        .await;
    check_problem(&odd, 400, "bad_request");
    let found = shop
        .send("GET", "/api/v1/products/search?q=copper", &[], None)
        .await;
    assert_eq!(found.body["items"][0]["price_minor"], 4_500);
    let new = "/api/v1/products/saucer";
    let made = shop
        .send("PUT", new, &[ADMIN, ("if-none-match", "*")], body())
        .await;
    assert_eq!(made.status, 201);
    let receipt = "/api/v1/admin/stock/saucer/receipts";
    for _ in 0..2 {
        let headers = [ADMIN, ("idempotency-key", "r-1")];
        let received = shop
            .send("POST", receipt, &headers, Some(json!({ "quantity": 6 })))
            .await;
        assert_eq!(received.body["available"], 6, "{received:?}");
    }
}

#[tokio::test]
async fn bad_input_is_told_what_is_wrong() {
    let shop = TestShop::start().await;
    let get = |path: &'static str| shop.send("GET", path, &[], None);
    check_problem(&get("/nowhere").await, 404, "no_such_address");
    check_problem(
        &get("/api/v1/products/none").await,
        404,
        "product_not_found",
    );
    check_problem(&get("/api/v1/products/a%20b").await, 400, "bad_request");
    check_problem(&get("/api/v1/products/%ff").await, 400, "bad_request");
    check_problem(&get("/api/v1/orders/1").await, 400, "bad_request");
    check_problem(
        &get("/api/v1/products/search?page=0").await,
        400,
        "bad_request",
    );
    check_problem(
        &get("/api/v1/products/search?page=x").await,
        400,
        "bad_request",
    );
    check_problem(
        &get("/api/v1/products/search?size=101").await,
        400,
        "bad_request",
    );
    check_problem(
        &get("/api/v1/products/search?page=4294967295").await,
        400,
        "bad_request",
    );
    check_problem(
        &get("/api/v1/products/search?colour=red").await,
        400,
        "bad_request",
    );
    check_problem(
        &get("/api/v1/customers/ada/orders?cursor=!").await,
        400,
        "bad_request",
    );
    let sort = get("/api/v1/products/search?sort=cheapest").await;
    check_problem(&sort, 400, "bad_request");
    assert!(sort.body["detail"].as_str().unwrap().contains("price_asc"));
    let wrong = shop
        .send("DELETE", "/api/v1/products/search", &[], None)
        .await;
    check_problem(&wrong, 405, "method_not_allowed");
    assert!(wrong.headers["allow"].to_str().unwrap().contains("GET"));
}

#[tokio::test]
async fn bad_bodies_are_told_what_is_wrong() {
    let shop = TestShop::start().await;
    let items = "/api/v1/cart/items";
    for (body, code) in [
        (json!({ "sku": "cup", "quantity": 0 }), "quantity_invalid"),
        (
            json!({ "sku": "cup", "quantity": 100_000 }),
            "quantity_invalid",
        ),
        (json!({ "sku": "cup", "quantity": -1 }), "unprocessable"),
        (json!({ "sku": "cup", "quantity": 1.5 }), "unprocessable"),
        (
            json!({ "sku": "cup", "quantity": 1, "colour": "red" }),
            "unprocessable",
        ),
        (json!({ "sku": "a/b", "quantity": 1 }), "unprocessable"),
        (json!([]), "unprocessable"),
    ] {
        check_problem(&shop.send("POST", items, &[], Some(body)).await, 422, code);
    }
    let unknown = json!({ "sku": "nothing", "quantity": 1 });
    check_problem(
        &shop.send("POST", items, &[], Some(unknown)).await,
        404,
        "unknown_sku",
    );
    let raw = |content_type: &str, body: Vec<u8>| {
        let request = Request::builder().method("POST").uri(items);
        let request = request.header("content-type", content_type.to_owned());
        shop.send_raw(request.body(Body::from(body)).unwrap())
    };
    check_problem(
        &raw("application/json", b"{".to_vec()).await,
        400,
        "bad_request",
    );
    check_problem(
        &raw("application/json", vec![0xff]).await,
        400,
        "bad_request",
    );
    check_problem(
        &raw("text/plain", b"{}".to_vec()).await,
        415,
        "unsupported_media_type",
    );
    check_problem(
        &raw("application/json", vec![b' '; 300 * 1024]).await,
        413,
        "too_large",
    );
    let cart = shop.fill(&[("cup", 1)]).await;
    let path = "/api/v1/orders/checkout";
    let without_key = shop
        .send("POST", path, &[], Some(checkout_body(&cart, "tok_ok")))
        .await;
    check_problem(&without_key, 400, "idempotency_key_missing");
    check_problem(
        &shop.checkout("k", "empty-cart", "tok_ok").await,
        409,
        "cart_empty",
    );
    let unsold = shop.fill(&[("poster", 1)]).await;
    check_problem(
        &shop.checkout("k", &unsold, "tok_ok").await,
        409,
        "not_sold",
    );
}

#[tokio::test]
async fn a_store_that_is_away_is_503_and_says_when_to_come_back() {
    let shop = TestShop::start().await;
    shop.kv.set_down(true);
    let answer = shop.send("GET", "/api/v1/products/kettle", &[], None).await;
    check_problem(&answer, 503, "unavailable");
    assert!(answer.headers.contains_key("retry-after"));
    let found = shop
        .send("GET", "/api/v1/products/search?q=kettle", &[], None)
        .await;
    assert_eq!(found.status, 200, "search needs no store");
}

#[tokio::test]
async fn probes_and_metrics_answer() {
    let shop = TestShop::start().await;
    assert_eq!(shop.send("GET", "/healthz", &[], None).await.status, 200);
    assert_eq!(shop.send("GET", "/readyz", &[], None).await.status, 200);
    assert_eq!(shop.send("GET", "/metrics", &[], None).await.status, 200);
}

/// What tools rely on: the version, the required addresses, and problems for every error.
#[tokio::test]
async fn the_document_promises_what_the_shop_does() {
    let document = serde_json::to_value(document()).unwrap();
    assert!(
        document["openapi"].as_str().unwrap().starts_with("3.1"),
        "{}",
        document["openapi"]
    );
    for (path, method) in [
        ("/api/v1/products/search", "get"),
        ("/api/v1/cart/items", "post"),
        ("/api/v1/orders/checkout", "post"),
        ("/api/v1/orders/{order_id}/tracking", "get"),
    ] {
        assert!(
            document["paths"][path][method].is_object(),
            "{method} {path}"
        );
    }
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for item in document["paths"].as_object().unwrap().values() {
        for operation in item.as_object().unwrap().values() {
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                assert!(
                    !parameter["schema"].to_string().contains("null"),
                    "{parameter}"
                );
            }
            for (status, response) in operation["responses"].as_object().unwrap() {
                if status.as_str() >= "400" {
                    let schema = &response["content"]["application/problem+json"]["schema"];
                    assert_eq!(
                        schema["$ref"], "#/components/schemas/Problem",
                        "{operation}"
                    );
                }
            }
        }
    }
    let text = document.to_string();
    for reference in text.split("\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(
            schemas.contains_key(name),
            "{name} is referred to but not described"
        );
    }
}
