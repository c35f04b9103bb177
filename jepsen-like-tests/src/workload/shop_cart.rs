//! Adds to carts through the shop's HTTP API, each under an idempotency key of its own.
//!
//! An element is `[SKU, quantity]`; no cart gets the same product twice, so an add that counts twice is seen.

use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::cart::cart_names;
use super::settle::{final_cart_reads, hints_delivered};
use super::shop::{PRODUCTS, ShopAnswer, ShopClient, catalogue, product};
use super::{ClientContext, Crowd, Target, Workload, WorkloadError};
use crate::checker::{Checker, ReadPromise, SetChecker};
use crate::history::{History, Recorder};

/// Products that a client puts into one cart.
const ADDS_PER_CART: usize = 15;
/// Attempts of one add.
const ATTEMPTS_MAX: u32 = 4;
/// Pause between two adds of a client.
const PAUSE: Duration = Duration::from_millis(40);

const _: () = assert!(ADDS_PER_CART <= PRODUCTS);

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct ShopCart;

impl Workload for ShopCart {
    fn name(&self) -> &'static str {
        "shop-cart"
    }

    fn about(&self) -> &'static str {
        "adds to carts through the shop's HTTP API; nothing acknowledged may be lost"
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
            let mut number = 0;
            while context.pause(PAUSE).await {
                let cart = format!("fill-{}-{}", context.id, number / ADDS_PER_CART);
                add(&shop, &mut context, &cart, number).await;
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
            let client = target.connect("finish").await?;
            hints_delivered(&client, target).await?;
            let shop = ShopClient::new(target)?;
            let shop = &shop;
            let look = |cart: String| async move {
                match shop.get(&format!("/cart/{cart}")).await {
                    ShopAnswer::Done(_, body) => elements(&body).ok_or(format!("no cart: {body}")),
                    other => Err(format!("{other:?}")),
                }
            };
            final_cart_reads(&cart_names(until_now), recorder, look).await
        }
        .boxed()
    }

    fn checker(&self) -> Box<dyn Checker> {
        Box::new(SetChecker {
            promise: ReadPromise::Final,
        })
    }
}

async fn add(shop: &ShopClient, context: &mut ClientContext, cart: &str, number: usize) {
    let sku = product(number);
    let key = format!("{cart}-{number}");
    let body = json!({"cart_id": cart, "sku": sku, "quantity": 1});
    for _ in 0..ATTEMPTS_MAX {
        let pending = context.lane.invoke("add", json!([cart, [sku, 1]]));
        match shop.post("/cart/items", &key, &body).await {
            ShopAnswer::Done(_, body) => {
                let notes = json!({"degraded": body.get("degraded")});
                return pending.ok(json!([cart, notes]));
            }
            ShopAnswer::Refused(why) | ShopAnswer::Unavailable(why) => return pending.fail(why),
            ShopAnswer::Unclear(why) => pending.info(why),
        }
    }
}

fn elements(cart: &Value) -> Option<Value> {
    let lines = cart.get("lines")?.as_array()?;
    let element = |line: &Value| Some(json!([line.get("sku")?, line.get("quantity")?]));
    lines.iter().map(element).collect()
}
