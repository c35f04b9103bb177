//! Purchases through the shop's HTTP API: fill a cart, check it out, now and then twice at the same moment.
//!
//! One purchase has one idempotency key, which is also the name of its cart. A checkout that is not decided is
//! sent again under its key, at the latest when all is well again; so in the end every purchase is decided.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use rand::Rng as _;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::shop::{ShopAnswer, ShopClient, catalogue, product};
use super::{ClientContext, Crowd, Target, Workload, WorkloadError};
use crate::checker::{Books, Charge, Checker, ListedOrder, OrdersChecker};
use crate::history::{History, Lane, Operation, Recorder};

/// Attempts of one checkout while the workload runs.
const ATTEMPTS_MAX: u32 = 2;
/// Pause between two purchases of a client.
const PAUSE: Duration = Duration::from_millis(150);
/// How often a purchase is sent twice at once.
const TWICE: f64 = 0.4;
/// Pause before an undecided purchase is asked for again.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// Longest wait for one purchase in the end.
const DECIDED_WITHIN: Duration = Duration::from_secs(60);
/// How long the shop may take to list an order under its customer.
const LISTED_WITHIN: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Checkout;

impl Workload for Checkout {
    fn name(&self) -> &'static str {
        "checkout"
    }

    fn about(&self) -> &'static str {
        "purchases through the shop, some sent twice at once; one order and one charge for each"
    }

    fn needs_shop(&self) -> bool {
        true
    }

    fn crowd(&self) -> Crowd {
        Crowd {
            workers: 1,
            lanes: 3,
        }
    }

    fn catalogue(&self) -> String {
        catalogue()
    }

    fn set_up<'a>(
        &'a self,
        target: &'a Target,
        _recorder: &'a Recorder,
    ) -> BoxFuture<'a, Result<(), WorkloadError>> {
        async move { ShopClient::new(target).map(|_| ()) }.boxed()
    }

    fn run(&self, mut context: ClientContext) -> BoxFuture<'static, Result<(), WorkloadError>> {
        async move {
            let shop = ShopClient::new(&context.target)?;
            let mut number = 0_usize;
            while context.pause(PAUSE).await {
                buy(&shop, &mut context, number).await;
                number += 1;
            }
            Ok(())
        }
        .boxed()
    }

    fn finish<'a>(
        &'a self,
        target: &'a Target,
        recorder: &'a Recorder,
        until_now: &'a History,
    ) -> BoxFuture<'a, Result<(), WorkloadError>> {
        async move {
            let shop = ShopClient::new(target)?;
            let mut lane = recorder.lane();
            let checkouts = until_now.operations_of("checkout");
            decide_all(&shop, &mut lane, &checkouts).await?;
            let orders = recorder
                .history()
                .map(|history| history.operations_of("checkout"));
            let mut all = orders.unwrap_or_default();
            all.extend(checkouts);
            let pending = lane.invoke("final-orders", Value::Null);
            match books(&shop, target, &all).await {
                Ok(books) => pending.ok(json!(books)),
                Err(problem) => {
                    pending.fail(problem.to_string());
                    return Err(problem);
                }
            }
            Ok(())
        }
        .boxed()
    }

    fn checker(&self) -> Box<dyn Checker> {
        Box::new(OrdersChecker)
    }
}

async fn buy(shop: &ShopClient, context: &mut ClientContext, number: usize) {
    let key = format!("buy-{}-{number}", context.id);
    let customer = context.id.to_string();
    if !fill(shop, &key, number).await {
        return;
    }
    for _ in 0..ATTEMPTS_MAX {
        let is_decided = if context.random.random_bool(TWICE) {
            let ClientContext { lane, twin, .. } = context;
            let (one, other) = tokio::join!(
                check_out(shop, lane, &key, &customer),
                check_out(shop, twin, &key, &customer)
            );
            one || other
        } else {
            check_out(shop, &mut context.lane, &key, &customer).await
        };
        if is_decided {
            return;
        }
    }
}

/// Not part of the history: a cart that could not be filled is simply not bought.
async fn fill(shop: &ShopClient, cart: &str, number: usize) -> bool {
    for item in 0..=number % 2 {
        let sku = product(number * 7 + item);
        let body = json!({"cart_id": cart, "sku": sku, "quantity": 1});
        let answer = shop
            .post("/cart/items", &format!("{cart}-{item}"), &body)
            .await;
        if !matches!(answer, ShopAnswer::Done(..)) {
            return false;
        }
    }
    true
}

/// Sends the checkout once. True when it is decided.
async fn check_out(shop: &ShopClient, lane: &mut Lane, key: &str, customer: &str) -> bool {
    let pending = lane.invoke("checkout", json!({"key": key, "customer": customer}));
    let address = json!({"name": "J. Epsen", "lines": ["1 Quay"], "city": "Port", "country": "DE"});
    let body = json!({
        "cart_id": key,
        "customer_id": customer,
        "payment": {"token": "tok_ok"},
        "shipping_address": address,
    });
    match shop.post("/orders/checkout", key, &body).await {
        ShopAnswer::Done(201, order) => {
            pending.ok(json!({"order": order.get("order_id")}));
            true
        }
        ShopAnswer::Done(status, _) => {
            pending.info(format!("{status} still pending"));
            false
        }
        ShopAnswer::Refused(why) => {
            pending.fail(why);
            true
        }
        // The purchase may have begun already, and will then be brought to its end by the shop.
        ShopAnswer::Unavailable(why) | ShopAnswer::Unclear(why) => {
            pending.info(why);
            false
        }
    }
}

/// Sends every purchase that nobody knows the end of again, until it is decided.
async fn decide_all(
    shop: &ShopClient,
    lane: &mut Lane,
    checkouts: &[Operation],
) -> Result<(), WorkloadError> {
    let text =
        |operation: &Operation, name: &str| Some(operation.asked.get(name)?.as_str()?.to_owned());
    // A refusal decides nothing of an earlier attempt: perhaps it only says that nobody listened.
    let decided: BTreeSet<String> = checkouts
        .iter()
        .filter(|operation| operation.is_ok())
        .filter_map(|operation| text(operation, "key"))
        .collect();
    let open: BTreeMap<String, String> = checkouts
        .iter()
        .filter(|operation| operation.is_unknown())
        .filter_map(|operation| Some((text(operation, "key")?, text(operation, "customer")?)))
        .filter(|(key, _)| !decided.contains(key))
        .collect();
    for (key, customer) in open {
        let begun = Instant::now();
        while !check_out(shop, lane, &key, &customer).await {
            if begun.elapsed() > DECIDED_WITHIN {
                return Err(WorkloadError::NotSettled {
                    what: "a purchase is not decided",
                    waited_s: DECIDED_WITHIN.as_secs(),
                    last: key,
                });
            }
            sleep(ASK_AGAIN_AFTER).await;
        }
    }
    Ok(())
}

/// Lists orders until every acknowledged one is there, then reads the provider's book.
async fn books(
    shop: &ShopClient,
    target: &Target,
    checkouts: &[Operation],
) -> Result<Books, WorkloadError> {
    let text = |value: &Value, name: &str| Some(value.get(name)?.as_str()?.to_owned());
    let customers: BTreeSet<String> = checkouts
        .iter()
        .filter_map(|operation| text(&operation.asked, "customer"))
        .collect();
    let acknowledged: BTreeSet<String> = checkouts
        .iter()
        .filter_map(|operation| text(operation.told()?, "order"))
        .collect();
    let begun = Instant::now();
    let orders = loop {
        let mut orders = Vec::new();
        for customer in &customers {
            orders.extend(orders_of(shop, customer).await?);
        }
        let listed: BTreeSet<&String> = orders.iter().map(|order| &order.order).collect();
        let is_complete = acknowledged.iter().all(|order| listed.contains(order));
        // When time is up, what is missing is the checker's finding and not ours.
        if is_complete || begun.elapsed() > LISTED_WITHIN {
            break orders;
        }
        sleep(ASK_AGAIN_AFTER).await;
    };
    let charges = charges(target, &orders)?;
    Ok(Books { orders, charges })
}

async fn orders_of(shop: &ShopClient, customer: &str) -> Result<Vec<ListedOrder>, WorkloadError> {
    let strange = |body: &Value| WorkloadError::Shop {
        what: format!("no list of orders: {body}"),
    };
    let mut orders = Vec::new();
    let mut cursor = String::new();
    loop {
        let body = match shop
            .get(&format!("/customers/{customer}/orders{cursor}"))
            .await
        {
            ShopAnswer::Done(_, body) => body,
            other => {
                return Err(WorkloadError::Shop {
                    what: format!("{other:?}"),
                });
            }
        };
        let items = body
            .get("items")
            .and_then(Value::as_array)
            .ok_or_else(|| strange(&body))?;
        for item in items {
            let order = item.get("order_id").and_then(Value::as_str);
            let total = item.get("total_minor").and_then(Value::as_i64);
            let (order, total_minor) = order.zip(total).ok_or_else(|| strange(&body))?;
            let is_placed = status_of(shop, order).await? != "failed";
            orders.push(ListedOrder {
                order: order.to_owned(),
                is_placed,
                total_minor,
            });
        }
        match body.get("next_cursor").and_then(Value::as_str) {
            Some(next) => cursor = format!("?cursor={next}"),
            None => return Ok(orders),
        }
    }
}

/// A list may lag behind; the order itself does not.
async fn status_of(shop: &ShopClient, order: &str) -> Result<String, WorkloadError> {
    match shop.get(&format!("/orders/{order}")).await {
        ShopAnswer::Done(_, body) => {
            let status = body
                .get("status")
                .and_then(Value::as_str)
                .unwrap_or_default();
            Ok(status.to_owned())
        }
        other => Err(WorkloadError::Shop {
            what: format!("order {order}: {other:?}"),
        }),
    }
}

#[derive(Deserialize)]
struct BookLine {
    id: Uuid,
    key: String,
    amount: BookAmount,
    status: String,
    refunded_minor: i64,
}

#[derive(Deserialize)]
struct BookAmount {
    amount_minor: i64,
}

/// All money that was taken. The shop's key for a payment follows from its order's id; a payment under a key
/// that follows from no listed order pays for nothing.
fn charges(target: &Target, orders: &[ListedOrder]) -> Result<Vec<Charge>, WorkloadError> {
    let path = target
        .payments_file
        .as_deref()
        .ok_or(WorkloadError::NoShop)?;
    let keys: BTreeMap<String, &String> = orders
        .iter()
        .filter_map(|order| Some((payment_key(&order.order)?, &order.order)))
        .collect();
    let taken = read_book(path)?
        .into_values()
        .filter(|line| line.status == "captured");
    let charge = |line: BookLine| Charge {
        charge: line.id.to_string(),
        order: keys
            .get(&line.key)
            .map_or_else(|| format!("key {}", line.key), |order| (*order).clone()),
        amount_minor: line.amount.amount_minor - line.refunded_minor,
    };
    Ok(taken
        .map(charge)
        .filter(|charge| charge.amount_minor != 0)
        .collect())
}

/// The last line of a payment counts.
fn read_book(path: &Path) -> Result<BTreeMap<Uuid, BookLine>, WorkloadError> {
    let broken = |what: String| WorkloadError::Book { what };
    let text = std::fs::read_to_string(path).map_err(|problem| broken(problem.to_string()))?;
    let read = |line: &str| {
        let line: BookLine =
            serde_json::from_str(line).map_err(|problem| broken(problem.to_string()))?;
        Ok((line.id, line))
    };
    text.lines().map(read).collect()
}

fn payment_key(order: &str) -> Option<String> {
    let order = Uuid::parse_str(order).ok()?;
    Some(Uuid::new_v5(&order, b"payment").to_string())
}
